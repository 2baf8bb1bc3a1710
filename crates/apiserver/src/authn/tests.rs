//! Authentication at its public face: requests in, users out.

use super::service_account::{Binding, Reference};
use super::*;
use crate::authorize::{Decision, Rules};
use crate::config::{JwtIssuer, JwtKeys};
use crate::request::Attributes;
use crate::testing::MemoryView;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, ToSpan};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn key_pem() -> String {
    rcgen::KeyPair::generate().unwrap().serialize_pem()
}

fn object(namespace: &str, name: &str, uid: &str) -> Value {
    json!({ "metadata": { "namespace": namespace, "name": name, "uid": uid } })
}

fn view() -> Arc<MemoryView> {
    let mut pod = object("demo", "web", "p1");
    pod["spec"] = json!({ "serviceAccountName": "default", "nodeName": "n1" });
    let data = |v: &str| STANDARD.encode(v);
    let secret = json!({
        "metadata": { "namespace": "kube-system", "name": "bootstrap-token-abcdef" },
        "type": "bootstrap.kubernetes.io/token",
        "data": {
            "token-id": data("abcdef"),
            "token-secret": data("0123456789abcdef"),
            "usage-bootstrap-authentication": data("true"),
            "auth-extra-groups": data("system:bootstrappers:hosts,other"),
            "expiration": data("2999-01-01T00:00:00Z"),
        },
    });
    MemoryView::of([
        ("serviceaccounts", object("demo", "default", "s1")),
        ("pods", pod),
        ("nodes", object("", "n1", "n-uid")),
        ("secrets", secret),
    ])
}

struct Fixture {
    view: Arc<MemoryView>,
    authentication: Authentication,
    foreign: EncodingKey,
}

fn fixture() -> Fixture {
    let foreign = rcgen::KeyPair::generate().unwrap();
    let mut config = Config::new("root", Arc::new(store::memory::MemoryStore::new()));
    config.service_account_key_pem = key_pem();
    config.jwt_issuers.push(JwtIssuer {
        issuer: "https://192.0.2.1/openidconnect/podvisor.local".into(),
        audiences: vec!["vmware-tes:vc:vns:k8s".into()],
        keys: JwtKeys::Pem(vec![foreign.public_key_pem()]),
        username_claim: "sub".into(),
        username_prefix: "sso:".into(),
        groups_claim: "group_names".into(),
        groups_prefix: "sso:".into(),
    });
    let view = view();
    Fixture {
        authentication: Authentication::new(&config, view.clone()).unwrap(),
        foreign: EncodingKey::from_ec_pem(foreign.serialize_pem().as_bytes()).unwrap(),
        view,
    }
}

fn binding(pod: Option<&str>) -> Binding {
    let reference = |name: &str, uid: &str| Reference {
        name: name.into(),
        uid: uid.into(),
    };
    Binding {
        namespace: "demo".into(),
        node: pod.map(|_| reference("n1", "n-uid")),
        pod: pod.map(|uid| reference("web", uid)),
        secret: None,
        serviceaccount: reference("default", "s1"),
        warnafter: None,
    }
}

#[test]
fn service_account_tokens_live_as_long_as_what_they_are_bound_to() {
    let f = fixture();
    let now = Timestamp::now();
    let hour = SignedDuration::from_hours(1);
    let own = [ISSUER.to_string()];
    let issue = |binding: Binding, audiences: &[String], at: Timestamp| {
        f.authentication
            .service_accounts()
            .issue(binding, audiences, hour, at)
            .unwrap()
    };
    let token = issue(binding(Some("p1")), &own, now);
    let found = f.authentication.token(&token, &[]).unwrap();
    assert_eq!(found.user.name, "system:serviceaccount:demo:default");
    assert_eq!(
        found.user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:demo",
            "system:authenticated"
        ]
    );
    assert_eq!(found.user.extra["authentication.kubernetes.io/pod-name"], ["web"]);
    assert_eq!(found.user.extra["authentication.kubernetes.io/node-name"], ["n1"]);

    let mut other_account = binding(None);
    other_account.serviceaccount.uid = "old".into();
    let vault = ["vault".to_string()];
    let other_key = service_account::Tokens::new(&key_pem(), ISSUER).unwrap();
    let stranger = other_key.issue(binding(None), &own, hour, now).unwrap();
    let cases = [
        (
            issue(binding(Some("old")), &own, now),
            "pods \"web\" of the token has another uid",
        ),
        (
            issue(other_account, &own, now),
            "serviceaccounts \"default\" of the token has another uid",
        ),
        (
            issue(binding(None), &own, now - 2.hours()),
            "service account token has expired",
        ),
        (
            issue(binding(None), &vault, now),
            "is invalid for the target audiences",
        ),
        (stranger, "InvalidSignature"),
        ("a.b".into(), "invalid bearer token"),
        ("garbage".into(), "invalid bearer token"),
    ];
    for (token, want) in cases {
        let error = f.authentication.token(&token, &[]).unwrap_err().to_string();
        assert!(error.contains(want), "{error}: {want}");
    }
    assert_eq!(
        f.authentication
            .token(&issue(binding(None), &vault, now), &vault)
            .unwrap()
            .audiences,
        vault
    );
    f.view.remove("pods", &object("demo", "web", ""));
    assert!(f.authentication.token(&token, &[]).is_err(), "died with its Pod");
}

#[test]
fn tokens_in_secrets_live_as_long_as_the_secret_holds_them() {
    let f = fixture();
    let claims = |uid: &str| legacy::Claims {
        namespace: "demo".into(),
        secret: "ci".into(),
        account: "default".into(),
        uid: uid.into(),
    };
    let tokens = f.authentication.service_accounts();
    let token = legacy::issue(tokens, claims("s1")).unwrap();
    let old = legacy::issue(tokens, claims("old")).unwrap();
    let put = |token: &str, labels: Value| {
        let mut secret = object("demo", "ci", "x");
        secret["data"] = json!({"token": STANDARD.encode(token)});
        secret["metadata"]["labels"] = labels;
        f.view.put("secrets", secret);
    };
    let refused = |token: &str, want: &str| {
        let error = f.authentication.token(token, &[]).unwrap_err().to_string();
        assert!(error.contains(want), "{error}: {want}");
    };
    refused(&token, "Token has been invalidated");
    put(&old, json!({}));
    refused(&token, "Token does not match server's copy");
    refused(&old, "ServiceAccount UID (s1) does not match claim (old)");
    put(
        &token,
        json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}),
    );
    refused(&token, "has been marked invalid");

    let mut uses = f.authentication.take_uses().unwrap();
    put(&token, json!({}));
    let found = f.authentication.token(&token, &[]).unwrap().user;
    assert_eq!(
        (found.name.as_str(), found.uid.as_str()),
        ("system:serviceaccount:demo:default", "s1")
    );
    assert!(found.is_in("system:serviceaccounts:demo") && found.extra.is_empty());
    assert!(
        uses.try_recv().is_ok(),
        "the first use of a day is to be written down"
    );
    let today = Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
        .to_string();
    put(&token, json!({"kubernetes.io/legacy-token-last-used": today}));
    f.authentication.token(&token, &[]).unwrap();
    assert!(uses.try_recv().is_err(), "and no other");
    // It is good for this server alone.
    assert!(f.authentication.token(&token, &["vault".into()]).is_err());
}

#[test]
fn foreign_tokens() {
    let f = fixture();
    let now = Timestamp::now().as_second();
    let claims = json!({
        "iss": "https://192.0.2.1/openidconnect/podvisor.local",
        "aud": "vmware-tes:vc:vns:k8s",
        "sub": "alice@podvisor.local",
        "group_names": ["Developers@podvisor.local"],
        "iat": now, "exp": now + 600, "jti": "x",
    });
    let sign =
        |claims: &Value| jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &f.foreign).unwrap();
    let user = f.authentication.token(&sign(&claims), &[]).unwrap().user;
    assert_eq!(user.name, "sso:alice@podvisor.local");
    assert_eq!(
        user.groups,
        ["sso:Developers@podvisor.local", "system:authenticated"]
    );

    for (key, value) in [
        ("aud", json!("other")),
        ("exp", json!(now - 60)),
        ("nbf", json!(now + 600)),
        ("sub", json!("")),
        ("iss", json!("https://evil")),
    ] {
        let mut bad = claims.clone();
        bad[key] = value;
        assert!(f.authentication.token(&sign(&bad), &[]).is_err(), "{key}");
    }
    // Signed with the public key as a shared secret, or not at all.
    let forged = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(b"x"),
    )
    .unwrap();
    assert!(f.authentication.token(&forged, &[]).is_err());
}

#[test]
fn bootstrap_tokens() {
    let f = fixture();
    let user = f
        .authentication
        .token("abcdef.0123456789abcdef", &[])
        .unwrap()
        .user;
    assert_eq!(user.name, "system:bootstrap:abcdef");
    assert_eq!(
        user.groups,
        [
            "system:bootstrappers",
            "system:bootstrappers:hosts",
            "system:authenticated"
        ]
    );
    for bad in ["abcdef.0123456789abcdee", "zzzzzz.0123456789abcdef"] {
        assert!(f.authentication.token(bad, &[]).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn requests() {
    let f = fixture();
    let now = Timestamp::now();
    let hour = SignedDuration::from_hours(1);
    let tokens = f.authentication.service_accounts();
    let token = tokens.issue(binding(None), &[ISSUER.into()], hour, now).unwrap();
    let protocol = format!(
        "v5.channel.k8s.io, {BEARER_PROTOCOL}{}",
        URL_SAFE_NO_PAD.encode(&token)
    );
    let account = "system:serviceaccount:demo:default";
    let cases = [
        (None, Ok("system:anonymous")),
        (Some(("authorization", format!("Bearer {token}"))), Ok(account)),
        (Some(("authorization", format!("bearer {token}"))), Ok(account)),
        // Whoever writes two spaces is nobody, and is told so.
        (
            Some(("authorization", format!("Bearer  {token}"))),
            Ok("system:anonymous"),
        ),
        (
            Some(("authorization", "Basic YTpi".into())),
            Ok("system:anonymous"),
        ),
        (Some(("authorization", "Bearer nonsense".into())), Err(401)),
        (Some(("sec-websocket-protocol", protocol)), Ok(account)),
    ];
    for (header, want) in cases {
        let mut request = http::Request::get("/api");
        if let Some((name, value)) = &header {
            request = request.header(*name, value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let (connection, notes) = (Connection::default(), Notes::default());
        let got = f.authentication.authenticate(&head, &connection, &notes).await;
        let got = got.as_ref().map(|u| u.name.as_str()).map_err(|s| s.code);
        assert_eq!(got, want, "{header:?}");
    }
}

#[test]
fn the_token_goes_no_further() {
    let cases = [
        (
            format!("v5.channel.k8s.io, {BEARER_PROTOCOL}abc,v4.channel.k8s.io"),
            Some("v5.channel.k8s.io, v4.channel.k8s.io"),
        ),
        (format!("{BEARER_PROTOCOL}abc"), None),
        ("v4.channel.k8s.io".into(), Some("v4.channel.k8s.io")),
    ];
    for (offered, want) in cases {
        let mut headers = http::HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap());
        hide_bearer_protocol(&mut headers);
        assert_eq!(
            headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|v| v.to_str().ok()),
            want
        );
    }
}

#[test]
fn client_certificates() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "system:node:n1");
    let uid = rcgen::DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]);
    params.distinguished_name.push(uid, "u-1");
    let user = certificate::user(params.self_signed(&key).unwrap().der()).unwrap();
    assert_eq!(user.uid, "u-1");
    assert_eq!(user.name, "system:node:n1");
    assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
    assert!(certificate::user(b"junk").is_none());
}

/// An authority of clients, and its certificate.
fn authority() -> (rcgen::Issuer<'static, rcgen::KeyPair>, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).unwrap().der().to_vec();
    (rcgen::Issuer::new(params, key), own)
}

/// A certificate of `ann`, good until that year, for one purpose.
fn issued(
    by: &rcgen::Issuer<'static, rcgen::KeyPair>,
    until: i32,
    purpose: rcgen::ExtendedKeyUsagePurpose,
) -> rustls_pki_types::CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "ann");
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params.extended_key_usages = vec![purpose];
    params.signed_by(&key, by).unwrap().der().clone()
}

#[tokio::test]
async fn certificates_that_are_not_believed_leave_the_word_to_tokens() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let f = fixture();
    let hour = SignedDuration::from_hours(1);
    let tokens = f.authentication.service_accounts();
    let token = tokens
        .issue(binding(None), &[ISSUER.into()], hour, Timestamp::now())
        .unwrap();
    let good = format!("Bearer {token}");
    let account = "system:serviceaccount:demo:default";
    let ((ours, own), (other, _)) = (authority(), authority());
    let authorities = chain::Authorities::new(&[own]);
    // What is shown, and who that is alone, with a token, and with a bad token.
    let cases = [
        ("none", vec![], [Ok("system:anonymous"), Ok(account), Err(401)]),
        ("ours", vec![issued(&ours, 4000, ClientAuth)], [Ok("ann"); 3]),
        (
            "another's",
            vec![issued(&other, 4000, ClientAuth)],
            [Err(401), Ok(account), Err(401)],
        ),
        (
            "late",
            vec![issued(&ours, 2020, ClientAuth)],
            [Err(401), Ok(account), Err(401)],
        ),
        (
            "a server's",
            vec![issued(&ours, 4000, ServerAuth)],
            [Err(401), Ok(account), Err(401)],
        ),
        (
            "junk",
            vec![b"junk".to_vec().into()],
            [Err(401), Ok(account), Err(401)],
        ),
    ];
    for (what, shown, wants) in cases {
        let connection = Connection::with_certificates(([127, 0, 0, 1], 1).into(), &shown, &authorities);
        for (header, want) in [None, Some(good.as_str()), Some("Bearer nonsense")]
            .into_iter()
            .zip(wants)
        {
            let mut request = http::Request::get("/api");
            if let Some(value) = header {
                request = request.header("authorization", value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let got = f
                .authentication
                .authenticate(&head, &connection, &Notes::default())
                .await;
            let got = got.as_ref().map(|u| u.name.as_str()).map_err(|s| s.code);
            assert_eq!(got, want, "{what} {header:?}");
        }
    }
    let nobody = chain::Authorities::new(&[]);
    let connection = Connection::with_certificates(
        ([127, 0, 0, 1], 1).into(),
        &[issued(&ours, 4000, ClientAuth)],
        &nobody,
    );
    assert!(connection.certificate_refused && connection.client_certificates.is_empty());

    // One that ends while its connection lives is believed no longer.
    let end = "4000-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
    let connection = Connection::with_certificates(
        ([127, 0, 0, 1], 1).into(),
        &[issued(&ours, 4000, ClientAuth)],
        &authorities,
    );
    assert!(!connection.certificate_ended(end));
    assert!(connection.certificate_ended(end + SignedDuration::from_secs(1)));
    assert!(!Connection::default().certificate_ended(end));
}

#[test]
fn token_requests() {
    let f = fixture();
    let now = Timestamp::now();
    let ask = |spec: Value| {
        let mut object = json!({ "metadata": {}, "spec": spec });
        review::token_request(
            &mut object,
            "demo",
            "default",
            &f.authentication,
            f.view.as_ref(),
            now,
        )
        .map(|()| object)
        .map_err(|s| s.message)
    };
    let bound = json!({ "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "p1" });
    let made = ask(json!({ "expirationSeconds": 600, "boundObjectRef": bound })).unwrap();
    let token = made["status"]["token"].as_str().unwrap();
    let user = f.authentication.token(token, &[]).unwrap().user;
    assert_eq!(user.extra["authentication.kubernetes.io/node-uid"], ["n-uid"]);
    assert_eq!(made["spec"]["audiences"], json!([ISSUER]));

    // What hosts ask for: good for longer than is said, and noted when it is used late.
    let mounted = ask(json!({ "expirationSeconds": 3607, "boundObjectRef": bound })).unwrap();
    let told: Timestamp = mounted["status"]["expirationTimestamp"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(told.as_second(), now.as_second() + 3607);
    let mounted = mounted["status"]["token"].as_str().unwrap();
    let late = |token: &str, hours: i64| {
        let accounts = f.authentication.service_accounts();
        let later = now + hours.hours();
        let found = accounts.verify(token, &[ISSUER.into()], f.view.as_ref(), later);
        found.map(|user| user.late).map_err(|error| error.to_string())
    };
    assert_eq!(late(mounted, 1), Ok(None));
    assert_eq!(late(mounted, 2), Ok(Some(2 * 3600 - 3607)));
    assert!(late(mounted, 366 * 24).is_err());
    assert!(late(token, 1).is_err(), "others end when they are said to");

    let mut other = json!({ "metadata": { "uid": "s0" }, "spec": {} });
    let (authentication, view) = (&f.authentication, f.view.as_ref());
    let refused = review::token_request(&mut other, "demo", "default", authentication, view, now);
    let words = "the UID in the token request (s0) does not match the UID of the service account (s1)";
    assert!(refused.unwrap_err().message.ends_with(words));

    let mut review = json!({ "spec": { "token": token } });
    review::token_review(&mut review, &f.authentication).unwrap();
    assert_eq!(review["status"]["authenticated"], true);
    assert_eq!(review["status"]["audiences"], json!([ISSUER]));
    let mut review = json!({ "spec": { "token": "x" } });
    review::token_review(&mut review, &f.authentication).unwrap();
    assert!(review["status"]["error"].is_string());

    let mut stale = bound.clone();
    stale["uid"] = "p0".into();
    let cases = [
        (
            json!({ "expirationSeconds": 10 }),
            "may not specify a duration less than 10 minutes",
        ),
        (
            json!({ "boundObjectRef": stale }),
            "does not match the UID in record",
        ),
        (
            json!({ "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "no" } }),
            "pods \"no\" not found",
        ),
        (
            json!({ "boundObjectRef": { "kind": "Job", "apiVersion": "batch/v1" } }),
            "cannot bind token to object",
        ),
    ];
    for (spec, want) in cases {
        let error = ask(spec).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
}

/// Allows impersonating the users, groups and accounts it lists.
struct Allow(&'static [&'static str]);

#[async_trait]
impl crate::authorize::Authorizer for Allow {
    async fn authorize(&self, _: &User, a: &Attributes) -> Decision {
        match a.verb == "impersonate" && self.0.contains(&a.name.as_str()) {
            true => Decision::Allow(String::new()),
            false => Decision::NoOpinion(String::new()),
        }
    }
    async fn rules_for(&self, _: &User, _: &str) -> Rules {
        Rules::default()
    }
}

#[tokio::test]
async fn impersonation() {
    let admin = || User::new("admin", &[]);
    type Case<'a> = (&'a [(&'a str, &'a str)], Result<(&'a str, &'a str), &'a str>);
    let cases: &[Case<'_>] = &[
        (&[], Ok(("admin", "system:authenticated"))),
        (
            &[("impersonate-user", "bob")],
            Ok(("bob", "system:authenticated")),
        ),
        (
            &[("impersonate-user", "bob"), ("impersonate-group", "ops")],
            Ok(("bob", "ops system:authenticated")),
        ),
        (
            &[("impersonate-user", "system:serviceaccount:demo:default")],
            Ok((
                "system:serviceaccount:demo:default",
                "system:serviceaccounts system:serviceaccounts:demo system:authenticated",
            )),
        ),
        (
            &[("impersonate-user", "eve")],
            Err(
                r#"users "eve" is forbidden: User "admin" cannot impersonate resource "users" in API group "" at the cluster scope"#,
            ),
        ),
        (
            &[("impersonate-user", "bob"), ("impersonate-uid", "7")],
            Err("uids.authentication.k8s.io \"7\" is forbidden"),
        ),
        (
            &[
                ("impersonate-group", "ops"),
                ("impersonate-extra-foo", "bar"),
                ("impersonate-uid", "7"),
            ],
            Err(
                "requested [{Group  ops    } {UserExtra  bar  authentication.k8s.io/v1  foo} \
                 {UID  7  authentication.k8s.io/v1  }] without impersonating a user",
            ),
        ),
    ];
    for (headers, want) in cases {
        let mut map = http::HeaderMap::new();
        for (name, value) in *headers {
            map.append(*name, value.parse().unwrap());
        }
        let got = impersonate::impersonate(admin(), &map, &Allow(&["bob", "ops", "default"])).await;
        match (got, want) {
            (Ok(user), Ok((name, groups))) => {
                assert_eq!(
                    (user.name.as_str(), user.groups.join(" ").as_str()),
                    (*name, *groups)
                );
            }
            (Err(status), Err(want)) => assert!(status.message.contains(want), "{}", status.message),
            (got, _) => panic!("{headers:?}: {got:?}"),
        }
    }
}
