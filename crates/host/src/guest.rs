//! The session with the guest agent of one VM: connects, lists, follows events, and connects again when the channel
//! breaks, until the VM is gone.
//!
//! One task owns the connection. Everybody else takes a client from [`Guest::client`], which waits while there is none.

use std::sync::Arc;
use std::time::Duration;

use guest_api::GuestClient;
use guest_api::v1::{Container, EventsRequest, HelloRequest, ListContainersRequest};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vmm::Vm;

/// Between two attempts to open a channel.
const RETRY: Duration = Duration::from_millis(100);
/// The same after sessions that ended soon, again and again: a guest that speaks rubbish is not listened to all the time.
const MOST_RETRY: Duration = Duration::from_secs(5);
/// How long one call for the state may take.
const CALL: Duration = Duration::from_secs(30);
/// How long a guest that once answered may be silent before it counts as hung, unless the configuration says otherwise. An
/// emulated guest on a busy host is slow, but its agent is not silent for a minute.
pub const SILENCE: Duration = Duration::from_secs(60);
/// How long a caller waits for a session.
const SESSION: Duration = Duration::from_secs(30);

/// What the session tells the owner.
#[derive(Debug)]
pub enum GuestEvent {
    /// A session stands, and these are all containers that there were when the guest was asked for them, which was not
    /// before `asked`: of a container that has begun since they may not tell.
    Connected {
        containers: Vec<Container>,
        asked: Instant,
    },
    /// A container changed.
    Changed(Container),
    /// The guest has not answered for a minute though its VM runs; nothing more will come.
    Silent,
}

/// There is no session and there will be none in time.
#[derive(Debug, thiserror::Error)]
#[error("the guest agent cannot be reached")]
pub struct GuestGone;

/// The way to a guest.
#[derive(Debug, Clone)]
pub struct Guest {
    clients: watch::Receiver<Option<GuestClient>>,
}

impl Guest {
    /// Starts the session task; it ends with the token. A guest that says nothing for `silence` is reported. Its clock
    /// follows the host's, at once when `clock` changes.
    pub fn attach(
        vm: Arc<dyn Vm>,
        events: mpsc::Sender<GuestEvent>,
        cancel: CancellationToken,
        silence: Duration,
        clock: watch::Receiver<u64>,
    ) -> Self {
        let (sender, clients) = watch::channel(None);
        tokio::spawn(cancel.run_until_cancelled_owned(async move {
            // Counted from the end of a session: a guest that boots is nobody's to judge here.
            let (mut silent_since, mut retry) = (None, RETRY);
            loop {
                let begun = Instant::now();
                if let Err(error) = session(&vm, &sender, &events, clock.clone()).await {
                    tracing::debug!(vm = %vm.id(), error, "guest session");
                }
                if sender.send_replace(None).is_some() {
                    silent_since = Some(Instant::now());
                }
                if silent_since.is_some_and(|since| since.elapsed() >= silence) {
                    if vm.stands_still().await {
                        // It cannot answer; when it goes on it has its time.
                        silent_since = Some(Instant::now());
                        continue;
                    }
                    let _ = events.send(GuestEvent::Silent).await;
                    return;
                }
                if events.is_closed() {
                    return;
                }
                tokio::time::sleep(retry).await;
                retry = match begun.elapsed() > MOST_RETRY {
                    true => RETRY,
                    false => (retry * 2).min(MOST_RETRY),
                };
            }
        }));
        Self { clients }
    }

    /// A client, as soon as there is a session.
    pub async fn client(&self) -> Result<GuestClient, GuestGone> {
        let mut clients = self.clients.clone();
        let found = tokio::time::timeout(SESSION, clients.wait_for(Option::is_some)).await;
        match found {
            Ok(Ok(client)) => client.clone().ok_or(GuestGone),
            _ => Err(GuestGone),
        }
    }
}

async fn session(
    vm: &Arc<dyn Vm>,
    clients: &watch::Sender<Option<GuestClient>>,
    events: &mpsc::Sender<GuestEvent>,
    clock: watch::Receiver<u64>,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let channel = vm.channel().await.map_err(|error| text(&error))?;
    let mut client = guest_api::connect(channel, rand::random())
        .await
        .map_err(|error| text(&error))?;
    let calls = async {
        let hello = client.hello(HelloRequest {}).await?.into_inner();
        // Events first, then the list: nothing falls between.
        let stream = client.events(EventsRequest {}).await?.into_inner();
        let asked = Instant::now();
        let list = client
            .list_containers(ListContainersRequest {})
            .await?
            .into_inner();
        Ok::<_, tonic::Status>((hello, stream, list.containers, asked))
    };
    let (hello, mut stream, containers, asked) = tokio::time::timeout(CALL, calls)
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|status| status.to_string())?;
    tracing::debug!(vm = %vm.id(), kernel = hello.kernel, ready_after_us = hello.ready_after_us, "guest session");
    clients.send_replace(Some(client.clone()));
    let send = |event| async { events.send(event).await.map_err(|_| "nobody listens".to_owned()) };
    send(GuestEvent::Connected { containers, asked }).await?;
    let follow = async {
        loop {
            match stream.message().await.map_err(|status| status.to_string())? {
                Some(event) => {
                    if let Some(container) = event.container {
                        send(GuestEvent::Changed(container)).await?;
                    }
                }
                None => return Err("the channel ended".to_owned()),
            }
        }
    };
    tokio::select! {
        ended = follow => ended,
        () = crate::clock::keep(client, clock) => Ok(()),
    }
}
