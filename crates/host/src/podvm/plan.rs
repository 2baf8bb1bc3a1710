//! What is to be done next for the containers of a Pod: a pure function of the spec, the records and the time
//! (kubelet: `computePodActions`, `computeInitContainerActions`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use std::time::Duration;

use super::record::{Record, Role, State, container_of};
use crate::backoff::Verdict;

/// How long a container with a fault in its configuration waits before it is tried again.
pub const CONFIG_RETRY: Duration = Duration::from_secs(5);

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start (or restart) the container at this place.
    Start(usize),
    /// Its restart must wait; it shows `CrashLoopBackOff` with this delay until then.
    BackOff {
        /// The container's place.
        index: usize,
        /// When it may start again.
        until: Timestamp,
        /// The whole delay in seconds.
        seconds: u64,
    },
    /// Nothing for one container before this moment.
    Hold(Timestamp),
    /// Nothing will run any more: end the VM.
    Finish {
        /// Whether everything succeeded.
        succeeded: bool,
    },
}

/// Whether a container that ended so is to run again.
pub fn should_restart(pod: &Pod, container: &Container, role: Role, code: i32) -> bool {
    match role {
        Role::Ephemeral => return false,
        Role::Sidecar => return true,
        Role::Init | Role::Main => {}
    }
    // Rules come first (KEP-5307), then the container's own policy, then the Pod's.
    for rule in container.restart_policy_rules.iter().flatten() {
        let matches = rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.iter().flatten().any(|value| *value == code);
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        });
        if matches && rule.action == "Restart" {
            return true;
        }
    }
    let pod_policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    let policy = container
        .restart_policy
        .as_deref()
        .or(pod_policy)
        .unwrap_or("Always");
    match (policy, role) {
        ("Never", _) => false,
        ("OnFailure", _) => code != 0,
        // An init container that succeeded is done, whatever the policy.
        (_, Role::Init) => code != 0,
        _ => true,
    }
}

/// Whether a container that ended so goes on in another run: by its policy, or because it was ended for that.
pub fn goes_on(pod: &Pod, container: &Container, record: &Record, code: i32) -> bool {
    record.again || should_restart(pod, container, record.role, code)
}

/// Whether all init containers have done their part, so that the ordinary ones may start.
pub fn initialized(records: &[Record]) -> bool {
    // Once an ordinary container has run, initialisation is over for this VM.
    if records.iter().any(|r| r.role == Role::Main && r.begun) {
        return true;
    }
    records.iter().all(|record| match record.role {
        Role::Init => matches!(&record.state, State::Exited(exit) if exit.code == 0),
        Role::Sidecar => record.running() && record.started,
        Role::Main | Role::Ephemeral => true,
    })
}

/// The actions that bring the Pod further.
pub fn plan(pod: &Pod, records: &[Record], now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    let initialized = initialized(records);
    let (mut blocked, mut held) = (false, false);
    for (index, record) in records.iter().enumerate() {
        let Some(container) = container_of(pod, &record.name) else {
            continue;
        };
        match record.role {
            // Sidecars are looked after for the whole life; init containers only until all is initialised.
            Role::Init if initialized => continue,
            Role::Init | Role::Sidecar if blocked => continue,
            Role::Main if !initialized => continue,
            // It begins when those before it are through with their `postStart` hooks.
            Role::Main if held && !record.begun => continue,
            // Ephemeral ones come when they are asked for: they are there to see why others do not start.
            _ => {}
        }
        match &record.state {
            State::Waiting { .. } | State::Exited(_) if record.changed(&container) => {
                // Another image is another container: whatever its policy and its past.
                actions.push(Action::Start(index));
            }
            State::Waiting { .. } => start(record, index, now, &mut actions),
            State::Exited(exit) => {
                if goes_on(pod, &container, record, exit.code) {
                    restart(record, index, exit.finished_at, now, &mut actions);
                } else if record.role == Role::Init && exit.code != 0 {
                    return vec![Action::Finish { succeeded: false }];
                }
            }
            State::Starting { .. } | State::Running { .. } => {}
        }
        let begins = actions.last() == Some(&Action::Start(index));
        held |= record.role == Role::Main && (begins || hooks(record)) && post_start(&container);
        blocked |= !initialized
            && match record.role {
                Role::Init => !matches!(&record.state, State::Exited(exit) if exit.code == 0),
                Role::Sidecar => !(record.running() && record.started),
                Role::Main | Role::Ephemeral => false,
            };
    }
    if initialized && let Some(succeeded) = finished(pod, records) {
        return vec![Action::Finish { succeeded }];
    }
    actions
}

/// Whether a `postStart` hook is still at work, or the container on its way to it.
fn hooks(record: &Record) -> bool {
    record.hooking || matches!(record.state, State::Starting { .. })
}

fn post_start(container: &Container) -> bool {
    container
        .lifecycle
        .as_ref()
        .is_some_and(|lifecycle| lifecycle.post_start.is_some())
}

/// Whether every ordinary container has ended for good; then, whether all succeeded.
fn finished(pod: &Pod, records: &[Record]) -> Option<bool> {
    let mut succeeded = true;
    for record in records.iter().filter(|record| record.role == Role::Main) {
        let State::Exited(exit) = &record.state else {
            return None;
        };
        let container = container_of(pod, &record.name)?;
        if record.changed(&container) || goes_on(pod, &container, record, exit.code) {
            return None;
        }
        succeeded &= exit.code == 0;
    }
    Some(succeeded)
}

fn start(record: &Record, index: usize, now: Timestamp, actions: &mut Vec<Action>) {
    if let Some(until) = record
        .retry_at
        .filter(|until| crate::backoff::ahead(*until, now, CONFIG_RETRY))
    {
        actions.push(Action::Hold(until));
        return;
    }
    match record.last.as_ref() {
        Some(exit) => restart(record, index, exit.finished_at, now, actions),
        None => actions.push(Action::Start(index)),
    }
}

fn restart(record: &Record, index: usize, finished: Timestamp, now: Timestamp, actions: &mut Vec<Action>) {
    match record.backoff.check(finished, now) {
        Verdict::Go => actions.push(Action::Start(index)),
        Verdict::Wait(until, delay) => actions.push(Action::BackOff {
            index,
            until,
            seconds: delay.as_secs(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Exit, records};
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).expect("in range")
    }

    fn exited(code: i32) -> State {
        State::Exited(Exit {
            code,
            signal: None,
            reason: String::new(),
            message: String::new(),
            started_at: Some(at(0)),
            finished_at: at(0),
            id: String::new(),
        })
    }

    fn running() -> State {
        State::Running {
            started_at: at(0),
            id: String::new(),
        }
    }

    /// A Pod with the policy, and states: `.` fresh, `s` starting, `r` running, digit: exited with it.
    fn check(policy: &str, init: &[(&str, char)], main: &[(&str, char)], expected: &[Action]) {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "restartPolicy": policy,
            "initContainers": init.iter().map(|(name, _)| if name.starts_with("side") {
                json!({"name": name, "restartPolicy": "Always"})
            } else { json!({"name": name}) }).collect::<Vec<_>>(),
            "containers": main.iter().map(|(name, _)| json!({"name": name})).collect::<Vec<_>>(),
        }}))
        .expect("a Pod");
        let mut records = records(&pod);
        for (record, (_, state)) in records.iter_mut().zip(init.iter().chain(main)) {
            record.runs = u32::from(*state != '.');
            record.begun = record.runs > 0;
            record.started = true;
            record.state = match state {
                '.' => State::fresh(),
                's' => State::Starting {
                    reason: String::new(),
                    message: String::new(),
                },
                'r' => running(),
                digit => exited(digit.to_digit(10).expect("a digit").cast_signed()),
            };
        }
        assert_eq!(
            plan(&pod, &records, at(1)),
            expected,
            "{policy} {init:?} {main:?}"
        );
    }

    #[test]
    fn plans() {
        use Action::{Finish, Start};
        check("Always", &[], &[("a", '.'), ("b", '.')], &[Start(0), Start(1)]);
        check("Always", &[], &[("a", 's'), ("b", 'r')], &[]);
        check("Always", &[("i", '.'), ("j", '.')], &[("a", '.')], &[Start(0)]);
        check("Always", &[("i", 'r'), ("j", '.')], &[("a", '.')], &[]);
        check("Always", &[("i", '0'), ("j", '.')], &[("a", '.')], &[Start(1)]);
        check("Always", &[("i", '0'), ("j", '0')], &[("a", '.')], &[Start(2)]);
        check("Always", &[("i", '1')], &[("a", '.')], &[Start(0)]);
        check(
            "Never",
            &[("i", '1')],
            &[("a", '.')],
            &[Finish { succeeded: false }],
        );
        check("OnFailure", &[("i", '1')], &[("a", '.')], &[Start(0)]);
        check("Always", &[("side", '.'), ("i", '.')], &[("a", '.')], &[Start(0)]);
        check("Always", &[("side", 'r'), ("i", '.')], &[("a", '.')], &[Start(1)]);
        check("Always", &[("side", 'r'), ("i", '0')], &[("a", '.')], &[Start(2)]);
        check("Never", &[("side", '1'), ("i", '0')], &[("a", 'r')], &[Start(0)]);
        check(
            "Never",
            &[("side", 'r')],
            &[("a", '0')],
            &[Finish { succeeded: true }],
        );
        check("Never", &[], &[("a", '0'), ("b", 'r')], &[]);
        check(
            "Never",
            &[],
            &[("a", '0'), ("b", '3')],
            &[Finish { succeeded: false }],
        );
        check("OnFailure", &[], &[("a", '0')], &[Finish { succeeded: true }]);
        check("OnFailure", &[], &[("a", '2')], &[Start(0)]);
        check("Always", &[], &[("a", '0')], &[Start(0)]);
    }

    #[test]
    fn a_post_start_hook_holds_those_after_it() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [{"name": "i"}],
            "containers": [
                {"name": "a", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}, {"name": "b"}],
            "ephemeralContainers": [{"name": "e", "image": "x"}]}}))
        .expect("a Pod");
        let mut records = records(&pod);
        // Ephemeral containers do not wait for init containers.
        assert_eq!(plan(&pod, &records, at(1)), [Action::Start(0), Action::Start(3)]);
        records[0].state = exited(0);
        records[3].state = running();
        assert_eq!(plan(&pod, &records, at(1)), [Action::Start(1)]);
        (records[1].state, records[1].begun, records[1].hooking) = (running(), true, true);
        assert_eq!(plan(&pod, &records, at(1)), []);
        records[1].hooking = false;
        assert_eq!(plan(&pod, &records, at(1)), [Action::Start(2)]);
    }

    #[test]
    fn crash_loops_wait() {
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": [{"name": "a"}]}})).expect("a Pod");
        let mut records = records(&pod);
        records[0].runs = 2;
        records[0].state = exited(1);
        records[0].backoff.next(at(0), at(0));
        assert_eq!(
            plan(&pod, &records, at(4)),
            [Action::BackOff {
                index: 0,
                until: at(10),
                seconds: 10
            }]
        );
        assert_eq!(plan(&pod, &records, at(10)), [Action::Start(0)]);
    }

    #[test]
    fn another_image_is_started_at_once() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"restartPolicy": "Never", "containers": [
            {"name": "a", "image": "new"}]}}))
        .expect("a Pod");
        let mut records = records(&pod);
        records[0].runs = 3;
        records[0].state = exited(0);
        records[0].image = Some("new".to_owned());
        assert_eq!(plan(&pod, &records, at(1)), [Action::Finish { succeeded: true }]);
        records[0].image = Some("old".to_owned());
        records[0].backoff.next(at(0), at(0));
        assert_eq!(plan(&pod, &records, at(1)), [Action::Start(0)]);
    }

    #[test]
    fn containers_rules() {
        let pod = Pod::default();
        let container: Container = serde_json::from_value(json!({"name": "a", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}))
        .expect("a container");
        assert!(should_restart(&pod, &container, Role::Main, 42));
        assert!(!should_restart(&pod, &container, Role::Main, 1));
    }
}
