//! The same random requests to this API server and to upstream's, and what differs in the answers.
//!
//! | module | what it holds |
//! |---|---|
//! | [`server`] | our API server alone in this process: no controllers, everybody may do everything |
//! | [`client`] | one request to both servers, and what each answered |
//! | [`schema`] | what our OpenAPI document says: kinds, their paths, their fields |
//! | [`words`] | values for a field: from its name, its description and what other objects have there |
//! | [`random`] | random values of a schema, and random changes of a value |
//! | [`parts`] | what is sent: new objects, updates, statuses, patches, applied configurations |
//! | [`custom`] | definitions of custom kinds, made for real, and objects of them |
//! | [`structural`] | random schemas of custom kinds, and values of them |
//! | [`normal`] | an answer without what chance, clock and counters put into it |
//! | [`report`] | differences by class, the commonest first, each with its smallest example |
//!
//! `cargo xtask compare` starts upstream's server and this program.

mod client;
mod custom;
mod normal;
mod parts;
mod random;
mod report;
mod schema;
mod server;
mod structural;
mod words;

use anyhow::{Context, Result};
use clap::Parser;
use std::path::PathBuf;
use std::sync::Arc;

const OPENAPI: &str = "/openapi/v2";

/// Sends the same random requests to our API server and to another, and tells what differs.
#[derive(Parser)]
#[command(after_help = "Examples:
  compare --kubeconfig upstream.yaml --cases 2000
  compare --kubeconfig upstream.yaml --seed 7 --parts patches,apply --kinds Pod,Service")]
struct Arguments {
    /// How to reach the other API server, as somebody who may do everything.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Cases of each part.
    #[arg(long, default_value_t = 1000)]
    cases: u64,
    /// Where chance begins; the same seed sends the same requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to send; everything when not named.
    #[arg(long, value_delimiter = ',')]
    parts: Vec<parts::Part>,
    /// Only objects of these kinds.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
    /// Classes of differences that are shown.
    #[arg(long, default_value_t = 40)]
    show: usize,
    /// Write every difference into this file, one JSON object a line.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let other = client::of_kubeconfig(&arguments.kubeconfig).await?;
    let server = server::Server::start().await?;
    let pair = Arc::new(client::Pair {
        ours: client::of_address(server.address)?,
        theirs: other,
    });
    pair.theirs.ready().await?;

    let (ours, theirs) = tokio::join!(pair.ours.get(OPENAPI), pair.theirs.get(OPENAPI));
    let (ours, theirs) = (ours.context("our server")?, theirs.context("the other server")?);
    let schemas = Arc::new(schema::Schemas::of(&ours, &theirs, &arguments.kinds)?);
    parts::prepare(&pair).await?;
    let mut report = report::Report::default();
    let wanted = match arguments.parts.is_empty() {
        true => parts::Part::ALL.to_vec(),
        false => arguments.parts,
    };
    for part in wanted {
        if part == parts::Part::Custom {
            custom::run(arguments.cases, arguments.seed, &pair, &mut report).await?;
            continue;
        }
        parts::run(
            part,
            arguments.cases,
            arguments.seed,
            &pair,
            &schemas,
            &mut report,
        )
        .await?;
    }
    if let Some(file) = &arguments.output {
        report.save(file)?;
    }
    print!("{}", report.shown(arguments.show));
    Ok(())
}
