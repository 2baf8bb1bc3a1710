//! Objects as rows: the columns and cells that upstream's printers make for every kind (`meta.k8s.io/v1` Table).
//!
//! A printer is a list of columns and one function from object to cells. Kinds without one show their name and when
//! they were created. Columns of priority 1 are always sent; kubectl shows them with `-o wide`.

mod access;
mod cluster;
mod network;
mod pod;
mod storage;
mod text;
mod workloads;

use jiff::Timestamp;
use kinds::KindInfo;
use serde_json::{Value, json};

pub use text::age;

/// How much of each object goes along with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, as `PartialObjectMetadata`; the default.
    Metadata,
    /// The whole object.
    Object,
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// OpenAPI's type word: `string`, `integer`, `boolean`, `date`.
    pub ty: &'static str,
    /// `name` for the column that names the object.
    pub format: &'static str,
    /// 0 is always shown, 1 only in wide output.
    pub priority: u8,
}

/// Columns, and the cells of an object at a moment.
struct Printer {
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

const fn column(name: &'static str, ty: &'static str, priority: u8) -> Column {
    Column {
        name,
        ty,
        format: "",
        priority,
    }
}

/// Text, always shown.
const fn text(name: &'static str) -> Column {
    column(name, "string", 0)
}

/// Text in wide output.
const fn wide(name: &'static str) -> Column {
    column(name, "string", 1)
}

/// A number, always shown.
const fn number(name: &'static str) -> Column {
    column(name, "integer", 0)
}

/// True or false, always shown.
const fn flag(name: &'static str) -> Column {
    column(name, "boolean", 0)
}

const NAME: Column = Column {
    name: "Name",
    ty: "string",
    format: "name",
    priority: 0,
};
const AGE: Column = text("Age");
const CREATED_AT: Column = column("Created At", "date", 0);

const DEFAULT: Printer = Printer {
    columns: const { &[NAME, CREATED_AT] },
    cells: |object, _| {
        vec![
            text::name(object),
            json!(text::at(object, "/metadata/creationTimestamp")),
        ]
    },
};

/// Printers of one area, by group and kind.
type Area = fn(&str, &str) -> Option<Printer>;
const AREAS: [Area; 6] = [
    pod::printer,
    workloads::printer,
    network::printer,
    storage::printer,
    access::printer,
    cluster::printer,
];

fn printer(kind: &KindInfo) -> Printer {
    AREAS
        .iter()
        .find_map(|area| area(kind.group, kind.kind))
        .unwrap_or(DEFAULT)
}

/// The columns of a kind.
pub fn columns(kind: &KindInfo) -> &'static [Column] {
    printer(kind).columns
}

/// The row of one object.
pub fn row(kind: &KindInfo, object: &Value, now: Timestamp, include: IncludeObject) -> Value {
    make_row(&printer(kind), kind, object, now, include)
}

/// What fields mean: definition and field to upstream's text.
pub type Meanings<'m> = &'m dyn Fn(&str, &str) -> Option<&'m str>;

/// A `meta.k8s.io/v1` Table of objects of one kind.
pub fn table<'a>(
    kind: &KindInfo,
    objects: impl Iterator<Item = &'a Value>,
    now: Timestamp,
    include: IncludeObject,
    meanings: Meanings,
) -> Value {
    let printer = printer(kind);
    let rows: Vec<Value> = objects
        .map(|object| make_row(&printer, kind, object, now, include))
        .collect();
    let definitions: Vec<Value> = printer
        .columns
        .iter()
        .map(|column| {
            json!({"name": column.name, "type": column.ty, "format": column.format,
                "description": describe(kind.kind, column.name, meanings), "priority": column.priority})
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

/// What columns show: for each kind and column a text, or the field whose meaning it is. Source: the printers of upstream.
const DESCRIPTIONS: &str = include_str!("descriptions.txt");
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

fn entries() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let mut kind = "";
    DESCRIPTIONS
        .lines()
        .filter_map(move |line| match line.strip_prefix(' ') {
            None => {
                kind = line;
                None
            }
            Some(line) => line.split_once('\t').map(|(column, text)| (kind, column, text)),
        })
}

/// The fields whose meanings columns have for a description.
pub fn described_fields() -> impl Iterator<Item = (&'static str, &'static str)> {
    let shared = [(OBJECT_META, "name"), (OBJECT_META, "creationTimestamp")];
    shared
        .into_iter()
        .chain(entries().filter_map(|(_, _, text)| text.strip_prefix('@')?.split_once('#')))
}

fn describe<'m>(kind: &str, column: &str, meanings: Meanings<'m>) -> &'m str {
    let text = entries().find(|(of, name, _)| *of == kind && *name == column);
    let field = match (text, column) {
        (Some((_, _, text)), _) => match text.strip_prefix('@').and_then(|field| field.split_once('#')) {
            Some(field) => field,
            None => return text,
        },
        (None, "Name") => (OBJECT_META, "name"),
        (None, "Age" | "Created At") => (OBJECT_META, "creationTimestamp"),
        (None, _) => return "",
    };
    meanings(field.0, field.1).unwrap_or("")
}

fn make_row(
    printer: &Printer,
    kind: &KindInfo,
    object: &Value,
    now: Timestamp,
    include: IncludeObject,
) -> Value {
    let mut row = json!({"cells": (printer.cells)(object, now)});
    if kind.group.is_empty()
        && kind.kind == "Pod"
        && let Some(condition) = pod::completed(object)
    {
        row["conditions"] = json!([condition]);
    }
    row["object"] = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Object => object.clone(),
        IncludeObject::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
        }),
    };
    row
}
