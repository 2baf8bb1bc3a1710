//! Paths that are about no kind: which groups, versions and resources there are, the version, and how tokens are verified.

use kinds::KindInfo;
use serde_json::{Value, json};

use super::operations::{group_words, is_custom};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const JSON: &str = "application/json";
const ENCODINGS: &[&str] = &[JSON, "application/yaml", "application/vnd.kubernetes.protobuf"];

/// One such path, which can only be read.
pub(super) struct Root {
    /// The document of v3 that tells it.
    pub document: String,
    /// The path.
    pub path: String,
    id: String,
    tag: String,
    description: &'static str,
    /// The definition of the answer; none of plain text.
    pub definition: Option<String>,
    produces: &'static [&'static str],
    consumes: &'static [&'static str],
}

impl Root {
    fn listing(document: &str, id: String, tag: String, definition: &str) -> Root {
        Root {
            document: document.to_owned(),
            path: format!("/{document}/"),
            id,
            tag,
            description: match definition {
                "APIResourceList" => "get available resources",
                "APIGroup" => "get information of a group",
                _ => "get available API versions",
            },
            definition: Some(format!("{META}.{definition}")),
            produces: ENCODINGS,
            consumes: ENCODINGS,
        }
    }

    fn text(document: &str, id: &str, tag: &str, produces: &'static [&'static str]) -> Root {
        Root {
            document: document.to_owned(),
            path: format!("/{document}/"),
            id: id.to_owned(),
            tag: tag.to_owned(),
            description: match tag {
                "version" => "get the version information for this server",
                "openid" => {
                    "get the keys by which tokens of service accounts are verified, as a JSON Web Key Set"
                }
                _ => "get the OpenID configuration of the issuer of service account tokens",
            },
            definition: None,
            produces,
            consumes: &[],
        }
    }

    /// The path item of a v2 document.
    pub fn v2(&self) -> Value {
        let schema = match &self.definition {
            Some(name) => json!({"$ref": format!("#/definitions/{name}")}),
            None => json!({"type": "string"}),
        };
        let mut get = json!({
            "description": self.description,
            "operationId": self.id,
            "produces": self.produces,
            "responses": {"200": {"description": "OK", "schema": schema}, "401": {"description": "Unauthorized"}},
            "schemes": ["https"],
            "tags": [self.tag],
        });
        if !self.consumes.is_empty() {
            get["consumes"] = json!(self.consumes);
        }
        json!({"get": get})
    }

    /// The path item of a v3 document.
    pub fn v3(&self) -> Value {
        let schema = match &self.definition {
            Some(name) => json!({"$ref": format!("#/components/schemas/{name}")}),
            None => json!({"type": "string"}),
        };
        let mut content = json!({});
        for media in self.produces {
            content[media] = json!({"schema": schema});
        }
        json!({"get": {
            "description": self.description,
            "operationId": self.id,
            "responses": {"200": {"content": content, "description": "OK"}, "401": {"description": "Unauthorized"}},
            "tags": [self.tag],
        }})
    }
}

/// All of them, for these kinds. Groups of custom kinds are not told.
pub(super) fn all(kinds: &[&'static KindInfo]) -> Vec<Root> {
    let mut roots = vec![
        Root::listing("api", "getCoreAPIVersions".into(), "core".into(), "APIVersions"),
        Root::listing("apis", "getAPIVersions".into(), "apis".into(), "APIGroupList"),
        Root {
            definition: Some("io.k8s.apimachinery.pkg.version.Info".to_owned()),
            consumes: &[JSON],
            ..Root::text("version", "getCodeVersion", "version", &[JSON])
        },
        Root::text(
            ".well-known/openid-configuration",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            &[JSON],
        ),
        Root::text(
            "openid/v1/jwks",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            &["application/jwk-set+json"],
        ),
    ];
    let mut versions: Vec<(&str, &str)> = kinds
        .iter()
        .filter(|kind| !is_custom(kind))
        .map(|kind| (kind.group, kind.version))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let mut last = "";
    for (group, version) in versions {
        let (title, lower) = group_words(group);
        if group != last {
            let id = format!("get{title}APIGroup");
            roots.push(Root::listing(
                &format!("apis/{group}"),
                id,
                lower.clone(),
                "APIGroup",
            ));
            last = group;
        }
        let document = match group {
            "" => format!("api/{version}"),
            group => format!("apis/{group}/{version}"),
        };
        let id = format!("get{title}{}APIResources", super::operations::capital(version));
        roots.push(Root::listing(
            &document,
            id,
            format!("{lower}_{version}"),
            "APIResourceList",
        ));
    }
    roots
}
