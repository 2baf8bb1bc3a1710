//! guest-api
