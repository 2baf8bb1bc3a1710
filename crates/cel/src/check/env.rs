//! What an expression can name: variables with their types, functions, and the messages it can make.

use crate::library::{self, Overload};
use crate::types::{ObjectType, Type};
use std::sync::Arc;

/// The variables of an expression, with their types.
#[derive(Debug, Clone, Default)]
pub struct Env {
    variables: Vec<(String, Type)>,
    messages: bool,
    bindings: bool,
}

/// The type of `Object{…}` in mutations.
pub const OBJECT: &str = "Object";
/// The type of one operation of a JSON patch in mutations.
pub const JSON_PATCH: &str = "JSONPatch";

impl Env {
    /// An environment without variables.
    pub fn new() -> Env {
        Env::default()
    }

    /// Adds a variable. A dotted name stands for a field of a variable that is looked up on its own
    /// (`variables.NAME` of policies).
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, ty: Type) -> Env {
        self.variables.push((name.into(), ty));
        self
    }

    /// Lets expressions make what mutations are made of: `Object{…}` with `Object.PATH{…}` inside, and `JSONPatch{…}`.
    #[must_use]
    pub fn with_messages(mut self) -> Env {
        self.messages = true;
        self
    }

    /// Lets expressions name a part of themselves: `cel.bind(name, value, expression)`.
    #[must_use]
    pub fn with_bindings(mut self) -> Env {
        self.bindings = true;
        self
    }

    pub(crate) fn binds(&self) -> bool {
        self.bindings
    }

    /// The ways to call a function: those for patches are known only where patches are made.
    pub(crate) fn overloads(&self, function: &str) -> Option<Arc<[Overload]>> {
        let ways = library::overloads(function);
        ways.filter(|_| self.messages || !function.starts_with("jsonpatch."))
    }

    /// Whether there is a function.
    pub(crate) fn knows(&self, function: &str) -> bool {
        self.overloads(function).is_some()
    }

    /// The type of the messages of a name.
    pub(crate) fn message(&self, name: &str) -> Option<Type> {
        if !self.messages {
            return None;
        }
        match name {
            JSON_PATCH => Some(Type::Opaque(JSON_PATCH)),
            OBJECT => Some(Type::Opaque(OBJECT)),
            _ => name.starts_with("Object.").then(|| {
                let name = name.to_owned();
                Type::Object(Arc::new(ObjectType {
                    name,
                    ..ObjectType::default()
                }))
            }),
        }
    }

    /// The type of a field of such messages. What lies inside an object is judged where it is applied.
    pub(crate) fn message_field(&self, name: &str, field: &str) -> Option<Type> {
        self.message(name)?;
        Some(match (name, field) {
            (JSON_PATCH, "op" | "path" | "from") => Type::String,
            (JSON_PATCH, "value") => Type::Dyn,
            // Upstream has it, but of no type.
            (JSON_PATCH, _) => Type::Opaque(""),
            _ => Type::Dyn,
        })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Type> {
        self.variables
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, t)| t)
    }
}
