//! Users, groups, passwords, tokens, certificates and the sign-on endpoints of a Supervisor.
//!
//! - [`authority`]: the certificate authority and what it issues; [`kubeconfig`]: files that carry such credentials.
//! - [`passwords`], [`directory`], [`throttle`]: who may sign in. Users and groups are API objects of `podvisor.io`.
//! - [`token`]: the signed token a session holds, in the form of the vSphere sign-on.
//! - [`routes`]: `/wcp/*`, `/openidconnect/*`, `/podvisor/session` and the landing page.
//! - [`client`]: the other end of it, used by `podvisor login` and its `kubectl` spellings.
//!
//! The API server trusts the tokens as those of any OpenID issuer (user and group prefix `sso:`); it knows nothing
//! else of this crate, and this crate is a plain client of the API.

mod asking;
pub mod authority;
pub mod bootstrap;
pub mod client;
pub mod directory;
pub mod files;
pub mod kubeconfig;
pub mod passwords;
pub mod routes;
mod sec1;
pub mod throttle;
pub mod token;

/// The domain of local users.
pub const LOCAL_DOMAIN: &str = "podvisor.local";
/// The first user of a Supervisor.
pub const ADMINISTRATOR: &str = "administrator@podvisor.local";
/// The group whose members may do everything.
pub const ADMINISTRATORS: &str = "Administrators@podvisor.local";
/// Prefix of user and group names that come from a sign-on token.
pub const SUBJECT_PREFIX: &str = "sso:";
/// The namespace of the Supervisor's own objects.
pub const SYSTEM_NAMESPACE: &str = "podvisor-system";
