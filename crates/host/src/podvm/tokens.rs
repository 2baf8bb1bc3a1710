//! Service-account tokens in a Pod's volumes: asked for, held, and renewed in time (kubelet: `token_manager.go`).
//!
//! A token that cannot be renewed is used for as long as it is good, and asked for again every few seconds: the API server
//! may be gone for most of the last fifth of a life, and is asked soon after it is back. Time comes from the caller, so
//! that the rules can be tested as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use tokio::time::Instant;

use super::Context;
use crate::volumes::{Token, Tokens};

/// Tokens are renewed after four fifths of their life, and once a day.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Renewals come earlier by up to this much, so that those of many Pods do not come together.
const JITTER: Duration = Duration::from_secs(10);
/// First and longest pause after an attempt that failed.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// A token that was issued.
#[derive(Debug, Clone)]
struct Issued {
    text: String,
    renew: Instant,
    end: Instant,
}

/// The tokens of one Pod.
#[derive(Debug, Clone, Default)]
pub struct HeldTokens {
    held: BTreeMap<Token, Issued>,
    /// After attempts that failed: when to try again, and the pause after that.
    again: Option<(Instant, Duration)>,
}

impl HeldTokens {
    /// Asks for what is wanted and missing, or due.
    pub async fn renew(&mut self, context: &Context, pod: &Pod, wanted: &[Token]) {
        let mut answers = Vec::new();
        for token in self.lacking(wanted, Instant::now()) {
            let answer = request(context, pod, &token).await;
            answers.push((token, answer));
        }
        self.take(answers, Instant::now());
    }

    /// What is wanted and missing, or due.
    fn lacking(&self, wanted: &[Token], now: Instant) -> Vec<Token> {
        let lacks = |token: &&Token| self.held.get(*token).is_none_or(|issued| issued.renew <= now);
        wanted.iter().filter(lacks).cloned().collect()
    }

    /// Takes the answers to what was lacking: tokens with their lives, or nothing where there was none to get.
    fn take(&mut self, answers: Vec<(Token, Option<(String, Duration)>)>, now: Instant) {
        let mut failed = false;
        for (token, answer) in answers {
            let Some((text, life)) = answer else {
                failed = true;
                continue;
            };
            let jitter = JITTER.min(life / 10).mul_f64(rand::random());
            let issued = Issued {
                text,
                renew: now + (life / 5 * 4).min(DAY) - jitter,
                end: now + life,
            };
            self.held.insert(token, issued);
        }
        self.held.retain(|_, issued| now < issued.end);
        let pause = self.again.map_or(PAUSE.0, |(_, pause)| pause);
        self.again = failed.then(|| (now + pause, (pause * 2).min(PAUSE.1)));
    }

    /// By another clock they may have expired, or not yet begun: all are due.
    pub fn distrust(&mut self, now: Instant) {
        for issued in self.held.values_mut() {
            issued.renew = now;
        }
    }

    /// When to renew next.
    pub fn due(&self) -> Option<Instant> {
        if let Some((again, _)) = self.again {
            return Some(again);
        }
        self.held.values().map(|issued| issued.renew).min()
    }

    /// The tokens themselves.
    pub fn texts(&self) -> Tokens {
        let texts = self.held.iter();
        texts
            .map(|(token, issued)| (token.clone(), issued.text.clone()))
            .collect()
    }
}

/// A token of the Pod's service account, bound to the Pod: it dies with it. Answers its life, too.
async fn request(context: &Context, pod: &Pod, wanted: &Token) -> Option<(String, Duration)> {
    let namespace = pod.metadata.namespace.as_deref()?;
    let account = pod
        .spec
        .as_ref()?
        .service_account_name
        .as_deref()
        .unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(context.deps.client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: (!wanted.audience.is_empty())
                .then(|| wanted.audience.clone())
                .into_iter()
                .collect(),
            expiration_seconds: Some(wanted.seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    match api
        .create_token_request(account, &PostParams::default(), &request)
        .await
    {
        Ok(answer) => {
            let seconds = answer.spec.expiration_seconds.unwrap_or(wanted.seconds);
            let life = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            answer.status.map(|status| (status.token, life))
        }
        Err(error) => {
            tracing::warn!(%error, namespace, account, "no service-account token");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(600);

    /// Lives through the time up to `end`, renewing whenever that is due; answers how often the server was asked.
    fn live(tokens: &mut HeldTokens, serves: bool, end: Instant, issued: &mut u32) -> u32 {
        let wanted = [Token {
            audience: String::new(),
            seconds: 600,
        }];
        let mut asked = 0;
        while let Some(due) = tokens.due().filter(|due| *due < end) {
            let mut ask = |token| {
                asked += 1;
                *issued += u32::from(serves);
                (token, serves.then(|| (format!("token {issued}"), LIFE)))
            };
            let answers = tokens.lacking(&wanted, due).into_iter().map(&mut ask).collect();
            tokens.take(answers, due);
        }
        asked
    }

    #[test]
    fn tokens_are_renewed_in_time_and_kept_while_they_are_good() {
        let start = Instant::now();
        let mut tokens = HeldTokens::default();
        let wanted = Token {
            audience: String::new(),
            seconds: 600,
        };
        assert_eq!(tokens.lacking(std::slice::from_ref(&wanted), start).len(), 1);
        tokens.take(vec![(wanted, Some(("token 1".to_owned(), LIFE)))], start);
        let mut issued = 1;
        // Until so many seconds, in which the server serves or not, it is asked so often, and this is what the Pod has.
        for (seconds, serves, asked, expected) in [
            (469, true, 0..1, vec!["token 1"]),
            (481, true, 1..2, vec!["token 2"]),
            // From four fifths of the life on it is asked again and again.
            (1069, false, 5..8, vec!["token 2"]),
            // No longer good.
            (1149, false, 1..3, vec![]),
            // It is back.
            (1210, true, 1..2, vec!["token 3"]),
        ] {
            let times = live(
                &mut tokens,
                serves,
                start + Duration::from_secs(seconds),
                &mut issued,
            );
            let held: Vec<String> = tokens.texts().into_values().collect();
            assert_eq!(held, expected, "after {seconds} s");
            assert!(asked.contains(&times), "asked {times} times by {seconds} s");
        }
        let set = start + Duration::from_secs(1220);
        tokens.distrust(set);
        assert_eq!(
            tokens.due(),
            Some(set),
            "a clock that was set makes all of them due"
        );
    }
}
