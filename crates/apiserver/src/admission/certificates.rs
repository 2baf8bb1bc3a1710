//! Certificate requests: the server writes down who asks; approving and signing need a right on the signer
//! (CertificateApproval, CertificateSigning), and nobody gets into `system:masters` this way (CertificateSubjectRestriction).
//! Bundles of a signer's roots need such a right as well (ClusterTrustBundleAttest).

use super::forbidden;
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::authn::review::user_info;
use crate::authz::rbac::Rbac;
use crate::request::Attributes;
use crate::user::{GROUP_MASTERS, User};
use crate::view::View;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinds::status::Status;
use serde_json::Value;
use std::sync::Arc;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// The API group of certificate requests.
const GROUP: &str = "certificates.k8s.io";
/// The signer of client certificates for this server.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// These steps, which are about one group, in one.
pub struct Certificates {
    rbac: Arc<Rbac>,
}

impl Certificates {
    /// Asks the evaluator of the authorizer.
    pub fn new(rbac: Arc<Rbac>) -> Certificates {
        Certificates { rbac }
    }

    /// Whether the user has `verb` on the signer, by its name or as `DOMAIN/*`.
    fn may(&self, user: &User, verb: &str, signer: &str) -> bool {
        let domain = signer.split('/').next().unwrap_or_default();
        user.is_in(GROUP_MASTERS)
            || [signer.to_string(), format!("{domain}/*")]
                .into_iter()
                .any(|name| {
                    let attributes = Attributes {
                        verb: verb.into(),
                        group: GROUP.into(),
                        version: "v1".into(),
                        resource: "signers".into(),
                        name,
                        is_resource: true,
                        ..Attributes::default()
                    };
                    self.rbac.authorize(user, &attributes).is_allowed()
                })
    }
}

/// Who vouches for a signer's certificates must have a right on it (ClusterTrustBundleAttest).
fn attested<'a>(request: &'a AdmissionRequest<'_>) -> Option<&'a str> {
    let a = request.attributes;
    let bundle = a.group == GROUP && a.resource == "clustertrustbundles" && a.subresource.is_empty();
    if !bundle || !matches!(request.operation, Operation::Create | Operation::Update) {
        return None;
    }
    let spec = &request.object["spec"];
    let unchanged = request.old.is_some_and(|old| old["spec"] == *spec);
    let signer = spec["signerName"].as_str().filter(|signer| !signer.is_empty());
    signer.filter(|_| !unchanged)
}

/// Whether a signer's word changes: the certificate, or what became of the request.
fn is_signed(request: &AdmissionRequest<'_>) -> bool {
    let said = |object: Option<&Value>| {
        let status = object.map(|object| &object["status"]);
        let certificate = status.and_then(|status| status["certificate"].as_str());
        let conditions = status.and_then(|status| status["conditions"].as_array());
        (
            certificate.unwrap_or_default().to_owned(),
            conditions.cloned().unwrap_or_default(),
        )
    };
    said(Some(request.object)) != said(request.old)
}

fn is_request(request: &AdmissionRequest<'_>, subresource: &str) -> bool {
    let a = request.attributes;
    a.group == GROUP && a.resource == "certificatesigningrequests" && a.subresource == subresource
}

#[async_trait]
impl AdmissionPlugin for Certificates {
    fn name(&self) -> &'static str {
        "Certificates"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        _view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        if request.operation == Operation::Create && is_request(request, "") {
            // Whatever the client claims, the signer must be able to rely on these.
            let mut info = user_info(request.user);
            let spec = &mut request.object["spec"];
            for field in ["username", "uid", "groups", "extra"] {
                let value = info[field].take();
                match (value.is_null(), spec.as_object_mut()) {
                    (true, Some(spec)) => drop(spec.remove(field)),
                    (false, Some(spec)) => drop(spec.insert(field.into(), value)),
                    (_, None) => {}
                }
            }
        }
        Ok(Vec::new())
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        _view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        if let Some(signer) = attested(request)
            && !self.may(request.user, "attest", signer)
        {
            let why = format!("user not permitted to attest for signerName {signer:?}");
            return Err(forbidden(request, why));
        }
        let spec = &request.object["spec"];
        let signer = spec["signerName"].as_str().unwrap_or_default();
        if request.operation == Operation::Create && is_request(request, "") {
            let masters = signer == CLIENT_SIGNER
                && organizations(spec["request"].as_str().unwrap_or_default())
                    .iter()
                    .any(|o| o == GROUP_MASTERS);
            if masters {
                let why = format!("use of {CLIENT_SIGNER} signer with {GROUP_MASTERS} group is not allowed");
                return Err(forbidden(request, why));
            }
        }
        if request.operation != Operation::Update {
            return Ok(Vec::new());
        }
        let verb = if is_request(request, "approval") {
            "approve"
        } else if is_request(request, "status") && is_signed(request) {
            "sign"
        } else {
            return Ok(Vec::new());
        };
        // The signer of the stored request counts: the new object could claim another.
        let signer = request
            .old
            .and_then(|o| o["spec"]["signerName"].as_str())
            .unwrap_or(signer);
        match self.may(request.user, verb, signer) {
            true => Ok(Vec::new()),
            false => {
                let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
                Err(forbidden(request, why))
            }
        }
    }
}

/// The organizations of a request (base64 of PEM); nothing of one that cannot be read: validation refuses it.
fn organizations(request: &str) -> Vec<String> {
    let read = |subject: &X509Name<'_>| {
        let found = subject.iter_organization().filter_map(|o| o.as_str().ok());
        found.map(str::to_string).collect()
    };
    subject(request, read).unwrap_or_default()
}

/// The common name of a request (base64 of PEM), empty when it has none; `None` of one that cannot be read.
pub(super) fn common_name(request: &str) -> Option<String> {
    subject(request, |subject| {
        let last = subject.iter_common_name().last();
        last.and_then(|name| name.as_str().ok())
            .unwrap_or_default()
            .to_string()
    })
}

fn subject<T>(request: &str, read: impl FnOnce(&X509Name<'_>) -> T) -> Option<T> {
    let pem = STANDARD.decode(request).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, csr) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    Some(read(&csr.certification_request_info.subject))
}
