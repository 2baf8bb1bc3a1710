//! What functions take and give, read from `functions.txt`.

use crate::types::Type;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// One way to call a function. Open types number the letters of the text.
#[derive(Debug)]
pub(crate) struct Overload {
    pub member: bool,
    pub takes: Vec<Type>,
    pub gives: Type,
    /// How many letters there are.
    pub letters: usize,
}

/// Types that stand for a letter in turn.
const ORDERED: [Type; 8] = [
    Type::Int,
    Type::Uint,
    Type::Double,
    Type::Bool,
    Type::Duration,
    Type::Timestamp,
    Type::String,
    Type::Bytes,
];
const ADDED: [Type; 4] = [Type::Int, Type::Uint, Type::Double, Type::Duration];

static OVERLOADS: LazyLock<HashMap<&str, Arc<[Overload]>>> = LazyLock::new(|| {
    let mut all = HashMap::new();
    let lines = include_str!("functions.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let Some((names, ways)) = line.split_once(": ") else {
            continue;
        };
        let overloads: Arc<[Overload]> = ways.split("; ").flat_map(ways_of).collect();
        for name in names.split(' ') {
            all.insert(name, overloads.clone());
        }
    }
    all
});

/// A way with a letter that stands for certain types, once for each of them.
fn ways_of(way: &'static str) -> Vec<Overload> {
    let (letter, types) = match way {
        _ if way.contains("(C)") => ("C", ORDERED.as_slice()),
        _ if way.contains("(N)") => ("N", ADDED.as_slice()),
        _ => return overload(way).into_iter().collect(),
    };
    let Some(way) = overload(way) else {
        return Vec::new();
    };
    let each = |ty: &Type| Overload {
        member: way.member,
        takes: way.takes.iter().map(|taken| put(taken, letter, ty)).collect(),
        gives: put(&way.gives, letter, ty),
        letters: way.letters,
    };
    types.iter().map(each).collect()
}

/// A type with another in the place of a letter.
fn put(taken: &Type, letter: &str, ty: &Type) -> Type {
    match taken {
        Type::Opaque(name) if *name == letter => ty.clone(),
        Type::List(of, _) => Type::list(put(of, letter, ty)),
        other => other.clone(),
    }
}

fn overload(text: &'static str) -> Option<Overload> {
    let (receiver, rest) = match text.split_once(".(") {
        Some((receiver, rest)) => (Some(receiver), rest),
        None => (None, text.strip_prefix('(')?),
    };
    let end = closing(rest)?;
    let (args, gives) = (&rest[..end], rest[end..].strip_prefix(") ")?);
    let letter = |letter: &str| {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| word == letter)
    };
    Some(Overload {
        member: receiver.is_some(),
        takes: receiver.into_iter().chain(parts(args)).map(parse).collect(),
        gives: parse(gives),
        letters: usize::from(letter("A")) + usize::from(letter("B")),
    })
}

/// Where the bracket closes that was opened before the text.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    for (at, sign) in text.bytes().enumerate() {
        match sign {
            b'(' => open += 1,
            b')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

/// What commas part, but for those in brackets.
fn parts(text: &str) -> Vec<&str> {
    let (mut found, mut open, mut start) = (Vec::new(), 0_usize, 0);
    for (at, sign) in text.bytes().enumerate() {
        match sign {
            b'(' => open += 1,
            b')' => open = open.saturating_sub(1),
            b',' if open == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    found.extend((!last.is_empty()).then_some(last));
    found
}

fn parse(text: &'static str) -> Type {
    let inner = |kind: &str| text.strip_prefix(kind)?.strip_prefix('(')?.strip_suffix(')');
    let boxed = |inner: &'static str| Arc::new(parse(inner));
    if let Some(of) = inner("list") {
        return Type::list(parse(of));
    }
    if let Some([by, of]) = inner("map").map(parts).as_deref() {
        return Type::Map(boxed(by), boxed(of));
    }
    if let Some(of) = inner("optional") {
        return Type::Optional(boxed(of));
    }
    if let Some(of) = inner("type") {
        return Type::Type(Some(boxed(of)));
    }
    match text {
        "A" => Type::Open(0),
        "B" => Type::Open(1),
        "dyn" => Type::Dyn,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "bool" => Type::Bool,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        library => Type::Opaque(library),
    }
}

/// The ways to call a function; `None` when there is none of that name.
pub(crate) fn overloads(function: &str) -> Option<Arc<[Overload]>> {
    OVERLOADS.get(function).cloned()
}

/// The type that is named so in expressions.
pub(crate) fn named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "list" => Type::list(Type::Open(0)),
        "map" => Type::Map(Arc::new(Type::Open(0)), Arc::new(Type::Open(1))),
        "type" => Type::Type(None),
        "null_type" => Type::Null,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        "optional_type" => Type::Opaque("optional_type"),
        "net.IP" => Type::Opaque("net.IP"),
        "net.CIDR" => Type::Opaque("net.CIDR"),
        _ => return None,
    })
}
