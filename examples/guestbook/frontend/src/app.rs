//! What the paths do, and where Redis is.

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dns;
use crate::http::{Request, Response, form_field};
use crate::page::Page;
use crate::resp::{self, Reply};

/// The list in Redis.
const KEY: &[u8] = b"messages";
/// The longest message, in characters.
const MAX_MESSAGE: usize = 280;
/// How many messages are kept, counted from the newest.
const KEPT: &[u8] = b"-500";
/// How many are shown.
const SHOWN: &[u8] = b"-100";
/// How long Redis may take to accept a connection, and to answer.
const REDIS_LIMIT: Duration = Duration::from_secs(3);

/// Where a Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Redis {
    host: String,
    port: u16,
}

impl fmt::Display for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// The application.
pub struct App {
    pod: String,
    writer: Redis,
    reader: Redis,
}

impl App {
    /// `GET_HOSTS_FROM=dns` (the default) uses the names of the Services; `env` the variables that Pods are given.
    pub fn from_env() -> Self {
        Self::configured(|name| env::var(name).ok())
    }

    fn configured(variable: impl Fn(&str) -> Option<String>) -> Self {
        let from_env = variable("GET_HOSTS_FROM").as_deref() == Some("env");
        let redis = |service: &str| {
            let prefix = service.to_uppercase().replace('-', "_");
            let given = |suffix: &str| variable(&format!("{prefix}_SERVICE_{suffix}")).filter(|_| from_env);
            Redis {
                host: given("HOST").unwrap_or_else(|| service.to_owned()),
                port: given("PORT").and_then(|port| port.parse().ok()).unwrap_or(6379),
            }
        };
        let host_name = || std::fs::read_to_string("/etc/hostname").ok();
        let pod = variable("HOSTNAME").or_else(host_name).unwrap_or_default();
        Self {
            pod: pod.trim().to_owned(),
            writer: redis("redis-master"),
            reader: redis("redis-slave"),
        }
    }

    /// Answers one request.
    pub async fn answer(&self, request: &Request) -> Response {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET" | "HEAD", "/healthz") => Response::text(200, "ok"),
            ("GET", "/") => self.page().await,
            ("GET", "/messages") => match self.messages().await {
                Ok(messages) => Response::json(200, &json!({"messages": messages})),
                Err(reason) => Response::text(503, reason),
            },
            ("POST", path @ ("/" | "/messages")) => self.post(request, path == "/").await,
            (_, "/" | "/messages" | "/healthz") => Response::text(405, "this method is not for this path"),
            _ => Response::text(404, "there is no such page"),
        }
    }

    async fn page(&self) -> Response {
        let messages = self.messages().await;
        let status = if messages.is_ok() { 200 } else { 503 };
        let page = Page {
            pod: &self.pod,
            messages: messages.as_deref().map_err(String::as_str),
        };
        Response::html(status, page.render())
    }

    async fn post(&self, request: &Request, from_page: bool) -> Response {
        let message = match message_of(request) {
            Ok(message) => message,
            Err(reason) => return Response::text(400, reason),
        };
        let append: [&[u8]; 3] = [b"RPUSH", KEY, message.as_bytes()];
        if let Err(reason) = call(&self.writer, &append).await {
            return Response::text(503, reason);
        }
        // The list stays bounded; should this fail, the next message trims.
        let trim: [&[u8]; 4] = [b"LTRIM", KEY, KEPT, b"-1"];
        if let Err(reason) = call(&self.writer, &trim).await {
            eprintln!("guestbook-frontend: {reason}");
        }
        if from_page {
            Response::see_other("/")
        } else {
            Response::json(201, &json!({"message": message}))
        }
    }

    async fn messages(&self) -> Result<Vec<String>, String> {
        let range: [&[u8]; 4] = [b"LRANGE", KEY, SHOWN, b"-1"];
        match call(&self.reader, &range).await? {
            Reply::List(items) => Ok(items
                .into_iter()
                .flatten()
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .collect()),
            other => Err(format!("{} answers no list: {other:?}", self.reader)),
        }
    }
}

/// The message of a form or of a JSON document.
fn message_of(request: &Request) -> Result<String, String> {
    let message = if request.content_type == "application/json" {
        let document: serde_json::Value =
            serde_json::from_slice(&request.body).map_err(|error| format!("the body is no JSON: {error}"))?;
        document["message"].as_str().map(str::to_owned)
    } else {
        form_field(&request.body, "message")
    };
    let message = message
        .ok_or("the field \"message\" is missing")?
        .trim()
        .to_owned();
    match message.chars().count() {
        0 => Err("the message is empty".to_owned()),
        length if length > MAX_MESSAGE => Err(format!(
            "the message has {length} characters, at most {MAX_MESSAGE} are allowed"
        )),
        _ => Ok(message),
    }
}

/// One command on a connection of its own, to the first address that accepts it.
async fn call(redis: &Redis, words: &[&[u8]]) -> Result<Reply, String> {
    let trouble = |reason: &dyn fmt::Display| format!("cannot reach Redis at {redis}: {reason}");
    let addresses = dns::lookup(&redis.host).await.map_err(|error| trouble(&error))?;
    let mut last = String::new();
    for address in addresses {
        let target = SocketAddr::from((address, redis.port));
        match timeout(REDIS_LIMIT, exchange(target, words)).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(resp::ReplyError::Io(error))) => last = format!("{target}: {error}"),
            // It was reached; another address would say the same, or take a message twice.
            Ok(Err(error)) => return Err(format!("{redis}: {error}")),
            Err(_) => last = format!("{target}: no answer within {} s", REDIS_LIMIT.as_secs()),
        }
    }
    Err(trouble(&last))
}

async fn exchange(target: SocketAddr, words: &[&[u8]]) -> Result<Reply, resp::ReplyError> {
    let mut stream = BufReader::new(TcpStream::connect(target).await?);
    stream.write_all(&resp::encode(words)).await?;
    resp::read(&mut stream).await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    fn request(method: &str, path: &str, content_type: &str, body: &str) -> Request {
        Request {
            method: method.to_owned(),
            path: path.to_owned(),
            content_type: content_type.to_owned(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn redis_is_found_by_name_or_by_variables() {
        let named = App::configured(|_| None);
        assert_eq!(named.writer.to_string(), "redis-master:6379");
        assert_eq!(named.reader.to_string(), "redis-slave:6379");
        let given = App::configured(|name| match name {
            "GET_HOSTS_FROM" => Some("env".to_owned()),
            "REDIS_SLAVE_SERVICE_HOST" => Some("10.96.3.4".to_owned()),
            "REDIS_SLAVE_SERVICE_PORT" => Some("6380".to_owned()),
            _ => None,
        });
        assert_eq!(given.reader.to_string(), "10.96.3.4:6380");
        assert_eq!(given.writer.to_string(), "redis-master:6379");
    }

    #[test]
    fn messages_are_taken_or_refused() {
        let form = "application/x-www-form-urlencoded";
        let json = "application/json";
        let long = format!("message={}", "x".repeat(MAX_MESSAGE + 1));
        let cases = [
            (form, "message=+hello+", Ok("hello")),
            (json, "{\"message\":\"hi\"}", Ok("hi")),
            (json, "{\"message\":1}", Err("missing")),
            (json, "{", Err("no JSON")),
            (form, "x=1", Err("missing")),
            (form, "message=%20", Err("empty")),
            (form, &long, Err("281 characters")),
        ];
        for (kind, body, expected) in cases {
            let got = message_of(&request("POST", "/", kind, body));
            match (&got, expected) {
                (Ok(message), Ok(wanted)) => assert_eq!(message, wanted),
                (Err(reason), Err(word)) => assert!(reason.contains(word), "{body:.30}: {reason}"),
                _ => panic!("{body:.30}: {got:?}"),
            }
        }
    }

    /// Answers each connection with the next reply, and returns the commands that came.
    async fn fake_redis(listener: &TcpListener, replies: &[&str]) -> Vec<String> {
        let mut commands = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut buffer = vec![0; 512];
            let length = stream.read(&mut buffer).await.expect("a command");
            commands.push(String::from_utf8_lossy(&buffer[..length]).replace("\r\n", " "));
            stream.write_all(reply.as_bytes()).await.expect("a reply");
        }
        commands
    }

    #[tokio::test]
    async fn a_message_goes_to_the_master_and_comes_from_the_slave() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let redis = Redis {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().expect("bound").port(),
        };
        let app = App {
            pod: "frontend-1".to_owned(),
            writer: redis.clone(),
            reader: redis,
        };
        let post = request("POST", "/messages", "application/json", "{\"message\":\"hi\"}");
        let replies = [":1\r\n", "+OK\r\n"];
        let (answer, commands) = tokio::join!(app.answer(&post), fake_redis(&listener, &replies));
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(commands[0].contains("RPUSH $8 messages $2 hi"), "{commands:?}");
        let get = request("GET", "/messages", "", "");
        let replies = ["*1\r\n$2\r\nhi\r\n"];
        let (answer, _) = tokio::join!(app.answer(&get), fake_redis(&listener, &replies));
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "{\"messages\":[\"hi\"]}\n")
        );
        let replies = ["-READONLY You can't write against a read only replica.\r\n"];
        let (answer, _) = tokio::join!(app.answer(&post), fake_redis(&listener, &replies));
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("READONLY"), "{answer:?}");
        drop(listener);
        let answer = app.answer(&request("GET", "/", "", "")).await;
        assert_eq!(answer.status, 503);
        assert!(
            answer.body.contains("cannot reach Redis at 127.0.0.1:"),
            "{answer:?}"
        );
    }

    #[tokio::test]
    async fn paths_and_methods() {
        let app = App::configured(|_| None);
        let cases = [
            ("GET", "/healthz", 200),
            ("PUT", "/", 405),
            ("GET", "/nothing", 404),
            ("POST", "/", 400),
        ];
        for (method, path, status) in cases {
            let answer = app.answer(&request(method, path, "", "")).await;
            assert_eq!(answer.status, status, "{method} {path}");
        }
    }
}
