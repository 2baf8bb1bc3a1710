//! Password hashes: argon2id in PHC string form, checked off the async threads and in a bounded number at a time.
//!
//! An unknown user costs the same work as a wrong password, so the answer's time tells nothing.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Hashes that may be computed at the same time; each takes about 19 MiB and a core for some 20 ms.
const PARALLEL: usize = 2;
/// Checks that may wait; more are turned away, so a flood cannot pile up memory.
const WAITING: usize = 64;
/// Longest password looked at, in bytes.
const MAX_LENGTH: usize = 1024;
/// The hash that stands in for users who do not exist: of no password that anybody knows, with [`hash`]'s parameters.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$cG9kdmlzb3JkZWNveXNhbA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A password could not be checked or hashed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The queue is full.
    #[error("too many sign-ins at the same time; try again")]
    Busy,
    /// The password is empty or too long.
    #[error("a password must have 1 to {MAX_LENGTH} bytes")]
    Length,
    /// The hash function failed.
    #[error("cannot hash the password: {0}")]
    Hash(String),
}

/// Hashes and checks passwords.
pub struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords {
            running: Arc::new(Semaphore::new(PARALLEL)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }
}

impl Passwords {
    /// Whether `password` matches `stored` (PHC). `None` stands for an unknown user: false, after the same work.
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, PasswordError> {
        if password.len() > MAX_LENGTH {
            return Ok(false);
        }
        let Ok(_place) = self.waiting.clone().try_acquire_owned() else {
            return Err(PasswordError::Busy);
        };
        let Ok(permit) = self.running.clone().acquire_owned().await else {
            return Err(PasswordError::Busy);
        };
        let known = stored.is_some();
        let stored = stored.unwrap_or(DECOY).to_string();
        let password = password.to_string();
        let matches = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            matches(&password, &stored)
        })
        .await
        .unwrap_or(false);
        Ok(matches && known)
    }
}

/// The argon2id hash of a password as a PHC string, with a fresh salt.
///
/// Takes some 20 ms of CPU; call it where blocking is allowed.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    if password.is_empty() || password.len() > MAX_LENGTH {
        return Err(PasswordError::Length);
    }
    let hash: PasswordHash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|e| PasswordError::Hash(e.to_string()))?;
    Ok(hash.to_string())
}

/// [`hash`], off the async threads.
pub(crate) async fn hash_aside(password: String) -> Result<String, PasswordError> {
    tokio::task::spawn_blocking(move || hash(&password))
        .await
        .map_err(|e| PasswordError::Hash(e.to_string()))?
}

fn matches(password: &str, stored: &str) -> bool {
    match PasswordHash::new(stored) {
        Ok(hash) => Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hashes_are_salted_and_checked() {
        let passwords = Passwords::default();
        let (a, b) = (hash("s3cret").unwrap(), hash("s3cret").unwrap());
        assert!(a.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{a}");
        // The stand-in must cost the same work, so it must be a hash of the same form.
        assert!(PasswordHash::new(DECOY).is_ok() && DECOY[..31] == a[..31]);
        assert_ne!(a, b);
        let cases = [
            ("s3cret", Some(a.as_str()), true),
            ("S3cret", Some(a.as_str()), false),
            ("s3cret", Some("not a hash"), false),
            ("s3cret", None, false),
            ("decoy", None, false),
            ("", Some(a.as_str()), false),
        ];
        for (password, stored, want) in cases {
            let got = passwords.verify(password, stored).await.unwrap();
            assert_eq!(got, want, "{password:?} {stored:?}");
        }
        assert!(hash("").is_err());
        assert!(hash(&"x".repeat(2000)).is_err());
    }
}
