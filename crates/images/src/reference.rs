//! Image references, familiar names, and mirrors.
//!
//! A mirror stands in for a registry: what it does not have, is not there. (Falling through to the real
//! registry would make a closed site hang on names it cannot resolve, and hide the mirror's answer.)

use std::fmt;
use std::str::FromStr;

use oci_client::Reference;

/// A parsed reference in canonical form (`docker.io/library/busybox:latest`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference(Reference);

/// The reference is not one; kubelet words this `InvalidImageName`.
#[derive(Debug, thiserror::Error)]
#[error("couldn't parse image name \"{name}\": invalid reference format: {reason}")]
pub struct ReferenceError {
    name: String,
    reason: String,
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(name: &str) -> Result<Self, ReferenceError> {
        Reference::from_str(name)
            .map(Self)
            .map_err(|error| ReferenceError {
                name: name.to_owned(),
                reason: error.to_string(),
            })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.whole())
    }
}

impl ImageReference {
    /// Registry and repository without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.0.registry(), self.0.repository())
    }

    /// Whether the tag is `latest` or missing, for the default pull policy.
    pub fn is_latest(&self) -> bool {
        self.0.digest().is_none() && self.0.tag().is_none_or(|tag| tag == "latest")
    }
}

/// A registry that settings are for, with or without its port; `*` is every one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(pub String);

impl Host {
    /// How well this names a registry; none: it does not.
    fn fits(&self, registry: &str) -> Option<u8> {
        let without_port = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        match self.0.as_str() {
            name if name == registry => Some(3),
            name if name == without_port => Some(2),
            "*" => Some(1),
            _ => None,
        }
    }

    /// All that is said for a registry.
    pub(crate) fn all<'s, T>(settings: &'s [(Self, T)], registry: &str) -> impl Iterator<Item = &'s T> {
        let fitting = settings
            .iter()
            .filter(move |(host, _)| host.fits(registry).is_some());
        fitting.map(|(_, value)| value)
    }

    /// What is said for a registry by whoever names it best.
    pub(crate) fn best<'s, T>(settings: &'s [(Self, T)], registry: &str) -> Option<&'s T> {
        let fitting = settings
            .iter()
            .filter_map(|(host, value)| Some((host.fits(registry)?, value)));
        fitting.max_by_key(|(fit, _)| *fit).map(|(_, value)| value)
    }
}

/// `(host or "*", URL)` pairs; the more special one wins.
#[derive(Debug, Clone, Default)]
pub struct Mirrors(pub Vec<(String, String)>);

/// Where to ask for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    /// The reference as the registry to be asked knows it.
    pub reference: Reference,
    /// Plain HTTP instead of HTTPS.
    pub plain: bool,
}

impl Mirrors {
    /// Applies the mirror for the reference's registry, if there is one.
    pub(crate) fn locate(&self, image: &ImageReference) -> Location {
        let image = &image.0;
        let find = |host: &str| self.0.iter().find(|(name, _)| name == host);
        let Some((_, url)) = find(image.registry()).or_else(|| find("*")) else {
            return Location {
                reference: image.clone(),
                plain: is_loopback(image.registry()),
            };
        };
        let plain = url.starts_with("http://");
        let rest = url
            .split_once("://")
            .map_or(url.as_str(), |(_, rest)| rest)
            .trim_end_matches('/');
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let repository = if prefix.is_empty() {
            image.repository().to_owned()
        } else {
            format!("{prefix}/{}", image.repository())
        };
        let host = host.to_owned();
        let reference = match (image.digest(), image.tag()) {
            (Some(digest), _) => Reference::with_digest(host, repository, digest.to_owned()),
            (None, tag) => Reference::with_tag(host, repository, tag.unwrap_or("latest").to_owned()),
        };
        Location { reference, plain }
    }
}

/// Registries on loopback speak plain HTTP, as every container engine assumes.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn familiar_names_become_canonical() {
        let cases = [
            ("busybox", "docker.io/library/busybox:latest", true),
            ("redis:7", "docker.io/library/redis:7", false),
            ("registry.k8s.io/redis:e2e", "registry.k8s.io/redis:e2e", false),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest", true),
        ];
        for (name, canonical, latest) in cases {
            let reference: ImageReference = name.parse().expect(name);
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(reference.is_latest(), latest, "{name}");
        }
        for bad in ["", "UPPER/Case", "a b", "name:bad tag"] {
            let error = bad.parse::<ImageReference>().expect_err(bad).to_string();
            assert!(error.contains("couldn't parse image name"), "{error}");
        }
    }

    #[test]
    fn settings_are_for_the_registry_that_they_name() {
        let host = |name: &str| Host(name.to_owned());
        let settings = [
            (host("*"), 1),
            (host("inside.example"), 2),
            (host("inside.example:5000"), 3),
        ];
        let cases = [
            ("docker.io", Some(1), 1),
            ("inside.example", Some(2), 2),
            ("inside.example:443", Some(2), 2),
            ("inside.example:5000", Some(3), 3),
        ];
        for (registry, best, all) in cases {
            assert_eq!(Host::best(&settings, registry).copied(), best, "{registry}");
            assert_eq!(Host::all(&settings, registry).count(), all, "{registry}");
        }
        assert_eq!(Host::best(&settings[1..], "docker.io"), None);
    }

    #[test]
    fn mirrors_stand_in_for_registries() {
        let mirrors = Mirrors(vec![
            ("*".to_owned(), "http://127.0.0.1:5000".to_owned()),
            ("quay.io".to_owned(), "https://cache.example/quay/".to_owned()),
        ]);
        let cases = [
            ("busybox", "127.0.0.1:5000/library/busybox:latest", true),
            ("quay.io/a/b:1", "cache.example/quay/a/b:1", false),
        ];
        for (name, expected, plain) in cases {
            let location = mirrors.locate(&name.parse().expect(name));
            assert_eq!(
                (location.reference.whole().as_str(), location.plain),
                (expected, plain)
            );
        }
        let none = Mirrors::default();
        assert!(none.locate(&"localhost:5000/a".parse().expect("valid")).plain);
        assert!(!none.locate(&"busybox".parse().expect("valid")).plain);
    }
}
