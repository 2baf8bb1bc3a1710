//! What the controllers sign: tokens for Secrets that ask for one, certificates for whoever may have them.

#![allow(clippy::unwrap_used)]

use super::common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::Plane;
use controllers::obj::{annotation, condition, meta, text};
use controllers::world::World;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

const REQUESTS: &str = "certificatesigningrequests.certificates.k8s.io";
const TOKEN: &str = "kubernetes.io/service-account-token";

fn decoded(secret: &Value, key: &str) -> Option<String> {
    let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

/// The name in the certificate of a request.
fn named(request: &Value) -> Option<String> {
    let pem = decoded(&json!({"data": request["status"]}), "certificate")?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_gets_the_token_of_its_service_account() {
    let plane = Plane::start(&[]).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "ci", "namespace": "default"}, "secrets": [{"name": "ci-token"}, {"name": "other"}]});
    let account = plane.create("serviceaccounts", account).await;
    let secret = |name: &str, account: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": TOKEN,
            "metadata": {"name": name, "namespace": "default",
                "annotations": {"kubernetes.io/service-account.name": account}}})
    };
    plane.create("secrets", secret("ci-token", "ci")).await;
    let filled = plane
        .until("the token", |w: &World| {
            let secret = w.get("secrets", "default", "ci-token")?;
            decoded(&secret, "token").map(|_| secret)
        })
        .await;
    let uid = meta(&account, "uid");
    assert_eq!(
        decoded(&filled, "token"),
        Some(format!("default/ci-token ci {uid}"))
    );
    assert_eq!(decoded(&filled, "namespace").as_deref(), Some("default"));
    assert!(decoded(&filled, "ca.crt").is_some_and(|pem| pem.starts_with("-----BEGIN CERTIFICATE")));
    assert_eq!(annotation(&filled, "kubernetes.io/service-account.uid"), uid);

    // One without its service account goes at once, one whose account forgets it with it.
    plane.create("secrets", secret("stray", "nobody")).await;
    plane
        .until("the end of the stray one", |w: &World| {
            w.get("secrets", "default", "stray").is_none().then_some(())
        })
        .await;
    plane.world.delete_now("secrets", &filled).await.unwrap();
    plane
        .until("its service account's list without it", |w: &World| {
            let account = w.get("serviceaccounts", "default", "ci")?;
            (account["secrets"] == json!([{"name": "other"}])).then_some(())
        })
        .await;
    plane.create("secrets", secret("second", "ci")).await;
    plane.world.delete_now("serviceaccounts", &account).await.unwrap();
    plane
        .until("the end of the second with its account", |w: &World| {
            w.get("secrets", "default", "second").is_none().then_some(())
        })
        .await;
}

/// A certificate request in PEM.
fn pem(name: &str, organization: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn request(name: &str, signer: &str, pem: &str, role: &str) -> Value {
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"signerName": format!("kubernetes.io/{signer}"), "request": STANDARD.encode(pem),
            "usages": ["digital signature", role]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_get_certificates_when_they_may() {
    let plane = Plane::start(&[]).await;
    let role = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
    for (name, role) in [("may-ask", "system:node-bootstrapper"), ("may-have", role)] {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers"}]});
        plane
            .create("clusterrolebindings.rbac.authorization.k8s.io", binding)
            .await;
    }
    let newcomer = plane.acting_as(
        "system:bootstrap:abcdef",
        &["system:bootstrappers", "system:authenticated"],
    );
    let client = "kube-apiserver-client-kubelet";
    let host = pem("system:node:host-9", "system:nodes", &[]);
    let good = request("good", client, &host, "client auth");
    newcomer.create(REQUESTS, &good).await.unwrap();
    let signed = plane
        .until("the certificate", |w: &World| {
            let request = w.get(REQUESTS, "", "good")?;
            named(&request).map(|name| (name, request))
        })
        .await;
    assert_eq!(signed.0, "digital signature, client auth for 31536000 s");
    let approved = condition(&signed.1, "Approved").unwrap();
    assert_eq!(text(approved, "/reason"), "AutoApproved");

    // The administrator may have it too, but asks for the wrong thing: nobody approves, and who is approved by hand is refused.
    let cases = [
        (
            "a-user",
            client,
            pem("alice", "system:nodes", &[]),
            "client auth",
            "subject common name does not begin with system:node:",
        ),
        (
            "a-group",
            client,
            pem("system:node:a", "others", &[]),
            "client auth",
            "subject organization is not system:nodes",
        ),
        (
            "names",
            client,
            pem("system:node:a", "system:nodes", &["a.example"]),
            "client auth",
            "DNS subjectAltNames are not allowed",
        ),
        (
            "addresses",
            client,
            pem("system:node:a", "system:nodes", &["192.0.2.7"]),
            "client auth",
            "IP subjectAltNames are not allowed",
        ),
        (
            "usages",
            client,
            host.clone(),
            "server auth",
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (
            "no-name",
            "kubelet-serving",
            host.clone(),
            "server auth",
            "DNS or IP subjectAltName is required",
        ),
        (
            "server",
            "kube-apiserver-client",
            host,
            "server auth",
            "invalid usage for client certificate: server auth",
        ),
    ];
    for (name, signer, pem, role, why) in cases {
        let made = plane.create(REQUESTS, request(name, signer, &pem, role)).await;
        let mut by_hand = made.clone();
        by_hand["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "ByHand"}]);
        plane.world.put_sub(REQUESTS, &by_hand, "approval").await.unwrap();
        let refused = plane
            .until("the refusal", |w: &World| {
                let request = w.get(REQUESTS, "", name)?;
                condition(&request, "Failed").cloned()
            })
            .await;
        assert_eq!(text(&refused, "/message"), why, "{name}");
        assert_eq!(text(&refused, "/reason"), "SignerValidationFailure", "{name}");
    }
}
