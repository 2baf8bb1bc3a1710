//! What Go calls the types of fields, where it does not follow from their schema: words in which upstream refuses values of
//! a wrong type.
//!
//! `gotypes.txt` has a line for each definition, below it one for each such field: its name, its type (`-` where it follows
//! from the schema), and the struct within the definition's that it belongs to, if it stands in one without a name. All is
//! from the types of `k8s.io/api` and its kin.

use std::collections::HashMap;
use std::sync::LazyLock;

const TEXT: &str = include_str!("gotypes.txt");

/// What Go has for a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoField {
    /// Its type, such as `v1.Protocol` or `[]int64`.
    pub ty: Option<&'static str>,
    /// The struct without a name that it stands in.
    pub within: Option<&'static str>,
}

/// A field of a definition; none where everything follows from the schema.
pub fn go_field(definition: &str, field: &str) -> Option<GoField> {
    static TABLE: LazyLock<HashMap<&str, HashMap<&str, GoField>>> = LazyLock::new(|| {
        let mut table: HashMap<&str, HashMap<&str, GoField>> = HashMap::new();
        let mut definition = "";
        for line in TEXT.lines() {
            let Some(line) = line.strip_prefix(' ') else {
                definition = line;
                continue;
            };
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            let field = GoField {
                ty: words.next().filter(|word| *word != "-"),
                within: words.next(),
            };
            table.entry(definition).or_default().insert(name, field);
        }
        table
    });
    TABLE.get(definition)?.get(field).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_types_of_go() {
        for (definition, field, ty, within) in [
            ("core.v1.ServiceSpec", "type", Some("v1.ServiceType"), None),
            (
                "core.v1.PersistentVolumeSpec",
                "nfs",
                None,
                Some("PersistentVolumeSource"),
            ),
            (
                "admissionregistration.v1.RuleWithOperations",
                "scope",
                Some("v1.ScopeType"),
                Some("Rule"),
            ),
            (
                "apps.v1.DeploymentStatus",
                "observedGeneration",
                Some("int64"),
                None,
            ),
        ] {
            let found = go_field(&format!("io.k8s.api.{definition}"), field);
            assert_eq!(found, Some(GoField { ty, within }), "{definition} {field}");
        }
        assert_eq!(go_field("io.k8s.api.core.v1.Pod", "spec"), None);
        let table = crate::schema::builtin();
        let mut definition = None;
        for line in TEXT.lines() {
            match line.strip_prefix(' ').and_then(|line| line.split(' ').next()) {
                None => definition = table.definition(line),
                Some(field) => assert!(definition.is_some_and(|d| d.fields.contains_key(field)), "{line}"),
            }
        }
    }
}
