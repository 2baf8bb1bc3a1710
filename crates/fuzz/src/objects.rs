//! Targets that read parts of objects which have a language of their own: definitions with their schemas, patterns, rules
//! and paths, managed fields, schedules.

use std::sync::Arc;

use apiserver::cache::object::{Object, encode};
use apiserver::cache::pluck::Plucker;
use apiserver::crd::conversion::Conversion;
use apiserver::crd::{CustomVersion, definition};
use machinery::apply;
use machinery::tables::IncludeObject;
use serde_json::{Value, json};

use crate::targets::{parts, text};

/// When everything here happens.
const NOW: &str = "2026-01-01T00:00:00Z";

/// What a store holds of an object: what the cache takes out of it without decoding is what is in it.
pub(crate) fn stored(bytes: &[u8]) {
    let pointers = ["/metadata/name", "/spec/nodeName", "/status/phase", "/a"];
    let paths = pointers.map(|pointer| pointer[1..].replace('/', "."));
    let plucker = Plucker::new(&paths);
    let read = |bytes: &[u8]| Object::from_stored("n", "o", bytes, 7, &plucker, false);
    // Which need not be ours: then it is refused, or something is made of it.
    let _ = read(bytes);
    let Ok(object) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let labels = object["metadata"]["labels"].as_object();
    if !object["metadata"].is_object() || labels.into_iter().flatten().any(|(_, value)| !value.is_string()) {
        return;
    }
    let encoded = encode(&object);
    let cached = read(&encoded).unwrap_or_else(|why| panic!("what was encoded is refused: {why}"));
    for (at, pointer) in pointers.iter().enumerate() {
        match object.pointer(pointer) {
            Some(Value::String(text)) => assert_eq!(cached.field(at), text, "{pointer}"),
            Some(Value::Bool(flag)) => assert_eq!(cached.field(at), flag.to_string(), "{pointer}"),
            None | Some(Value::Null) => assert_eq!(cached.field(at), "", "{pointer}"),
            Some(_) => {}
        }
    }
    let known = cached.labels().iter().map(|(name, value)| (&**name, &**value));
    let labels = labels.into_iter().flatten();
    assert!(known.eq(labels.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))));
    let decoded: Value = serde_json::from_slice(&encoded).unwrap_or_default();
    let mut whole = object.clone();
    for (field, unset) in [("apiVersion", Value::Null), ("kind", Value::Null)] {
        whole
            .as_object_mut()
            .map(|whole| whole.entry(field).or_insert(unset));
    }
    for field in ["resourceVersion", "selfLink"] {
        whole["metadata"].as_object_mut().map(|meta| meta.remove(field));
    }
    assert_eq!(decoded, whole, "it is not what was encoded");
}

/// A schema as a definition's version has it, and an object of that kind.
pub(crate) fn definition(bytes: &[u8]) {
    let (version, object) = parts(bytes);
    let (Ok((version, _)), Ok((mut object, duplicates))) = (
        machinery::parse_json_checked(version),
        machinery::parse_json_checked(object),
    ) else {
        return;
    };
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "samples.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "samples", "singular": "sample", "kind": "Sample", "listKind": "SampleList"},
            "versions": [version],
        },
    });
    let Some(kind) = kinds::find_kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition") else {
        return;
    };
    let mut crd = crd;
    let source = machinery::Source {
        duplicates: &[],
        json: &[],
    };
    if machinery::decode_check(kind, &mut crd, source, machinery::FieldValidation::Ignore).is_err() {
        return;
    }
    machinery::default(kind, &mut crd);
    machinery::prepare_create(kind, &mut crd);
    let mut errors = machinery::validate_create(kind, &crd);
    errors.extend(definition::check(&crd, None));
    if !errors.is_empty() {
        return;
    }
    let version = &crd["spec"]["versions"][0];
    let custom = CustomVersion::new(&crd, version, "Sample", Arc::new(Conversion::None), false);
    let mode = apiserver::wire::options::FieldValidation::Warn;
    if !object.is_object() || custom.decode_check(&mut object, &duplicates, mode).is_err() {
        return;
    }
    custom.drop_nulls(&mut object);
    custom.default(&mut object);
    if custom.validate_create(&object).is_empty() {
        let once = object.clone();
        custom.default(&mut object);
        assert_eq!(once, object, "defaulting twice is not defaulting once");
        let _ = custom.validate_update(&object, &once, None);
    }
    custom.table(&[object], IncludeObject::None);
}

/// Managed fields that a client wrote, and a configuration that another applies to the same ConfigMap.
pub(crate) fn managed_fields(bytes: &[u8]) {
    let (fields, applied) = parts(bytes);
    let (Ok((fields, _)), Some(kind)) = (
        machinery::parse_json_checked(fields),
        kinds::find_kind("", "v1", "Pod"),
    ) else {
        return;
    };
    let live = |fields: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "sample", "labels": {"a": "b"}, "managedFields": fields},
            "spec": {"containers": [{"name": "main", "image": "sample", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]},
        })
    };
    let (old, mut new) = (live(json!([])), live(fields));
    if let Some(list) = new.pointer("/metadata/managedFields") {
        let _ = apply::list_fault(list);
    }
    apply::update_managers(kind, Some(&old), &mut new, "sample", "Update", None, NOW);
    let applied = machinery::parse_json_checked(applied).map_or_else(|_| old.clone(), |(applied, _)| applied);
    if applied.is_object()
        && apply::type_faults(kind, &applied).is_empty()
        && let Ok(merged) = apply::apply(kind, Some(&new), &applied, "other", true, None, NOW)
    {
        let again = apply::apply(kind, Some(&merged), &applied, "other", false, None, NOW);
        assert_eq!(again.ok(), Some(merged), "an apply once more is not nothing");
    }
}

/// A cron schedule, in the object that has it.
pub(crate) fn schedule(bytes: &[u8]) {
    let Some(kind) = kinds::find_kind("batch", "v1", "CronJob") else {
        return;
    };
    let object = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "sample", "namespace": "default"},
        "spec": {"schedule": text(bytes), "jobTemplate": {}},
    });
    let _ = machinery::validate_create(kind, &object);
}
