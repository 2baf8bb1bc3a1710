//! `metadata.managedFields` as a list of managers with their field sets.

use crate::fields::Set;
use crate::walk::At;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Managers by update that are kept apart; older ones are folded into one, so that the list cannot grow without end.
const MAX_WRITERS: usize = 10;
/// The manager that the old ones are folded into.
const ANCIENT: &str = "ancient-changes";

/// Who owns fields. Appliers are one whatever version they speak; writers are told apart by version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manager {
    name: String,
    operation: String,
    api_version: String,
    subresource: String,
}

impl Manager {
    pub(super) fn applier(name: &str, subresource: Option<&str>) -> Self {
        Self::writer(name, "Apply", "", subresource)
    }

    pub(super) fn writer(name: &str, operation: &str, api_version: &str, subresource: Option<&str>) -> Self {
        Self {
            name: name.into(),
            operation: operation.into(),
            api_version: if operation == "Apply" {
                String::new()
            } else {
                api_version.into()
            },
            subresource: subresource.unwrap_or("").into(),
        }
    }

    /// The manager as the object by which upstream tells managers apart, and puts their conflicts in order.
    pub(super) fn identifier(&self) -> String {
        let mut out = format!("{{\"manager\":{:?},\"operation\":{:?}", self.name, self.operation);
        for (field, value) in [
            ("apiVersion", &self.api_version),
            ("subresource", &self.subresource),
        ] {
            if !value.is_empty() {
                out.push_str(&format!(",{field:?}:{value:?}"));
            }
        }
        out + "}"
    }

    /// The manager as a conflict names it.
    pub(super) fn shown(&self) -> String {
        let mut out = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == "Update" {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }
}

struct Entry {
    manager: Manager,
    api_version: String,
    time: String,
    fields: Fields,
}

/// The fields of a manager. Most writes touch those of one: the others stay as they are written.
enum Fields {
    Written(Value),
    Read(Set),
}

impl Fields {
    fn set(&self) -> Cow<'_, Set> {
        match self {
            Fields::Written(value) => Cow::Owned(Set::decode(value)),
            Fields::Read(set) => Cow::Borrowed(set),
        }
    }

    fn set_mut(&mut self) -> &mut Set {
        if let Fields::Written(value) = self {
            *self = Fields::Read(Set::decode(value));
        }
        match self {
            Fields::Read(set) => set,
            Fields::Written(_) => unreachable!("it has been read"),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Fields::Written(value) => value.as_object().is_none_or(Map::is_empty),
            Fields::Read(set) => set.is_empty(),
        }
    }

    fn meets(&self, other: &Set) -> bool {
        match self {
            Fields::Written(value) => other.meets_written(value),
            Fields::Read(set) => set.meets(other),
        }
    }

    /// Takes in more; answers whether any of it is new.
    fn absorb(&mut self, more: Set) -> bool {
        match self {
            Fields::Written(value) => more.add_to_written(value),
            Fields::Read(set) => set.absorb(more),
        }
    }

    fn encode(self) -> Value {
        match self {
            Fields::Written(value) => value,
            Fields::Read(set) => set.encode(),
        }
    }
}

/// All managers of an object.
#[derive(Default)]
pub(super) struct Managers(Vec<Entry>);

impl Managers {
    /// Reads them from an object. Entries of a form that is not known are left out.
    pub(super) fn of(object: &Value) -> Self {
        Self::of_list(object.at("metadata.managedFields"))
    }

    /// Reads a list of unknown origin.
    pub(super) fn of_list(list: &Value) -> Self {
        let mut out = Self::default();
        for entry in list.as_array().into_iter().flatten() {
            out.add(entry, Fields::Read(Set::decode(entry.at("fieldsV1"))));
        }
        out
    }

    /// Takes a list that this server has written, without reading the fields.
    pub(super) fn written(list: Vec<Value>) -> Self {
        let mut out = Self::default();
        for mut entry in list {
            let fields = entry.get_mut("fieldsV1").map(Value::take).unwrap_or_default();
            out.add(&entry, Fields::Written(fields));
        }
        out
    }

    fn add(&mut self, entry: &Value, fields: Fields) {
        if entry.str_at("fieldsType") != "FieldsV1" {
            return;
        }
        let api_version = entry.str_at("apiVersion");
        let subresource = Some(entry.str_at("subresource"));
        let manager = Manager::writer(
            entry.str_at("manager"),
            entry.str_at("operation"),
            api_version,
            subresource,
        );
        match self.0.iter_mut().find(|e| e.manager == manager) {
            // A client that names two entries alike means the last.
            Some(known) => {
                known.time = entry.str_at("time").into();
                known.fields = fields;
            }
            None => self.0.push(Entry {
                manager,
                api_version: api_version.into(),
                time: entry.str_at("time").into(),
                fields,
            }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn fields(&self, manager: &Manager) -> Option<Cow<'_, Set>> {
        self.0
            .iter()
            .find(|e| e.manager == *manager)
            .map(|e| e.fields.set())
    }

    pub(super) fn all_fields(&self) -> Set {
        let mut all = Set::default();
        for entry in &self.0 {
            all.absorb(entry.fields.set().into_owned());
        }
        all
    }

    /// Whether somebody else is among them.
    pub(super) fn has_others(&self, me: &Manager) -> bool {
        self.0.iter().any(|e| e.manager != *me)
    }

    pub(super) fn others<'a>(&'a self, me: &'a Manager) -> impl Iterator<Item = (&'a Manager, Cow<'a, Set>)> {
        self.0
            .iter()
            .filter(move |e| e.manager != *me)
            .map(|e| (&e.manager, e.fields.set()))
    }

    /// Sets what a manager owns.
    pub(super) fn set(&mut self, manager: &Manager, api_version: &str, fields: Set) {
        match self.0.iter_mut().find(|e| e.manager == *manager) {
            Some(entry) => {
                entry.fields = Fields::Read(fields);
                entry.api_version = api_version.into();
            }
            None => self.0.push(Entry {
                manager: manager.clone(),
                api_version: api_version.into(),
                time: String::new(),
                fields: Fields::Read(fields),
            }),
        }
    }

    /// Gives a manager fields beside those that it has.
    pub(super) fn give(&mut self, manager: &Manager, api_version: &str, fields: Set) {
        match self.0.iter_mut().find(|e| e.manager == *manager) {
            Some(entry) => {
                entry.fields.absorb(fields);
                entry.api_version = api_version.into();
            }
            None => self.set(manager, api_version, fields),
        }
    }

    /// Notes the time of a change that a manager made.
    pub(super) fn touch(&mut self, manager: &Manager, now: &str) {
        // What comes by way of a Scale has no time of its own upstream.
        if let Some(entry) = self.0.iter_mut().find(|e| e.manager == *manager)
            && manager.subresource != "scale"
        {
            entry.time = now.into();
        }
    }

    pub(super) fn subtract(&mut self, manager: &Manager, gone: &Set) {
        if !gone.is_empty()
            && let Some(entry) = self.0.iter_mut().find(|e| e.manager == *manager)
        {
            let fields = entry.fields.set_mut();
            *fields = fields.difference(gone);
        }
        self.0.retain(|e| !e.fields.is_empty());
    }

    pub(super) fn subtract_from_others(&mut self, me: &Manager, gone: &Set) {
        // Most changes touch nothing of most others.
        let touched = |e: &&mut Entry| e.manager != *me && e.fields.meets(gone);
        for entry in self.0.iter_mut().filter(touched) {
            let fields = entry.fields.set_mut();
            *fields = fields.difference(gone);
        }
        self.0.retain(|e| !e.fields.is_empty() || e.manager == *me);
    }

    /// Folds writers beyond those that are kept apart, the oldest of a version first, into one of that version.
    pub(super) fn fold_old_writers(&mut self) {
        let writers = self.0.iter().filter(|e| e.manager.operation == "Update");
        let mut oldest: Vec<(String, String, Manager)> = writers
            .map(|e| (e.time.clone(), e.manager.name.clone(), e.manager.clone()))
            .collect();
        let mut count = oldest.len();
        oldest.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut first: Vec<Manager> = Vec::new();
        for (time, _, manager) in oldest {
            if count <= MAX_WRITERS {
                return;
            }
            // The first of a version stays as it is until there is another to go with it.
            let Some(with) = first.iter_mut().find(|f| f.api_version == manager.api_version) else {
                first.push(manager);
                continue;
            };
            let ancient = Manager::writer(ANCIENT, "Update", &manager.api_version, None);
            let at =
                |entries: &[Entry], manager: &Manager| entries.iter().position(|e| e.manager == *manager);
            let Some(folded) = at(&self.0, &manager) else {
                continue;
            };
            let folded = self.0.remove(folded);
            if let Some(into) = at(&self.0, &ancient).or_else(|| at(&self.0, with)) {
                let entry = &mut self.0[into];
                entry.fields.absorb(folded.fields.set().into_owned());
                entry.manager = ancient.clone();
                entry.time = time;
                *with = ancient;
            }
            count -= 1;
        }
    }

    /// Writes them: appliers first, then by time, name, version and subresource.
    pub(super) fn encode(mut self) -> Value {
        self.0.retain(|e| !e.fields.is_empty());
        self.0.sort_by(|a, b| {
            let order = |e: &Entry| {
                (
                    e.manager.operation != "Apply",
                    e.time.clone(),
                    e.manager.name.clone(),
                    e.api_version.clone(),
                    e.manager.subresource.clone(),
                )
            };
            order(a).cmp(&order(b))
        });
        Value::Array(self.0.into_iter().map(Entry::encode).collect())
    }
}

impl Entry {
    fn encode(self) -> Value {
        let Entry {
            manager,
            api_version,
            time,
            fields,
        } = self;
        manager.entry(api_version, time, fields.encode())
    }
}

impl Manager {
    /// An entry of the list.
    pub(super) fn entry(self, api_version: String, time: String, fields: Value) -> Value {
        let mut out = Map::new();
        let mut put = |name: &str, value: Value| out.insert(name.into(), value);
        put("manager", self.name.into());
        put("operation", self.operation.into());
        put("apiVersion", api_version.into());
        if !time.is_empty() {
            put("time", time.into());
        }
        put("fieldsType", "FieldsV1".into());
        put("fieldsV1", fields);
        if !self.subresource.is_empty() {
            put("subresource", self.subresource.into());
        }
        Value::Object(out)
    }
}
