//! In-place resize of CPU and memory (KEP-1287): what was agreed with the Pod, what it wants now, and the way between.
//!
//! The owner's Pod has the resources that are in force; the object's wishes beyond them are a [`Wish`]. A VM keeps its
//! number of vCPUs and its memory for life, so that a wish beyond them is infeasible; within them the guest's cgroups
//! and the VM's cgroup on the host are written anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::UpdateContainerRequest;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::owner::Owner;
use super::record::{Role, State};
use super::{Input, Machine, Report, Stage, launch};
use crate::events::Kind;
use crate::size::VmSize;

/// How long the guest may take for one container.
const CALL: Duration = Duration::from_secs(30);
/// The conditions that are written here.
pub(super) const CONDITIONS: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// Resources of containers, by name; the Pod's own under the empty name.
pub type Resources = BTreeMap<String, ResourceRequirements>;

/// A resize that is not done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wish {
    resources: Resources,
    generation: Option<i64>,
    /// Condition, reason and message.
    condition: (&'static str, &'static str, String),
    /// A job is at it.
    running: bool,
}

fn each_mut(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers)
}

/// The resources in a spec.
pub fn of(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::new();
    };
    let containers = crate::env::all_containers(pod);
    let mut all: Resources = containers
        .map(|container| {
            (
                container.name.clone(),
                container.resources.clone().unwrap_or_default(),
            )
        })
        .collect();
    if let Some(resources) = &spec.resources {
        all.insert(String::new(), resources.clone());
    }
    all
}

/// A Pod with these resources in place of its own.
pub fn with(pod: &Pod, resources: &Resources) -> Pod {
    let mut pod = pod.clone();
    if let Some(spec) = &mut pod.spec {
        for container in each_mut(spec) {
            if let Some(own) = resources.get(&container.name) {
                container.resources = Some(own.clone());
            }
        }
        if let Some(own) = resources.get("") {
            spec.resources = Some(own.clone());
        }
    }
    pod
}

/// Why a VM of this size can never serve the wish.
fn infeasible(wanted: &VmSize, vm: &VmSize, allocatable_millis: u64) -> Option<String> {
    if wanted.vcpus > vm.vcpus {
        return Some(format!(
            "the Pod's VM has {} vCPUs for its life, {} are wanted: delete the Pod to get a larger VM",
            vm.vcpus, wanted.vcpus
        ));
    }
    if wanted.memory_mib > vm.memory_mib {
        return Some(format!(
            "the Pod's VM has {} MiB of memory for its life, {} MiB are wanted: delete the Pod to get a larger VM",
            vm.memory_mib, wanted.memory_mib
        ));
    }
    let requested = wanted.cpu_request_millis.unwrap_or(0);
    (requested > allocatable_millis).then(|| {
        format!(
            "Node didn't have enough capacity: cpu, requested: {requested}, capacity: {allocatable_millis}"
        )
    })
}

/// Whether the change of a container's resources asks for its restart (`resizePolicy`).
fn restarts(container: &Container, before: &ResourceRequirements, after: &ResourceRequirements) -> bool {
    let value = |resources: &ResourceRequirements, name: &str| {
        let of = |list: &Option<BTreeMap<_, _>>| list.as_ref().and_then(|all| all.get(name).cloned());
        (of(&resources.limits), of(&resources.requests))
    };
    container.resize_policy.iter().flatten().any(|policy| {
        let name = policy.resource_name.as_str();
        policy.restart_policy == "RestartContainer" && value(before, name) != value(after, name)
    })
}

impl Owner {
    /// A new version of the object: its resources are a wish as long as others are in force.
    pub(super) fn heed_resources(&mut self, pod: Arc<Pod>) {
        let (in_force, wanted) = (of(&self.pod), of(&pod));
        let generation = pod.metadata.generation;
        self.pod = if in_force == wanted {
            self.wish = None;
            pod
        } else {
            Arc::new(with(&pod, &in_force))
        };
        if in_force == wanted || self.wish.as_ref().is_some_and(|wish| wish.resources == wanted) {
            return;
        }
        self.wish = Some(Wish {
            resources: wanted,
            generation,
            condition: ("PodResizeInProgress", "", String::new()),
            running: false,
        });
        match self.stage {
            // The VM is not there yet: it becomes what is wanted now.
            Stage::Preparing => self.grant(),
            // When a VM is up, its wish is looked at.
            _ => self.resize(),
        }
    }

    /// Takes the wish for agreed: the next VM is made for it.
    pub(super) fn grant(&mut self) {
        let Some(wish) = self.wish.take() else { return };
        self.pod = Arc::new(with(&self.pod, &wish.resources));
        if let Some(spec) = &self.pod.spec {
            self.size = VmSize::of(spec);
        }
    }

    /// Begins to fulfil the wish, or says why not.
    pub(super) fn resize(&mut self) {
        let (Some(wish), Some(machine)) = (self.wish.clone(), self.machine.clone()) else {
            return;
        };
        if wish.running {
            return;
        }
        let next = with(&self.pod, &wish.resources);
        let size = next.spec.as_ref().map(VmSize::of).unwrap_or(self.size);
        let allocatable = self.context.config.capacity.allocatable().cpu_millis;
        if let Some(problem) = infeasible(&size, &self.size, allocatable) {
            self.say_resize(
                Kind::Warning,
                "ResizeInfeasible",
                "Infeasible",
                &wish,
                Some(&problem),
            );
            if let Some(wish) = &mut self.wish {
                wish.condition = ("PodResizePending", "Infeasible", problem);
            }
            return;
        }
        self.say_resize(Kind::Normal, "ResizeStarted", "started", &wish, None);
        if let Some(wish) = &mut self.wish {
            wish.running = true;
        }
        let runs = self.records.iter().filter_map(|record| match &record.state {
            State::Running { id, .. } if record.role != Role::Ephemeral => {
                Some((record.name.clone(), id.clone()))
            }
            _ => None,
        });
        let job = Resize {
            machine,
            containers: crate::env::all_containers(&next).cloned().collect(),
            runs: runs.collect(),
            size,
            resources: wish.resources,
        };
        let owner = self.inputs.clone();
        self.jobs.spawn(async move {
            let resources = job.resources.clone();
            let result = job.run().await;
            let _ = owner.send(Input::Job(Report::Resized(resources, result))).await;
        });
    }

    /// A resize is done, or why it is not.
    pub(super) fn resized(&mut self, resources: Resources, result: Result<(), String>) {
        let Some(wish) = self.wish.as_mut().filter(|wish| wish.resources == resources) else {
            // Something else is wanted by now.
            if let Some(wish) = &mut self.wish {
                wish.running = false;
            }
            return self.resize();
        };
        wish.running = false;
        if let Err(problem) = result {
            wish.condition = ("PodResizeInProgress", "Error", problem.clone());
            let wish = wish.clone();
            return self.say_resize(Kind::Warning, "ResizeError", "error", &wish, Some(&problem));
        }
        let wish = wish.clone();
        let before = of(&self.pod);
        self.pod = Arc::new(with(&self.pod, &resources));
        if let Some(spec) = &self.pod.spec {
            let now = VmSize::of(spec);
            self.size.cpu_request_millis = now.cpu_request_millis;
            self.size.cpu_limit_millis = now.cpu_limit_millis;
        }
        self.wish = None;
        self.written = None;
        self.say_resize(Kind::Normal, "ResizeCompleted", "completed", &wish, None);
        for index in 0..self.records.len() {
            let name = self.records[index].name.clone();
            let (Some(before), Some(after)) = (before.get(&name), resources.get(&name)) else {
                continue;
            };
            let container = super::record::container_of(&self.pod, &name);
            let again = container.is_some_and(|container| restarts(&container, before, after));
            if again && self.records[index].running() {
                self.kill_run(index, None, format!("Container {name} resize requires restart"));
            }
        }
    }

    /// The condition of a wish, as the status shows it.
    pub(super) fn resize_condition(&self) -> Option<PodCondition> {
        let wish = self.wish.as_ref()?;
        let (kind, reason, message) = &wish.condition;
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(PodCondition {
            type_: (*kind).to_owned(),
            status: "True".to_owned(),
            reason: text(reason),
            message: text(message),
            observed_generation: wish.generation,
            last_transition_time: Some(Time(Timestamp::now())),
            ..PodCondition::default()
        })
    }

    fn say_resize(&self, kind: Kind, reason: &'static str, words: &str, wish: &Wish, problem: Option<&str>) {
        let containers: Vec<_> = wish
            .resources
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, resources)| json!({"name": name, "resources": resources}))
            .collect();
        let mut details = json!({"containers": containers, "generation": wish.generation});
        if let Some(problem) = problem {
            details["error"] = json!(problem);
        }
        let message = format!("Pod resize {words}: {details}");
        self.context.recorder.pod(&self.pod, kind, reason, message);
    }
}

/// The work of one resize.
struct Resize {
    machine: Machine,
    containers: Vec<Container>,
    /// Containers that run, with their runs.
    runs: Vec<(String, String)>,
    size: VmSize,
    resources: Resources,
}

impl Resize {
    async fn run(&self) -> Result<(), String> {
        let (request, limit) = (self.size.cpu_request_millis, self.size.cpu_limit_millis);
        self.machine
            .vm
            .set_cpu(request, limit)
            .await
            .map_err(|error| error.to_string())?;
        for (name, run) in &self.runs {
            let Some(container) = self.containers.iter().find(|container| container.name == *name) else {
                continue;
            };
            let request = UpdateContainerRequest {
                id: run.clone(),
                resources: Some(launch::resources(container)),
            };
            let mut client = self
                .machine
                .guest
                .client()
                .await
                .map_err(|error| error.to_string())?;
            tokio::time::timeout(CALL, client.update_container(request))
                .await
                .map_err(|_| "the guest does not answer".to_owned())?
                .map_err(|status| status.message().to_owned())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_vm_can_become() {
        let size = |vcpus, memory_mib, request| VmSize {
            vcpus,
            memory_mib,
            cpu_request_millis: Some(request),
            cpu_limit_millis: None,
            ephemeral_bytes: None,
        };
        let vm = size(2, 512, 100);
        let cases = [
            (size(2, 512, 1900), ""),
            (size(3, 512, 100), "the Pod's VM has 2 vCPUs for its life"),
            (size(1, 600, 100), "the Pod's VM has 512 MiB of memory"),
            (
                size(2, 100, 1901),
                "Node didn't have enough capacity: cpu, requested: 1901, capacity: 1900",
            ),
        ];
        for (wanted, expected) in cases {
            let said = infeasible(&wanted, &vm, 1900).unwrap_or_default();
            assert!(
                said.starts_with(expected) && said.is_empty() == expected.is_empty(),
                "{said}"
            );
        }
    }

    #[test]
    fn resources_in_and_out() {
        let pod = |cpu: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [
                {"name": "a", "resources": {"limits": {"cpu": cpu}},
                    "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]},
                {"name": "b"}]}}))
            .expect("a Pod")
        };
        let (one, two) = (pod("1"), pod("2"));
        assert_eq!(with(&one, &of(&two)).spec.map(|s| s.containers.len()), Some(2));
        assert_eq!(of(&with(&one, &of(&two))), of(&two));
        let container = &one.spec.as_ref().expect("spec").containers[0];
        assert!(restarts(container, &of(&one)["a"], &of(&two)["a"]));
        assert!(!restarts(container, &of(&one)["a"], &of(&one)["a"]));
    }
}
