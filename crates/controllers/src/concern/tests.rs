//! Whom changes concern, against an API server in memory: what is done, and who is to be looked at then.

use super::*;
use apiserver::ApiServer;
use apiserver::config::Config;
use apiserver::user::User;
use kube::Client;
use serde_json::json;
use store::memory::MemoryStore;

/// An API server that nobody else writes to, and the one who writes.
pub(crate) async fn plane() -> (Arc<ApiServer>, Arc<World>) {
    let mut config = Config::new("test", Arc::new(MemoryStore::new()));
    config.service_account_key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let api = ApiServer::start(config).await.unwrap();
    let admin = User::new("admin", &["system:masters", "system:authenticated"]);
    let world = World::new(Client::new(api.local_service(admin), "default"), api.view());
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}});
    world.create("serviceaccounts", &account).await.unwrap();
    (api, world)
}

/// What is done to an object.
pub(crate) enum Do {
    /// Comes.
    Make(&'static str, Value),
    /// Gets this patch: resource, name, subresource.
    Patch(&'static str, &'static str, &'static str, Value),
    /// Goes at once.
    Remove(&'static str, &'static str),
}
use Do::{Make, Patch, Remove};

pub(crate) async fn act(world: &World, what: &Do) {
    match what {
        Make(key, object) => {
            world.create(key, object).await.unwrap();
        }
        Patch(key, name, sub, patch) => {
            let object = find(world, key, name);
            world.patch(key, &object, sub, patch).await.unwrap();
        }
        Remove(key, name) => {
            let object = find(world, key, name);
            world.delete_now(key, &object).await.unwrap();
        }
    }
}

pub(crate) fn find(world: &World, key: &str, name: &str) -> Arc<Value> {
    let found = ["default", ""]
        .iter()
        .find_map(|namespace| world.get(key, namespace, name));
    found.unwrap_or_else(|| panic!("{key} {name}"))
}

/// The names of who is to be looked at, gone ones included; each look ends without a wish for another.
fn due(concern: &Concern, world: &World) -> String {
    let mut round = concern.begin(world);
    let keys: Vec<String> = round.ahead(world).into_iter().map(|(key, _)| key).collect();
    while round.next(world).is_some() {
        round.note(Ok(None));
    }
    let name = |key: &String| {
        key.rsplit_once('/')
            .map_or(key.clone(), |(_, name)| name.to_owned())
    };
    let mut names: Vec<String> = keys.iter().map(name).collect();
    names.sort();
    names.join(" ")
}

/// Does one thing after the other, and says after each who is concerned.
async fn check(concern: Concern, cases: Vec<(&str, Vec<Do>, &str)>) {
    let (api, world) = plane().await;
    assert_eq!(due(&concern, &world), "", "nothing is there");
    for (what, acts, expected) in cases {
        for one in &acts {
            act(&world, one).await;
        }
        assert_eq!(due(&concern, &world), expected, "{what}");
        assert_eq!(due(&concern, &world), "", "{what}: that was all");
    }
    api.stop();
}

fn set(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn pod(name: &str, app: &str, owner: Option<(&str, &str)>) -> Value {
    let owners: Vec<Value> = owner
        .iter()
        .map(|(name, uid)| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid, "controller": true}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": app}, "ownerReferences": owners},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

const PODS: &str = "pods";
const SETS: &str = "replicasets.apps";
const BUDGETS: &str = "poddisruptionbudgets.policy";

fn by_selector(object: &Value) -> Option<LabelSelector> {
    LabelSelector::from_json(&object["spec"]["selector"]).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_and_selectors() {
    let concern = Concern::new(SETS, &[(PODS, &[By::Owner, By::Labels])]).selecting(by_selector);
    let (api, world) = plane().await;
    act(&world, &Make(SETS, set("a"))).await;
    act(&world, &Make(SETS, set("b"))).await;
    let uid = |name| {
        find(&world, SETS, name)["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (a, b) = (uid("a"), uid("b"));
    let label = |app: &str| json!({"metadata": {"labels": {"app": app}}});
    let owner = |name: &str, uid: &str| {
        json!({"metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid, "controller": true}]}})
    };
    for (what, acts, expected) in [
        ("the start", vec![], "a b"),
        ("nothing", vec![], ""),
        ("a stray that matches", vec![Make(PODS, pod("p", "a", None))], "a"),
        (
            "one that nobody selects",
            vec![Make(PODS, pod("q", "none", None))],
            "",
        ),
        (
            "owned by one, selected by another",
            vec![Make(PODS, pod("r", "b", Some(("a", &a))))],
            "a b",
        ),
        ("relabelled", vec![Patch(PODS, "p", "", label("b"))], "a b"),
        ("adopted", vec![Patch(PODS, "q", "", owner("a", &a))], "a"),
        ("handed over", vec![Patch(PODS, "q", "", owner("b", &b))], "a b"),
        (
            "set free",
            vec![Patch(
                PODS,
                "q",
                "",
                json!({"metadata": {"ownerReferences": null}}),
            )],
            "b",
        ),
        (
            "its status",
            vec![Patch(PODS, "r", "status", json!({"status": {"phase": "Failed"}}))],
            "a b",
        ),
        ("gone", vec![Remove(PODS, "p")], "b"),
        (
            "several at once",
            vec![
                Make(PODS, pod("s", "a", None)),
                Remove(PODS, "r"),
                Remove(PODS, "s"),
            ],
            "a b",
        ),
        (
            "a primary itself",
            vec![Patch(
                SETS,
                "a",
                "",
                json!({"spec": {"replicas": 0, "minReadySeconds": 1}}),
            )],
            "a",
        ),
        ("a primary that is new", vec![Make(SETS, set("none"))], "none"),
        (
            "what it selects",
            vec![Patch(PODS, "q", "", json!({"metadata": {"labels": {"x": "y"}}}))],
            "none",
        ),
        ("a primary that goes", vec![Remove(SETS, "none")], "none"),
        ("what it selected", vec![Patch(PODS, "q", "", label("other"))], ""),
    ] {
        for one in &acts {
            act(&world, one).await;
        }
        assert_eq!(due(&concern, &world), expected, "{what}");
        assert_eq!(due(&concern, &world), "", "{what}: that was all");
    }
    api.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selectors_that_change() {
    let budget = |name: &str, selector: Value| {
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name, "namespace": "default"},
            "spec": {"minAvailable": 1, "selector": selector}})
    };
    let expression = |operator: &str, values: &[&str]| {
        let values = if values.is_empty() {
            Value::Null
        } else {
            json!(values)
        };
        json!({"matchExpressions": [{"key": "app", "operator": operator, "values": values}]})
    };
    let select = |selector: Value| json!({"spec": {"selector": selector}});
    let touch = |name: &'static str| {
        Patch(
            PODS,
            name,
            "",
            json!({"metadata": {"annotations": {"touched": "again"}}}),
        )
    };
    let untouch = |name: &'static str| Patch(PODS, name, "", json!({"metadata": {"annotations": null}}));
    let concern = Concern::new(BUDGETS, &[(PODS, &[By::Labels])]).selecting(by_selector);
    check(
        concern,
        vec![
            (
                "all of them",
                vec![
                    Make(BUDGETS, budget("some", expression("In", &["a", "b"]))),
                    Make(BUDGETS, budget("not", expression("NotIn", &["a"]))),
                    Make(BUDGETS, budget("any", expression("Exists", &[]))),
                    Make(BUDGETS, budget("all", json!({}))),
                    Make(PODS, pod("a", "a", None)),
                    Make(PODS, pod("c", "c", None)),
                ],
                "all any not some",
            ),
            ("one label", vec![touch("a")], "all any some"),
            ("another", vec![touch("c")], "all any not"),
            (
                "other labels are selected",
                vec![Patch(BUDGETS, "some", "", select(expression("In", &["c"])))],
                "some",
            ),
            ("the one that was", vec![untouch("a")], "all any"),
            ("the one that is", vec![untouch("c")], "all any not some"),
            (
                "a change that comes with it",
                vec![
                    Patch(BUDGETS, "some", "", select(expression("In", &["a"]))),
                    touch("a"),
                ],
                "all any some",
            ),
            (
                "who is gone selects nothing",
                vec![Remove(BUDGETS, "all"), Remove(BUDGETS, "any"), touch("c")],
                "all any not",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_decides_about_the_selected() {
    fn pods_of(world: &World, owner: &Object) -> Vec<Arc<Object>> {
        world.owned(PODS, owner.links().uid)
    }
    let (api, world) = plane().await;
    let concern = Concern::new(BUDGETS, &[(SETS, &[By::LabelsOf(pods_of)])]).selecting(by_selector);
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a", "namespace": "default"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    act(&world, &Make(BUDGETS, budget)).await;
    act(&world, &Make(SETS, set("a"))).await;
    act(&world, &Make(SETS, set("b"))).await;
    let uid = |name| {
        find(&world, SETS, name)["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    act(&world, &Make(PODS, pod("p", "a", Some(("a", &uid("a")))))).await;
    act(&world, &Make(PODS, pod("q", "b", Some(("b", &uid("b")))))).await;
    assert_eq!(due(&concern, &world), "a");
    let wish = |name: &'static str| Patch(SETS, name, "", json!({"spec": {"minReadySeconds": 3}}));
    for (what, one, expected) in [
        ("whose Pods it guards", wish("a"), "a"),
        ("whose it does not", wish("b"), ""),
        ("who goes", Remove(SETS, "a"), "a"),
    ] {
        act(&world, &one).await;
        assert_eq!(due(&concern, &world), expected, "{what}");
    }
    api.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_what_concerns_all() {
    const SERVICES: &str = "services";
    const NODES: &str = "nodes";
    let service = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"port": 80}]}})
    };
    let endpoints = |name: &str| json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "namespace": "default"}});
    let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    fn moved(before: Option<&Value>, after: Option<&Value>) -> bool {
        before.map(|node| &node["metadata"]["labels"]["zone"])
            != after.map(|node| &node["metadata"]["labels"]["zone"])
    }
    let concern = Concern::new(
        SERVICES,
        &[("endpoints", &[By::Name(same_name)]), (NODES, &[By::All(moved)])],
    );
    let label = |key: &str, value: &str| json!({"metadata": {"labels": {key: value}}});
    let (api, world) = plane().await;
    // The bootstrap's own.
    due(&concern, &world);
    for (what, acts, expected) in [
        (
            "two",
            vec![Make(SERVICES, service("a")), Make(SERVICES, service("b"))],
            "a b",
        ),
        ("of one name", vec![Make("endpoints", endpoints("a"))], "a"),
        ("changed", vec![Patch("endpoints", "a", "", label("x", "y"))], "a"),
        ("gone", vec![Remove("endpoints", "a")], "a"),
        (
            "of no Service's name",
            vec![Make("endpoints", endpoints("c"))],
            "c",
        ),
        ("a node", vec![Make(NODES, node("n"))], "a b kubernetes"),
        (
            "one that stays where it is",
            vec![Patch(NODES, "n", "", label("x", "y"))],
            "",
        ),
        (
            "one that moves",
            vec![Patch(NODES, "n", "", label("zone", "z"))],
            "a b kubernetes",
        ),
        ("one that goes", vec![Remove(NODES, "n")], "a b kubernetes"),
    ] {
        for one in &acts {
            act(&world, one).await;
        }
        assert_eq!(due(&concern, &world), expected, "{what}");
    }
    api.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_owner_has() {
    let concern = Concern::new(PODS, &[(SETS, &[By::Owned(|set| set.label("ended").is_some())])]);
    let concern = concern.only(|pod| pod.links().finalizers);
    let (api, world) = plane().await;
    act(&world, &Make(SETS, set("a"))).await;
    let uid = find(&world, SETS, "a")["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    for (name, held) in [("held", json!(["example.com/f"])), ("free", Value::Null)] {
        let mut pod = pod(name, "a", Some(("a", &uid)));
        pod["metadata"]["finalizers"] = held;
        act(&world, &Make(PODS, pod)).await;
    }
    assert_eq!(due(&concern, &world), "held");
    let label = |key: &str| json!({"metadata": {"labels": {key: "yes"}}});
    for (what, one, looks) in [
        ("its owner lives", Patch(SETS, "a", "", label("x")), 0),
        ("its owner ends", Patch(SETS, "a", "", label("ended")), 1),
        ("its owner goes", Remove(SETS, "a"), 1),
        (
            "it is let go",
            Patch(PODS, "held", "", json!({"metadata": {"finalizers": null}})),
            0,
        ),
    ] {
        let before = concern.looks();
        act(&world, &one).await;
        due(&concern, &world);
        assert_eq!(concern.looks() - before, looks, "{what}");
    }
    api.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_failures_and_the_clock() {
    let concern = Concern::new(SETS, &[]);
    let (api, world) = plane().await;
    for name in ["fails", "later", "left", "quiet"] {
        act(&world, &Make(SETS, set(name))).await;
    }
    let (start, clock) = (Instant::now(), SystemTime::now());
    let second = Duration::from_secs(1);
    // One round at a time and with a clock: who was looked at. One look is left without a word.
    let mut asks = std::iter::once(100 * second);
    let mut sweep = |after: Duration, off: Duration| {
        let mut round = concern.begin_at(&world, start + after, clock + after + off);
        let mut names = Vec::new();
        let mut failed = false;
        while let Some(set) = round.next(&world) {
            let name = set["metadata"]["name"].as_str().unwrap().to_owned();
            match name.as_str() {
                "fails" => {
                    failed = true;
                    round.note(Err(WorldError::Unknown("it".into())));
                }
                "later" => round.note(Ok(asks.next())),
                "left" => drop(round.current.take()),
                _ => round.note(Ok(None)),
            }
            names.push(name);
        }
        names.sort();
        assert_eq!(round.end().is_err(), failed, "{names:?}");
        names.join(" ")
    };
    let zero = Duration::ZERO;
    for (what, after, off, looked) in [
        ("the start", zero, zero, "fails later left quiet"),
        ("what was not noted is due at once", zero, zero, "left"),
        ("what failed, after a while", 30 * second, zero, "fails left"),
        ("when it was asked for", 200 * second, zero, "fails later left"),
        (
            "the clock is set",
            201 * second,
            3600 * second,
            "fails later left quiet",
        ),
        ("it stays so", 231 * second, 3600 * second, "fails left"),
        (
            "for what nobody thought of",
            231 * second + ALL,
            3600 * second,
            "fails later left quiet",
        ),
    ] {
        assert_eq!(sweep(after, off), looked, "{what}");
    }
    api.stop();
}

/// What is no longer known of the past may have concerned anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_what_is_known() {
    const MAPS: &str = "configmaps";
    let (api, world) = plane().await;
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
    let concern = Concern::new(MAPS, &[]);
    due(&concern, &world);
    for name in ["at-rest", "large"] {
        act(&world, &Make(MAPS, map(name))).await;
    }
    assert_eq!(due(&concern, &world), "at-rest large");
    // More than the cache keeps of the past.
    for letter in 'a'..='z' {
        let data = letter.to_string().repeat(1_000_000);
        act(&world, &Patch(MAPS, "large", "", json!({"data": {"k": data}}))).await;
    }
    let all = due(&concern, &world);
    assert!(all.split(' ').any(|name| name == "at-rest"), "{all}");
    assert_eq!(due(&concern, &world), "", "that was all");
    api.stop();
}
