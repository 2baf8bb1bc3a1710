//! Who may use an image that is here, as the kubelet decides it (KEP-2535, `NeverVerifyPreloadedImages`).
//!
//! An image that a registry gave for credentials is for those who have the same: the same Secret, or one with the same user
//! and password. One that a registry gave to anybody, or that no registry gave, is for everybody. What was given is
//! noted by image and repository, as the same image may be public under another name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::registry::Credentials;

/// What is only noted for convenience is noted for so many Secrets of an image: namespaces may come and go without end.
const CONVENIENT: usize = 100;

/// The Secret that credentials are from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullSecret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A Secret that served, and what was in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    #[serde(flatten)]
    secret: PullSecret,
    /// Of user and password.
    digest: String,
}

impl Holder {
    fn of(credentials: &Credentials) -> Self {
        let Credentials {
            username,
            password,
            secret,
        } = credentials;
        // The length tells where the name ends.
        let text = format!("{}:{username}{password}", username.len());
        let digest = Sha256::digest(text);
        Self {
            secret: secret.clone(),
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// Those whom a repository has given an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    everybody: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holders: Vec<Holder>,
}

impl Given {
    /// Notes a holder; whether that was news.
    fn note(&mut self, holder: Holder) -> bool {
        let known = self
            .holders
            .iter_mut()
            .find(|known| known.secret == holder.secret);
        match known {
            Some(known) if *known == holder => return false,
            Some(known) => *known = holder,
            None => self.holders.push(holder),
        }
        true
    }
}

/// For each image and repository, who was given it. Images that are not here were given by no registry.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Access(BTreeMap<String, BTreeMap<String, Given>>);

impl Access {
    /// A repository has given an image for these credentials, or without any.
    pub fn given(&mut self, id: &str, repository: &str, credentials: Option<&Credentials>) {
        let repositories = self.0.entry(id.to_owned()).or_default();
        let given = repositories.entry(repository.to_owned()).or_default();
        match credentials {
            _ if given.everybody => {}
            Some(credentials) => {
                given.note(Holder::of(credentials));
            }
            None => {
                *given = Given {
                    everybody: true,
                    holders: Vec::new(),
                };
            }
        }
    }

    /// Whether who has these credentials may use an image of a repository, and whether something was learnt by it: that a
    /// Secret has other credentials by now, or that another Secret has the same.
    pub fn allows(&mut self, id: &str, repository: &str, credentials: &[Credentials]) -> (bool, bool) {
        let Some(repositories) = self.0.get_mut(id) else {
            return (true, false);
        };
        let Some(given) = repositories.get_mut(repository) else {
            return (false, false);
        };
        if given.everybody {
            return (true, false);
        }
        let fits = |holder: &Holder| {
            let mut known = given.holders.iter();
            known.any(|known| known.digest == holder.digest || known.secret == holder.secret)
        };
        let Some(holder) = credentials.iter().map(Holder::of).find(fits) else {
            return (false, false);
        };
        let learns = given.holders.len() < CONVENIENT && given.note(holder);
        (true, learns)
    }

    /// Forgets images that are not here any more.
    pub fn retain(&mut self, is_here: impl Fn(&str) -> bool) {
        self.0.retain(|id, _| is_here(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str, uid: &str, password: &str) -> Credentials {
        Credentials {
            username: "user".to_owned(),
            password: password.to_owned(),
            secret: PullSecret {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
                uid: uid.to_owned(),
            },
        }
    }

    #[test]
    fn who_may_use_what_is_here() {
        let mut access = Access::default();
        let given = credentials("pull", "1", "right");
        access.given("private", "reg/team/app", Some(&given));
        access.given("public", "reg/app", None);
        access.given("public", "reg/app", Some(&given));
        access.given("both", "reg/team/app", Some(&given));
        access.given("both", "reg/app", None);
        let (stranger, twin) = (
            credentials("pull", "2", "guess"),
            credentials("twin", "3", "right"),
        );
        let changed = credentials("pull", "1", "new");
        // Image, repository, what somebody has, whether he may use it, whether it is news.
        type Case<'a> = (&'a str, &'a str, &'a [Credentials], (bool, bool));
        let cases: [Case<'_>; 11] = [
            ("preloaded", "reg/app", &[], (true, false)),
            ("public", "reg/app", &[], (true, false)),
            ("private", "reg/team/app", &[], (false, false)),
            (
                "private",
                "reg/team/app",
                std::slice::from_ref(&stranger),
                (false, false),
            ),
            (
                "private",
                "reg/team/app",
                &[stranger.clone(), given.clone()],
                (true, false),
            ),
            ("private", "reg/app", std::slice::from_ref(&given), (false, false)),
            (
                "private",
                "reg/team/app",
                std::slice::from_ref(&twin),
                (true, true),
            ),
            (
                "private",
                "reg/team/app",
                std::slice::from_ref(&changed),
                (true, true),
            ),
            (
                "private",
                "reg/team/app",
                std::slice::from_ref(&changed),
                (true, false),
            ),
            ("both", "reg/team/app", &[], (false, false)),
            ("both", "reg/app", &[], (true, false)),
        ];
        for (id, repository, has, expected) in cases {
            assert_eq!(
                access.allows(id, repository, has),
                expected,
                "{id} of {repository}"
            );
        }
        access.retain(|id| id != "private");
        assert_eq!(access.allows("private", "reg/team/app", &[]), (true, false));
    }

    #[test]
    fn namespaces_without_end_are_not_all_noted() {
        let mut access = Access::default();
        access.given("private", "reg/app", Some(&credentials("pull", "0", "right")));
        for number in 1..2 * CONVENIENT {
            let twin = credentials("pull", &number.to_string(), "right");
            let (may, learnt) = access.allows("private", "reg/app", &[twin]);
            assert_eq!((may, learnt), (true, number < CONVENIENT), "{number}");
        }
    }
}
