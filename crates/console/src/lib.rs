//! The web console: a single-page app (`app/`, SolidJS) embedded into the binary, served below `/console`.
//!
//! It has no API of its own: it signs in at `/podvisor/session` and is then one more client of the Kubernetes API,
//! live by watch. In a dev build the files are read from `app/dist` at run time.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use rust_embed::{Embed, EmbeddedFile};
use tower_http::compression::CompressionLayer;

#[derive(Embed)]
#[folder = "app/dist"]
struct App;

/// Scripts and connections only to ourselves. Styles may be inline: the charts set sizes that way.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

/// The routes `/console` and below.
pub fn routes() -> Router {
    Router::new()
        .route("/console", get(|| async { Redirect::permanent("/console/") }))
        .route("/console/", get(|| async { page() }))
        .route(
            "/console/{*path}",
            get(|Path(path): Path<String>| async move { file(&path) }),
        )
        // Clarity's stylesheet is a megabyte as text and a tenth of that compressed; browsers keep it for good.
        .layer(CompressionLayer::new())
}

/// A file of the app; anything else is a place inside the app, which the page itself understands.
fn file(path: &str) -> Response {
    match App::get(path) {
        // Vite puts a hash of the content into the names below `assets`.
        Some(file) if path.starts_with("assets/") => serve(path, file, "public, max-age=31536000, immutable"),
        Some(file) => serve(path, file, "no-cache"),
        None if path.starts_with("assets/") => StatusCode::NOT_FOUND.into_response(),
        None => page(),
    }
}

fn page() -> Response {
    match App::get("index.html") {
        Some(file) => serve("index.html", file, "no-cache"),
        None => {
            let cure = "The console is not part of this build: run `cargo xtask build`.\n";
            (StatusCode::NOT_FOUND, cure).into_response()
        }
    }
}

fn serve(path: &str, file: EmbeddedFile, cache: &'static str) -> Response {
    let mime = mime_guess::from_path(path).first_or_octet_stream();
    let mut response = Response::new(Body::from(file.data.into_owned()));
    let headers = response.headers_mut();
    let mime = HeaderValue::from_str(mime.essence_str());
    headers.insert(
        header::CONTENT_TYPE,
        mime.unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    response
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(path: &str) -> (StatusCode, String, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = routes().oneshot(request).await.expect("an answer");
        let policy = response.headers().get(header::CONTENT_SECURITY_POLICY);
        let policy = policy
            .map(|value| value.to_str().expect("text").to_owned())
            .unwrap_or_default();
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, policy, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn texts_are_compressed_for_who_accepts_it() {
        let Some(name) = App::iter().find(|name| name.ends_with(".css")) else {
            return;
        };
        for (accepted, expected) in [("gzip, br", Some("gzip")), ("identity", None)] {
            let request = Request::get(format!("/console/{name}"))
                .header(header::ACCEPT_ENCODING, accepted)
                .body(Body::empty())
                .expect("a request");
            let response = routes().oneshot(request).await.expect("an answer");
            let encoding = response.headers().get(header::CONTENT_ENCODING);
            assert_eq!(
                encoding.and_then(|value| value.to_str().ok()),
                expected,
                "{accepted}"
            );
        }
    }

    #[tokio::test]
    async fn every_place_is_the_page_and_missing_assets_are_not() {
        let built = App::get("index.html").is_some();
        for path in ["/console/", "/console/namespaces/demo/web-1"] {
            let (status, policy, body) = ask(path).await;
            if built {
                assert_eq!(status, StatusCode::OK, "{path}");
                assert!(policy.contains("default-src 'self'"), "{path}");
                assert!(body.contains("<div id=\"root\">"), "{path}");
            } else {
                assert!(body.contains("cargo xtask build"), "{path}: {body}");
            }
        }
        assert_eq!(ask("/console/assets/nope.js").await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask("/console").await.0, StatusCode::PERMANENT_REDIRECT);
    }
}
