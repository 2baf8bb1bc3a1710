//! From records to the Pod's status: phase, conditions, container statuses. One pure, exhaustive mapping; nobody else
//! writes any of it (kubelet: `generateAPIPodStatus`, `getPhase`, `status/generate.go`).

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodStatus,
    VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::podvm::plan::{goes_on, initialized};
use crate::podvm::record::{Exit, Record, Role, State, container_of};
use crate::podvm::resize::Resources;
use crate::podvm::{NEVER_SEEN, START_ERROR};
use crate::size;

/// What there is to tell about a Pod.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The Pod as the API has it.
    pub pod: &'a Pod,
    /// Its containers.
    pub records: &'a [Record],
    /// Resources that were agreed to and are not in force yet, by container.
    pub allocated: Option<&'a Resources>,
    /// The VM is up and its network configured.
    pub vm_ready: bool,
    /// Its address, once it has one.
    pub ip: Option<Ipv4Addr>,
    /// The host's address.
    pub host_ip: IpAddr,
    /// Why the Pod fails as a whole (`DeadlineExceeded`, `Evicted`, …) and the words to it: told when it has ended.
    pub verdict: Option<(&'a str, &'a str)>,
    /// Nothing will run any more.
    pub finished: bool,
    /// The host has not taken it.
    pub rejected: bool,
    /// When the host accepted the Pod.
    pub start_time: Timestamp,
}

/// The status to write. `before` is the last known one: it keeps transition times and what others own.
pub fn of(view: &View<'_>, before: &PodStatus, now: Timestamp) -> PodStatus {
    if view.rejected {
        return rejected(view, before);
    }
    let phase = phase(view, before);
    let generation = view.pod.metadata.generation;
    let statuses = |wanted: fn(Role) -> bool| -> Vec<ContainerStatus> {
        let mut list: Vec<ContainerStatus> = view
            .records
            .iter()
            .filter(|record| wanted(record.role))
            .map(|record| container_status(view, record))
            .collect();
        // Ordinary containers are listed by name, as the kubelet lists them.
        if list.len() > 1 && wanted(Role::Main) {
            list.sort_by(|a, b| a.name.cmp(&b.name));
        }
        list
    };
    // All messages together must not make the object too big (kubelet: `normalizeStatus`).
    let share = MESSAGE_BYTES / view.records.len().max(1);
    let optional = |mut list: Vec<ContainerStatus>| {
        list.iter_mut().for_each(|status| cut(status, share));
        (!list.is_empty()).then_some(list)
    };
    let verdict = view.verdict.filter(|_| view.finished);
    // Whoever is beyond its deadline gets no more traffic, though its containers have their grace period still; who is
    // evicted is ready as long as its probes say so (kubelet: `generateAPIPodStatus`, `mergePodStatus`).
    let serves = match view.verdict {
        Some((DEADLINE_EXCEEDED, _)) => "Failed",
        _ => phase,
    };
    let conditions = conditions(view, serves, before, generation, now);
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: verdict.map(|(reason, _)| reason.to_owned()),
        message: verdict.map(|(_, message)| message.to_owned()),
        conditions: Some(conditions),
        host_ip: Some(view.host_ip.to_string()),
        host_ips: Some(vec![HostIP {
            ip: view.host_ip.to_string(),
        }]),
        pod_ip: view.ip.map(|ip| ip.to_string()),
        pod_ips: view.ip.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        start_time: before.start_time.clone().or(Some(Time(view.start_time))),
        qos_class: qos_class(view, before),
        observed_generation: generation,
        init_container_statuses: optional(statuses(|role| matches!(role, Role::Init | Role::Sidecar))),
        container_statuses: optional(statuses(|role| role == Role::Main)),
        ephemeral_container_statuses: optional(statuses(|role| role == Role::Ephemeral)),
        ..PodStatus::default()
    }
}

fn qos_class(view: &View<'_>, before: &PodStatus) -> Option<String> {
    let spec = view.pod.spec.as_ref();
    let reckoned = || spec.map(|spec| size::qos_class(spec).to_owned());
    before.qos_class.clone().or_else(reckoned)
}

/// Of a Pod that was not taken nothing but that is told: neither containers nor conditions (kubelet: `rejectPod`).
fn rejected(view: &View<'_>, before: &PodStatus) -> PodStatus {
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: view.verdict.map(|(reason, _)| reason.to_owned()),
        message: view.verdict.map(|(_, message)| message.to_owned()),
        qos_class: qos_class(view, before),
        start_time: before.start_time.clone().or(Some(Time(view.start_time))),
        observed_generation: view.pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// Bytes of all termination messages of a Pod (kubelet: `MaxPodTerminationMessageLogLength`).
const MESSAGE_BYTES: usize = 12 << 10;

fn cut(status: &mut ContainerStatus, bytes: usize) {
    let states = [&mut status.state, &mut status.last_state];
    let ends = states
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_mut());
    for message in ends.filter_map(|end| end.message.as_mut()) {
        let end = (0..=message.len().min(bytes)).rfind(|index| message.is_char_boundary(*index));
        message.truncate(end.unwrap_or(0));
    }
}

/// The reason of a Pod that was active for longer than its spec allows.
pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

fn phase(view: &View<'_>, before: &PodStatus) -> &'static str {
    // As long as something of it runs, a Pod that will have failed is what it was.
    match (view.verdict, view.finished, before.phase.as_deref()) {
        (Some(_), true, _) => return "Failed",
        (Some(_), false, Some("Pending")) => return "Pending",
        (Some(_), false, Some("Running")) => return "Running",
        _ => {}
    }
    let mut main = view.records.iter().filter(|record| record.role == Role::Main);
    if view.finished {
        let init_failed = view.records.iter().any(|record| {
            record.role == Role::Init && matches!(&record.state, State::Exited(exit) if exit.code != 0)
        });
        let all_good = main.all(|record| record.latest_exit().is_some_and(|exit| exit.code == 0));
        return if all_good && !init_failed {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    if !initialized(view.records) {
        return "Pending";
    }
    // A container that never ran keeps the Pod pending; one that ran and waits for its restart does not.
    let never = |record: &Record| (never_ran(record) || record.hooking) && record.last.is_none();
    if main.any(|record| record.runs == 0 || never(record)) {
        return "Pending";
    }
    "Running"
}

fn never_ran(record: &Record) -> bool {
    matches!(record.state, State::Waiting { .. } | State::Starting { .. })
}

fn container_status(view: &View<'_>, record: &Record) -> ContainerStatus {
    let container = container_of(view.pod, &record.name);
    let running = record.running() && !record.hooking;
    let ready = match record.role {
        Role::Init => matches!(&record.state, State::Exited(exit) if exit.code == 0),
        Role::Sidecar | Role::Main => running && record.ready,
        Role::Ephemeral => false,
    };
    let latest = match &record.state {
        State::Running { id, .. } => Some(id.clone()),
        State::Exited(exit) => Some(exit.id.clone()),
        State::Waiting { .. } | State::Starting { .. } => record.last.as_ref().map(|exit| exit.id.clone()),
    };
    let last = failed_start(view, record)
        .map(|(_, _, exit)| exit)
        .or(record.last.as_ref());
    let made = latest.as_ref().is_some_and(|id| !id.is_empty());
    let in_force = container
        .as_ref()
        .and_then(|container| container.resources.clone());
    let uid = view.pod.metadata.uid.as_deref().unwrap_or_default();
    ContainerStatus {
        name: record.name.clone(),
        image: container
            .as_ref()
            .and_then(|container| container.image.clone())
            .unwrap_or_default(),
        image_id: record.image_id.clone(),
        container_id: latest
            .filter(|id| !id.is_empty())
            .map(|id| format!("podvisor://{uid}/{id}")),
        // A run counts when its container is there: it may still wait for its image.
        restart_count: i32::try_from(match record.state {
            State::Starting { .. } => record.restarts().saturating_sub(1),
            _ => record.restarts(),
        })
        .unwrap_or(i32::MAX),
        ready,
        started: (record.role != Role::Ephemeral).then_some(running && record.started),
        state: Some(state(view, record)),
        last_state: last.map(|exit| ContainerState {
            terminated: Some(terminated(uid, exit)),
            ..ContainerState::default()
        }),
        // Of what was never made there is nothing to tell (kubelet: `convertToAPIContainerStatuses`).
        resources: made.then(|| in_force.clone().unwrap_or_default()),
        allocated_resources: match view.allocated.and_then(|all| all.get(&record.name)) {
            _ if !made => None,
            Some(agreed) => agreed.requests.clone(),
            None => in_force.and_then(|resources| resources.requests),
        },
        user: record.identity.as_ref().map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: i64::from(*uid),
                gid: i64::from(*gid),
                supplemental_groups: Some(groups.iter().copied().map(i64::from).collect()),
            }),
        }),
        volume_mounts: container.as_ref().and_then(|container| volume_mounts(container)),
        ..ContainerStatus::default()
    }
}

/// What is mounted (kubelet: `convertContainerStatus`).
fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container
        .volume_mounts
        .as_ref()
        .filter(|mounts| !mounts.is_empty())?;
    let status = |mount: &VolumeMount| {
        let read_only = mount.read_only.filter(|read_only| *read_only);
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only,
            recursive_read_only: read_only.map(|_| match mount.recursive_read_only.as_deref() {
                Some("Enabled" | "IfPossible") => "Enabled".to_owned(),
                _ => "Disabled".to_owned(),
            }),
        }
    };
    Some(mounts.iter().map(status).collect())
}

/// Why a container waits whose run did not come to anything, though another follows: reason, words, and how that run ended
/// (kubelet: `reasonCache`).
fn failed_start<'a>(view: &View<'_>, record: &'a Record) -> Option<(&'static str, &'a str, &'a Exit)> {
    let exit = match &record.state {
        State::Exited(exit) => {
            let container = container_of(view.pod, &record.name)?;
            let again = view.pod.metadata.deletion_timestamp.is_none() && !view.finished;
            Some(exit).filter(|exit| again && goes_on(view.pod, &container, record, exit.code))
        }
        State::Starting { reason, .. } if reason.is_empty() => record.last.as_ref(),
        _ => None,
    }?;
    match &record.unhooked {
        Some(words) => Some(("PostStartHookError", words, exit)),
        None if exit.reason == START_ERROR => Some(("RunContainerError", &exit.message, exit)),
        None => None,
    }
}

fn state(view: &View<'_>, record: &Record) -> ContainerState {
    let uid = view.pod.metadata.uid.as_deref().unwrap_or_default();
    if let Some((reason, words, _)) = failed_start(view, record) {
        return waiting(view, reason, words);
    }
    if let Some(exit) = repeated(view.pod, record) {
        return ContainerState {
            terminated: Some(terminated(uid, exit)),
            ..ContainerState::default()
        };
    }
    match &record.state {
        // An API server lets nobody leave a good end under `OnFailure`: of one that another run follows it is not told.
        State::Exited(_) if record.again && !view.finished => waiting(view, "", ""),
        State::Starting { reason, .. } if reason.is_empty() && record.again => waiting(view, "", ""),
        // While the next run is on its way, the one before is still what there is to see.
        State::Starting { reason, .. } if reason.is_empty() && record.last.is_some() => ContainerState {
            terminated: record.last.as_ref().map(|exit| terminated(uid, exit)),
            ..ContainerState::default()
        },
        State::Running { .. } if record.hooking => waiting(view, "", ""),
        State::Waiting { reason, message } | State::Starting { reason, message } => {
            waiting(view, reason, message)
        }
        State::Running { started_at, .. } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(*started_at)),
            }),
            ..ContainerState::default()
        },
        State::Exited(exit) => ContainerState {
            terminated: Some(terminated(uid, exit)),
            ..ContainerState::default()
        },
    }
}

/// The good end of an init container that runs once more because its VM was lost. Unless the Pod restarts all it has,
/// an API server lets no container leave its end (`ValidateInitContainerStateTransition`): the end stays until the
/// next one.
fn repeated<'a>(pod: &Pod, record: &'a Record) -> Option<&'a Exit> {
    let again = record.role == Role::Init && !matches!(record.state, State::Exited(_));
    let exit = record.last.as_ref().filter(|exit| again && exit.code == 0)?;
    let container = container_of(pod, &record.name)?;
    let pods = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    let policy = container.restart_policy.as_deref().or(pods).unwrap_or("Always");
    (policy != "Always").then_some(exit)
}

/// Why a container of these waits, if nothing special holds it up: a Pod with init containers says of each that it is
/// being initialised, though it be so already (kubelet: `convertToAPIContainerStatuses`).
pub fn waiting_reason<'a>(records: &[Record], reason: &'a str) -> &'a str {
    let init = |record: &Record| matches!(record.role, Role::Init | Role::Sidecar);
    match reason {
        "" if records.iter().any(init) => "PodInitializing",
        "" => "ContainerCreating",
        reason => reason,
    }
}

fn waiting(view: &View<'_>, reason: &str, message: &str) -> ContainerState {
    let reason = waiting_reason(view.records, reason);
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    }
}

fn terminated(uid: &str, exit: &Exit) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: (!exit.id.is_empty()).then(|| format!("podvisor://{uid}/{}", exit.id)),
        exit_code: exit.code,
        signal: None,
        reason: Some(exit.reason.clone()),
        message: (!exit.message.is_empty()).then(|| exit.message.clone()),
        started_at: exit.started_at.map(Time),
        finished_at: (exit.reason != NEVER_SEEN).then_some(Time(exit.finished_at)),
    }
}

/// Truth, reason, message of a condition.
type Verdict = (bool, Option<&'static str>, Option<String>);

fn conditions(
    view: &View<'_>,
    phase: &str,
    before: &PodStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let containers_ready = containers_ready(view, phase);
    let ready = ready(view, before, &containers_ready);
    let owned: [(&str, Verdict); 4] = [
        ("PodReadyToStartContainers", (view.vm_ready, None, None)),
        ("Initialized", initialized_condition(view, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
    ];
    let old = before.conditions.as_deref().unwrap_or_default();
    let mut result: Vec<PodCondition> = owned
        .into_iter()
        .map(|(name, (truth, reason, message))| {
            let status = if truth { "True" } else { "False" };
            let since = old
                .iter()
                .find(|condition| condition.type_ == name && condition.status == status)
                .and_then(|condition| condition.last_transition_time.clone());
            PodCondition {
                type_: name.to_owned(),
                status: status.to_owned(),
                reason: reason.map(str::to_owned),
                message,
                last_transition_time: since.or(Some(Time(now))),
                observed_generation: generation,
                ..PodCondition::default()
            }
        })
        .collect();
    // Being here says it; since when is the scheduler's word (kubelet: `generateAPIPodStatus`).
    let scheduled = old
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "True");
    result.push(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        last_transition_time: scheduled
            .and_then(|condition| condition.last_transition_time.clone())
            .or(Some(Time(now))),
        observed_generation: generation,
        ..PodCondition::default()
    });
    let foreign = old
        .iter()
        .filter(|condition| !result.iter().any(|ours| ours.type_ == condition.type_))
        .cloned()
        .collect::<Vec<_>>();
    result.extend(foreign);
    result
}

fn initialized_condition(view: &View<'_>, phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return (true, Some("PodCompleted"), None);
    }
    let incomplete: Vec<&str> = view
        .records
        .iter()
        .filter(|record| match record.role {
            Role::Init => !matches!(&record.state, State::Exited(exit) if exit.code == 0),
            Role::Sidecar => !record.started || record.runs == 0,
            Role::Main | Role::Ephemeral => false,
        })
        .map(|record| record.name.as_str())
        .collect();
    if incomplete.is_empty() || initialized(view.records) {
        return (true, None, None);
    }
    (
        false,
        Some("ContainersNotInitialized"),
        Some(format!(
            "containers with incomplete status: [{}]",
            incomplete.join(" ")
        )),
    )
}

fn containers_ready(view: &View<'_>, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return (false, Some("PodCompleted"), None),
        "Failed" => return (false, Some("PodFailed"), None),
        _ => {}
    }
    let unready: Vec<&str> = view
        .records
        .iter()
        .filter(|record| matches!(record.role, Role::Main | Role::Sidecar))
        .filter(|record| !(record.running() && record.ready))
        .map(|record| record.name.as_str())
        .collect();
    if unready.is_empty() {
        return (true, None, None);
    }
    (
        false,
        Some("ContainersNotReady"),
        Some(format!("containers with unready status: [{}]", unready.join(" "))),
    )
}

fn ready(view: &View<'_>, before: &PodStatus, containers: &Verdict) -> Verdict {
    if !containers.0 {
        return containers.clone();
    }
    let gates = view
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_ref());
    let conditions = before.conditions.as_deref().unwrap_or_default();
    let unready: Vec<String> = gates
        .into_iter()
        .flatten()
        .filter_map(|gate| {
            let found = conditions.iter().find(|c| c.type_ == gate.condition_type);
            match found {
                Some(condition) if condition.status == "True" => None,
                Some(condition) => Some(format!(
                    "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                    gate.condition_type, condition.status
                )),
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{}\" does not exist.",
                    gate.condition_type
                )),
            }
        })
        .collect();
    if unready.is_empty() {
        (true, None, None)
    } else {
        (false, Some("ReadinessGatesNotReady"), Some(unready.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::podvm::record::records;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).expect("in range")
    }

    fn exit(code: i32) -> Exit {
        Exit {
            code,
            signal: None,
            reason: if code == 0 { "Completed" } else { "Error" }.into(),
            message: String::new(),
            started_at: Some(at(1)),
            finished_at: at(2),
            id: "a.0".into(),
        }
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {
            "initContainers": [{"name": "i"}], "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}}))
        .expect("a Pod")
    }

    fn summary(records: &[Record], finished: bool, verdict: Option<(&str, &str)>) -> String {
        let pod = pod();
        let view = View {
            pod: &pod,
            records,
            allocated: None,
            vm_ready: true,
            ip: Some(Ipv4Addr::new(10, 244, 0, 2)),
            host_ip: Ipv4Addr::new(192, 0, 2, 1).into(),
            verdict,
            finished,
            rejected: false,
            start_time: at(0),
        };
        let status = of(&view, &PodStatus::default(), at(5));
        let conditions: Vec<String> = status
            .conditions
            .iter()
            .flatten()
            .map(|c| {
                let more = [c.reason.as_deref(), c.message.as_deref()]
                    .map(Option::unwrap_or_default)
                    .join(" ");
                format!("{}={} {more}", c.type_, c.status).trim().to_owned()
            })
            .collect();
        let states: Vec<String> = status
            .init_container_statuses
            .iter()
            .flatten()
            .chain(status.container_statuses.iter().flatten())
            .map(|c| {
                let state = c.state.clone().unwrap_or_default();
                let text = state
                    .waiting
                    .map(|w| w.reason.unwrap_or_default())
                    .or(state.running.map(|_| "running".into()))
                    .or(state.terminated.map(|t| t.reason.unwrap_or_default()))
                    .unwrap_or_default();
                format!("{} {text} ready={} restarts={}", c.name, c.ready, c.restart_count)
            })
            .collect();
        format!(
            "{}\n{}\n{}",
            status.phase.unwrap_or_default(),
            conditions.join("\n"),
            states.join("\n")
        )
    }

    fn run(record: &mut Record) {
        record.runs += 1;
        record.begun = true;
        record.ready = true;
        record.started = true;
        record.state = State::Running {
            started_at: at(3),
            id: record.run_id(),
        };
    }

    #[test]
    fn a_life() {
        let mut records = records(&pod());
        insta::assert_snapshot!(summary(&records, false, None), @r"
        Pending
        PodReadyToStartContainers=True
        Initialized=False ContainersNotInitialized containers with incomplete status: [i]
        Ready=False ContainersNotReady containers with unready status: [a b]
        ContainersReady=False ContainersNotReady containers with unready status: [a b]
        PodScheduled=True
        i PodInitializing ready=false restarts=0
        a PodInitializing ready=false restarts=0
        b PodInitializing ready=false restarts=0
        ");
        records[0].runs = 1;
        records[0].state = State::Exited(exit(0));
        run(&mut records[1]);
        insta::assert_snapshot!(summary(&records, false, None), @r"
        Pending
        PodReadyToStartContainers=True
        Initialized=True
        Ready=False ContainersNotReady containers with unready status: [b]
        ContainersReady=False ContainersNotReady containers with unready status: [b]
        PodScheduled=True
        i Completed ready=true restarts=0
        a running ready=true restarts=0
        b PodInitializing ready=false restarts=0
        ");
        run(&mut records[2]);
        insta::assert_snapshot!(summary(&records, false, None), @r"
        Running
        PodReadyToStartContainers=True
        Initialized=True
        Ready=True
        ContainersReady=True
        PodScheduled=True
        i Completed ready=true restarts=0
        a running ready=true restarts=0
        b running ready=true restarts=0
        ");
        records[2].last = Some(exit(1));
        records[2].runs = 2;
        records[2].state = State::Waiting {
            reason: "CrashLoopBackOff".into(),
            message: "back-off".into(),
        };
        insta::assert_snapshot!(summary(&records, false, None), @r"
        Running
        PodReadyToStartContainers=True
        Initialized=True
        Ready=False ContainersNotReady containers with unready status: [b]
        ContainersReady=False ContainersNotReady containers with unready status: [b]
        PodScheduled=True
        i Completed ready=true restarts=0
        a running ready=true restarts=0
        b CrashLoopBackOff ready=false restarts=1
        ");
        records[1].state = State::Exited(exit(0));
        records[2].state = State::Exited(exit(0));
        insta::assert_snapshot!(summary(&records, true, None), @r"
        Succeeded
        PodReadyToStartContainers=True
        Initialized=True PodCompleted
        Ready=False PodCompleted
        ContainersReady=False PodCompleted
        PodScheduled=True
        i Completed ready=true restarts=0
        a Completed ready=false restarts=0
        b Completed ready=false restarts=1
        ");
        records[1].state = State::Exited(exit(137));
        assert!(summary(&records, true, None).starts_with("Failed\n"));
    }

    /// A Pod that is to fail stays what it is until nothing of it runs.
    #[test]
    fn failing_takes_until_the_end() {
        let mut records = records(&pod());
        records[0].runs = 1;
        records[0].state = State::Exited(exit(0));
        run(&mut records[1]);
        run(&mut records[2]);
        let first_lines = |finished, verdict| {
            let text = summary(&records, finished, Some((verdict, "words")));
            text.lines().take(5).collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(first_lines(false, "DeadlineExceeded"), @r"
        Running
        PodReadyToStartContainers=True
        Initialized=True
        Ready=False PodFailed
        ContainersReady=False PodFailed
        ");
        insta::assert_snapshot!(first_lines(false, "Evicted"), @r"
        Running
        PodReadyToStartContainers=True
        Initialized=True
        Ready=True
        ContainersReady=True
        ");
        insta::assert_snapshot!(first_lines(true, "Evicted"), @r"
        Failed
        PodReadyToStartContainers=True
        Initialized=True
        Ready=False PodFailed
        ContainersReady=False PodFailed
        ");
    }

    /// What is shown of an init container that ended with a code and runs again, by the Pod's policy.
    #[test]
    fn init_containers_that_run_again() {
        let cases = [
            ("Always", 0, "running"),
            ("OnFailure", 0, "terminated"),
            ("OnFailure", 1, "running"),
            ("Never", 0, "terminated"),
        ];
        for (policy, code, shown) in cases {
            let mut pod = pod();
            pod.spec.as_mut().expect("a spec").restart_policy = Some(policy.to_owned());
            let mut records = records(&pod);
            run(&mut records[0]);
            records[0].last = Some(exit(code));
            let view = View {
                pod: &pod,
                records: &records,
                allocated: None,
                vm_ready: true,
                ip: None,
                host_ip: Ipv4Addr::LOCALHOST.into(),
                verdict: None,
                finished: false,
                rejected: false,
                start_time: at(0),
            };
            let status = of(&view, &PodStatus::default(), at(5));
            let state = serde_json::to_value(&status.init_container_statuses.expect("one")[0].state);
            let state = state.expect("JSON");
            assert!(state.get(shown).is_some(), "{policy} {code}: {state}");
        }
    }

    /// What is shown of containers whose start came to nothing, by the Pod's policy.
    #[test]
    fn starts_that_failed() {
        let cases = [
            ("Always", None, "waiting RunContainerError: words", true),
            ("Always", Some("hook"), "waiting PostStartHookError: hook", true),
            ("Never", None, "terminated StartError: words", false),
            ("Never", Some("hook"), "terminated StartError: words", false),
        ];
        for (policy, unhooked, expected, last) in cases {
            let mut pod = pod();
            let spec = pod.spec.as_mut().expect("a spec");
            spec.restart_policy = Some(policy.to_owned());
            spec.init_containers = None;
            let mut records = records(&pod);
            records[0].runs = 1;
            records[0].unhooked = unhooked.map(str::to_owned);
            records[0].state = State::Exited(Exit {
                reason: START_ERROR.to_owned(),
                message: "words".to_owned(),
                ..exit(128)
            });
            let view = View {
                pod: &pod,
                records: &records,
                allocated: None,
                vm_ready: true,
                ip: None,
                host_ip: Ipv4Addr::LOCALHOST.into(),
                verdict: None,
                finished: false,
                rejected: false,
                start_time: at(0),
            };
            let status = of(&view, &PodStatus::default(), at(5))
                .container_statuses
                .expect("two")
                .remove(0);
            let state = serde_json::to_value(status.state).expect("JSON");
            let (kind, words) = state.as_object().expect("an object").iter().next().expect("one");
            let text = |field: &str| words[field].as_str().unwrap_or_default();
            let shown = format!("{kind} {}: {}", text("reason"), text("message"));
            assert_eq!(shown, expected, "{policy}");
            assert_eq!(status.last_state.is_some(), last, "{policy}");
        }
    }

    /// Resources are told of containers that are there, or were.
    #[test]
    fn resources_of_what_was_made() {
        let mut pod = pod();
        let spec = pod.spec.as_mut().expect("a spec");
        spec.containers[0].resources =
            serde_json::from_value(json!({"requests": {"cpu": "1"}})).expect("resources");
        let mut records = records(&pod);
        let told = |records: &[Record]| {
            let view = View {
                pod: &pod,
                records,
                allocated: None,
                vm_ready: true,
                ip: None,
                host_ip: Ipv4Addr::LOCALHOST.into(),
                verdict: None,
                finished: false,
                rejected: false,
                start_time: at(0),
            };
            let all = of(&view, &PodStatus::default(), at(5)).container_statuses;
            let each = all.into_iter().flatten().map(|status| {
                let status = serde_json::to_value(&status).expect("JSON");
                format!("{} {}", status["resources"], status["allocatedResources"])
            });
            each.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(told(&records), "null null, null null");
        run(&mut records[1]);
        run(&mut records[2]);
        let all = r#"{"requests":{"cpu":"1"}} {"cpu":"1"}, {} null"#;
        assert_eq!(told(&records), all);
        for record in &mut records[1..] {
            record.last = Some(exit(1));
            record.state = State::fresh();
        }
        assert_eq!(told(&records), all);
    }

    #[test]
    fn transition_times_stay() {
        let pod = pod();
        let records = records(&pod);
        let view = View {
            pod: &pod,
            records: &records,
            allocated: None,
            vm_ready: false,
            ip: None,
            host_ip: Ipv4Addr::LOCALHOST.into(),
            verdict: None,
            finished: false,
            rejected: false,
            start_time: at(0),
        };
        let first = of(&view, &PodStatus::default(), at(1));
        let second = of(&view, &first, at(9));
        assert_eq!(first, second);
    }
}
