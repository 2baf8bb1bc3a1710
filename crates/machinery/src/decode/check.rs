//! Checking a parsed object against the schema of its kind, as upstream's typed decoder does by the way: unknown fields
//! are dropped and reported, values of a wrong type refused in the words of Go's decoder, nulls dropped, quantities and
//! times written in their canonical form, empty values left out where Go's encoder would (`omit`). What comes out holds
//! only what the kind knows.

use super::numbers::as_written;
use super::order::{Fault, Source, Step, in_order_of};
use super::schemas::{self, Own};
use super::{Duplicate, omit, time};
use crate::empties::{Empties, is_no_item};
use crate::walk::keep_where;
use kinds::KindInfo;
use kinds::quantity::{ParseQuantityError, Quantity};
use kinds::schema::{self, Definition, SchemaTable, Type};
use kinds::status::Status;
use serde_json::{Map, Value};

/// What to do about fields that are unknown or stand twice (`fieldValidation`, KEP-2885).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// Refuse the request.
    Strict,
    /// Drop them and warn.
    Warn,
    /// Drop them.
    Ignore,
}

/// Faults that are listed before the rest is left out, as upstream does.
const MAX_FAULTS: usize = 100;

/// A value of a wrong type, in the words of Go's two ways of decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What the decoder of JSON says.
    pub json: String,
    /// What the conversion from an untyped object says, through which strategic merge patches go.
    pub restore: String,
}

impl From<String> for Mismatch {
    fn from(text: String) -> Self {
        Mismatch {
            json: text.clone(),
            restore: text,
        }
    }
}

/// What is known of an object beside what it holds now.
#[derive(Debug, Default)]
pub struct Decoded {
    /// What was wrong, in the order of the document.
    pub faults: Vec<String>,
    /// What was written although there is nothing in it.
    pub empties: Empties,
}

/// Checks an object against its kind's schema, pruning what is unknown. Answers the faults that the client is warned of.
///
/// # Errors
/// 400 for values of a wrong type, and in [`FieldValidation::Strict`] for unknown and duplicate fields.
pub fn decode_check<'s>(
    kind: &KindInfo,
    obj: &mut Value,
    source: impl Into<Source<'s>>,
    mode: FieldValidation,
) -> Result<Decoded, Status> {
    let refuse = |why: &str| {
        Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            kind.kind, kind.version, kind.kind
        ))
    };
    let mut decoded = decode_faults(kind, obj, source).map_err(|why| refuse(&why.json))?;
    match mode {
        FieldValidation::Ignore => decoded.faults.clear(),
        FieldValidation::Strict if !decoded.faults.is_empty() => {
            return Err(refuse(&strict_text(&decoded.faults)));
        }
        FieldValidation::Warn | FieldValidation::Strict => {}
    }
    Ok(decoded)
}

/// Prunes what is unknown and tells what was wrong, in the order of the document.
///
/// # Errors
/// The first value of a wrong type.
pub fn decode_faults<'s>(
    kind: &KindInfo,
    obj: &mut Value,
    source: impl Into<Source<'s>>,
) -> Result<Decoded, Mismatch> {
    let (table, source) = (schema::builtin(), source.into());
    let mut checker = Checker::new(table, source.duplicates);
    if let (Some(definition), Value::Object(fields)) = (table.definition(kind.schema), &mut *obj) {
        checker.fields(kind.schema, definition, fields, None);
    }
    let empties = std::mem::take(&mut checker.empties);
    let faults = checker.told(source.json)?;
    template_generation(kind, obj)?;
    if (kind.group, kind.kind) == ("", "Pod") {
        crate::strategy::pod::addresses(obj);
    }
    Ok(Decoded { faults, empties })
}

/// The generation of a DaemonSet's template is a number, which its v1 form has as an annotation.
fn template_generation(kind: &KindInfo, obj: &Value) -> Result<(), Mismatch> {
    if (kind.group, kind.kind) != ("apps", "DaemonSet") {
        return Ok(());
    }
    let annotations = obj
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations"));
    let given = annotations.and_then(|all| all.get(crate::strategy::TEMPLATE_GENERATION)?.as_str());
    match given.map(|text| (text, text.parse::<i64>())) {
        Some((text, Err(why))) => {
            let why = match why.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                    "value out of range"
                }
                _ => "invalid syntax",
            };
            Err(format!("strconv.ParseInt: parsing {text:?}: {why}").into())
        }
        _ => Ok(()),
    }
}

/// Prunes what is unknown in an object of a definition that is no kind.
///
/// # Errors
/// The first value of a wrong type.
pub fn definition_faults(definition: &str, obj: &mut Value) -> Result<Vec<String>, Mismatch> {
    let table = schema::builtin();
    let mut checker = Checker::new(table, &[]);
    if let (Some(found), Value::Object(fields)) = (table.definition(definition), &mut *obj) {
        checker.fields(definition, found, fields, None);
    }
    checker.told(&[])
}

/// Prunes what is unknown in the metadata of an object whose kind is not built in.
///
/// # Errors
/// The first value of a wrong type.
pub fn metadata_faults(obj: &mut Value) -> Result<Vec<String>, Mismatch> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let table = schema::builtin();
    let mut checker = Checker::new(table, &[]);
    let (Some(definition), Some(value)) = (table.definition(META), obj.get_mut("metadata")) else {
        return Ok(Vec::new());
    };
    // Upstream decodes the metadata by themselves.
    let place = Place {
        above: None,
        step: At::Entry("metadata"),
    };
    let found = type_of(value);
    match value {
        Value::Object(fields) => checker.fields(META, definition, fields, Some(&place)),
        Value::Null => {}
        _ => {
            let text = format!("json: cannot unmarshal {found} into Go value of type v1.ObjectMeta");
            return Err(text.into());
        }
    }
    checker.told(&[])
}

/// The refusal of a strict decoder. The decoder of YAML tells all its faults in one.
pub fn strict_text(faults: &[String]) -> String {
    let of_yaml = |fault: &&String| fault.starts_with("line ");
    let lines: Vec<&String> = faults.iter().filter(of_yaml).collect();
    let mut told: Vec<String> = Vec::new();
    if !lines.is_empty() {
        let lines: String = lines.iter().map(|l| format!("\n  {l}")).collect();
        told.push(format!("yaml: unmarshal errors:{lines}"));
    }
    told.extend(faults.iter().filter(|f| !of_yaml(f)).cloned());
    format!("strict decoding error: {}", told.join(", "))
}

/// Where a value stands; the path is only made when something is to be said about it.
pub(super) struct Place<'p> {
    pub(super) above: Option<&'p Place<'p>>,
    pub(super) step: At<'p>,
}

pub(super) enum At<'p> {
    /// A field, behind the definition that has it.
    Field(&'p str, &'p str),
    /// A key of a map, which Go's decoder does not tell.
    Entry(&'p str),
    Index(usize),
}

impl Place<'_> {
    fn steps(&self) -> Vec<Step> {
        let mut steps = self.above.map(Place::steps).unwrap_or_default();
        steps.push(match self.step {
            At::Field(_, name) | At::Entry(name) => Step::Key(name.to_owned()),
            At::Index(index) => Step::Index(index),
        });
        steps
    }

    /// The names of fields on the way here, and of the structs without names that they stand in.
    fn names(&self) -> Vec<&str> {
        let mut names = self.above.map(Place::names).unwrap_or_default();
        if let At::Field(owner, name) = self.step {
            names.extend(schema::go_field(owner, name).and_then(|field| field.within));
            names.push(name);
        }
        names
    }

    /// What Go calls the type of this field, or of this item of one, where that does not follow from the schema.
    fn go_type(&self) -> Option<&'static str> {
        match (&self.step, self.above) {
            (At::Field(owner, name), _) => schema::go_field(owner, name)?.ty,
            (At::Index(_), Some(above)) => above.go_type()?.strip_prefix("[]"),
            (At::Entry(_), Some(above)) => Some(above.go_type()?.strip_prefix("map[")?.split_once(']')?.1),
            _ => None,
        }
    }
}

fn path(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Key(name) if out.is_empty() => out.push_str(name),
            Step::Key(name) => out.extend([".", name]),
            Step::Index(index) => out.push_str(&format!("[{index}]")),
        }
    }
    out
}

/// A walk over an object along its schema.
pub(super) struct Checker<'t> {
    pub(super) table: &'t SchemaTable,
    faults: Vec<Fault>,
    /// What the decoder of YAML said. It has read the whole document before anything is known of its fields.
    first: Vec<String>,
    /// Paths that stand twice.
    twice: Vec<&'t str>,
    empties: Empties,
    /// Values of a wrong type, and where they stand.
    wrong: Vec<(Mismatch, Vec<Step>)>,
    /// Those that decoders of their own found, at which all decoding ends: nothing before them is told.
    ending: Vec<(Mismatch, Vec<Step>)>,
    /// How many decoders of their own ([`super::schemas`]) are at work: those tell nothing of unknown fields.
    pub(super) apart: usize,
}

impl<'t> Checker<'t> {
    fn new(table: &'t SchemaTable, duplicates: &'t [Duplicate]) -> Checker<'t> {
        let of_json = |d: &&Duplicate| d.line.is_none();
        Checker {
            table,
            faults: Vec::new(),
            first: duplicates
                .iter()
                .filter(|d| !of_json(d))
                .map(Duplicate::fault)
                .collect(),
            twice: duplicates
                .iter()
                .filter(of_json)
                .map(|d| d.path.as_str())
                .collect(),
            empties: Empties::default(),
            wrong: Vec::new(),
            ending: Vec::new(),
            apart: 0,
        }
    }

    /// What is to be told; refused is what has a wrong type. The first of the document is told: Go goes on behind it and
    /// forgets it over one at which it cannot.
    fn told(mut self, json: &[u8]) -> Result<Vec<String>, Mismatch> {
        if !self.ending.is_empty() {
            self.wrong = std::mem::take(&mut self.ending);
        }
        if !self.wrong.is_empty() {
            let all = self.wrong.iter().enumerate();
            let places = all.map(|(i, (_, place))| Fault {
                text: i.to_string(),
                place: place.clone(),
            });
            let first = in_order_of(json, places.collect()).into_iter().next();
            let first = first.and_then(|i| i.parse().ok()).unwrap_or(0);
            let (mut why, place) = self.wrong.swap_remove(first);
            why.json = as_written(why.json, json, &place);
            return Err(why);
        }
        let mut told = self.first;
        told.extend(in_order_of(json, self.faults));
        Ok(told)
    }

    pub(super) fn fault(&mut self, what: &str, place: &Place) {
        if self.apart == 0 && self.faults.len() + self.first.len() < MAX_FAULTS {
            let place = place.steps();
            self.faults.push(Fault {
                text: format!("{what} field {:?}", path(&place)),
                place,
            });
        }
    }

    /// Tells of a known field that stands twice; of an unknown one that would be too much.
    fn duplicate(&mut self, place: &Place) {
        if !self.twice.is_empty() && self.twice.contains(&path(&place.steps()).as_str()) {
            self.fault("duplicate", place);
        }
    }

    /// Checks the fields of an object whose definition is called `owner`.
    fn fields(
        &mut self,
        owner: &str,
        definition: &Definition,
        fields: &mut Map<String, Value>,
        above: Option<&Place>,
    ) {
        keep_where(fields, |name, value| {
            let place = Place {
                above,
                step: At::Field(owner, name),
            };
            let Some(field) = definition.fields.get(name) else {
                self.fault("unknown", &place);
                return false;
            };
            let own = Own::of(owner, name);
            if value.is_null() && (!matches!(field.ty, Type::Any) || schemas::drops_null(owner, name)) {
                return false;
            }
            self.duplicate(&place);
            let before = self.wrong.len() + self.ending.len();
            match own {
                Some(own) => {
                    if !self.decoded_apart(owner, own, &field.ty, value, &place) {
                        return false;
                    }
                }
                None => self.value(owner, &field.ty, value, &place),
            }
            if is_no_item(&field.ty, value) && omit::leaves_out(owner) {
                self.empties.note(|| place.steps(), value);
                // Go's encoder leaves it out.
                if !value.is_string()
                    && !field.zero.is_written()
                    && !omit::empty_is_told(owner, name, above.is_some_and(|place| place.above.is_none()))
                {
                    return false;
                }
            }
            if let (Type::String(format), Value::String(text)) = (&field.ty, value)
                && format == "date-time"
                && self.wrong.len() + self.ending.len() == before
            {
                omit::canonical_time(owner, name, text);
            }
            true
        });
    }

    /// Notes a value of a wrong type; `ends` says that Go's decoder of its type stops at it.
    pub(super) fn refuse(&mut self, why: Mismatch, ends: bool, at: &Place) {
        let wrong = match ends || self.apart > 0 {
            false => &mut self.wrong,
            true => &mut self.ending,
        };
        if wrong.len() < MAX_FAULTS {
            wrong.push((why, at.steps()));
        }
    }

    /// Checks a value, and notes when its type is wrong.
    pub(super) fn value(&mut self, owner: &str, ty: &Type, value: &mut Value, at: &Place) {
        if let Err(mismatch) = self.checked(owner, ty, value, at) {
            self.refuse(mismatch, decodes_itself(ty), at);
        }
    }

    fn checked(&mut self, owner: &str, ty: &Type, value: &mut Value, at: &Place) -> Result<(), Mismatch> {
        match (ty, &mut *value) {
            (Type::Any, _) => Ok(()),
            (Type::String(format), Value::Null) if format == "date-time" => Ok(()),
            (Type::Ref(reference), Value::Object(fields)) => match self.table.resolve(reference) {
                Some(definition) => {
                    self.fields(reference.name(), definition, fields, Some(at));
                    Ok(())
                }
                None => Ok(()),
            },
            (Type::Object(definition), Value::Object(fields)) => {
                self.fields(owner, definition, fields, Some(at));
                Ok(())
            }
            (Type::Map(items), Value::Object(fields)) => {
                for (key, value) in fields.iter_mut() {
                    if value.is_null() {
                        *value = zero(items);
                    }
                    let place = Place {
                        above: Some(at),
                        step: At::Entry(key),
                    };
                    self.duplicate(&place);
                    let before = self.wrong.len() + self.ending.len();
                    self.value(owner, items, value, &place);
                    if let (Type::String(format), Value::String(text)) = (items.as_ref(), value)
                        && format == "date-time"
                        && self.wrong.len() + self.ending.len() == before
                    {
                        omit::canonical_time(owner, key, text);
                    }
                }
                Ok(())
            }
            (Type::List(list), Value::Array(items)) => {
                for (index, value) in items.iter_mut().enumerate() {
                    if value.is_null() {
                        *value = zero(&list.items);
                    }
                    let place = Place {
                        above: Some(at),
                        step: At::Index(index),
                    };
                    self.value(owner, &list.items, value, &place);
                }
                Ok(())
            }
            (Type::String(format), Value::String(text)) if format == "byte" => {
                bytes_form(text).map_err(|json| Mismatch {
                    restore: format!("error decoding from json: {json}"),
                    json,
                })
            }
            (Type::String(format), Value::String(text)) => {
                if format == "date-time" {
                    let micro = matches!(at.step, At::Field(_, field) if omit::is_micro(owner, field));
                    time::fault(text, micro).map_or(Ok(()), Err)?;
                }
                Ok(())
            }
            // Go reads bytes from a list of numbers as well.
            (Type::String(format), Value::Array(bytes)) if format == "byte" => match bytes_of(bytes) {
                Ok(text) => {
                    *value = text.into();
                    Ok(())
                }
                Err(found) => {
                    let mut why = mismatch(owner, ty, &found, at);
                    why.json = why.json.replacen("type []uint8", "type uint8", 1);
                    Err(why)
                }
            },
            (Type::Boolean, Value::Bool(_)) | (Type::Number, Value::Number(_)) => Ok(()),
            (Type::Integer, Value::Number(number)) => match number.as_i64() {
                Some(n) if i32::try_from(n).is_ok() || is_long(owner, at) => Ok(()),
                _ => Err(mismatch(owner, ty, &format!("number {number}"), at)),
            },
            (Type::IntOrString, Value::String(_)) => Ok(()),
            (Type::IntOrString, Value::Number(number)) => match number.as_i64().map(i32::try_from) {
                Some(Ok(_)) => Ok(()),
                _ => Err(mismatch(owner, &Type::Integer, &format!("number {number}"), at)),
            },
            (Type::Quantity, Value::String(_) | Value::Number(_)) => {
                *value = Value::String(Quantity::text_of(value).map_err(|e| e.to_string())?);
                Ok(())
            }
            // An empty text where an object or list of a Go type with its own decoder is awaited is no mistake there,
            // but built-in kinds have no such field.
            (_, value) => {
                let mut why = mismatch(owner, ty, type_of(value), at);
                if matches!(value, Value::Number(number) if number.as_i64().is_none()) {
                    why.restore = match ty {
                        Type::String(_) => why
                            .restore
                            .replace("cannot convert int64 to string", "unrecognized type: string"),
                        _ => why.restore.replace("int64", "float64"),
                    };
                }
                Err(why)
            }
        }
    }
}

/// Whether a number has 64 bits in Go. Our own kinds know no others.
fn is_long(owner: &str, at: &Place) -> bool {
    !owner.starts_with("io.k8s.") || at.go_type() == Some("int64")
}

/// What Go's decoder of JSON calls a value.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

pub(super) fn mismatch(owner: &str, ty: &Type, found: &str, at: &Place) -> Mismatch {
    let names = at.names();
    if matches!(ty, Type::Quantity) {
        return ParseQuantityError::Form.to_string().into();
    }
    let go = match (at.go_type(), ty) {
        (Some(go), _) => go.into(),
        // Times are read from texts by a decoder of their own.
        (None, Type::String(format)) if format == "date-time" => "string".into(),
        (None, ty) => go_type(ty),
    };
    let told = |owner: &str, names: &[&str]| {
        let into = match names {
            [] => "value".to_owned(),
            names => format!("struct field {}.{}", short_name(owner), names.join(".")),
        };
        format!("json: cannot unmarshal {found} into Go {into} of type {go}")
    };
    // Whoever is called by a decoder of its own has its place, but not its struct, told by the one around.
    if let Some((depth, below)) = schemas::apart(at) {
        const AROUND: &str = "JSONSchemaProps";
        let within = if depth == 1 { owner } else { AROUND };
        return Mismatch {
            json: told(AROUND, &names),
            restore: told(within, &names[names.len().saturating_sub(below)..]),
        };
    }
    let json = told(owner, &names);
    Mismatch {
        restore: restore_text(ty, found, is_long(owner, at)).unwrap_or_else(|| json.clone()),
        json,
    }
}

/// What Go decodes null to inside lists and maps.
fn zero(ty: &Type) -> Value {
    match ty {
        // A time that is not set is written so.
        Type::String(format) if format == "date-time" => Value::Null,
        Type::String(_) => "".into(),
        Type::Integer | Type::Number | Type::IntOrString => 0.into(),
        Type::Boolean => false.into(),
        Type::Quantity => "0".into(),
        Type::Any => Value::Null,
        Type::List(_) => Value::Array(Vec::new()),
        Type::Map(_) | Type::Ref(_) | Type::Object(_) => Value::Object(Map::new()),
    }
}

/// The base64 of a list of bytes, or what Go calls the first item that is none.
fn bytes_of(bytes: &[Value]) -> Result<String, String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let byte = |value: &Value| match value {
        Value::Null => Ok(0),
        Value::Number(number) => {
            let byte = number.as_u64().and_then(|n| u8::try_from(n).ok());
            byte.ok_or_else(|| format!("number {number}"))
        }
        other => Err(type_of(other).to_owned()),
    };
    let bytes: Vec<u8> = bytes.iter().map(byte).collect::<Result<_, _>>()?;
    Ok(STANDARD.encode(bytes))
}

/// Checks bytes in base64, and writes them as Go does: bits that are left over are no fault to it, and are gone then.
fn bytes_form(text: &mut String) -> Result<(), String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
    const GO: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let at = match STANDARD.decode(&*text) {
        Ok(_) => return Ok(()),
        Err(base64::DecodeError::InvalidLastSymbol(at, _)) => match GO.decode(&*text) {
            Ok(bytes) => {
                *text = STANDARD.encode(bytes);
                return Ok(());
            }
            Err(_) => at,
        },
        // What follows a whole end, Go finds where it begins; else the end where it stands too early.
        Err(base64::DecodeError::InvalidByte(at, _)) => match text.as_bytes() {
            bytes if bytes[at..].starts_with(b"==") && at % 4 == 2 => at + 2,
            bytes if bytes[at] == b'=' && at % 4 == 3 => at + 1,
            _ => at,
        },
        // Go names the beginning of what is no whole group.
        Err(_) => text.len() - text.trim_end_matches('=').len() % 4,
    };
    Err(format!("illegal base64 data at input byte {at}"))
}

/// What the conversion from an untyped object says about a value that it cannot put into a type, unless that type decodes
/// itself.
fn restore_text(ty: &Type, found: &str, long: bool) -> Option<String> {
    let number = found.starts_with("number");
    let go = match found {
        "array" => "slice",
        "object" => "map",
        text if text.starts_with("number ") && text["number ".len()..].contains(['.', 'e']) => "float64",
        _ if number => "int64",
        other => other,
    };
    match ty {
        Type::String(format) if !format.is_empty() => None,
        Type::String(_) if go == "int64" => Some("cannot convert int64 to string".into()),
        Type::Integer => {
            let bits = if long { "int64" } else { "int32" };
            Some(match number {
                true => format!("cannot convert {go} to {bits}"),
                false => format!("unrecognized type: {bits}"),
            })
        }
        Type::String(_) | Type::Number | Type::Boolean => Some(format!("unrecognized type: {}", go_type(ty))),
        Type::Map(_) => Some(format!("cannot restore map from {go}")),
        Type::List(_) => Some(format!("cannot restore slice from {go}")),
        Type::Ref(_) | Type::Object(_) => Some(format!("cannot restore struct from: {go}")),
        Type::IntOrString | Type::Quantity | Type::Any => None,
    }
}

/// Whether a type has a decoder of its own in Go, behind whose refusal nothing is read any more.
fn decodes_itself(ty: &Type) -> bool {
    match ty {
        Type::Quantity | Type::IntOrString => true,
        Type::String(format) => format == "date-time",
        _ => false,
    }
}

fn short_name(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or(definition)
}

/// A type as Go names it.
fn go_type(ty: &Type) -> String {
    match ty {
        Type::String(format) if format == "date-time" => "v1.Time".into(),
        Type::String(format) if format == "byte" => "[]uint8".into(),
        Type::String(_) => "string".into(),
        Type::Integer => "int32".into(),
        Type::Number => "float64".into(),
        Type::Boolean => "bool".into(),
        // A number is tried for everything that is no text.
        Type::IntOrString => "int32".into(),
        Type::Quantity => "resource.Quantity".into(),
        Type::Any => "runtime.RawExtension".into(),
        Type::Map(items) => format!("map[string]{}", go_type(items)),
        Type::List(list) => format!("[]{}", go_type(&list.items)),
        Type::Ref(reference) => {
            let mut parts = reference.name().rsplit('.');
            let (kind, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("v1"));
            format!("{package}.{kind}")
        }
        Type::Object(_) => "struct".into(),
    }
}
