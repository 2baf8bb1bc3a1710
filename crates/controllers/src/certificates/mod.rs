//! CertificateSigningRequests: those of host agents are approved ([`approval`]), approved ones signed ([`signing`]), old ones
//! deleted ([`cleaning`]).

mod approval;
mod cleaning;
mod signing;

pub(crate) use approval::Approver;
pub(crate) use cleaning::Cleaner;
pub(crate) use signing::Certificates;
pub use signing::Signer;

use crate::obj::{condition, items, text};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

const REQUESTS: &str = "certificatesigningrequests.certificates.k8s.io";
/// The signer of certificates by which host agents are clients of the API server.
const HOST_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// The signer of certificates by which host agents are servers.
const HOST_SERVER: &str = "kubernetes.io/kubelet-serving";
/// The signer of certificates of any other client of the API server.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// What a certificate request asks for.
#[derive(Debug, Default)]
struct Wish {
    /// The common name: the user.
    name: String,
    /// The organizations: the groups.
    organizations: Vec<String>,
    dns: bool,
    addresses: bool,
    emails: bool,
    uris: bool,
    /// `spec.usages`.
    usages: Vec<String>,
}

impl Wish {
    /// Reads `spec.request`.
    fn of(request: &Value) -> Result<Wish, String> {
        let bytes = STANDARD
            .decode(text(request, "/spec/request"))
            .map_err(|e| e.to_string())?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&bytes).map_err(|e| e.to_string())?;
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).map_err(|e| e.to_string())?;
        let subject = &parsed.certification_request_info.subject;
        let texts =
            |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
        let mut wish = Wish {
            name: subject.iter_common_name().find_map(texts).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(texts).collect(),
            usages: items(request, "/spec/usages")
                .iter()
                .filter_map(|u| u.as_str().map(str::to_owned))
                .collect(),
            ..Wish::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else {
                continue;
            };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(_) => wish.dns = true,
                    GeneralName::IPAddress(_) => wish.addresses = true,
                    GeneralName::RFC822Name(_) => wish.emails = true,
                    GeneralName::URI(_) => wish.uris = true,
                    _ => {}
                }
            }
        }
        Ok(wish)
    }

    /// Whether the usages are those of a host agent's certificate: `role`, signatures, and for RSA keys encipherment.
    fn host_usages(&self, role: &str) -> Result<(), String> {
        let known =
            |usage: &String| [role, "digital signature", "key encipherment"].contains(&usage.as_str());
        let has = |usage: &str| self.usages.iter().any(|u| u == usage);
        if self.usages.iter().all(known) && has(role) && has("digital signature") {
            return Ok(());
        }
        let mut all = [role, "digital signature", "key encipherment"];
        all.sort_unstable();
        Err(format!("usages did not match [{}]", all.join(" ")))
    }

    /// Whether a signer of host agents' certificates may sign this, as upstream decides it; otherwise why not.
    fn fits(&self, signer: &str) -> Result<(), String> {
        let refused = |why: &str| Err(why.to_owned());
        if signer == CLIENT {
            let optional = ["digital signature", "key encipherment", "client auth"];
            if let Some(other) = self.usages.iter().find(|u| !optional.contains(&u.as_str())) {
                return Err(format!("invalid usage for client certificate: {other}"));
            }
            return match self.usages.iter().any(|u| u == "client auth") {
                true => Ok(()),
                false => refused("missing required usage for client certificate: client auth"),
            };
        }
        if self.organizations != ["system:nodes"] {
            return refused("subject organization is not system:nodes");
        }
        let server = signer == HOST_SERVER;
        if server && !self.dns && !self.addresses {
            return refused("DNS or IP subjectAltName is required");
        }
        if !server && self.dns {
            return refused("DNS subjectAltNames are not allowed");
        }
        if self.emails {
            return refused("Email subjectAltNames are not allowed");
        }
        if !server && self.addresses {
            return refused("IP subjectAltNames are not allowed");
        }
        if self.uris {
            return refused("URI subjectAltNames are not allowed");
        }
        if !self.name.starts_with("system:node:") {
            return refused("subject common name does not begin with system:node:");
        }
        self.host_usages(if server { "server auth" } else { "client auth" })
    }
}

/// Whether a request has a condition of this type that is true.
fn is(request: &Value, kind: &str) -> bool {
    condition(request, kind).is_some_and(|c| c["status"] == "True")
}

/// Whether the certificate is there.
fn issued(request: &Value) -> bool {
    !text(request, "/status/certificate").is_empty()
}
