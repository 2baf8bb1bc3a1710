//! The operations of a kind, before they are written as v2 or v3.
//!
//! Names of operations, their order of parameters and `x-kubernetes-action` are upstream's: client generators and
//! kubectl look at them.

use kinds::{KindInfo, Subresource};

use super::definitions::list_definition;
use super::parameters::{
    DELETE, LIST, LOG, PATCH, PRETTY, Parameter, STREAMS, WRITE, path, query, take_shared,
};
use super::texts;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// What a request carries.
#[derive(Debug, Clone)]
pub(super) enum Body {
    None,
    /// An object of this definition.
    Object {
        definition: String,
        required: bool,
    },
    /// A patch in any of the patch types; strategic merge included for built-in kinds.
    Patch,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// An object of this definition; `stream` says that it can be watched.
    Object { definition: String, stream: bool },
    /// Plain text, or an error in the encodings of objects.
    Log,
    /// A stream that is taken over.
    Text,
}

/// One operation.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// The method, in small letters.
    pub method: &'static str,
    /// `x-kubernetes-action`.
    pub action: &'static str,
    /// What it does, in a line.
    pub description: String,
    pub id: String,
    pub tag: String,
    /// Group, version, kind of the body.
    pub gvk: (&'static str, &'static str, &'static str),
    pub parameters: Vec<Parameter>,
    pub body: Body,
    pub answer: Answer,
    /// Codes of success.
    pub codes: &'static [&'static str],
    /// Of a kind that is not built in: without strategic merge, and without protobuf. kubectl takes the first from here.
    pub custom: bool,
}

impl Operation {
    /// Definitions the operation speaks of.
    pub(super) fn definitions(&self) -> Vec<String> {
        let mut names = Vec::new();
        match &self.body {
            Body::Object { definition, .. } => names.push(definition.clone()),
            Body::Patch => names.push(format!("{META}.Patch")),
            Body::None => {}
        }
        if let Answer::Object { definition, .. } = &self.answer {
            names.push(definition.clone());
        }
        names
    }
}

/// All operations of one path.
#[derive(Debug, Clone, Default)]
pub(super) struct PathItem {
    pub operations: Vec<Operation>,
    /// Parameters that all operations share.
    pub parameters: Vec<Parameter>,
}

/// Kinds whose deletion answers the object instead of a Status.
const ANSWERS_DELETED: &[&str] = &[
    "CSIDriver",
    "CSINode",
    "DeviceClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodTemplate",
    "ResourceClaim",
    "ResourceClaimTemplate",
    "ResourceQuota",
    "ResourceSlice",
    "Service",
    "ServiceAccount",
    "StorageClass",
    "VolumeAttachment",
    "VolumeAttributesClass",
];

/// The paths of a kind, with their operations.
pub(super) fn paths_of(kind: &'static KindInfo) -> Vec<(String, PathItem)> {
    let base = match kind.group {
        "" => format!("/api/{}", kind.version),
        group => format!("/apis/{group}/{}", kind.version),
    };
    let collection = match kind.namespaced {
        true => format!("{base}/namespaces/{{namespace}}/{}", kind.plural),
        false => format!("{base}/{}", kind.plural),
    };
    let maker = Maker::new(kind);
    let mut paths = vec![
        (collection.clone(), maker.collection()),
        (format!("{collection}/{{name}}"), maker.item()),
    ];
    if kind.namespaced && kind.has_verb("list") {
        paths.push((format!("{base}/{}", kind.plural), vec![maker.list_all()]));
    }
    if kind.has_verb("watch") && !maker.custom {
        let watched = collection.replacen(&base, &format!("{base}/watch"), 1);
        let mut list = maker.watch("watchlist", &format!("{}List", maker.name()));
        if kind.namespaced {
            let what = format!("{}ListForAllNamespaces", kind.kind);
            let all = maker.watch("watchlist", &what);
            paths.push((format!("{base}/watch/{}", kind.plural), vec![all]));
        }
        maker.place(&mut list, false);
        paths.push((watched.clone(), vec![list]));
        let mut one = maker.watch("watch", &maker.name());
        maker.place(&mut one, true);
        paths.push((format!("{watched}/{{name}}"), vec![one]));
    }
    for below in kind.subresources {
        let address = format!("{collection}/{{name}}/{}", below.name);
        paths.push((address.clone(), maker.subresource(below, "")));
        if below.name == "proxy" {
            let mut operations = maker.subresource(below, "WithPath");
            for operation in &mut operations {
                operation.parameters.push(path("path"));
            }
            paths.push((format!("{address}/{{path}}"), operations));
        }
    }
    paths.retain(|(_, operations)| !operations.is_empty());
    let item = |mut operations: Vec<Operation>| PathItem {
        parameters: take_shared(&mut operations),
        operations,
    };
    paths
        .into_iter()
        .map(|(path, operations)| (path, item(operations)))
        .collect()
}

/// Whether a kind is known by its CustomResourceDefinition only.
pub(super) fn is_custom(kind: &KindInfo) -> bool {
    kinds::schema::builtin().definition(kind.schema).is_none()
}

/// Makes the operations of one kind.
struct Maker {
    kind: &'static KindInfo,
    /// `CoreV1`
    group: String,
    /// `core_v1`
    tag: String,
    /// `Namespaced` or nothing.
    scope: &'static str,
    custom: bool,
}

impl Maker {
    fn new(kind: &'static KindInfo) -> Self {
        let (title, lower) = group_words(kind.group);
        Self {
            kind,
            group: format!("{title}{}", capital(kind.version)),
            tag: format!("{lower}_{}", kind.version),
            scope: if kind.namespaced { "Namespaced" } else { "" },
            custom: is_custom(kind),
        }
    }

    fn operation(&self, method: &'static str, action: &'static str, verb: &str, what: &str) -> Operation {
        Operation {
            method,
            action,
            description: texts::operation(action, method, self.kind.kind, "", self.custom),
            id: format!("{verb}{}{what}", self.group),
            tag: self.tag.clone(),
            gvk: (self.kind.group, self.kind.version, self.kind.kind),
            parameters: Vec::new(),
            body: Body::None,
            answer: self.own(),
            codes: &["200"],
            custom: self.custom,
        }
    }

    fn own(&self) -> Answer {
        Answer::Object {
            definition: self.kind.schema.to_owned(),
            stream: false,
        }
    }

    fn body(&self) -> Body {
        Body::Object {
            definition: self.kind.schema.to_owned(),
            required: true,
        }
    }

    fn name(&self) -> String {
        format!("{}{}", self.scope, self.kind.kind)
    }

    /// Adds what the path of an operation names.
    fn place(&self, operation: &mut Operation, named: bool) {
        if self.kind.namespaced {
            operation.parameters.push(path("namespace"));
        }
        if named {
            operation.parameters.push(Parameter {
                kind: operation.gvk.2,
                ..path("name")
            });
        }
    }

    fn list(&self, what: &str) -> Operation {
        Operation {
            parameters: LIST.to_vec(),
            answer: Answer::Object {
                definition: list_definition(self.kind),
                stream: !self.custom,
            },
            ..self.operation("get", "list", "list", what)
        }
    }

    fn list_all(&self) -> Operation {
        self.list(&format!("{}ForAllNamespaces", self.kind.kind))
    }

    /// Below `/watch/`, as old clients ask.
    fn watch(&self, action: &'static str, what: &str) -> Operation {
        Operation {
            parameters: LIST.to_vec(),
            answer: Answer::Object {
                definition: format!("{META}.WatchEvent"),
                stream: true,
            },
            ..self.operation("get", action, "watch", what)
        }
    }

    fn collection(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        let name = self.name();
        if self.kind.has_verb("list") {
            operations.push(self.list(&name));
        }
        if self.kind.has_verb("create") {
            operations.push(self.post(&name));
        }
        if self.kind.has_verb("deletecollection") {
            operations.push(self.delete_collection(&format!("Collection{name}")));
        }
        for operation in &mut operations {
            self.place(operation, false);
        }
        operations
    }

    fn post(&self, what: &str) -> Operation {
        Operation {
            parameters: WRITE.to_vec(),
            body: self.body(),
            codes: &["200", "201", "202"],
            ..self.operation("post", "post", "create", what)
        }
    }

    /// Of custom kinds upstream tells less than they take.
    fn delete_collection(&self, what: &str) -> Operation {
        let mut parameters = LIST.to_vec();
        if !self.custom {
            parameters.retain(|p| !matches!(p.name, "allowWatchBookmarks" | "watch" | "pretty"));
            parameters.extend_from_slice(DELETE);
        }
        Operation {
            parameters,
            body: if self.custom { Body::None } else { delete_options() },
            answer: status(),
            ..self.operation("delete", "deletecollection", "delete", what)
        }
    }

    fn item(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        let name = self.name();
        if self.kind.has_verb("get") {
            operations.push(self.get(&name));
        }
        if self.kind.has_verb("update") {
            operations.push(self.put(&name));
        }
        if self.kind.has_verb("delete") {
            operations.push(Operation {
                parameters: DELETE.to_vec(),
                body: delete_options(),
                answer: if ANSWERS_DELETED.contains(&self.kind.kind) {
                    self.own()
                } else {
                    status()
                },
                codes: &["200", "202"],
                ..self.operation("delete", "delete", "delete", &name)
            });
        }
        if self.kind.has_verb("patch") {
            operations.push(self.patch(&name));
        }
        for operation in &mut operations {
            self.place(operation, true);
        }
        operations
    }

    fn get(&self, what: &str) -> Operation {
        let mut parameters = vec![PRETTY];
        if self.custom {
            parameters.push(query("resourceVersion", "string"));
        }
        Operation {
            parameters,
            ..self.operation("get", "get", "read", what)
        }
    }

    fn put(&self, what: &str) -> Operation {
        Operation {
            parameters: WRITE.to_vec(),
            body: self.body(),
            codes: &["200", "201"],
            ..self.operation("put", "put", "replace", what)
        }
    }

    fn patch(&self, what: &str) -> Operation {
        Operation {
            parameters: PATCH.to_vec(),
            body: Body::Patch,
            codes: if self.custom { &["200"] } else { &["200", "201"] },
            ..self.operation("patch", "patch", "patch", what)
        }
    }

    /// Operations on something below an object.
    fn subresource(&self, below: &'static Subresource, suffix: &str) -> Vec<Operation> {
        let what = format!("{}{}{suffix}", self.name(), capital(below.name));
        let connect = below.kind.ends_with("Options");
        let mut operations: Vec<Operation> = below
            .verbs
            .iter()
            .filter_map(|verb| match (*verb, connect) {
                ("get", true) => Some(self.connect("get", &what, below)),
                ("create", true) => Some(self.connect("post", &what, below)),
                ("update", true) => Some(self.connect("put", &what, below)),
                ("delete", true) => Some(self.connect("delete", &what, below)),
                ("patch", true) => Some(self.connect("patch", &what, below)),
                ("get", false) => Some(self.get(&what)),
                ("update", false) => Some(self.put(&what)),
                ("patch", false) => Some(self.patch(&what)),
                ("create", false) => Some(self.post(&what)),
                _ => None,
            })
            .collect();
        if below.name == "proxy" {
            operations.extend(["head", "options"].map(|method| self.connect(method, &what, below)));
        }
        for operation in &mut operations {
            let (action, method) = (operation.action, operation.method);
            operation.description = texts::operation(action, method, self.kind.kind, below.name, self.custom);
            if below.name == "log" {
                operation.answer = Answer::Log;
                operation.parameters = LOG.to_vec();
            }
            if !connect && !below.kind.is_empty() {
                retarget(operation, below);
            }
            self.place(operation, true);
        }
        operations
    }

    /// An operation whose connection is handed on.
    fn connect(&self, method: &'static str, what: &str, below: &'static Subresource) -> Operation {
        let parameters = match below.name {
            "exec" => STREAMS.to_vec(),
            "attach" => STREAMS[1..].to_vec(),
            "portforward" => vec![query("ports", "integer")],
            // The `path` of `…/proxy/{path}` is another parameter: this one is in the query.
            _ => vec![query("path", "string")],
        };
        Operation {
            parameters,
            answer: Answer::Text,
            gvk: (below.group, below.version, below.kind),
            ..self.operation(
                method,
                "connect",
                "connect",
                &format!("{}{what}", capital(method)),
            )
        }
    }
}

/// Gives an operation the body and answer of a subresource with a kind of its own.
fn retarget(operation: &mut Operation, below: &'static Subresource) {
    let definition = kinds::find_kind(below.group, below.version, below.kind)
        .map_or_else(|| guess_definition(below), |kind| kind.schema.to_owned());
    operation.gvk = (below.group, below.version, below.kind);
    operation.answer = Answer::Object {
        definition: definition.clone(),
        stream: false,
    };
    if let Body::Object { definition: body, .. } = &mut operation.body {
        *body = definition;
    }
}

/// Bodies that are no resource of their own, such as Scale, all live in `io.k8s.api`.
fn guess_definition(below: &Subresource) -> String {
    let group = match below.group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    format!("io.k8s.api.{group}.{}.{}", below.version, below.kind)
}

fn delete_options() -> Body {
    Body::Object {
        definition: format!("{META}.DeleteOptions"),
        required: false,
    }
}

fn status() -> Answer {
    Answer::Object {
        definition: format!("{META}.Status"),
        stream: false,
    }
}

/// `rbac.authorization.k8s.io` as `RbacAuthorization` and `rbacAuthorization`.
pub(super) fn group_words(group: &str) -> (String, String) {
    if group.is_empty() {
        return ("Core".to_owned(), "core".to_owned());
    }
    let title: String = group
        .trim_end_matches(".k8s.io")
        .split(['.', '-'])
        .map(capital)
        .collect();
    let mut chars = title.chars();
    let lower = chars
        .next()
        .map(|c| c.to_lowercase().chain(chars).collect())
        .unwrap_or_default();
    (title, lower)
}

pub(super) fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|c| c.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
