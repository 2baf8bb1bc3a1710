//! What functions take and give: one text for each function, with every way to call it.
//!
//! `A` stands for any type, the same wherever it is named; `C` for types that can be ordered, `N` for those that can be
//! added up. What is not listed here is judged by [`super::result_type`].

use crate::types::Type;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

const DECLARED: &[(&str, &str)] = &[
    (
        "size",
        "(string) int; string.() int; (bytes) int; bytes.() int; (list(A)) int; list(A).() int; (map(A)) int; map(A).() int",
    ),
    ("contains", "string.(string) bool"),
    ("startsWith", "string.(string) bool"),
    ("endsWith", "string.(string) bool"),
    ("matches", "string.(string) bool; (string, string) bool"),
    (
        "int",
        "(int) int; (uint) int; (double) int; (string) int; (timestamp) int; (duration) int",
    ),
    ("uint", "(uint) uint; (int) uint; (double) uint; (string) uint"),
    (
        "double",
        "(double) double; (int) double; (uint) double; (string) double",
    ),
    (
        "string",
        "(string) string; (bool) string; (bytes) string; (double) string; (int) string; (uint) string; \
         (timestamp) string; (duration) string; (net.IP) string; (net.CIDR) string",
    ),
    ("bytes", "(bytes) bytes; (string) bytes"),
    ("bool", "(bool) bool; (string) bool"),
    (
        "timestamp",
        "(timestamp) timestamp; (string) timestamp; (int) timestamp",
    ),
    (
        "duration",
        "(duration) duration; (string) duration; (int) duration",
    ),
    ("getFullYear", "timestamp.() int; timestamp.(string) int"),
    ("getMonth", "timestamp.() int; timestamp.(string) int"),
    ("getDate", "timestamp.() int; timestamp.(string) int"),
    ("getDayOfMonth", "timestamp.() int; timestamp.(string) int"),
    ("getDayOfWeek", "timestamp.() int; timestamp.(string) int"),
    ("getDayOfYear", "timestamp.() int; timestamp.(string) int"),
    (
        "getHours",
        "timestamp.() int; timestamp.(string) int; duration.() int",
    ),
    (
        "getMinutes",
        "timestamp.() int; timestamp.(string) int; duration.() int",
    ),
    (
        "getSeconds",
        "timestamp.() int; timestamp.(string) int; duration.() int",
    ),
    (
        "getMilliseconds",
        "timestamp.() int; timestamp.(string) int; duration.() int",
    ),
    ("optional.of", "(A) optional(A)"),
    ("optional.ofNonZeroValue", "(A) optional(A)"),
    ("optional.none", "() optional(A)"),
    ("optional.unwrap", "(list(optional(A))) list(A)"),
    ("unwrapOpt", "list(optional(A)).() list(A)"),
    ("hasValue", "optional(A).() bool"),
    ("value", "optional(A).() A"),
    ("or", "optional(A).(optional(A)) optional(A)"),
    ("orValue", "optional(A).(A) A"),
    ("first", "list(A).() optional(A)"),
    ("last", "list(A).() optional(A)"),
    ("charAt", "string.(int) string"),
    (
        "indexOf",
        "string.(string) int; string.(string, int) int; list(A).(A) int",
    ),
    (
        "lastIndexOf",
        "string.(string) int; string.(string, int) int; list(A).(A) int",
    ),
    ("join", "list(string).() string; list(string).(string) string"),
    ("lowerAscii", "string.() string"),
    ("upperAscii", "string.() string"),
    ("trim", "string.() string"),
    (
        "replace",
        "string.(string, string) string; string.(string, string, int) string",
    ),
    (
        "split",
        "string.(string) list(string); string.(string, int) list(string)",
    ),
    ("substring", "string.(int) string; string.(int, int) string"),
    ("format", "string.(list(dyn)) string"),
    ("strings.quote", "(string) string"),
    ("find", "string.(string) string"),
    (
        "findAll",
        "string.(string) list(string); string.(string, int) list(string)",
    ),
    ("isSorted", "list(C).() bool"),
    ("min", "list(C).() C"),
    ("max", "list(C).() C"),
    ("sum", "list(N).() N"),
    ("lists.range", "(int) list(int)"),
    ("distinct", "list(A).() list(A)"),
    ("reverse", "list(A).() list(A)"),
    ("slice", "list(A).(int, int) list(A)"),
    ("sort", "list(C).() list(C)"),
    ("flatten", "list(list(A)).() list(A); list(dyn).(int) list(dyn)"),
    ("sets.contains", "(list(A), list(A)) bool"),
    ("sets.equivalent", "(list(A), list(A)) bool"),
    ("sets.intersects", "(list(A), list(A)) bool"),
    ("jsonpatch.escapeKey", "(string) string"),
    ("url", "(string) kubernetes.URL"),
    ("isURL", "(string) bool"),
    ("getScheme", "kubernetes.URL.() string"),
    ("getHost", "kubernetes.URL.() string"),
    ("getHostname", "kubernetes.URL.() string"),
    ("getPort", "kubernetes.URL.() string"),
    ("getEscapedPath", "kubernetes.URL.() string"),
    ("getQuery", "kubernetes.URL.() map(list(string))"),
    ("ip", "(string) net.IP; net.CIDR.() net.IP"),
    ("isIP", "(string) bool"),
    ("ip.isCanonical", "(string) bool"),
    ("family", "net.IP.() int"),
    ("isUnspecified", "net.IP.() bool"),
    ("isLoopback", "net.IP.() bool"),
    ("isLinkLocalMulticast", "net.IP.() bool"),
    ("isLinkLocalUnicast", "net.IP.() bool"),
    ("isGlobalUnicast", "net.IP.() bool"),
    ("cidr", "(string) net.CIDR"),
    ("isCIDR", "(string) bool"),
    ("containsIP", "net.CIDR.(string) bool; net.CIDR.(net.IP) bool"),
    ("containsCIDR", "net.CIDR.(string) bool; net.CIDR.(net.CIDR) bool"),
    ("masked", "net.CIDR.() net.CIDR"),
    ("prefixLength", "net.CIDR.() int"),
    ("quantity", "(string) kubernetes.Quantity"),
    ("isQuantity", "(string) bool"),
    // Not a member, whatever upstream's documentation says.
    ("sign", "(kubernetes.Quantity) int"),
    ("isInteger", "kubernetes.Quantity.() bool"),
    ("asInteger", "kubernetes.Quantity.() int"),
    ("asApproximateFloat", "kubernetes.Quantity.() double"),
    (
        "add",
        "kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity; kubernetes.Quantity.(int) kubernetes.Quantity",
    ),
    (
        "sub",
        "kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity; kubernetes.Quantity.(int) kubernetes.Quantity",
    ),
    (
        "isLessThan",
        "kubernetes.Quantity.(kubernetes.Quantity) bool; kubernetes.Semver.(kubernetes.Semver) bool",
    ),
    (
        "isGreaterThan",
        "kubernetes.Quantity.(kubernetes.Quantity) bool; kubernetes.Semver.(kubernetes.Semver) bool",
    ),
    (
        "compareTo",
        "kubernetes.Quantity.(kubernetes.Quantity) int; kubernetes.Semver.(kubernetes.Semver) int",
    ),
    (
        "semver",
        "(string) kubernetes.Semver; (string, bool) kubernetes.Semver",
    ),
    ("isSemver", "(string) bool; (string, bool) bool"),
    ("major", "kubernetes.Semver.() int"),
    ("minor", "kubernetes.Semver.() int"),
    ("patch", "kubernetes.Semver.() int"),
    ("format.named", "(string) optional(kubernetes.NamedFormat)"),
    ("format.dns1123Label", "() kubernetes.NamedFormat"),
    ("format.dns1123LabelPrefix", "() kubernetes.NamedFormat"),
    ("format.dns1123SubdomainPrefix", "() kubernetes.NamedFormat"),
    ("format.dns1035LabelPrefix", "() kubernetes.NamedFormat"),
    ("format.datetime", "() kubernetes.NamedFormat"),
    ("format.dns1123Subdomain", "() kubernetes.NamedFormat"),
    ("format.dns1035Label", "() kubernetes.NamedFormat"),
    ("format.qualifiedName", "() kubernetes.NamedFormat"),
    ("format.labelValue", "() kubernetes.NamedFormat"),
    ("format.uri", "() kubernetes.NamedFormat"),
    ("format.uuid", "() kubernetes.NamedFormat"),
    ("format.byte", "() kubernetes.NamedFormat"),
    ("format.date", "() kubernetes.NamedFormat"),
    (
        "path",
        "kubernetes.authorization.Authorizer.(string) kubernetes.authorization.PathCheck",
    ),
    (
        "group",
        "kubernetes.authorization.Authorizer.(string) kubernetes.authorization.GroupCheck",
    ),
    (
        "serviceAccount",
        "kubernetes.authorization.Authorizer.(string, string) kubernetes.authorization.Authorizer",
    ),
    (
        "resource",
        "kubernetes.authorization.GroupCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    (
        "subresource",
        "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    (
        "namespace",
        "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    (
        "name",
        "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    (
        "fieldSelector",
        "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    (
        "labelSelector",
        "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    (
        "check",
        "kubernetes.authorization.PathCheck.(string) kubernetes.authorization.Decision; \
         kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.Decision",
    ),
    ("allowed", "kubernetes.authorization.Decision.() bool"),
    ("errored", "kubernetes.authorization.Decision.() bool"),
    ("reason", "kubernetes.authorization.Decision.() string"),
    ("error", "kubernetes.authorization.Decision.() string"),
    (
        "validate",
        "kubernetes.NamedFormat.(string) optional(list(string))",
    ),
];

/// Types that stand for a letter in turn.
const ORDERED: [&str; 8] = [
    "int",
    "uint",
    "double",
    "bool",
    "duration",
    "timestamp",
    "string",
    "bytes",
];
const ADDED: [&str; 4] = ["int", "uint", "double", "duration"];

/// Types of libraries.
const OPAQUE: [&str; 11] = [
    "net.IP",
    "net.CIDR",
    "kubernetes.URL",
    "kubernetes.Quantity",
    "kubernetes.Semver",
    "kubernetes.NamedFormat",
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
];

/// A type with a part that the arguments decide.
#[derive(Debug)]
enum Shape {
    Is(Type),
    Any,
    List(Box<Shape>),
    Map(Box<Shape>),
    Optional(Box<Shape>),
}

/// One way to call a function.
#[derive(Debug)]
struct Overload {
    member: bool,
    takes: Vec<Shape>,
    gives: Shape,
}

static OVERLOADS: LazyLock<HashMap<&str, Vec<Overload>>> = LazyLock::new(|| {
    let ways = |text: &str| {
        let expand = |way: &str| -> Vec<String> {
            let (letter, types) = match way {
                _ if way.contains("(C)") => ("C", &ORDERED[..]),
                _ if way.contains("(N)") => ("N", &ADDED[..]),
                _ => return vec![way.to_string()],
            };
            types.iter().map(|ty| way.replace(letter, ty)).collect()
        };
        let ways = text.split(';').flat_map(|way| expand(way.trim()));
        ways.filter_map(|way| overload(&way)).collect()
    };
    DECLARED.iter().map(|(name, text)| (*name, ways(text))).collect()
});

fn overload(text: &str) -> Option<Overload> {
    let (receiver, rest) = match text.split_once(".(") {
        Some((receiver, rest)) => (Some(receiver), rest),
        None => (None, text.strip_prefix('(')?),
    };
    let (args, gives) = rest.rsplit_once(") ")?;
    let args = args.split(", ").filter(|arg| !arg.is_empty());
    Some(Overload {
        member: receiver.is_some(),
        takes: receiver.into_iter().chain(args).map(shape).collect(),
        gives: shape(gives),
    })
}

fn shape(text: &str) -> Shape {
    let inner = |kind: &str| text.strip_prefix(kind)?.strip_prefix('(')?.strip_suffix(')');
    let boxed = |inner: &str| Box::new(shape(inner));
    if let Some(of) = inner("list") {
        return Shape::List(boxed(of));
    }
    if let Some(of) = inner("map") {
        return Shape::Map(boxed(of));
    }
    if let Some(of) = inner("optional") {
        return Shape::Optional(boxed(of));
    }
    Shape::Is(match text {
        "A" => return Shape::Any,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "bool" => Type::Bool,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        other => OPAQUE
            .iter()
            .find(|name| **name == other)
            .map_or(Type::Dyn, |name| Type::Opaque(name)),
    })
}

impl Shape {
    /// Whether a type fits; learns what `A` is. What is known only when evaluated makes `A` unknown.
    fn takes(&self, ty: &Type, any: &mut Option<Type>) -> bool {
        match (self, ty) {
            (Shape::Any, Type::Dyn) => {
                *any = Some(Type::Dyn);
                true
            }
            (_, Type::Dyn) => true,
            (Shape::Is(own), ty) => own.fits(ty),
            (Shape::List(of), Type::List(inner, _)) => of.takes(inner, any),
            (Shape::Map(of), Type::Map(inner)) => of.takes(inner, any),
            (Shape::Optional(of), Type::Optional(inner)) => of.takes(inner, any),
            (Shape::Any, ty) => match any {
                Some(known) => known.fits(ty),
                None => {
                    *any = Some(ty.clone());
                    true
                }
            },
            _ => false,
        }
    }

    fn resolve(&self, any: Option<&Type>) -> Type {
        match self {
            Shape::Is(ty) => ty.clone(),
            Shape::Any => any.cloned().unwrap_or(Type::Dyn),
            Shape::List(of) => Type::list(of.resolve(any)),
            Shape::Map(of) => Type::Map(Arc::new(of.resolve(any))),
            Shape::Optional(of) => Type::Optional(Arc::new(of.resolve(any))),
        }
    }
}

/// The type of a call's result; `None` for functions that are not listed.
pub(super) fn result_type(function: &str, member: bool, args: &[Type]) -> Option<Result<Type, ()>> {
    let overloads = OVERLOADS.get(function)?;
    let mut result: Option<Type> = None;
    for overload in overloads {
        let mut any = None;
        let fits = overload.member == member
            && overload.takes.len() == args.len()
            && overload
                .takes
                .iter()
                .zip(args)
                .all(|(shape, ty)| shape.takes(ty, &mut any));
        if !fits {
            continue;
        }
        let gives = overload.gives.resolve(any.as_ref());
        result = Some(match result {
            Some(before) if before != gives => Type::Dyn,
            _ => gives,
        });
    }
    Some(result.ok_or(()))
}
