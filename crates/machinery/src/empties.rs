//! Lists and maps that somebody wrote out although nothing is in them. What is stored of them is the same as of none at all,
//! and so they are taken out of an object when it is decoded. Upstream tells the two apart until an object is stored: refusals
//! show an empty list as it was written, and some generations count it as a change.

use crate::decode::Step;
use kinds::KindInfo;
use kinds::field::{ErrorType, FieldError, Path};
use kinds::schema::{self, Type, Zero};
use serde_json::Value;

/// So many are known of one object. Nobody writes more of them but to do harm.
const MOST: usize = 1000;

/// The empty lists and maps of one object, and where they stood.
#[derive(Debug, Clone, Default)]
pub struct Empties(Vec<(Vec<Step>, Value)>);

impl Empties {
    /// Whether none was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one was written at a path with dots. Those inside of lists have none.
    pub fn has(&self, path: &str) -> bool {
        let names = |steps: &[Step]| {
            let mut wanted = path.split('.');
            let same = |step: &Step| matches!(step, Step::Key(name) if Some(name.as_str()) == wanted.next());
            steps.iter().all(same) && wanted.next().is_none()
        };
        self.0.iter().any(|(steps, _)| names(steps))
    }

    /// Whether one that is still empty was written in a field of the object, or somewhere below it.
    pub(crate) fn left_below(&self, object: &Value, field: &str) -> bool {
        let below = |(steps, _): &&(Vec<Step>, Value)| {
            let at = steps.iter().try_fold(object, |here, step| step.below(here));
            matches!(steps.first(), Some(Step::Key(name)) if name == field) && at.is_none_or(Value::is_null)
        };
        self.0.iter().any(|one| below(&one))
    }

    /// Notes one, `value` as it was written.
    pub(crate) fn note(&mut self, place: impl FnOnce() -> Vec<Step>, value: &Value) {
        if self.0.len() < MOST {
            self.0.push((place(), value.clone()));
        }
    }

    /// The object as it was written, with those in it that nothing has come into meanwhile.
    fn put_back(&self, object: &Value) -> Value {
        let mut whole = object.clone();
        for (steps, value) in &self.0 {
            put(&mut whole, steps, value.clone());
        }
        whole
    }

    /// Has `write` see the object with those lists and maps that are written even when nothing is in them (Go's fields without
    /// `omitempty`): an empty one is then something that somebody owns, where none at all is nothing.
    pub fn owned(&self, kind: &KindInfo, object: &mut Value, write: impl FnOnce(&mut Value)) {
        let shown: Vec<&Vec<Step>> = self
            .0
            .iter()
            .filter(|(steps, value)| always_written(kind, steps) && put(object, steps, value.clone()))
            .map(|(steps, _)| steps)
            .collect();
        write(object);
        for steps in shown {
            if let Some(field) = steps
                .iter()
                .try_fold(&mut *object, |here, step| step.below_mut(here))
            {
                *field = Value::Null;
            }
        }
    }

    /// What `judge` finds wrong with an object, seen as it was written. What is wrong only then is no fault, unless it is said
    /// of an empty one, or of what holds it, that it may not be there.
    pub fn judged(&self, object: &Value, judge: impl Fn(&Value) -> Vec<FieldError>) -> Vec<FieldError> {
        let stored = judge(object);
        if self.is_empty() {
            return stored;
        }
        let mut known: Vec<(ErrorType, &Path)> = stored.iter().map(|error| (error.ty, &error.path)).collect();
        let mut written = judge(&self.put_back(object));
        written.retain(|error| {
            let same = known.iter().position(|known| *known == (error.ty, &error.path));
            let meant = |steps: &[Step]| match text(steps).strip_prefix(error.path.as_str()) {
                Some("") => true,
                Some(below) => below.starts_with('.') && error.detail.starts_with("cannot be set"),
                // Schemas of definitions have other places when they are told.
                None => matches!(steps.last(), Some(Step::Key(name)) if is_unsupported(error, name)),
            };
            let forbidden = error.ty == ErrorType::Forbidden && self.0.iter().any(|(steps, _)| meant(steps));
            same.map(|same| known.swap_remove(same)).is_some() || forbidden
        });
        match written.is_empty() {
            true => stored,
            false => written,
        }
    }
}

/// Puts a value into a field that has none; whether it did.
fn put(object: &mut Value, steps: &[Step], value: Value) -> bool {
    let Some((Step::Key(name), above)) = steps.split_last() else {
        return false;
    };
    match above.iter().try_fold(object, |here, step| step.below_mut(here)) {
        Some(Value::Object(fields)) if fields.get(name).is_none_or(Value::is_null) => {
            fields.insert(name.clone(), value);
            true
        }
        _ => false,
    }
}

/// Whether the field at a place of an object is there even when nobody gave it anything.
fn always_written(kind: &KindInfo, steps: &[Step]) -> bool {
    let table = schema::builtin();
    let mut ty = &table.reference(kind.schema);
    let mut zero = Zero::Absent;
    for step in steps {
        (ty, zero) = match (step, ty) {
            (Step::Index(_), Type::List(list)) => (&list.items, Zero::Absent),
            (Step::Key(_), Type::Map(items)) => (&**items, Zero::Absent),
            (Step::Key(name), ty) => match table.object(ty).and_then(|of| of.fields.get(name)) {
                Some(field) => (&field.ty, field.zero),
                None => return false,
            },
            _ => return false,
        };
    }
    zero == Zero::Null
}

/// Whether an error says that a field of a schema may not be there.
fn is_unsupported(error: &FieldError, name: &str) -> bool {
    let own = error.path.as_str().rsplit('.').next() == Some(name);
    own && error.detail.strip_prefix(name) == Some(" is not supported")
}

/// The path of a field as errors tell it.
fn text(steps: &[Step]) -> String {
    let path = steps.iter().fold(Path::root(), |path, step| match step {
        Step::Key(name) => path.child(name),
        Step::Index(index) => path.index(*index),
    });
    path.as_str().to_owned()
}

/// Whether a value is an empty list, map or run of bytes. Structs are something even without fields.
pub(crate) fn is_no_item(ty: &Type, value: &Value) -> bool {
    match (ty, value) {
        (Type::List(_), Value::Array(items)) => items.is_empty(),
        (Type::Map(_), Value::Object(fields)) => fields.is_empty(),
        // Bytes are a list to Go.
        (Type::String(format), Value::String(text)) => format == "byte" && text.is_empty(),
        _ => false,
    }
}
