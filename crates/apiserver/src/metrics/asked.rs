//! Who asked, and whether they might: authentication, authorization, client certificates.

use super::{Latency, head};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the times that client certificates had left, in seconds: upstream's.
const LEFT: [f64; 14] = [
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];
/// Users that are told apart; the others are `other`, as names of theirs could be as many as they like.
const NAMED: [&str; 3] = ["admin", "system:kube-controller-manager", "system:kube-scheduler"];

/// Counters of one server.
#[derive(Default)]
pub struct Asked {
    users: Mutex<BTreeMap<&'static str, u64>>,
    /// Credentials that were believed, and that were not.
    attempts: [AtomicU64; 2],
    /// Requests that were allowed, denied, and that nobody allowed.
    decisions: [AtomicU64; 3],
    certificates: Mutex<Latency<{ LEFT.len() }>>,
    handshake_errors: AtomicU64,
}

/// Whether a request was allowed.
#[derive(Clone, Copy)]
pub enum Verdict {
    /// It was.
    Allowed,
    /// An authorizer forbids it.
    Denied,
    /// No authorizer allows it.
    NoOpinion,
}

impl Asked {
    /// A request with credentials came; `user` is whose they are, if they are good.
    pub fn authenticated(&self, user: Option<&str>) {
        self.attempts[usize::from(user.is_none())].fetch_add(1, Ordering::Relaxed);
        if let Some(user) = user {
            let name = NAMED
                .iter()
                .find(|name| **name == user)
                .copied()
                .unwrap_or("other");
            *self.users.lock().entry(name).or_default() += 1;
        }
    }

    /// A client certificate was used that ends in so many seconds.
    pub fn certificate(&self, left: f64) {
        self.certificates.lock().add_to(left, &LEFT);
    }

    /// An authorizer has decided.
    pub fn decided(&self, verdict: Verdict) {
        self.decisions[verdict as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A client could not agree with us on TLS.
    pub fn handshake_failed(&self) {
        self.handshake_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets what was counted.
    pub fn reset(&self) {
        self.users.lock().clear();
        *self.certificates.lock() = Latency::default();
        let counters = self.attempts.iter().chain(&self.decisions);
        for counter in counters.chain([&self.handshake_errors]) {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// The exposition text.
    pub fn render(&self, out: &mut String) {
        // Writing into a string cannot fail.
        let name = "authenticated_user_requests";
        head(
            out,
            name,
            "counter",
            "Counter of authenticated requests broken out by username.",
        );
        for (user, count) in self.users.lock().iter() {
            let _ = writeln!(out, "{name}{{username=\"{user}\"}} {count}");
        }
        let results = |out: &mut String, name: &str, help: &str, counts: &[AtomicU64], words: &[&str]| {
            head(out, name, "counter", help);
            for (count, word) in counts.iter().zip(words) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let _ = writeln!(out, "{name}{{result=\"{word}\"}} {count}");
                }
            }
        };
        let help = "Counter of authenticated attempts.";
        results(
            out,
            "authentication_attempts",
            help,
            &self.attempts,
            &["success", "failure"],
        );
        let help = "Counter of authorization attempts broken down by result.";
        let words = ["allowed", "denied", "no-opinion"];
        results(out, "authorization_attempts_total", help, &self.decisions, &words);
        let name = "apiserver_client_certificate_expiration_seconds";
        let help =
            "Distribution of the remaining lifetime on the certificate used to authenticate a request.";
        head(out, name, "histogram", help);
        self.certificates.lock().render_with(out, name, "", &LEFT);
        let name = "apiserver_tls_handshake_errors_total";
        head(
            out,
            name,
            "counter",
            "Number of requests dropped with TLS errors.",
        );
        let _ = writeln!(out, "{name} {}", self.handshake_errors.load(Ordering::Relaxed));
    }
}
