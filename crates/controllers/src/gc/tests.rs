//! Whom the collector looks at after a change.

use super::*;
use crate::concern::tests::Do::{Make, Patch, Remove};
use crate::concern::tests::{act, find, plane};

const MAPS: &str = "configmaps";

/// The names of what is to be looked at. That is done.
fn due(state: &mut State, world: &World) -> String {
    let now = Instant::now();
    state.follow(world, now);
    let places = state.agenda.due(now);
    places.iter().for_each(|place| state.agenda.forget(place));
    let mut names: Vec<&str> = places
        .iter()
        .filter_map(|place| Some(place.rsplit_once('/')?.1))
        .collect();
    names.sort_unstable();
    names.join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_looks_at_what_a_change_concerns() {
    let (api, world) = plane().await;
    let map = |name: &str, owners: &[&str], held: bool| {
        let reference = |name: &&str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": meta(&find(&world, MAPS, name), "uid")});
        let owners: Vec<Value> = owners.iter().map(reference).collect();
        let finalizers = if held {
            json!(["example.com/hold"])
        } else {
            Value::Null
        };
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default",
            "ownerReferences": owners, "finalizers": finalizers}})
    };
    let mut state = State::default();
    due(&mut state, &world);
    let change = |name: &'static str| Patch(MAPS, name, "", json!({"data": {"changed": name}}));
    let release = |name: &'static str| Patch(MAPS, name, "", json!({"metadata": {"finalizers": null}}));
    let owners_of =
        |name: &str, owners: &[&str]| map(name, owners, false)["metadata"]["ownerReferences"].clone();
    // What happens is put together only then: it names the uids of what was made before.
    type Case<'c> = (&'c str, &'c dyn Fn() -> crate::concern::tests::Do, &'c str);
    let owned_by_two = || {
        Patch(
            MAPS,
            "b",
            "",
            json!({"metadata": {"ownerReferences": owners_of("b", &["a", "a2"])}}),
        )
    };
    let cases: [Case<'_>; 20] = [
        ("an owner", &|| Make(MAPS, map("a", &[], false)), ""),
        ("another", &|| Make(MAPS, map("a2", &[], false)), ""),
        ("what it owns", &|| Make(MAPS, map("b", &["a"], false)), "b"),
        ("its content", &|| change("b"), ""),
        ("one owner more", &owned_by_two, "b"),
        ("content of the owner", &|| change("a"), ""),
        ("an owner goes", &|| Remove(MAPS, "a"), "b"),
        ("the other one", &|| Remove(MAPS, "a2"), "b"),
        ("the dependent", &|| Remove(MAPS, "b"), ""),
        ("one that will wait", &|| Make(MAPS, map("w", &[], true)), ""),
        ("it waits", &|| Remove(MAPS, "w"), "w"),
        ("for what it owns", &|| Make(MAPS, map("c", &["w"], false)), "c w"),
        ("of which anything may matter", &|| change("c"), "w"),
        ("that goes", &|| Remove(MAPS, "c"), "w"),
        (
            "another one that will wait",
            &|| Make(MAPS, map("v", &[], true)),
            "",
        ),
        ("of both", &|| Make(MAPS, map("d", &["v", "w"], false)), "d w"),
        ("both wait", &|| Remove(MAPS, "v"), "v w"),
        ("one is let go", &|| release("v"), "d"),
        (
            "which does not matter to the owner that waits",
            &|| change("a3"),
            "",
        ),
        ("the other one", &|| release("w"), "d"),
    ];
    act(&world, &Make(MAPS, map("a3", &[], false))).await;
    due(&mut state, &world);
    for (what, one, expected) in cases {
        act(&world, &one()).await;
        assert_eq!(due(&mut state, &world), expected, "{what}");
    }
    // After a gap, and at the start: whatever has owners or is held.
    state.seen.values_mut().for_each(|seen| *seen = 0);
    state.all = None;
    assert!(due(&mut state, &world).split(' ').any(|name| name == "d"));
    api.stop();
}
