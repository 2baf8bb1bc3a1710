//! The way of a request: id, bounds, authentication, authorization, and who answers it.
//!
//! Every refusal on this way is a Kubernetes Status. A panic in a handler costs its request a 500 and nothing else.

use crate::admit::Notes;
use crate::audit::Trail;
use crate::authn::impersonate::impersonate;
use crate::authorize::Decision;
use crate::authz::forbidden;
use crate::connection::Connection;
use crate::metrics::{Executing, Line, Verdict};
use crate::request::Attributes;
use crate::rest::{self, Ctx};
use crate::server::ApiServer;
use crate::user::User;
use crate::wire::negotiate::{self, Offer, Wanted, negotiate};
use crate::wire::{Body, Response, body};
use crate::{discovery, subresources};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper::upgrade::OnUpgrade;
use kinds::status::Status;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest path and query, in bytes.
const MAX_URI: usize = 32 * 1024;
/// A request that is no watch, stream or proxy ends after this time.
const DEADLINE: Duration = Duration::from_secs(60);

/// A request taken apart, on its way to a handler.
pub struct Incoming {
    /// Method, URI, headers.
    pub head: http::request::Parts,
    /// The body.
    pub body: Body,
    /// The raw connection behind an `Upgrade` request.
    pub upgrade: Option<OnUpgrade>,
}

impl Incoming {
    /// The query string, without `?`.
    pub fn query(&self) -> &str {
        self.head.uri.query().unwrap_or("")
    }
}

impl ApiServer {
    /// Answers one request.
    pub fn handle(
        self: &Arc<Self>,
        request: http::Request<Body>,
        connection: Arc<Connection>,
    ) -> BoxFuture<'static, Response> {
        let server = self.clone();
        Box::pin(async move { server.answer(request, &connection).await })
    }

    async fn answer(self: &Arc<Self>, request: http::Request<Body>, connection: &Connection) -> Response {
        let started = Instant::now();
        let received = jiff::Timestamp::now();
        let (mut head, body) = request.into_parts();
        let upgrade = head.extensions.remove::<OnUpgrade>();
        let id = request_id(&head);
        let mut incoming = Incoming { head, body, upgrade };
        // Programs ask `/` for the paths there are, browsers for the console.
        let page = incoming.head.headers.get_all(http::header::ACCEPT);
        let page = page
            .iter()
            .any(|v| v.as_bytes().windows(9).any(|w| w == b"text/html"));
        let lists_paths = incoming.head.uri.path() == "/" && !page;
        if !lists_paths && self.is_foreign(incoming.head.uri.path()) {
            match self.foreign(incoming).await {
                Ok(response) => return response,
                Err(unknown) => incoming = unknown,
            }
        }
        // What a refusal is written in; who asks for nothing gets JSON.
        let mut accepts = http::HeaderMap::new();
        for name in [http::header::ACCEPT, http::header::USER_AGENT] {
            for value in incoming.head.headers.get_all(&name) {
                accepts.append(&name, value.clone());
            }
        }
        let uri = incoming.head.uri.clone();
        let refusal = |status: &Status| {
            let offer = Offer {
                shapes: false,
                tables: false,
                protobuf: crate::wire::protobuf::OFFERED,
            };
            let wanted = negotiate(&accepts, uri.query().unwrap_or_default(), offer);
            // Who takes nothing of what there is gets a page for people, as from upstream.
            let page = Wanted {
                pretty: true,
                ..Wanted::default()
            };
            body::refusal_as(status, wanted.unwrap_or(page))
        };
        let attributes = Attributes::parse(&incoming.head.method, incoming.head.uri.path(), incoming.query());
        let attributes = Arc::new(attributes);
        let without_body = incoming.head.method == Method::HEAD;
        let line = Line::of(&incoming.head);
        let mut answered = Answered {
            id: id.to_str().unwrap_or("").to_string(),
            received,
            user: String::new(),
            notes: Arc::default(),
            trail: None,
            flow: None,
            executing: None,
            barred: false,
        };
        let notes = answered.notes.clone();
        let _counted = (!is_lasting(&attributes)).then(|| self.metrics.begin(attributes.is_read_only()));
        let outcome = {
            // It is large, and stays where it is made: who waits for it has a pointer.
            let work = std::pin::pin!(self.checked(incoming, &attributes, connection, &mut answered));
            let work = AssertUnwindSafe(work).catch_unwind();
            match is_lasting(&attributes) {
                true => work.await,
                false => match tokio::time::timeout(DEADLINE, work).await {
                    Ok(outcome) => outcome,
                    Err(_) => Ok(Err(Status::timeout(
                        "request did not complete within the allotted timeout",
                        0,
                    ))),
                },
            }
        };
        let mut response = match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => refusal(&status),
            Err(_) => {
                tracing::error!(path = attributes.path, "the handler of a request panicked");
                if let Some(trail) = answered.trail.as_mut() {
                    trail.panicked();
                }
                body::refusal(&Status::internal(
                    "an error on the server has prevented the request from succeeding",
                ))
            }
        };
        if answered.barred {
            body::not_to_be_guessed(&mut response);
        }
        if without_body {
            *response.body_mut() = body::full(bytes::Bytes::new());
        }
        body::warn(&mut response, &notes.warnings());
        if let Some(mut trail) = answered.trail.take() {
            trail.about(notes.object());
            response = finish(trail, response, &attributes, &notes).await;
        }
        let headers = response.headers_mut();
        if let Some(flow) = &answered.flow {
            flow.tell(headers);
        }
        // It never comes again: a place in the connection's table of headers would be wasted, and looked for dearly.
        let mut id = id;
        id.set_sensitive(true);
        headers.insert(HeaderName::from_static("audit-id"), id);
        if !headers.contains_key(http::header::CACHE_CONTROL) {
            headers.insert(
                http::header::CACHE_CONTROL,
                HeaderValue::from_static("no-cache, private"),
            );
        }
        if let Some(executing) = &answered.executing {
            // Evictions are refused by budgets, and not for want of a place.
            let refused =
                response.status() == StatusCode::TOO_MANY_REQUESTS && attributes.subresource != "eviction";
            executing.end(refused, attributes.verb == "watch", started.elapsed());
        }
        self.metrics
            .record(&line, &attributes, response.status().as_u16(), started.elapsed());
        tracing::debug!(
            verb = attributes.verb,
            path = attributes.path,
            user = answered.user,
            code = response.status().as_u16(),
            ms = started.elapsed().as_millis() as u64,
            "request"
        );
        response
    }

    /// Authentication, bounds, authorization; then the handler.
    async fn checked(
        self: &Arc<Self>,
        mut incoming: Incoming,
        attributes: &Arc<Attributes>,
        connection: &Connection,
        answered: &mut Answered,
    ) -> Result<Response, Status> {
        if incoming
            .head
            .uri
            .path_and_query()
            .is_some_and(|p| p.as_str().len() > MAX_URI)
        {
            let mut status = Status::request_entity_too_large("the request URI is too long");
            status.code = 414;
            return Err(status);
        }
        let user = match &connection.local_user {
            Some(user) => user.clone(),
            None => {
                let authenticator = &self.access.authenticator;
                let notes = &answered.notes;
                match authenticator
                    .authenticate(&incoming.head, connection, notes)
                    .await
                {
                    Ok(user) => {
                        self.told_who(&user, connection);
                        user
                    }
                    Err(status) => {
                        self.metrics.asked.authenticated(None);
                        // Attempts are kept, too, as nobody's.
                        if let Some(audit) = &self.audit {
                            let (nobody, head) = (User::new("", &[]), &incoming.head);
                            let (id, at) = (&answered.id, answered.received);
                            answered.trail = audit.begin(attributes, &nobody, head, connection, id, at).await;
                        }
                        return Err(status);
                    }
                }
            }
        };
        crate::authn::hide_bearer_protocol(&mut incoming.head.headers);
        if let Some(audit) = &self.audit {
            answered.trail = audit
                .begin(
                    attributes,
                    &user,
                    &incoming.head,
                    connection,
                    &answered.id,
                    answered.received,
                )
                .await;
        }
        let speaks_for = impersonate(user.clone(), &incoming.head.headers, &*self.access.authorizer).await;
        answered.barred = speaks_for.is_err();
        let speaks_for = speaks_for?;
        if let Some(trail) = answered.trail.as_mut().filter(|_| speaks_for != user) {
            trail.impersonated(&speaks_for);
        }
        let user = speaks_for;
        answered.user = user.name.clone();
        // What lasts holds no place in a queue but while a watch begins, and a wrong deadline is refused before there are any.
        let brief = !is_lasting(attributes) && timeout(incoming.query()).is_ok();
        let queued = attributes.verb == "watch" || brief;
        if connection.local_user.is_none() && queued {
            answered.flow = self.flows.of(&*self.caches, &user, attributes);
        }
        answered.executing = answered
            .flow
            .as_ref()
            .and_then(|flow| self.metrics.flows.begin(flow.names()));
        let decision = self.access.authorizer.authorize(&user, attributes).await;
        self.metrics.asked.decided(match &decision {
            Decision::Allow(_) => Verdict::Allowed,
            Decision::Deny(_) => Verdict::Denied,
            Decision::NoOpinion(_) => Verdict::NoOpinion,
        });
        let (word, why) = match &decision {
            Decision::Allow(why) => ("allow", why),
            Decision::Deny(why) | Decision::NoOpinion(why) => ("forbid", why),
        };
        if answered.trail.is_some() {
            answered.notes.annotate("authorization.k8s.io/decision", word);
            answered
                .notes
                .annotate("authorization.k8s.io/reason", why.as_str());
        }
        answered.barred = !decision.is_allowed();
        allowed(&user, attributes, decision)?;
        // To Go's router that is another path.
        if attributes.path.starts_with("//") {
            return Ok(body::text(StatusCode::NOT_FOUND, "404 page not found\n"));
        }
        let mut body = std::mem::replace(&mut incoming.body, body::full(bytes::Bytes::new()));
        if let Some(trail) = answered.trail.as_mut().filter(|t| t.wants_request())
            && attributes.is_resource
            && !attributes.is_read_only()
            && !is_lasting(attributes)
        {
            let bytes = crate::wire::input::read(body).await?;
            if let Some(value) = crate::wire::input::told(&incoming.head.headers, &bytes) {
                trail.request(value);
            }
            body = body::full(bytes);
        }
        let taken = Incoming { body, ..incoming };
        let taken = match crate::aggregation::answer(self, taken, attributes, &user).await {
            Ok(answered) => return answered,
            Err(taken) => taken,
        };
        if attributes.is_resource {
            return self
                .resource(taken, attributes, user, answered.notes.clone())
                .await;
        }
        timeout(taken.query())?;
        let _ticket = match user.is_in(crate::user::GROUP_MASTERS) {
            true => self.limits.free(),
            false => self.limits.request(&user.name).await?,
        };
        discovery::route(self, &taken.head, &attributes.path).await
    }

    /// Counts whose credentials came.
    fn told_who(&self, user: &User, connection: &Connection) {
        // Who shows nothing has attempted nothing.
        if user.name != User::anonymous().name {
            self.metrics.asked.authenticated(Some(&user.name));
        }
        let known = connection.certificate_user.get().and_then(Option::as_ref);
        if known == Some(user)
            && let Some(end) = connection.certificate_end()
        {
            let left = end - jiff::Timestamp::now().as_second();
            self.metrics.asked.certificate(left as f64);
        }
    }

    /// Refuses what the authorizer does not allow, worded as upstream.
    pub async fn authorized(&self, user: &User, attributes: &Attributes) -> Result<(), Status> {
        let decision = self.access.authorizer.authorize(user, attributes).await;
        allowed(user, attributes, decision)
    }

    /// Answers a request on a resource.
    async fn resource(
        self: &Arc<Self>,
        mut incoming: Incoming,
        attributes: &Arc<Attributes>,
        user: User,
        notes: Arc<Notes>,
    ) -> Result<Response, Status> {
        let registry = self.registry.load_full();
        let served = registry.find(&attributes.group, &attributes.version, &attributes.resource);
        let Some(served) = served else {
            let known = |kind: &kinds::KindInfo| kind.group == attributes.group;
            // What is in none of the groups that are built in is no resource, but just a path.
            return match kinds::builtin().iter().any(known) {
                true => Err(Status::no_resource()),
                false => Ok(body::text(StatusCode::NOT_FOUND, "404 page not found\n")),
            };
        };
        // Only proxies know of HEAD.
        let head = incoming.head.method == http::Method::HEAD;
        if head && served.custom.is_none() && attributes.subresource != "proxy" {
            return Err(Status::method_not_allowed());
        }
        // Below `/watch/` things can only be looked at.
        if attributes.verb == "watch" && incoming.head.method != Method::GET {
            return Err(Status::method_not_allowed());
        }
        let connects = matches!(
            attributes.subresource.as_str(),
            "log" | "exec" | "attach" | "portforward" | "proxy"
        );
        let wished = match is_lasting(attributes) {
            true => Ok(None),
            false => timeout(incoming.query()),
        };
        let longest = wished.as_ref().ok().copied().flatten();
        let deadline = Instant::now() + longest.map_or(rest::LONGEST, |wished| wished.min(rest::LONGEST));
        let ctx = Ctx {
            server: self.clone(),
            query: incoming.query().to_string(),
            // Only subresources look at the request itself once more.
            headers: match attributes.subresource.is_empty() {
                true => std::mem::take(&mut incoming.head.headers),
                false => incoming.head.headers.clone(),
            },
            attributes: attributes.clone(),
            user,
            served,
            notes,
            deadline,
        };
        wished?;
        if !is_in_its_place(&ctx) && ctx.served.custom.is_none() {
            return Err(Status::no_resource());
        }
        if !is_in_its_place(&ctx) {
            return Ok(body::text(StatusCode::NOT_FOUND, "404 page not found\n"));
        }
        segments(attributes)?;
        if ctx.served.custom.is_none() {
            is_routed(&ctx)?;
        }
        tell_of_deprecation(&ctx);
        // There is a path for lists, but nothing behind it to watch.
        let verbs = ctx.served.kind.verbs;
        if attributes.verb == "watch" && verbs.contains(&"list") && !verbs.contains(&"watch") {
            let kind = ctx.served.kind;
            return Err(Status::method_not_supported(kind.plural, kind.group, "watch"));
        }
        // What is only ever made has no paths of its objects: reviews, bindings.
        let read = matches!(attributes.verb.as_str(), "list" | "watch" | "deletecollection");
        if ctx.served.kind.verbs == ["create"]
            && !attributes.name.is_empty()
            && attributes.subresource.is_empty()
            && !read
        {
            return Err(Status::no_resource());
        }
        if attributes.name.is_empty() && matches!(attributes.verb.as_str(), "update" | "patch") {
            return Err(match ctx.served.custom {
                Some(_) => rest::patch::nameless(&ctx),
                None => Status::method_not_allowed(),
            });
        }
        // Across all namespaces things are looked at, never made or removed.
        if ctx.served.kind.namespaced
            && attributes.namespace.is_empty()
            && matches!(attributes.verb.as_str(), "create" | "deletecollection")
            && !subresources::is_review(ctx.served.kind)
        {
            return Err(Status::method_not_allowed());
        }
        if !attributes.subresource.is_empty() {
            subresources::known(&ctx, &incoming.head.method)?;
        }
        // As upstream's router, which looks at what a client takes last of all.
        if ctx.served.custom.is_none() && !connects {
            if attributes.verb == "create" && !attributes.name.is_empty() && attributes.subresource.is_empty()
            {
                return Err(Status::method_not_allowed());
            }
            if attributes.verb == "patch" {
                rest::patch::routed(&ctx.headers)?;
            }
            let streams = matches!(attributes.verb.as_str(), "list" | "watch");
            negotiate::producible(&ctx.headers, streams)?;
        }
        if !attributes.subresource.is_empty() {
            let _ticket = match is_lasting(attributes) {
                true => self.limits.free(),
                false => self.place(&ctx).await?,
            };
            return subresources::dispatch(&ctx, incoming).await;
        }
        if crate::registry::is_virtual(ctx.served.kind) {
            return crate::pod_metrics::answer(&ctx, incoming).await;
        }
        if ctx.served.kind.kind == "ComponentStatus" && matches!(attributes.verb.as_str(), "get" | "list") {
            return rest::components::answer(&ctx).await;
        }
        if subresources::is_review(ctx.served.kind) {
            return subresources::review(&ctx, incoming.body).await;
        }
        if !ctx.served.has_verb(&attributes.verb) {
            return Err(not_supported(&ctx, &attributes.verb));
        }
        if attributes.verb == "watch" {
            let ticket = self.limits.watch(&ctx.user.name)?;
            return rest::watch::watch(&ctx, ticket, incoming.upgrade).await;
        }
        if attributes.verb == "list" {
            let places = self.limits.list(&ctx.user.name).await?;
            let response = rest::list::list(&ctx).await?;
            return Ok(body::hold(response, places));
        }
        let _ticket = self.place(&ctx).await?;
        match attributes.verb.as_str() {
            "get" => rest::get::get(&ctx).await,
            // What is custom is routed by its kind alone: its name is the one in the body.
            "create" => rest::create::create(&ctx, incoming.body).await,
            "update" => rest::update::update(&ctx, incoming.body, None).await,
            "patch" => rest::patch::patch(&ctx, incoming.body, None).await,
            "delete" => rest::delete::delete(&ctx, incoming.body).await,
            "deletecollection" => rest::deletecollection::delete_collection(&ctx, incoming.body).await,
            verb => Err(not_supported(&ctx, verb)),
        }
    }

    async fn place(&self, ctx: &Ctx) -> Result<crate::limits::Ticket, Status> {
        self.limits.request(&ctx.user.name).await
    }

    /// Whether a path belongs to the routes beside Kubernetes'.
    fn is_foreign(&self, path: &str) -> bool {
        const OURS: [&str; 11] = [
            "/api",
            "/apis",
            "/healthz",
            "/livez",
            "/readyz",
            "/version",
            "/metrics",
            "/openapi",
            "/openid",
            "/.well-known",
            "/podvisor/backup",
        ];
        let own = OURS.iter().any(|p| {
            path.strip_prefix(p)
                .is_some_and(|r| r.is_empty() || r.starts_with('/'))
        });
        self.extra.is_some() && !own
    }

    /// Answers what belongs to those routes. A path that they do not know either comes back, without its body: who
    /// asks for it learns who he is and what he may first, as for every other path.
    async fn foreign(&self, incoming: Incoming) -> Result<Response, Incoming> {
        use tower::ServiceExt;
        let Some(router) = self.extra.clone() else {
            return Err(incoming);
        };
        let unknown = incoming.head.clone();
        let mut head = incoming.head;
        if let Some(upgrade) = incoming.upgrade {
            head.extensions.insert(upgrade);
        }
        let request = http::Request::from_parts(head, axum::body::Body::new(incoming.body));
        match router.oneshot(request).await {
            Ok(response)
                if response.status() == StatusCode::NOT_FOUND
                    && !response.headers().contains_key(http::header::CONTENT_TYPE) =>
            {
                Err(Incoming {
                    head: unknown,
                    body: body::full(bytes::Bytes::new()),
                    upgrade: None,
                })
            }
            Ok(response) => Ok(response.map(body::adopt)),
            Err(never) => match never {},
        }
    }
}

/// Refuses paths of built-in kinds that upstream's router does not know, before anything is said of them.
fn is_routed(ctx: &Ctx) -> Result<(), Status> {
    let a = &ctx.attributes;
    let kind = ctx.served.kind;
    if !a.rest.is_empty() && a.subresource != "proxy" {
        return Err(Status::no_resource());
    }
    let parts = a
        .path
        .trim_matches('/')
        .split('/')
        .skip(if a.group.is_empty() { 2 } else { 3 });
    let parts: Vec<&str> = parts.collect();
    if let ["watch", below @ ..] = parts.as_slice() {
        let named = kind.namespaced && a.namespace.is_empty() && below.len() > 1;
        return match named || !kind.verbs.contains(&"watch") {
            true => Err(Status::no_resource()),
            false => Ok(()),
        };
    }
    let unknown = a.subresource.is_empty() && a.verb != "watch" && !kind.verbs.contains(&a.verb.as_str());
    match unknown && kind.verbs.contains(&"list") {
        true => Err(Status::method_not_allowed()),
        false => Ok(()),
    }
}

/// The refusal of a verb: custom resources tell what they are.
pub(crate) fn not_supported(ctx: &Ctx, verb: &str) -> Status {
    let kind = ctx.served.kind;
    match ctx.served.custom.is_some() {
        true => Status::method_not_supported(kind.plural, kind.group, verb),
        false => Status::method_not_allowed(),
    }
}

/// Says that what is asked for is deprecated: to the client, in the audit log, and to whoever looks at the metrics.
fn tell_of_deprecation(ctx: &Ctx) {
    let a = &ctx.attributes;
    let warning = match (a.group.as_str(), a.resource.as_str(), &ctx.served.custom) {
        (.., Some(custom)) => custom.deprecation(),
        ("", "endpoints", _) => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "componentstatuses", _) => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    };
    if let Some(warning) = warning {
        ctx.notes.warn(warning);
        ctx.notes.annotate("k8s.io/deprecated", "true");
        ctx.server.metrics.deprecated(a);
    }
}

/// What a decision means for a request.
fn allowed(user: &User, attributes: &Attributes, decision: Decision) -> Result<(), Status> {
    match decision {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(user, attributes, &reason)),
    }
}

/// What is known of a request once it is answered, for the logs.
struct Answered {
    id: String,
    received: jiff::Timestamp,
    user: String,
    notes: Arc<Notes>,
    trail: Option<Trail>,
    flow: Option<crate::flow::Flow>,
    executing: Option<Executing>,
    /// The authorizer did not let it pass.
    barred: bool,
}

/// Bytes of an answer that the audit log takes in at most.
const AUDITED: u64 = 4 << 20;

/// Ends the trail of a request in the audit log; hands the answer back.
async fn finish(mut trail: Trail, response: Response, attributes: &Attributes, notes: &Notes) -> Response {
    let (code, lasting) = (response.status().as_u16(), is_lasting(attributes));
    let (head, mut answer) = response.into_parts();
    let exact = http_body::Body::size_hint(&answer).exact();
    let wanted = trail.wants_response() || code >= 400 || may_be_told(attributes);
    let mut status = None;
    if wanted && !lasting && exact.is_some_and(|size| size <= AUDITED) {
        let bytes = match http_body_util::BodyExt::collect(answer).await {
            Ok(collected) => collected.to_bytes(),
            // A complete body has no way to fail.
            Err(_) => bytes::Bytes::new(),
        };
        if let Ok(input) = crate::wire::input::decode(&head.headers, &bytes) {
            if input.value["kind"] == "Status" {
                status = Some(input.value.clone());
            }
            if trail.wants_response() {
                trail.response(input.value);
            }
        }
        answer = body::full(bytes);
    }
    let closing = trail
        .finish(code, status.as_ref(), lasting, notes.annotations())
        .await;
    let response = http::Response::from_parts(head, answer);
    match closing {
        Some(closing) => body::hold(response, closing),
        None => response,
    }
}

/// Whether success may be told by a Status.
fn may_be_told(a: &Attributes) -> bool {
    let made = a.verb == "create" && matches!(a.subresource.as_str(), "binding" | "eviction");
    a.is_resource && (made || a.verb == "delete" || a.resource == "bindings")
}

fn request_id(head: &http::request::Parts) -> HeaderValue {
    let given = head.headers.get("audit-id").filter(|v| v.len() <= 64);
    given.cloned().unwrap_or_else(|| {
        // A UUID is always a header value.
        HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).unwrap_or(HeaderValue::from_static("-"))
    })
}

/// Whether the path is one that the resource has. What lies in no namespace must not be had by a path through one:
/// rights in that namespace would then reach beyond it (CVE-2019-11247).
fn is_in_its_place(ctx: &Ctx) -> bool {
    let a = &ctx.attributes;
    if ctx.served.kind.namespaced {
        // Custom ones have no path across namespaces but to be looked at.
        let listed = a.name.is_empty() && ctx.served.custom.is_none();
        return listed || !a.namespace.is_empty() || matches!(a.verb.as_str(), "list" | "watch");
    }
    let is_namespace = a.group.is_empty() && a.resource == "namespaces";
    a.namespace.is_empty() || (is_namespace && a.namespace == a.name)
}

/// Refuses names that would mean another place in a path (CVE-2022-3162), in upstream's words.
fn segments(a: &Attributes) -> Result<(), Status> {
    // The name of a list comes from a selector and is only ever compared.
    let name = if matches!(a.verb.as_str(), "list" | "watch") {
        ""
    } else {
        &a.name
    };
    for (what, text) in [("Namespace", a.namespace.as_str()), ("Name", name)] {
        let why = match text {
            "." | ".." => format!("may not be '{text}'"),
            _ => match text.chars().find(|c| matches!(c, '/' | '%')) {
                Some(c) => format!("may not contain '{c}'"),
                None => continue,
            },
        };
        return Err(Status::bad_request(format!(
            "{what} parameter invalid: {text:?}: {why}"
        )));
    }
    Ok(())
}

/// Reads `timeout`, and refuses one that is no span of time as Go writes them. None is as good as one of nothing.
fn timeout(query: &str) -> Result<Option<Duration>, Status> {
    let given = crate::request::parameter(query, "timeout");
    let Some(text) = given.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let refuse = |why: String| {
        let told = format!("invalid timeout specified in the request URL - time: {why} duration {text:?}");
        Err(Status::bad_request(told))
    };
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(&text);
    if rest == "0" {
        return Ok(None);
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return refuse("invalid".into());
    }
    while !rest.is_empty() {
        let digits = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let (number, after) = rest.split_at(digits);
        let Ok(number) = number.parse::<f64>() else {
            return refuse("invalid".into());
        };
        let Some((unit, length)) = UNITS.iter().find(|(unit, _)| after.starts_with(unit)) else {
            return refuse(if after.is_empty() {
                "missing unit in".into()
            } else {
                "unknown unit in".into()
            });
        };
        seconds += number * length;
        rest = &after[unit.len()..];
    }
    let positive = !text.starts_with('-') && seconds > 0.0;
    Ok(positive.then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
}

/// Units of spans of time, in seconds.
const UNITS: [(&str, f64); 7] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// Requests that may last: watches, streams and what is passed on.
fn is_lasting(attributes: &Attributes) -> bool {
    attributes.verb == "watch"
        || matches!(
            attributes.subresource.as_str(),
            "log" | "exec" | "attach" | "portforward" | "proxy"
        )
}
