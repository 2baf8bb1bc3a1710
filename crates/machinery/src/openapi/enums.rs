//! Which values a field of text may have, as documents tell it (upstream's `OpenAPIEnums`): `kubectl explain` shows them.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::LazyLock;

/// A field and its values; of a list or a map they are those of its items.
struct Values {
    field: &'static str,
    /// What in the field's schema describes the items.
    items: Option<&'static str>,
    values: Vec<&'static str>,
}

impl Values {
    fn new(field: &'static str, values: &'static str) -> Values {
        let (field, items) = match (field.strip_suffix("[]"), field.strip_suffix("{}")) {
            (Some(list), _) => (list, Some("items")),
            (_, Some(map)) => (map, Some("additionalProperties")),
            _ => (field, None),
        };
        Values {
            field,
            items,
            values: values.split(" | ").map(str::trim).collect(),
        }
    }
}

/// By the definition's name. The table: a line of a definition's name, then a line for each field.
static TABLE: LazyLock<HashMap<&str, Vec<Values>>> = LazyLock::new(|| {
    let mut table: HashMap<&str, Vec<Values>> = HashMap::new();
    let mut definition = "";
    for line in kinds::schema::ENUMS.lines() {
        let Some((field, values)) = line.strip_prefix(' ').and_then(|line| line.split_once(": ")) else {
            definition = line;
            continue;
        };
        table
            .entry(definition)
            .or_default()
            .push(Values::new(field, values));
    }
    table
});

/// Adds its values to each field of a definition that has a closed set of them.
pub(super) fn add(name: &str, definition: &mut Value) {
    for one in TABLE.get(name).into_iter().flatten() {
        let mut field = &mut definition["properties"][one.field];
        if let Some(items) = one.items {
            field = &mut field[items];
        }
        if field["type"] == "string" {
            field["enum"] = json!(one.values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinds::schema::UPSTREAM;

    #[test]
    fn every_line_is_about_a_field() {
        let upstream: HashMap<String, Value> = serde_json::from_str(UPSTREAM).unwrap();
        let mut count = 0;
        for (name, fields) in TABLE.iter() {
            let mut definition = upstream[*name].clone();
            add(name, &mut definition);
            for one in fields {
                let mut field = &definition["properties"][one.field];
                if let Some(items) = one.items {
                    field = &field[items];
                }
                let shown = field["enum"]
                    .as_array()
                    .unwrap_or_else(|| panic!("{name} {}", one.field));
                assert!(shown.len() > 1, "{name} {}", one.field);
                count += 1;
            }
        }
        assert!(count > 90, "{count}");
    }
}
