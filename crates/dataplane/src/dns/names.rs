//! The agent's side of cluster DNS: has somebody answer by the present names, and goes on having it.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::frame;
use super::process::{Settings, earlier, end_all, is_answered};
use super::server::{Resolver, Sockets};
use super::zone::Zone;
use crate::config::NetConfig;
use crate::model::Service;

/// How long a new process may take until it answers, and one that is told names until it has taken them.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long nobody is started after one that failed.
const PAUSE: Duration = Duration::from_secs(1);

type Snapshots = watch::Receiver<Option<Arc<Zone>>>;

/// The present names; whoever answers stops with the token, a process of its own only listens to nobody then.
pub(crate) struct Names {
    domain: String,
    snapshot: watch::Sender<Option<Arc<Zone>>>,
    /// Whether somebody answers by them.
    answered: watch::Receiver<bool>,
}

impl Names {
    /// Sees to it that cluster DNS can be answered; it is from the first [`Self::set_services`] on.
    pub async fn start(config: &NetConfig, stop: CancellationToken) -> io::Result<Self> {
        let (snapshot, snapshots) = watch::channel(None);
        let (answering, answered) = watch::channel(false);
        if config.dns_program.is_empty() {
            let sockets = Sockets::bind(config.cluster_dns, false)?;
            let work = answer_here(sockets, config.upstream_dns.clone(), snapshots, answering);
            tokio::spawn(stop.run_until_cancelled_owned(work));
        } else {
            if !is_answered(&config.state_dir)? {
                // Who else is on that port is told at the start, not later.
                drop(Sockets::bind(config.cluster_dns, true)?);
            }
            let settings = Settings::of(config);
            let keeper = Keeper {
                program: config.dns_program.clone(),
                settings,
            };
            let work = async move { keeper.keep(snapshots, answering).await };
            tokio::spawn(stop.run_until_cancelled_owned(work));
        }
        Ok(Self {
            domain: config.domain.clone(),
            snapshot,
            answered,
        })
    }

    /// Replaces the names. The first time they are answered by when this returns, unless that takes too long.
    pub async fn set_services(&self, services: &[Service]) {
        let zone = Zone::of(&self.domain, services);
        let mut is_first = false;
        self.snapshot.send_if_modified(|present| {
            is_first = present.is_none();
            let differs = present.as_deref() != Some(&zone);
            if differs {
                *present = Some(Arc::new(zone));
            }
            differs
        });
        let mut answered = self.answered.clone();
        let is_answered = answered.wait_for(|is| *is);
        if is_first && tokio::time::timeout(ANSWER_LIMIT, is_answered).await.is_err() {
            tracing::warn!("cluster DNS is not answered yet: the network goes on without it");
        }
    }
}

async fn answer_here(
    sockets: Sockets,
    upstream: Vec<std::net::Ipv4Addr>,
    mut snapshots: Snapshots,
    answering: watch::Sender<bool>,
) {
    let Some(zone) = first(&mut snapshots).await else {
        return;
    };
    let resolver = Resolver::new(zone, upstream);
    answering.send_replace(true);
    let follow = async {
        while snapshots.changed().await.is_ok() {
            let zone = snapshots.borrow_and_update().clone();
            zone.into_iter().for_each(|zone| resolver.set(zone));
        }
    };
    tokio::join!(resolver.serve(sockets), follow);
}

/// The first names; `None` when there will be none.
async fn first(snapshots: &mut Snapshots) -> Option<Arc<Zone>> {
    snapshots.wait_for(Option::is_some).await.ok()?.clone()
}

/// Keeps a process at it.
struct Keeper {
    program: Vec<String>,
    settings: Settings,
}

impl Keeper {
    async fn keep(self, mut snapshots: Snapshots, answering: watch::Sender<bool>) {
        while let Some(zone) = first(&mut snapshots).await {
            match self.run(zone, &mut snapshots, &answering).await {
                Ok(()) => return,
                Err(error) => tracing::warn!("cluster DNS is answered by a new process: {error}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Has a new process answer instead of those that did, until it fails or nobody has names for it any more.
    async fn run(
        &self,
        zone: Arc<Zone>,
        snapshots: &mut Snapshots,
        answering: &watch::Sender<bool>,
    ) -> io::Result<()> {
        let earlier = earlier(&self.settings.state_dir)?;
        let (mut child, mut pipe) = self.start(&zone).await?;
        // Both listen for a moment, so that no question meets nobody.
        for error in tokio::task::spawn_blocking(move || end_all(earlier)).await? {
            tracing::warn!("cluster DNS is still answered by an earlier process, too: {error}");
        }
        answering.send_replace(true);
        let mut told = zone;
        loop {
            let present = snapshots.borrow_and_update().clone();
            if let Some(present) = present.filter(|present| !Arc::ptr_eq(present, &told)) {
                within(frame::write(&mut pipe, &present)).await?;
                told = present;
            }
            tokio::select! {
                status = child.wait() => return Err(io::Error::other(format!("the one before ended: {}", status?))),
                changed = snapshots.changed() => if changed.is_err() {
                    return Ok(());
                }
            }
        }
    }

    async fn start(&self, zone: &Zone) -> io::Result<(Child, ChildStdin)> {
        let [program, arguments @ ..] = self.program.as_slice() else {
            return Err(io::Error::other("no program is named"));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Whoever reads what the agent says would wait for the end of this process, too.
            .stderr(Stdio::null())
            .current_dir("/")
            // What a terminal tells the agent is not meant for it.
            .process_group(0)
            .spawn()?;
        let (Some(mut pipe), Some(said)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipe to the process"));
        };
        let mut word = String::new();
        within(async {
            frame::write(&mut pipe, &self.settings).await?;
            frame::write(&mut pipe, zone).await?;
            BufReader::new(said).read_line(&mut word).await
        })
        .await?;
        match word.trim_end() {
            super::process::READY => Ok((child, pipe)),
            "" => Err(io::Error::other("it ended at once")),
            error => Err(io::Error::other(error.to_owned())),
        }
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(ANSWER_LIMIT, work).await?
}
