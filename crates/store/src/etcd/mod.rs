//! The etcd store: a real etcd v3, for more than one Supervisor.
//!
//! Every write is one transaction that compares and puts. A watch follows the whole key space and keeps what is under
//! its prefix, so that a watcher learns of every revision, also of those that concern others.

mod messages;
mod tls;

pub use tls::EtcdTls;

use crate::contract::{Batch, Event, EventKind, Page, Record, Revision, Store, StoreError, Watch};
use bytes::Bytes;
use messages::{
    CompactionRequest, CompactionResponse, Compare, CompareTo, DeleteRequest, KeyValue, PutRequest,
    RangeRequest, RangeResponse, Request, RequestOp, TxnRequest, TxnResponse, WatchCreate, WatchRequest,
    WatchResponse,
};
use prost::Message;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};
use tonic_prost::ProstCodec;

/// Time that one request may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two attempts to reach a member.
const PAUSE: Duration = Duration::from_millis(20);
/// Batches that may wait for a watcher.
const QUEUE: usize = 256;
/// Largest answer, in bytes: a list of a large cluster.
const MAX_ANSWER: usize = 1 << 30;
/// First and last key of everything.
const ALL: [u8; 1] = [0];

/// A [`Store`] in etcd.
pub struct EtcdStore {
    channel: Channel,
    oldest: AtomicU64,
    closed: watch::Sender<bool>,
}

fn path(text: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(text)
}

/// The end of the range of keys that begin with `prefix`.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    ALL.to_vec()
}

fn record(kv: KeyValue) -> Record {
    Record {
        key: kv.key,
        value: kv.value,
        revision: Revision(kv.mod_revision as u64),
        created: Revision(kv.create_revision as u64),
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

impl EtcdStore {
    /// Connects to a cluster by the addresses of its members, e.g. `http://127.0.0.1:2379`. Connects when first used
    /// and again when a connection is lost.
    pub fn connect(endpoints: &[String]) -> Result<EtcdStore, StoreError> {
        let parsed: Result<Vec<Endpoint>, _> = endpoints
            .iter()
            .map(|e| Endpoint::from_shared(e.clone()).map(|e| e.connect_timeout(DEADLINE).tcp_nodelay(true)))
            .collect();
        let parsed = parsed.map_err(|e| StoreError::unavailable(format!("bad etcd address: {e}")))?;
        if parsed.is_empty() {
            return Err(StoreError::unavailable("no etcd address is given"));
        }
        Ok(EtcdStore::on(Channel::balance_list(parsed.into_iter())))
    }

    /// Connects over TLS to a cluster by `HOST:PORT` of its members; each must show a certificate for that host.
    ///
    /// # Errors
    /// When an address or one of the certificates cannot be read. Members are asked when the store is first used.
    pub fn connect_tls(members: &[String], tls: &EtcdTls) -> Result<EtcdStore, StoreError> {
        Ok(EtcdStore::on(tls::channel(members, tls)?))
    }

    fn on(channel: Channel) -> EtcdStore {
        EtcdStore {
            channel,
            oldest: AtomicU64::new(0),
            closed: watch::Sender::new(false),
        }
    }

    fn client(&self) -> Result<Grpc<Channel>, StoreError> {
        if *self.closed.borrow() {
            return Err(StoreError::unavailable("closed"));
        }
        Ok(Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER))
    }

    async fn call<Q, A>(&self, at: &'static str, request: Q) -> Result<A, StoreError>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut client = self.client()?;
        let mut refused = None;
        let work = async {
            loop {
                client.ready().await.map_err(StoreError::unavailable)?;
                let codec: ProstCodec<Q, A> = ProstCodec::default();
                let sent = tonic::Request::new(request.clone());
                match client.unary(sent, path(at), codec).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    // A member that cannot be reached has seen nothing of it: another one may be asked, for a write, too.
                    Err(status) if was_not_sent(&status) && !tls::is_refusal(&status) => {
                        refused = Some(status);
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(status) => return Err(self.failed(&status)),
                }
            }
        };
        let outcome = tokio::time::timeout(DEADLINE, work).await;
        outcome.unwrap_or_else(|_| {
            Err(StoreError::unavailable(match refused {
                Some(status) => format!("etcd cannot be reached: {}", causes(&status)),
                None => "etcd did not answer in time".to_owned(),
            }))
        })
    }

    /// A refusal in the words of the contract. `Future` is told without its revision, which the caller adds.
    fn failed(&self, status: &tonic::Status) -> StoreError {
        if status.code() == Code::OutOfRange && status.message().contains("compacted") {
            return StoreError::Compacted {
                oldest: Revision(self.oldest.load(Ordering::Relaxed)),
            };
        }
        if status.code() == Code::OutOfRange && status.message().contains("future") {
            return StoreError::Future { current: Revision(0) };
        }
        StoreError::unavailable(format!("etcd: {}", causes(status)))
    }

    async fn range(&self, request: RangeRequest) -> Result<(RangeResponse, Revision), StoreError> {
        let at = request.revision;
        if at > 0 {
            // etcd answers an old revision as long as it has it; we keep to what we said is gone.
            self.readable(Revision(at as u64))?;
        }
        match self
            .call::<_, RangeResponse>("/etcdserverpb.KV/Range", request)
            .await
        {
            Ok(answer) => {
                let now = answer.header.as_ref().map_or(0, |h| h.revision);
                let shown = if at > 0 { at } else { now };
                Ok((answer, Revision(shown as u64)))
            }
            Err(StoreError::Future { .. }) => Err(StoreError::Future {
                current: self.current().await?,
            }),
            Err(e) => Err(e),
        }
    }

    fn readable(&self, at: Revision) -> Result<(), StoreError> {
        let oldest = Revision(self.oldest.load(Ordering::Relaxed));
        if at < oldest {
            Err(StoreError::Compacted { oldest })
        } else {
            Ok(())
        }
    }

    /// Puts or deletes when the comparison holds; else answers what stands there, if anything.
    async fn write(
        &self,
        key: Bytes,
        compare: CompareTo,
        then: Request,
    ) -> Result<Result<Revision, Option<Record>>, StoreError> {
        let target = if matches!(compare, CompareTo::Create(_)) {
            1
        } else {
            2
        };
        let present = RangeRequest {
            key: key.to_vec(),
            ..RangeRequest::default()
        };
        let request = TxnRequest {
            compare: vec![Compare {
                result: 0,
                target,
                key,
                to: Some(compare),
            }],
            success: vec![op(then)],
            failure: vec![op(Request::Range(present))],
        };
        let answer = self.txn(request).await?;
        if answer.succeeded {
            return Ok(Ok(Revision(answer.header.map_or(0, |h| h.revision) as u64)));
        }
        let found = answer.responses.into_iter().find_map(|r| r.range);
        Ok(Err(found.and_then(|r| r.kvs.into_iter().next()).map(record)))
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        self.call("/etcdserverpb.KV/Txn", request).await
    }

    async fn open_watch(&self, after: Revision) -> Result<Streaming<WatchResponse>, StoreError> {
        let work = async {
            loop {
                match self.try_watch(after).await? {
                    Ok(stream) => return Ok(stream),
                    // As for other requests: another member may be there.
                    Err(status) if was_not_sent(&status) => tokio::time::sleep(PAUSE).await,
                    Err(status) => return Err(self.failed(&status)),
                }
            }
        };
        let outcome = tokio::time::timeout(DEADLINE, work).await;
        outcome.unwrap_or_else(|_| Err(StoreError::unavailable("etcd did not answer in time")))
    }

    async fn try_watch(
        &self,
        after: Revision,
    ) -> Result<Result<Streaming<WatchResponse>, tonic::Status>, StoreError> {
        let mut client = self.client()?;
        let create = WatchCreate {
            key: ALL.to_vec(),
            range_end: ALL.to_vec(),
            start_revision: after.0 as i64 + 1,
            prev_kv: true,
        };
        let (keep_open, requests) = mpsc::channel::<WatchRequest>(1);
        let first = WatchRequest { create: Some(create) };
        keep_open
            .try_send(first)
            .map_err(|_| StoreError::unavailable("the watch could not be asked for"))?;
        let mut closed = self.closed.subscribe();
        tokio::spawn(async move {
            // The request stream stays open as long as the store.
            let _ = closed.wait_for(|c| *c).await;
            drop(keep_open);
        });
        client.ready().await.map_err(StoreError::unavailable)?;
        let requests = futures::stream::unfold(requests, |mut r| async move { Some((r.recv().await?, r)) });
        let codec: ProstCodec<WatchRequest, WatchResponse> = ProstCodec::default();
        let at = path("/etcdserverpb.Watch/Watch");
        let answer = client.streaming(tonic::Request::new(requests), at, codec).await;
        Ok(answer.map(tonic::Response::into_inner))
    }
}

/// An error with what lies behind it: "connect error" alone helps nobody.
fn causes(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// Whether the connection to the member that was to be asked could not be made.
fn was_not_sent(status: &tonic::Status) -> bool {
    status.code() == Code::Unavailable && status.message().contains("connect error")
}

/// The events of an answer under a prefix, and the revision it reaches.
fn batch(answer: WatchResponse, prefix: &[u8]) -> Result<Option<Batch>, StoreError> {
    if answer.compact_revision > 0 {
        return Err(StoreError::Compacted {
            oldest: Revision(answer.compact_revision as u64),
        });
    }
    if answer.canceled {
        return Err(StoreError::unavailable(format!(
            "etcd ended the watch: {}",
            answer.cancel_reason
        )));
    }
    let Some(last) = answer
        .events
        .last()
        .and_then(|e| e.kv.as_ref())
        .map(|kv| kv.mod_revision)
    else {
        return Ok(None);
    };
    let events = answer.events.into_iter().filter_map(|event| {
        let kv = event.kv?;
        if !kv.key.starts_with(prefix) {
            return None;
        }
        let (kind, record) = match (event.kind, event.prev_kv) {
            (0, _) if kv.create_revision == kv.mod_revision => (EventKind::Created, record(kv)),
            (0, _) => (EventKind::Updated, record(kv)),
            (_, before) => {
                let before = before.unwrap_or_default();
                let last = KeyValue {
                    key: kv.key,
                    mod_revision: kv.mod_revision,
                    ..before
                };
                (EventKind::Deleted, record(last))
            }
        };
        Some(Event { kind, record })
    });
    Ok(Some(Batch {
        events: events.collect(),
        revision: Revision(last as u64),
    }))
}

#[async_trait::async_trait]
impl Store for EtcdStore {
    fn name(&self) -> &'static str {
        "etcd"
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<Record>, Revision), StoreError> {
        let revision = at.map_or(0, |r| r.0 as i64);
        let request = RangeRequest {
            key: key.to_vec(),
            revision,
            ..RangeRequest::default()
        };
        let (answer, at) = self.range(request).await?;
        Ok((answer.kvs.into_iter().next().map(record), at))
    }

    async fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        let key = match after {
            Some(after) if after >= prefix => [after, &[0]].concat(),
            _ => prefix.to_vec(),
        };
        let request = RangeRequest {
            key,
            range_end: prefix_end(prefix),
            limit: limit as i64,
            revision: at.map_or(0, |r| r.0 as i64),
            count_only: false,
        };
        let (answer, revision) = self.range(request).await?;
        Ok(Page {
            records: answer.kvs.into_iter().map(record).collect(),
            more: answer.more,
            revision,
        })
    }

    async fn create(&self, key: Bytes, value: Bytes) -> Result<Revision, StoreError> {
        let put = Request::Put(PutRequest {
            key: key.clone(),
            value,
        });
        match self.write(key, CompareTo::Create(0), put).await? {
            Ok(revision) => Ok(revision),
            Err(Some(there)) => Err(StoreError::Exists(Box::new(there))),
            Err(None) => Err(StoreError::unavailable("etcd refused a key that is not there")),
        }
    }

    async fn update(&self, key: Bytes, value: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        let put = Request::Put(PutRequest {
            key: key.clone(),
            value,
        });
        match self
            .write(key.clone(), CompareTo::Mod(expected.0 as i64), put)
            .await?
        {
            Ok(revision) => Ok(revision),
            Err(Some(there)) => Err(StoreError::Conflict(Box::new(there))),
            Err(None) => Err(StoreError::NotFound),
        }
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        let delete = Request::Delete(DeleteRequest { key: key.clone() });
        match self.write(key, CompareTo::Mod(expected.0 as i64), delete).await? {
            Ok(revision) => Ok(revision),
            Err(Some(there)) => Err(StoreError::Conflict(Box::new(there))),
            Err(None) => Err(StoreError::NotFound),
        }
    }

    async fn watch(&self, prefix: &[u8], after: Revision) -> Result<Watch, StoreError> {
        self.readable(after)?;
        let current = self.current().await?;
        if after > current {
            return Err(StoreError::Future { current });
        }
        let mut stream = self.open_watch(after).await?;
        // The first batch is what had happened already. A new etcd is at revision 1, which wrote nothing.
        let mut history = Vec::new();
        let mut reached = after.max(Revision(1));
        while reached < current {
            let next = tokio::time::timeout(DEADLINE, stream.message()).await;
            let next = next.map_err(|_| StoreError::unavailable("etcd did not send its history in time"))?;
            let answer = next.map_err(|status| self.failed(&status))?;
            let answer = answer.ok_or_else(|| StoreError::unavailable("etcd ended the watch"))?;
            if let Some(batch) = batch(answer, prefix)? {
                reached = batch.revision;
                history.extend(batch.events.iter().cloned());
            }
        }
        let (queue, events) = mpsc::channel(QUEUE);
        let first = Batch {
            events: history.into(),
            revision: reached.max(current),
        };
        let _ = queue.try_send(Ok(first));
        let (prefix, mut closed) = (prefix.to_vec(), self.closed.subscribe());
        tokio::spawn(async move {
            loop {
                let answer = tokio::select! {
                    _ = closed.wait_for(|c| *c) => return,
                    () = queue.closed() => return,
                    answer = stream.message() => answer,
                };
                let told = match answer {
                    Ok(None) => return,
                    Ok(Some(answer)) => match batch(answer, &prefix) {
                        Ok(None) => continue,
                        Ok(Some(batch)) => Ok(batch),
                        Err(e) => Err(e),
                    },
                    Err(status) => Err(StoreError::unavailable(format!("etcd: {}", status.message()))),
                };
                let last = told.is_err();
                if queue.send(told).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Watch { events })
    }

    async fn compact(&self, keep: Revision) -> Result<(), StoreError> {
        let current = self.current().await?;
        if keep > current {
            return Err(StoreError::Future { current });
        }
        if keep.0 == 0 || keep.0 <= self.oldest.load(Ordering::Relaxed) {
            return Ok(());
        }
        let request = CompactionRequest {
            revision: keep.0 as i64,
        };
        match self
            .call::<_, CompactionResponse>("/etcdserverpb.KV/Compact", request)
            .await
        {
            // Another Supervisor compacted further already.
            Ok(_) | Err(StoreError::Compacted { .. }) => {
                self.oldest.fetch_max(keep.0, Ordering::Relaxed);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        let request = RangeRequest {
            key: ALL.to_vec(),
            count_only: true,
            ..RangeRequest::default()
        };
        Ok(self.range(request).await?.1)
    }

    /// What this client knows of; others may have compacted further, which reads then say.
    async fn oldest(&self) -> Result<Revision, StoreError> {
        Ok(Revision(self.oldest.load(Ordering::Relaxed)))
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.current().await.map(|_| ())
    }

    async fn close(&self) {
        self.closed.send_replace(true);
    }
}
