//! `podvisor pod`: what stands behind a Pod: its VM, disks, channel, and how long each step of its start took.
//!
//! The host agent tells it, by way of the API server, which asks who wants to know (`nodes/proxy`).

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use serde_json::Value;

use crate::config::Places;

/// What can be done with Pods.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Show the VM behind a Pod: disks, channel, shares, cgroup, user, and the timings of its start.
    #[command(after_help = "Examples:
  podvisor pod inspect web
  podvisor pod inspect web -n shop
  podvisor pod inspect web -n shop -o json | jq .vm.pid")]
    Inspect {
        /// The Pod's name.
        name: String,
        /// Its namespace.
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
        #[command(flatten)]
        places: Places,
    },
}

/// Forms of output.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Runs the command.
pub fn run(command: &Command) -> Result<()> {
    let Command::Inspect {
        name,
        namespace,
        output,
        places,
    } = command;
    let data_dir = places.resolve().data_dir;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let object = runtime.block_on(async {
        let client = super::administrator(&data_dir).await?;
        ask(client, namespace, name).await
    })?;
    let text = match output {
        Output::Json => serde_json::to_string_pretty(&object)? + "\n",
        Output::Text => render(&object),
    };
    match std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()) {
        // A reader that has seen enough, such as `head`, is no fault.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

async fn ask(client: kube::Client, namespace: &str, name: &str) -> Result<Value> {
    let pod = Api::<Pod>::namespaced(client.clone(), namespace)
        .get(name)
        .await?;
    let node = pod
        .spec
        .and_then(|spec| spec.node_name)
        .with_context(|| format!("pod {namespace}/{name} is not bound to a host yet"))?;
    let path = format!("/api/v1/nodes/{node}/proxy/inspect/{namespace}/{name}");
    let request = http::Request::get(path).body(Vec::new())?;
    let text = client
        .request_text(request)
        .await
        .with_context(|| format!("the agent of host {node} does not tell"))?;
    serde_json::from_str(&text).with_context(|| format!("the agent of host {node} answered: {text}"))
}

fn render(object: &Value) -> String {
    let mut text = String::new();
    let mut line = |indent: usize, name: &str, value: &Value| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        text += &format!(
            "{:indent$}{:<width$}{value}\n",
            "",
            format!("{name}:"),
            width = 30 - indent
        );
    };
    let title = |key: &str| {
        let mut words = String::new();
        for (index, letter) in key.chars().enumerate() {
            match (index, letter.is_ascii_uppercase()) {
                (0, _) => words.extend(letter.to_uppercase()),
                (_, true) if !words.ends_with(|last: char| last.is_ascii_uppercase()) => {
                    words.push(' ');
                    words.push(letter);
                }
                _ => words.push(letter),
            }
        }
        words.replace("Mi B", "MiB")
    };
    const ORDER: [&str; 12] = [
        "namespace",
        "name",
        "uid",
        "node",
        "stage",
        "logs",
        "vm",
        "guest",
        "disks",
        "shares",
        "start",
        "containers",
    ];
    for key in ORDER {
        match &object[key] {
            Value::Null => {}
            Value::Object(fields) => {
                line(0, &title(key), &Value::String(String::new()));
                for (name, value) in fields {
                    line(2, &title(name), value);
                }
            }
            Value::Array(items) => {
                line(0, &title(key), &Value::String(String::new()));
                for item in items {
                    line(2, &head(key, item), &Value::String(detail(key, item)));
                }
            }
            plain => line(0, &title(key), plain),
        }
    }
    text
}

fn head(list: &str, item: &Value) -> String {
    let field = match list {
        "disks" => "serial",
        "shares" => "tag",
        "start" => "phase",
        _ => "name",
    };
    item[field].as_str().unwrap_or_default().to_owned()
}

fn detail(list: &str, item: &Value) -> String {
    let word = |name: &str| match &item[name] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let mode = if item["readOnly"] == true {
        "read-only"
    } else {
        "writable"
    };
    match list {
        "disks" => format!(
            "{}, {mode}, {} bytes, {}",
            word("for"),
            word("bytes"),
            word("file")
        ),
        "shares" => format!("{mode}, {}", word("directory")),
        "start" => format!("{} ms", word("millis")),
        _ => format!(
            "{}, {}, run {}, {} restart(s), disk {}",
            word("role"),
            word("state"),
            word("run"),
            word("restarts"),
            word("disk")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_read_it() {
        let object = json!({"namespace": "shop", "name": "web", "stage": "Running",
            "vm": {"memoryMiB": 512, "runDirectory": "/run/x"},
            "disks": [{"serial": "scratch", "for": "layers", "bytes": 5, "file": "/d", "readOnly": false}],
            "start": [{"phase": "network", "millis": 12}],
            "containers": [{"name": "app", "role": "main", "state": "running", "run": "app_0", "restarts": 0, "disk": "i1"}]});
        assert_eq!(
            render(&object),
            concat!(
                "Namespace:                    shop\n",
                "Name:                         web\n",
                "Stage:                        Running\n",
                "Vm:                           \n",
                "  Memory MiB:                 512\n",
                "  Run Directory:              /run/x\n",
                "Disks:                        \n",
                "  scratch:                    layers, writable, 5 bytes, /d\n",
                "Start:                        \n",
                "  network:                    12 ms\n",
                "Containers:                   \n",
                "  app:                        main, running, run app_0, 0 restart(s), disk i1\n",
            )
        );
    }
}
