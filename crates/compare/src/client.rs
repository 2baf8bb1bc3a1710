//! One request to both servers, and what each answered.

use anyhow::{Context, Result, ensure};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How long the other server may take to start.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// One of the two servers.
#[derive(Clone)]
pub struct Client(kube::Client);

/// A request, to be sent to both.
#[derive(Debug, Clone)]
pub struct Call {
    /// How.
    pub method: Method,
    /// Where, with the query.
    pub path: String,
    /// Media type of the body.
    pub media: &'static str,
    /// Body; none for `null`.
    pub body: Value,
}

impl Call {
    /// A call with a JSON body.
    pub fn json(method: Method, path: impl Into<String>, body: &Value) -> Call {
        Call {
            method,
            path: path.into(),
            media: "application/json",
            body: body.clone(),
        }
    }

    /// As JSON, for the report.
    pub fn told(&self) -> Value {
        json!({"method": self.method.as_str(), "path": self.path, "media": self.media, "body": self.body})
    }
}

/// What a server said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// Texts of the `Warning` headers.
    pub warnings: Vec<String>,
    /// Body.
    pub body: Value,
}

/// Both servers.
pub struct Pair {
    /// Our server.
    pub ours: Client,
    /// The one that is right.
    pub theirs: Client,
}

impl Pair {
    /// Sends the call to both; answers ours and theirs.
    pub async fn call(&self, call: &Call) -> Result<(Answer, Answer)> {
        self.call_each(call, call).await
    }

    /// Sends a call to each; answers ours and theirs.
    pub async fn call_each(&self, to_ours: &Call, to_theirs: &Call) -> Result<(Answer, Answer)> {
        let (ours, theirs) = tokio::join!(self.ours.call(to_ours), self.theirs.call(to_theirs));
        Ok((ours.context("our server")?, theirs.unwrap_or_else(silence)))
    }
}

/// What stands for an answer that did not come: upstream breaks off the connection when a handler panics.
fn silence(error: anyhow::Error) -> Answer {
    Answer {
        code: 0,
        warnings: Vec::new(),
        body: Value::String(format!("{error:#}")),
    }
}

/// The server that a kubeconfig names.
pub async fn of_kubeconfig(file: &Path) -> Result<Client> {
    let read = kube::config::Kubeconfig::read_from(file)?;
    let config = kube::Config::from_custom_kubeconfig(read, &Default::default()).await?;
    Ok(Client(kube::Client::try_from(config)?))
}

/// The server at an address of the loopback, in the clear.
pub fn of_address(address: SocketAddr) -> Result<Client> {
    let config = kube::Config::new(format!("http://{address}").parse()?);
    Ok(Client(kube::Client::try_from(config)?))
}

impl Client {
    /// Waits until the server is ready.
    pub async fn ready(&self) -> Result<()> {
        let asking = async {
            while let Err(error) = self.get("/readyz").await {
                eprintln!("waiting for the other server: {error:#}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let limit = tokio::time::timeout(READY_LIMIT, asking).await;
        limit.context("the other server is not ready")
    }

    /// The JSON document of a path.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.call(&Call::json(Method::GET, path, &Value::Null)).await?;
        ensure!(answer.code == 200, "{path}: {} {}", answer.code, answer.body);
        Ok(answer.body)
    }

    /// Sends a call.
    pub async fn call(&self, call: &Call) -> Result<Answer> {
        let body = match &call.body {
            Value::Null => Vec::new(),
            body => serde_json::to_vec(body)?,
        };
        let request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header("content-type", call.media)
            .header("accept", "application/json")
            .header("user-agent", "compare")
            .body(Body::from(body))?;
        let response = self.0.send(request).await?;
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings
            .filter_map(|text| text.to_str().ok().map(str::to_owned))
            .collect();
        let bytes = response.into_body().collect().await?.to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Answer { code, warnings, body })
    }
}
