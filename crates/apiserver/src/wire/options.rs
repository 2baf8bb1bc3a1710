//! Options of requests: ListOptions from the query, write options from the query, DeleteOptions from query and body.

use crate::request::{query_firsts, query_pairs, query_true};
use kinds::field::{FieldError, Path};
use kinds::selector::{self, FieldSelector, LabelSelector};
use kinds::status::Status;
use serde_json::{Map, Value, json};

/// `meta.k8s.io` ListOptions as they come in a query.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// `labelSelector`.
    pub label_selector: String,
    /// `fieldSelector`.
    pub field_selector: String,
    /// `watch`.
    pub watch: bool,
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
    /// `resourceVersion`; empty is "most recent", `0` is "any".
    pub resource_version: String,
    /// `resourceVersionMatch`.
    pub version_match: String,
    /// `timeoutSeconds`.
    pub timeout_seconds: Option<u64>,
    /// `limit`; 0 for all.
    pub limit: usize,
    /// `continue`.
    pub continue_token: String,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// `includeObject` of TableOptions.
    pub include_object: String,
}

impl ListOptions {
    /// Reads and checks the options of a list or watch.
    pub fn parse(query: &str) -> Result<ListOptions, Status> {
        let mut o = ListOptions::default();
        let (mut timeout, mut limit) = (None, None);
        for (key, value) in query_firsts(query) {
            match key.as_str() {
                "labelSelector" => o.label_selector = value,
                "fieldSelector" => o.field_selector = value,
                "watch" => o.watch = query_true(&value),
                "allowWatchBookmarks" => o.bookmarks = query_true(&value),
                "resourceVersion" => o.resource_version = value,
                "resourceVersionMatch" => o.version_match = value,
                "timeoutSeconds" => timeout = Some(value),
                "limit" => limit = Some(value),
                "continue" => o.continue_token = value,
                "sendInitialEvents" => o.send_initial_events = Some(query_true(&value)),
                "includeObject" => o.include_object = value,
                _ => {}
            }
        }
        // What is less than nothing is no bound. The order is that of upstream's fields.
        if let Some(text) = timeout {
            o.timeout_seconds = u64::try_from(number(&text)?).ok();
        }
        if let Some(text) = limit {
            o.limit = usize::try_from(number(&text)?).unwrap_or(0);
        }
        let bad = |why: &dyn std::fmt::Display| Status::bad_request(why.to_string());
        LabelSelector::parse(&o.label_selector).map_err(|why| bad(&why))?;
        FieldSelector::parse(&o.field_selector).map_err(|why| bad(&why))?;
        Ok(o)
    }

    /// Narrows the options to the object that a path names, or that a selector named when the request was authorized. A
    /// selector must then want this one (upstream: `listOpts` of `endpoints/handlers/get.go`).
    pub fn narrow_to(&mut self, name: &str) -> Result<(), Status> {
        if name.is_empty() {
            return Ok(());
        }
        let given =
            FieldSelector::parse(&self.field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
        if given.is_empty() {
            self.field_selector = format!("metadata.name={}", selector::escape_value(name));
        } else if given.exact("metadata.name") != Some(name) {
            let why = "fieldSelector metadata.name doesn't match requested name";
            return Err(Status::bad_request(why));
        }
        Ok(())
    }

    /// The checks of upstream's `ValidateListOptions`.
    pub fn validate(&self, watch: bool) -> Result<(), Status> {
        let mut errors = Vec::new();
        let at = |name: &str| Path::new(name);
        let forbidden = |name: &str, why: &str| FieldError::forbidden(&at(name), why);
        let wanted = self.version_match.as_str();
        let matching = at("resourceVersionMatch");
        let mut refuse = |why: &str| errors.push(forbidden("resourceVersionMatch", why));
        if watch {
            if self.send_initial_events.is_some() && wanted != "NotOlderThan" {
                refuse("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            // Whoever begins with the state of now has as good as asked for it (upstream: `SetListOptionsDefaults`).
            let begins = matches!(self.resource_version.as_str(), "" | "0");
            if wanted.is_empty() && self.send_initial_events.is_none() && begins {
                if !self.continue_token.is_empty() {
                    refuse("resourceVersionMatch is forbidden when continue is provided");
                }
            } else if !wanted.is_empty() {
                if self.send_initial_events.is_none() {
                    refuse(
                        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                    );
                }
                if wanted != "NotOlderThan" {
                    errors.push(FieldError::not_supported(
                        &matching,
                        json!(wanted),
                        &["NotOlderThan"],
                    ));
                }
                if !self.continue_token.is_empty() {
                    let why = "resourceVersionMatch is forbidden when continue is provided";
                    errors.push(forbidden("resourceVersionMatch", why));
                }
            }
        } else {
            if !wanted.is_empty() {
                if self.resource_version.is_empty() {
                    refuse("resourceVersionMatch is forbidden unless resourceVersion is provided");
                }
                if !self.continue_token.is_empty() {
                    refuse("resourceVersionMatch is forbidden when continue is provided");
                }
                if !matches!(wanted, "Exact" | "NotOlderThan") {
                    let known = ["Exact", "NotOlderThan", ""];
                    errors.push(FieldError::not_supported_in_order(
                        &matching,
                        json!(wanted),
                        &known,
                    ));
                }
                if wanted == "Exact" && self.resource_version == "0" {
                    let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                    errors.push(forbidden("resourceVersionMatch", why));
                }
            }
            if self.send_initial_events.is_some() {
                let why = "sendInitialEvents is forbidden for list";
                errors.push(forbidden("sendInitialEvents", why));
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid("ListOptions", "meta.k8s.io", "", errors))
    }

    /// The revision asked for: `None` for "most recent".
    pub fn revision(&self) -> Result<Option<u64>, Status> {
        parse_revision(&self.resource_version)
    }
}

/// Reads a resourceVersion; empty is `None`.
pub fn parse_revision(text: &str) -> Result<Option<u64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let error = FieldError::invalid(
            &Path::new("resourceVersion"),
            json!(text),
            format!("strconv.ParseUint: parsing \"{text}\": {}", number_fault(text)),
        );
        Status::bad_request(format!("invalid resource version: {error}"))
    })
}

/// The same for a single object and for watches, where upstream takes it for a fault of its own.
pub fn parse_single_revision(text: &str) -> Result<Option<u64>, Status> {
    parse_revision(text).map_err(|mut status| {
        if let Some(why) = status.message.strip_prefix("invalid resource version: ") {
            status.message = why.to_owned();
        }
        status.code = 500;
        status.reason = "".into();
        status
    })
}

fn number(value: &str) -> Result<i64, Status> {
    value.parse().map_err(|_| {
        let why = number_fault(value.strip_prefix(['-', '+']).unwrap_or(value));
        Status::bad_request(format!("strconv.ParseInt: parsing {value:?}: {why}"))
    })
}

/// What Go says of digits, or of something else, that make no number of 64 bits.
fn number_fault(digits: &str) -> &'static str {
    match !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => "value out of range",
        false => "invalid syntax",
    }
}

/// Whether a character leaves ink, or is a plain space, as Go's `unicode.IsPrint` has it.
pub fn is_print(c: char) -> bool {
    // What the library escapes in the middle of a text is just that, and what means something to Rust itself.
    let shown = matches!(c, '"' | '\'' | '\\');
    shown || format!("a{c}").escape_debug().count() == 2
}

/// How unknown and duplicate fields are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped with a warning.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

/// Options of create, update and patch.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `fieldManager`, as sent.
    pub field_manager: String,
    /// `fieldValidation`.
    pub validation: FieldValidation,
    /// The same, as sent.
    pub asked_validation: String,
    /// `force`, for apply.
    pub force: Option<bool>,
}

impl WriteOptions {
    /// Reads and checks the options of a write, which are of `kind`.
    pub fn parse(query: &str, kind: &str) -> Result<WriteOptions, Status> {
        Self::checked(query, kind, |_| None)
    }

    /// The same for a patch of a media type: who applies says who it is, and applying alone takes from others.
    pub fn of_patch(query: &str, media: &str) -> Result<WriteOptions, Status> {
        Self::checked(query, "PatchOptions", |options| match media {
            "application/apply-patch+yaml" if options.field_manager.is_empty() => {
                let why = "is required for apply patch";
                Some(FieldError::required(&Path::new("fieldManager"), why))
            }
            "application/apply-patch+yaml" => None,
            _ => {
                let why = "may not be specified for non-apply patch";
                let error = || FieldError::forbidden(&Path::new("force"), why);
                options.force.map(|_| error())
            }
        })
    }

    fn checked(
        query: &str,
        kind: &str,
        more: impl Fn(&WriteOptions) -> Option<FieldError>,
    ) -> Result<WriteOptions, Status> {
        let mut o = WriteOptions::default();
        let mut of_validation = None;
        for (key, value) in query_firsts(query) {
            if key == "fieldValidation" {
                o.asked_validation.clone_from(&value);
            }
            match key.as_str() {
                "fieldManager" => o.field_manager = value,
                "fieldValidation" => match value.as_str() {
                    "" => {}
                    "Ignore" => o.validation = FieldValidation::Ignore,
                    "Warn" => o.validation = FieldValidation::Warn,
                    "Strict" => o.validation = FieldValidation::Strict,
                    _ => {
                        of_validation = Some(FieldError::not_supported(
                            &Path::new("fieldValidation"),
                            json!(value),
                            &["", "Ignore", "Strict", "Warn"],
                        ));
                    }
                },
                "force" => o.force = Some(query_true(&value)),
                _ => {}
            }
        }
        let (mut errors, at) = (Vec::from_iter(more(&o)), Path::new("fieldManager"));
        if o.field_manager.len() > 128 {
            errors.push(FieldError::too_long(&at, 128));
        }
        for (place, c) in o.field_manager.char_indices().filter(|(_, c)| !is_print(*c)) {
            let why = format!("invalid character U+{:04X} (at position {place})", u32::from(c));
            errors.push(FieldError::invalid(&at, json!(o.field_manager), why));
        }
        // Only of `dryRun` all values count.
        let (dry_run, of_dry_run) = dry_run(&dry_runs(query));
        o.dry_run = dry_run;
        errors.extend(of_dry_run.into_iter().chain(of_validation));
        if !errors.is_empty() {
            return Err(Status::invalid(kind, "meta.k8s.io", "", errors));
        }
        Ok(o)
    }

    /// The options as an object of the given kind, for admission: those of a patch are told as those of the update, or of
    /// the creation, that it comes to.
    pub fn to_value(&self, kind: &str) -> Value {
        let mut v = Map::new();
        v.insert("kind".into(), json!(kind));
        v.insert("apiVersion".into(), json!("meta.k8s.io/v1"));
        if self.dry_run {
            v.insert("dryRun".into(), json!(["All"]));
        }
        if !self.field_manager.is_empty() {
            v.insert("fieldManager".into(), json!(self.field_manager));
        }
        if !self.asked_validation.is_empty() {
            v.insert("fieldValidation".into(), json!(self.asked_validation));
        }
        Value::Object(v)
    }
}

/// What `dryRun` is in a query.
fn dry_runs(query: &str) -> Vec<String> {
    let pairs = query_pairs(query).filter(|(key, _)| key == "dryRun");
    pairs.map(|(_, value)| value).collect()
}

/// Whether a request is only tried, and what is wrong with the values that say so: all are told of together.
fn dry_run(values: &[String]) -> (bool, Vec<FieldError>) {
    let all = values.iter().all(|value| value == "All");
    let fault = || FieldError::not_supported(&Path::new("dryRun"), json!(values), &["All"]);
    (!values.is_empty(), (!all).then(fault).into_iter().collect())
}

/// What happens to dependents when an object is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector removes them afterwards.
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

impl Propagation {
    fn parse(text: &str) -> Option<Propagation> {
        match text {
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            "Orphan" => Some(Propagation::Orphan),
            _ => None,
        }
    }
}

/// `meta.k8s.io` DeleteOptions.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`.
    pub grace_period: Option<i64>,
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
    /// `propagationPolicy`, or what `orphanDependents` says.
    pub propagation: Option<Propagation>,
    /// `dryRun`.
    pub dry_run: bool,
    /// `orphanDependents` is false.
    pub cascades: bool,
}

impl DeleteOptions {
    /// Reads options from the query, overridden by those of the body if it has some.
    pub fn parse(query: &str, body: Option<&Value>) -> Result<DeleteOptions, Status> {
        let mut o = DeleteOptions::default();
        let mut errors = Vec::new();
        let mut propagation = None;
        let mut orphan = None;
        let mut runs: Vec<String> = Vec::new();
        match body {
            Some(body) => {
                let text = |p: &str| body.pointer(p).and_then(Value::as_str).map(String::from);
                o.grace_period = body.get("gracePeriodSeconds").and_then(Value::as_i64);
                o.uid = text("/preconditions/uid");
                o.resource_version = text("/preconditions/resourceVersion");
                propagation = text("/propagationPolicy");
                orphan = body.get("orphanDependents").and_then(Value::as_bool);
                if let Some(list) = body.get("dryRun").and_then(Value::as_array) {
                    runs = list.iter().filter_map(|v| v.as_str().map(String::from)).collect();
                }
            }
            None => {
                runs = dry_runs(query);
                for (key, value) in query_firsts(query) {
                    match key.as_str() {
                        "gracePeriodSeconds" => o.grace_period = Some(number(&value)?),
                        "propagationPolicy" => propagation = Some(value),
                        "uid" => o.uid = Some(value).filter(|uid| !uid.is_empty()),
                        "resourceVersion" => o.resource_version = Some(value).filter(|rv| !rv.is_empty()),
                        "orphanDependents" => orphan = Some(query_true(&value)),
                        _ => {}
                    }
                }
            }
        }
        if let Some(propagation) = propagation {
            o.propagation = Propagation::parse(&propagation);
            if orphan.is_some() {
                errors.push(FieldError::invalid(
                    &Path::new("propagationPolicy"),
                    json!(propagation),
                    "orphanDependents and deletionPropagation cannot be both set",
                ));
            }
            if o.propagation.is_none() {
                errors.push(FieldError::not_supported_in_order(
                    &Path::new("propagationPolicy"),
                    json!(propagation),
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
            }
        } else if let Some(orphan) = orphan {
            o.propagation = Some(if orphan {
                Propagation::Orphan
            } else {
                Propagation::Background
            });
        }
        o.cascades = orphan == Some(false);
        let (dry_run, faults) = dry_run(&runs);
        o.dry_run = dry_run;
        errors.extend(faults);
        if !errors.is_empty() {
            return Err(Status::invalid("DeleteOptions", "meta.k8s.io", "", errors));
        }
        Ok(o)
    }

    /// The options as an object, for admission.
    pub fn to_value(&self) -> Value {
        let mut v = Map::new();
        v.insert("kind".into(), json!("DeleteOptions"));
        v.insert("apiVersion".into(), json!("meta.k8s.io/v1"));
        if let Some(grace) = self.grace_period {
            v.insert("gracePeriodSeconds".into(), json!(grace));
        }
        if let Some(propagation) = self.propagation {
            v.insert("propagationPolicy".into(), json!(format!("{propagation:?}")));
        }
        if self.dry_run {
            v.insert("dryRun".into(), json!(["All"]));
        }
        Value::Object(v)
    }
}
