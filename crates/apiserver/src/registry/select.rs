//! Label and field selectors of a request, as a filter on the cache.
//!
//! Fields of a custom resource's version that a webhook makes are not in the cache: terms with them are [`Converted`],
//! and decide when objects have been converted.

use crate::cache::fields;
use crate::cache::{Filter, Object};
use crate::rest::Ctx;
use crate::wire::options::ListOptions;
use kinds::selector::{FieldSelector, LabelSelector};
use kinds::status::Status;
use serde_json::Value;
use std::sync::Arc;

/// How one field of a selector is read from a cached object.
#[derive(Clone, Copy)]
enum Source {
    Name,
    Namespace,
    Field(usize),
    /// A flag or a number, and what it is when it is not set.
    Zero(usize, &'static str),
    /// A field, and the one that stands in for it when it is not set.
    Either(usize, usize),
    /// A field that no object has.
    Nothing,
    /// A field that only the converted object has.
    Later,
}

/// The terms of a field selector that need the object in the version that was asked for.
pub struct Converted(Vec<(String, bool, String)>);

impl Converted {
    /// Reads them; `None` when the cache can decide alone.
    pub fn read(ctx: &Ctx, options: &ListOptions) -> Result<Option<Converted>, Status> {
        if options.field_selector.is_empty() || !ctx.served.is_converted() {
            return Ok(None);
        }
        let selector =
            FieldSelector::parse(&options.field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
        let known = ctx.served.cache.selectable_fields();
        let mut terms = Vec::new();
        for term in selector.terms() {
            if matches!(source(ctx, &known, &term.field)?, Source::Later) {
                terms.push((
                    format!("/{}", term.field.replace('.', "/")),
                    term.equals,
                    term.value.clone(),
                ));
            }
        }
        Ok(Some(Converted(terms)).filter(|c| !c.0.is_empty()))
    }

    /// Whether a converted object is wanted.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(pointer, equals, wanted)| {
            let has = match object.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            (has == *wanted) == *equals
        })
    }
}

/// The filter that the options of a list or watch ask for.
pub fn filter(ctx: &Ctx, options: &ListOptions) -> Result<Filter, Status> {
    let mut filter = Filter {
        namespace: ctx.namespace().to_string(),
        ..Filter::default()
    };
    let labels = match options.label_selector.as_str() {
        "" => None,
        text => Some(LabelSelector::parse(text).map_err(|e| Status::bad_request(e.to_string()))?),
    };
    let mut terms: Vec<(Source, bool, String)> = Vec::new();
    if !options.field_selector.is_empty() {
        let selector =
            FieldSelector::parse(&options.field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
        let known = ctx.served.cache.selectable_fields();
        for term in selector.terms() {
            let source = source(ctx, &known, &term.field)?;
            match (source, term.equals) {
                // No object is nameless: an empty value selects nothing.
                (Source::Name, true) if !term.value.is_empty() && filter.name.is_empty() => {
                    filter.name = term.value.clone();
                }
                (Source::Namespace, true)
                    if !term.value.is_empty()
                        && filter.namespace.is_empty()
                        && ctx.served.kind.namespaced =>
                {
                    filter.namespace = term.value.clone();
                }
                (Source::Later, _) => {}
                _ => terms.push((source, term.equals, term.value.clone())),
            }
        }
    }
    let labels = labels.filter(|l| !l.is_everything());
    if labels.is_none() && terms.is_empty() {
        return Ok(filter);
    }
    filter.matches = Some(Arc::new(move |object: &Object| {
        let fields_match = terms.iter().all(|(source, equals, wanted)| {
            let has = match source {
                Source::Name => object.name(),
                Source::Namespace => object.namespace(),
                Source::Field(at) => object.field(*at),
                Source::Zero(at, zero) => match object.field(*at) {
                    "" => zero,
                    set => set,
                },
                Source::Either(at, other) => match object.field(*at) {
                    "" => object.field(*other),
                    set => set,
                },
                Source::Nothing => "",
                // Decided later.
                Source::Later => return true,
            };
            (has == wanted) == *equals
        });
        fields_match
            && labels
                .as_ref()
                .is_none_or(|l| l.matches_with(|key| object.label(key)))
    }));
    Ok(filter)
}

fn source(ctx: &Ctx, known: &[String], field: &str) -> Result<Source, Status> {
    let kind = ctx.served.kind;
    let builtin = ctx.served.custom.is_none();
    match field {
        "metadata.name" => return Ok(Source::Name),
        "metadata.namespace" if !builtin || fields::has_namespace(kind.group, kind.plural) => {
            return Ok(Source::Namespace);
        }
        _ => {}
    }
    // Each version of a custom resource has fields of its own.
    if let Some(custom) = &ctx.served.custom {
        if !custom.selectable().iter().any(|own| own == field) {
            return Err(Status::bad_request(format!("field label not supported: {field}")));
        }
        if ctx.served.is_converted() {
            return Ok(Source::Later);
        }
    }
    let asked = field;
    let field = match builtin {
        true => fields::meant(kind.group, kind.plural, field).unwrap_or_default(),
        false => field,
    };
    if field == fields::NOWHERE {
        return Ok(Source::Nothing);
    }
    let place = |field: &str| known.iter().position(|k| k == field);
    let zero = fields::zero(field).filter(|_| builtin);
    let stand_in = fields::stand_in(field).filter(|_| builtin).and_then(place);
    match (place(field), zero, stand_in) {
        (Some(at), Some(zero), _) => Ok(Source::Zero(at, zero)),
        (Some(at), _, Some(other)) => Ok(Source::Either(at, other)),
        (Some(at), None, None) => Ok(Source::Field(at)),
        (None, ..) => Err(unsupported(ctx, known.is_empty(), asked)),
    }
}

/// The refusal of a field, in the words of the kind's own conversion.
fn unsupported(ctx: &Ctx, has_none: bool, field: &str) -> Status {
    let kind = ctx.served.kind;
    match (kind.group, kind.plural, ctx.served.custom.is_none()) {
        ("batch", "jobs", true) => {
            Status::bad_request(format!("field label {field:?} not supported for Job"))
        }
        ("resource.k8s.io", "resourceslices", true) => Status::bad_request(format!(
            "field label not supported for {}, Kind={}: {field}",
            ctx.served.api_version(),
            kind.kind
        )),
        (.., true) if has_none => only_metadata(field),
        _ => Status::bad_request(format!("field label not supported: {field}")),
    }
}

/// The refusal of a field of a kind that has no conversion for any.
pub fn only_metadata(field: &str) -> Status {
    Status::bad_request(format!(
        "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    ))
}
