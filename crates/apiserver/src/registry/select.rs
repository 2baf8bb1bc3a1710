//! Label and field selectors of a request, as a filter on the cache.

use crate::cache::fields;
use crate::cache::{Filter, Object};
use crate::rest::Ctx;
use crate::wire::options::ListOptions;
use kinds::selector::{FieldSelector, LabelSelector};
use kinds::status::Status;
use std::sync::Arc;

/// How one field of a selector is read from a cached object.
#[derive(Clone, Copy)]
enum Source {
    Name,
    Namespace,
    Field(usize),
    /// A field of `true` and `false`.
    Flag(usize),
}

/// The filter that the options of a list or watch ask for.
pub fn filter(ctx: &Ctx, options: &ListOptions) -> Result<Filter, Status> {
    let mut filter = Filter {
        namespace: ctx.namespace().to_string(),
        ..Filter::default()
    };
    let labels = match options.label_selector.as_str() {
        "" => None,
        text => Some(
            LabelSelector::parse(text)
                .map_err(|e| Status::bad_request(format!("unable to parse requirement: {e}",)))?,
        ),
    };
    let mut terms: Vec<(Source, bool, String)> = Vec::new();
    if !options.field_selector.is_empty() {
        let selector = FieldSelector::parse(&options.field_selector)
            .map_err(|e| Status::bad_request(format!("invalid field selector: {e}")))?;
        let known = ctx.served.cache.selectable_fields();
        for term in selector.terms() {
            let source = source(ctx, &known, &term.field)?;
            match (source, term.equals) {
                (Source::Name, true) => filter.name = term.value.clone(),
                (Source::Namespace, true) if filter.namespace.is_empty() && ctx.served.kind.namespaced => {
                    filter.namespace = term.value.clone();
                }
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
                Source::Flag(at) => match object.field(*at) {
                    "" => "false",
                    set => set,
                },
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
    match field {
        "metadata.name" => return Ok(Source::Name),
        "metadata.namespace" => return Ok(Source::Namespace),
        _ => {}
    }
    let field = fields::alias(ctx.served.storage(), field).unwrap_or(field);
    match known.iter().position(|k| k == field) {
        // A flag that is not set is one that is false.
        Some(at) if field == "spec.hostNetwork" => Ok(Source::Flag(at)),
        Some(at) => Ok(Source::Field(at)),
        None => Err(Status::bad_request(format!("field label not supported: {field}"))),
    }
}
