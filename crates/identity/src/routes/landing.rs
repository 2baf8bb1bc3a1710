//! `/`: where "Link to CLI Tools" leads: how to sign in, the console, the authority's certificate.

use super::Sso;
use super::plugin::platform;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{Html, IntoResponse};
use std::sync::Arc;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Podvisor</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; }
pre { padding: .75rem 1rem; border: 1px solid; border-radius: .25rem; overflow-x: auto; }
</style>
</head>
<body>
<h1>Podvisor Supervisor</h1>
<p>Every Pod you apply here becomes a small virtual machine of its own.</p>
<p><a href="/console/">Open the console</a></p>
<h2>Sign in from a terminal</h2>
<p>Get <a href="/wcp/plugin/PLATFORM/vsphere-plugin.zip">the kubectl plugin</a>, put what is in its <code>bin</code> on
your path, get <a href="/podvisor/ca.pem">the certificate of this Supervisor</a>, then:</p>
<pre>kubectl podvisor login --server=HOST -u you@podvisor.local --certificate-authority=ca.pem
kubectl config use-context NAMESPACE</pre>
</body>
</html>
"#;

/// `GET /`
pub(super) async fn page(State(sso): State<Arc<Sso>>, headers: HeaderMap, uri: Uri) -> Html<String> {
    // An authority's host has no character that would end the text, except what is escaped here.
    let host = sso
        .host(&headers, &uri)
        .replace('&', "&amp;")
        .replace('<', "&lt;");
    Html(PAGE.replace("PLATFORM", &platform()).replace("HOST", &host))
}

/// `GET /podvisor/ca.pem`
pub(super) async fn ca(State(sso): State<Arc<Sso>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/x-pem-file")],
        sso.deps.ca_pem.clone(),
    )
}
