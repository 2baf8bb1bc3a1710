//! What snapshots show, and what is made for them.

use super::*;

#[test]
fn contents_are_tied_to_the_host_of_the_volume() {
    let snapshot = json!({"metadata": {"name": "s", "namespace": "n", "uid": "u", "resourceVersion": "7"}});
    let volume = json!({"spec": {
        "csi": {"driver": PROVISIONER, "volumeHandle": "pvc-1"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["h1"]}]}]}}}});
    let made = content(&snapshot, &class(), &volume);
    assert_eq!(meta(&made, "name"), "snapcontent-u");
    assert_eq!(annotation(&made, NODE), "h1");
    assert_eq!(text(&made, "/spec/source/volumeHandle"), "pvc-1");
    assert_eq!(text(&made, "/spec/sourceVolumeMode"), "Filesystem");
    assert_eq!(text(&made, "/spec/deletionPolicy"), "Delete");
}

#[test]
fn a_snapshot_shows_its_content() {
    let cases = [
        (
            json!({}),
            json!({"boundVolumeSnapshotContentName": "c", "readyToUse": false}),
        ),
        (
            json!({"readyToUse": true, "creationTime": 1_700_000_000_000_000_000_i64, "restoreSize": 64 << 20}),
            json!({"boundVolumeSnapshotContentName": "c", "readyToUse": true,
                "creationTime": "2023-11-14T22:13:20Z", "restoreSize": "64Mi"}),
        ),
        (
            json!({"readyToUse": false, "error": {"message": "full"}}),
            json!({"boundVolumeSnapshotContentName": "c", "readyToUse": false, "error": {"message": "full"}}),
        ),
    ];
    for (of, expected) in cases {
        let content = json!({"metadata": {"name": "c"}, "status": of});
        assert_eq!(status(&content), expected);
    }
}

#[test]
fn defaults_of_a_driver() {
    let class = |name: &str, driver: &str, default: &str| {
        Arc::new(json!({"metadata": {"name": name, "annotations": {DEFAULT: default}}, "driver": driver}))
    };
    let one = [
        class("a", "d", "true"),
        class("b", "e", "true"),
        class("c", "d", "false"),
    ];
    assert_eq!(default_class(&one, "d"), Ok("a"));
    assert_eq!(
        default_class(&one, "x"),
        Err("cannot find default snapshot class".into())
    );
    let two = [class("a", "d", "true"), class("b", "d", "true")];
    assert_eq!(
        default_class(&two, "d"),
        Err("2 default snapshot classes were found".into())
    );
}
