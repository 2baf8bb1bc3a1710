//! How Go's decoder of JSON names fields and types in what it says of values of a wrong type: structures that a field stands
//! in without being below one in JSON are part of its path, and named texts, numbers, lists and maps go by their names.
//! Taken from the types of Kubernetes v1.35; the table is `go.txt`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

#[derive(Default)]
struct Field {
    inside: Vec<&'static str>,
    ty: Option<&'static str>,
}

type Fields = BTreeMap<&'static str, Field>;

static TABLE: LazyLock<BTreeMap<&'static str, Fields>> = LazyLock::new(|| {
    let lines = include_str!("go.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let definition = words.next().unwrap_or_default();
            (definition, words.map(field).collect())
        })
        .collect()
});

fn field(word: &'static str) -> (&'static str, Field) {
    let (place, ty) = match word.split_once('=') {
        Some((place, ty)) => (place, Some(ty)),
        None => (word, None),
    };
    let (name, inside) = match place.split_once('@') {
        Some((name, inside)) => (name, inside.split('.').collect()),
        None => (place, Vec::new()),
    };
    (name, Field { inside, ty })
}

fn of(definition: &str, name: &str) -> Option<&'static Field> {
    TABLE.get(definition)?.get(name)
}

/// The structures inside its own in which a field stands.
pub(super) fn inside(definition: &str, name: &str) -> &'static [&'static str] {
    of(definition, name).map_or(&[], |field| &field.inside)
}

/// The name of a field's type, of what is in it so many lists and maps down; `None` where the schema tells.
pub(super) fn type_of(definition: &str, name: &str, down: usize) -> Option<&'static str> {
    let mut ty = of(definition, name)?.ty?;
    for _ in 0..down {
        ty = match ty.strip_prefix("[]") {
            Some(items) => items,
            None => ty.strip_prefix("map[")?.split_once(']')?.1,
        };
    }
    Some(ty)
}
