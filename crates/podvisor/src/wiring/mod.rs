//! What runs in the process of `podvisor up`, in the order in which it is started:
//!
//! | part | module | is told of the end by |
//! |---|---|---|
//! | lock on the data directory | [`lock`] | the end of the process |
//! | certificate authority | [`trust`] | – |
//! | store and API server, TLS listeners | [`supervisor`]; the address that it tells: `advertised` | the cancellation token |
//! | first administrator, sign-on and its key | [`sign_on`] | – |
//! | controllers, scheduler | [`supervisor`] | the cancellation token |
//! | host agents, real or simulated | [`hosts`] | the cancellation token; VMs go on |
//!
//! Everything but the API server is a client of the API; inside this process the client is given the API server as a
//! service, so that no socket lies between them.

mod advertised;
pub mod hosts;
pub mod lock;
pub mod sign_on;
mod start_code;
pub mod supervisor;
pub mod trust;
