//! In-place resize of CPU and memory (KEP-1287): what was agreed with the Pod, what it wants now, and the way between.
//!
//! The owner's Pod has the resources that are in force; the object's wishes beyond them are a [`Wish`]. A VM that is too small
//! for one grows first: the host lets it have more memory, then its guest takes that and further processors into use. Then
//! the guest's cgroups and the VM's cgroup on the host are written anew. A VM never shrinks: what it has and its
//! containers may not use costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::{Extent, GrowRequest, StatsRequest, UpdateContainerRequest};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use tokio::time::Instant;

use super::owner::Owner;
use super::record::{Role, State};
use super::requests::{Asked, Place};
use super::{Input, Machine, Report, Stage, launch};
use crate::config::Capacity;
use crate::events::Kind;
use crate::size::{self, Most, VmSize};

/// How long the guest may take for one container.
const CALL: Duration = Duration::from_secs(30);
/// How long it may take to grow: a host's whole memory is many blocks.
const GROW: Duration = Duration::from_secs(180);
/// Memory that a VM may get beyond what it is to grow by, in MiB: a guest adds whole blocks.
const BLOCK_MIB: u64 = 128;
/// After this long a resize that could not be done, or had no room, is tried again (kubelet: `backOffPeriod`).
const RETRY: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);
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
    /// When it is tried again.
    retry_at: Option<Timestamp>,
}

impl Wish {
    fn put_off(&mut self, kind: &'static str, reason: &'static str, message: String) {
        self.condition = (kind, reason, message);
        self.retry_at = Timestamp::now().checked_add(RETRY).ok();
    }
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

/// Why a wish can never be fulfilled on this host, or with this VM. A limit beyond what the host has is none.
fn infeasible(wanted: &VmSize, asked: Asked, most: Most, host: &Capacity) -> Option<String> {
    let beyond = |(_, requested, capacity): &(&str, u64, u64)| requested > capacity;
    if let Some((resource, requested, capacity)) = asked.each(&host.allocatable()).into_iter().find(beyond) {
        return Some(format!(
            "Node didn't have enough capacity: {resource}, requested: {requested}, capacity: {capacity}"
        ));
    }
    let cure = "delete the Pod to get a larger VM";
    let vcpus = wanted.vcpus.min(size::vcpus_of(host));
    if vcpus > most.vcpus {
        return Some(format!(
            "the Pod's VM can have at most {} vCPUs, {vcpus} are wanted: {cure}",
            most.vcpus
        ));
    }
    let memory_mib = wanted.needed_mib.min(host.memory_bytes >> 20);
    (memory_mib > most.memory_mib).then(|| {
        format!(
            "the Pod's VM can have at most {} MiB of memory, {memory_mib} MiB are wanted: {cure}",
            most.memory_mib
        )
    })
}

/// What a VM has to grow to for a wish, if it is too small for it.
fn growth(wanted: &VmSize, now: &VmSize, most: Most) -> Option<Extent> {
    let vcpus = wanted.vcpus.min(most.vcpus).max(now.vcpus);
    let memory_mib = match wanted.needed_mib > now.memory_mib {
        true => wanted.memory_mib.min(most.memory_mib).max(now.memory_mib),
        false => now.memory_mib,
    };
    let grows = vcpus > now.vcpus || memory_mib > now.memory_mib;
    grows.then_some(Extent { vcpus, memory_mib })
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
            retry_at: None,
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
        self.new_size();
    }

    /// A new VM is made for what is in force, whatever the one before had grown to.
    pub(super) fn new_size(&mut self) {
        let host = &self.context.config.capacity;
        if let Some(spec) = &self.pod.spec {
            self.size = VmSize::of(spec);
            // A limit beyond what the host has is none.
            self.size.memory_mib = self.size.memory_mib.min(host.memory_bytes >> 20);
        }
        self.most = match self.context.deps.hypervisor.grows() {
            true => Most::of(&self.size, host),
            false => Most::only(&self.size),
        };
    }

    /// The guest uses so much of the VM now.
    pub(super) fn has_grown(&mut self, extent: Extent) {
        self.size.vcpus = extent.vcpus;
        self.size.memory_mib = extent.memory_mib;
    }

    /// Begins to fulfil the wish, or says why not.
    pub(super) fn resize(&mut self) {
        let (Some(wish), Some(machine)) = (self.wish.clone(), self.machine.clone()) else {
            return;
        };
        if wish.running {
            return;
        }
        let again = wish.retry_at.is_some();
        let next = with(&self.pod, &wish.resources);
        let size = next.spec.as_ref().map(VmSize::of).unwrap_or(self.size);
        let asked = Asked::of(&next);
        // What VMs cost beside may be less another time: for that a wish waits.
        let host = &self.context.config.capacity;
        if let Some(problem) = infeasible(&size, asked, self.most, host) {
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
        if let Some(problem) = self.deferred(asked, &crate::node::allocatable(&self.context)) {
            if wish.condition.1 != "Deferred" {
                self.say_resize(Kind::Warning, "ResizeDeferred", "Deferred", &wish, Some(&problem));
            }
            if let Some(wish) = &mut self.wish {
                wish.put_off("PodResizePending", "Deferred", problem);
            }
            return;
        }
        if !again || wish.condition.1 == "Deferred" {
            self.say_resize(Kind::Normal, "ResizeStarted", "started", &wish, None);
        }
        if let Some(wish) = &mut self.wish {
            wish.running = true;
            if wish.condition.0 == "PodResizePending" {
                wish.condition = ("PodResizeInProgress", "", String::new());
            }
        }
        // Who begins anew for it has the new limits from then on: what it uses now may well be more.
        let before = of(&self.pod);
        let lasts = |name: &str| match (before.get(name), wish.resources.get(name)) {
            (Some(before), Some(after)) => !super::record::container_of(&next, name)
                .is_some_and(|container| restarts(&container, before, after)),
            _ => true,
        };
        let runs = self.records.iter().filter_map(|record| match &record.state {
            State::Running { id, .. } if record.role != Role::Ephemeral && lasts(&record.name) => {
                Some((record.name.clone(), id.clone()))
            }
            _ => None,
        });
        let job = Resize {
            machine,
            runs: runs.collect(),
            before: Arc::clone(&self.pod),
            pod: next,
            grows: growth(&size, &self.size, self.most),
            size,
            resources: wish.resources,
        };
        let owner = self.inputs.clone();
        self.jobs.spawn(async move {
            let resources = job.resources.clone();
            let grown = job.grow().await;
            let result = match &grown {
                Ok(_) => job.run().await,
                Err(problem) => Err(problem.clone()),
            };
            let report = Report::Resized(resources, grown.ok().flatten(), result);
            let _ = owner.send(Input::Job(report)).await;
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
            let known = wish.condition.1 == "Error";
            wish.put_off("PodResizeInProgress", "Error", problem.clone());
            let wish = wish.clone();
            if !known {
                self.say_resize(Kind::Warning, "ResizeError", "error", &wish, Some(&problem));
            }
            return;
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
                let message = format!("Container {name} resize requires restart");
                self.kill_run(index, None, message, true);
            }
        }
    }

    /// Takes what the host gives to this Pod; none while others have it, or come before (kubelet: `canAdmitPod`).
    fn deferred(&self, asked: Asked, allocatable: &Capacity) -> Option<String> {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        let place = Place {
            priority: self.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
            guaranteed: size::class_of(&self.pod) == "Guaranteed",
            since: Instant::now(),
        };
        self.context.requests.take(uid, asked, place, allocatable).err()
    }

    /// Tries a wish again whose time has come; else the time when that will be.
    pub(super) fn retry_resize(&mut self, now: Timestamp) -> Option<Timestamp> {
        let wish = self.wish.as_ref().filter(|wish| !wish.running)?;
        let at = wish.retry_at?;
        if crate::backoff::ahead(at, now, RETRY.unsigned_abs()) {
            return Some(at);
        }
        self.resize();
        let wish = self.wish.as_ref().filter(|wish| !wish.running)?;
        wish.retry_at
    }

    /// Whether a wish waits for others to need less.
    pub(super) fn waits_for_room(&self) -> bool {
        self.wish
            .as_ref()
            .is_some_and(|wish| wish.condition.1 == "Deferred")
    }

    /// What the host has agreed to: it may not be in force yet (`allocatedResources`).
    pub(super) fn allocated(&self) -> Option<&Resources> {
        let wish = self.wish.as_ref()?;
        (wish.condition.0 == "PodResizeInProgress" && self.machine.is_some()).then_some(&wish.resources)
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
        let details = serde_json::to_string(&Summary::of(&self.pod, wish, problem)).unwrap_or_default();
        let message = format!("Pod resize {words}: {details}");
        self.context.recorder.pod(&self.pod, kind, reason, message);
    }
}

/// What the events of a resize tell, field by field as the kubelet writes it (`events/resize.go`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Allocation<'a>>,
    containers: Vec<Allocation<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Allocation<'a> {
    name: &'a str,
    resources: Amounts<'a>,
}

#[derive(Serialize)]
struct Amounts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<&'a BTreeMap<String, Quantity>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<&'a BTreeMap<String, Quantity>>,
}

impl<'a> Summary<'a> {
    fn of(pod: &'a Pod, wish: &'a Wish, error: Option<&'a str>) -> Self {
        let all = |containers: &'a [Container]| {
            let each = containers.iter().map(|container| {
                let resources = wish.resources.get(&container.name);
                Allocation {
                    name: &container.name,
                    resources: Amounts {
                        limits: resources.and_then(|resources| resources.limits.as_ref()),
                        requests: resources.and_then(|resources| resources.requests.as_ref()),
                    },
                }
            });
            each.collect()
        };
        let spec = pod.spec.as_ref();
        let init = spec.and_then(|spec| spec.init_containers.as_deref());
        Self {
            init_containers: all(init.unwrap_or_default()),
            containers: all(spec.map_or(&[], |spec| &spec.containers)),
            generation: wish.generation.unwrap_or_default(),
            error,
        }
    }
}

/// The work of one resize.
struct Resize {
    machine: Machine,
    /// The Pod as it is now, and as it is to be.
    before: Arc<Pod>,
    pod: Pod,
    /// Containers that run, with their runs.
    runs: Vec<(String, String)>,
    /// What the VM grows to before.
    grows: Option<Extent>,
    size: VmSize,
    resources: Resources,
}

impl Resize {
    /// Lets the VM grow as far as the wish needs it; returns what it has then.
    async fn grow(&self) -> Result<Option<Extent>, String> {
        let Some(wanted) = self.grows else { return Ok(None) };
        let vm = &self.machine.vm;
        let limit = |memory_mib| async move {
            let set = vm.set_memory(memory_mib).await;
            set.map_err(|error| error.to_string())
        };
        limit(wanted.memory_mib + BLOCK_MIB).await?;
        let mut client = self.client().await?;
        let request = GrowRequest { wanted: Some(wanted) };
        let reply = tokio::time::timeout(GROW, client.grow(request))
            .await
            .map_err(|_| "the guest does not answer".to_owned())?
            .map_err(|status| status.message().to_owned())?;
        let extent = reply.into_inner().extent.unwrap_or(wanted);
        limit(extent.memory_mib).await?;
        Ok(Some(extent))
    }

    async fn client(&self) -> Result<guest_api::GuestClient, String> {
        let client = self.machine.guest.client().await;
        client.map_err(|error| error.to_string())
    }

    /// Before anything is changed, no memory limit may come to be below what is in use (kubelet:
    /// `validateMemoryResizeAction`).
    async fn verify(&self) -> Result<(), String> {
        let memory = |pod: &Pod, name: &str| {
            let container = super::record::container_of(pod, name)?;
            Some(launch::resources(pod, &container).memory_limit).filter(|limit| *limit > 0)
        };
        let lowered: Vec<(&String, &String, u64)> = self
            .runs
            .iter()
            .filter_map(|(name, run)| {
                let wanted = memory(&self.pod, name)?;
                memory(&self.before, name)
                    .is_none_or(|before| wanted < before)
                    .then_some((name, run, wanted))
            })
            .collect();
        if lowered.is_empty() {
            return Ok(());
        }
        let mut client = self.client().await?;
        let stats = tokio::time::timeout(CALL, client.stats(StatsRequest::default()))
            .await
            .map_err(|_| "the guest does not answer".to_owned())?
            .map_err(|status| status.message().to_owned())?
            .into_inner();
        let problems = lowered.into_iter().filter_map(|(name, run, wanted)| {
            let found = stats.containers.iter().find(|known| known.id == *run)?;
            let used = found.memory_usage;
            (used >= wanted).then(|| {
                format!("attempting to set container {name:?} memory limit ({wanted}) below current usage ({used})")
            })
        });
        let problems: Vec<String> = problems.collect();
        match problems.as_slice() {
            [] => Ok(()),
            [problem] => Err(format!("cannot decrease memory limits: {problem}")),
            several => Err(format!("cannot decrease memory limits: [{}]", several.join(", "))),
        }
    }

    async fn run(&self) -> Result<(), String> {
        self.verify().await?;
        let (request, limit) = (self.size.cpu_request_millis, self.size.cpu_limit_millis);
        self.machine
            .vm
            .set_cpu(request, limit)
            .await
            .map_err(|error| error.to_string())?;
        for (name, run) in &self.runs {
            let Some(container) = super::record::container_of(&self.pod, name) else {
                continue;
            };
            let request = UpdateContainerRequest {
                id: run.clone(),
                resources: Some(launch::resources(&self.pod, &container)),
            };
            let mut client = self.client().await?;
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
    use serde_json::json;

    const ROOM: Capacity = Capacity {
        cpu_millis: 1900,
        memory_bytes: 4096,
        pods: 10,
        ephemeral_bytes: 0,
    };

    fn asking((cpu_millis, memory_bytes): (u64, u64)) -> Asked {
        Asked {
            cpu_millis,
            memory_bytes,
        }
    }

    fn size(vcpus: u32, needed_mib: u64, memory_mib: u64) -> VmSize {
        VmSize {
            vcpus,
            memory_mib,
            needed_mib,
            cpu_request_millis: None,
            cpu_limit_millis: None,
            ephemeral_bytes: None,
        }
    }

    #[test]
    fn what_a_vm_can_become() {
        let host = |cpu_millis: u64, memory_mib: u64| Capacity {
            cpu_millis,
            memory_bytes: memory_mib << 20,
            ..ROOM
        };
        let most = |vcpus, memory_mib| Most { vcpus, memory_mib };
        let (small, large) = (host(4000, 1024), host(64_000, 1 << 20));
        // The host, what the VM can have, what the Pod wants and asks for, and the beginning of the refusal.
        let cases = [
            (&small, most(4, 1024), size(4, 512, 640), (3900, 512 << 20), ""),
            // Limits beyond the host are none.
            (&small, most(4, 1024), size(9, 4096, 5120), (100, 1), ""),
            (
                &small,
                most(4, 1024),
                size(9, 512, 640),
                (3901, 1),
                "Node didn't have enough capacity: cpu, requested: 3901, capacity: 3900",
            ),
            (
                &small,
                most(4, 1024),
                size(1, 512, 640),
                (1, 769 << 20),
                "Node didn't have enough capacity: memory, requested: 806354944, capacity: 805306368",
            ),
            // A large host has more than a small VM can have; and an old VM has what it has.
            (
                &large,
                most(8, 4096),
                size(9, 512, 640),
                (100, 1),
                "the Pod's VM can have at most 8 vCPUs, 9 are wanted: delete the Pod",
            ),
            (
                &large,
                most(8, 4096),
                size(1, 4097, 5120),
                (100, 1),
                "the Pod's VM can have at most 4096 MiB of memory, 4097 MiB are wanted: delete",
            ),
            (
                &small,
                most(1, 192),
                size(2, 128, 192),
                (100, 1),
                "the Pod's VM can have at most 1 vCPUs, 2 are wanted",
            ),
        ];
        for (host, most, wanted, asked, expected) in cases {
            let said = infeasible(&wanted, asking(asked), most, host).unwrap_or_default();
            assert!(
                said.starts_with(expected) && said.is_empty() == expected.is_empty(),
                "{said:?} for {expected:?}"
            );
        }
    }

    #[test]
    fn how_far_a_vm_grows() {
        let most = Most {
            vcpus: 4,
            memory_mib: 2048,
        };
        let now = size(2, 192, 256);
        let cases = [
            (size(1, 100, 128), None),
            (size(2, 256, 320), None),
            (size(3, 100, 128), Some((3, 256))),
            (size(1, 257, 384), Some((2, 384))),
            (size(9, 1900, 2368), Some((4, 2048))),
        ];
        for (wanted, expected) in cases {
            let found = growth(&wanted, &now, most).map(|extent| (extent.vcpus, extent.memory_mib));
            assert_eq!(found, expected, "{wanted:?}");
        }
    }

    #[test]
    fn events_tell_containers_in_the_order_of_the_manifest() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "b", "resources": {"requests": {"memory": "1Mi", "cpu": "1"}, "limits": {"cpu": "2"}}},
                {"name": "a"}]}}))
        .expect("a Pod");
        let wish = Wish {
            resources: of(&pod),
            generation: Some(2),
            condition: ("", "", String::new()),
            running: false,
            retry_at: None,
        };
        let text = serde_json::to_string(&Summary::of(&pod, &wish, Some("words"))).expect("JSON");
        assert_eq!(
            text,
            r#"{"initContainers":[{"name":"i","resources":{}}],"containers":[{"name":"b","resources":{"limits":{"cpu":"2"},"requests":{"cpu":"1","memory":"1Mi"}}},{"name":"a","resources":{}}],"generation":2,"error":"words"}"#
        );
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
