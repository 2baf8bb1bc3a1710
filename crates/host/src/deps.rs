//! The seams of the agent: where images come from and how Pods reach the network. The real ones and the ones of a
//! simulated host stand behind the same traits.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dataplane::Dataplane;
use dataplane::model::{HostPort, PodNic, Service};
use dataplane::policy::Policy;
use images::{Credentials, Image, ImageConfig, ImageStore, PullError, PullPolicy, PullProgress, Pulled};

/// Everything an agent works with.
#[derive(Clone)]
pub struct HostDeps {
    /// The API.
    pub client: kube::Client,
    /// Makes VMs.
    pub hypervisor: Arc<dyn vmm::Hypervisor>,
    /// Brings images.
    pub images: Arc<dyn ImageSource>,
    /// Connects Pods.
    pub network: Arc<dyn PodNetwork>,
}

/// Where images come from.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// Makes sure that an image is on this host, as the policy says.
    async fn ensure(
        &self,
        reference: &str,
        policy: PullPolicy,
        credentials: &[Credentials],
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, PullError>;
    /// The image of a reference, if it is here.
    fn get(&self, reference: &str) -> Option<Arc<Image>>;
    /// The image of a reference, if it is here and who has these credentials may use it.
    fn usable(&self, reference: &str, credentials: &[Credentials]) -> Option<Arc<Image>>;
    /// Every image with the references that name it.
    fn list(&self) -> Vec<(Arc<Image>, Vec<String>)>;
    /// Removes the images with these ids; returns the bytes freed.
    fn remove(&self, ids: &HashSet<String>) -> std::io::Result<u64>;
    /// Bytes of the file system with the images, and how many of them are free.
    fn space(&self) -> std::io::Result<(u64, u64)>;
    /// Takes the images of an archive; references and ids, or why not.
    async fn import(&self, archive: &Path, name: Option<&str>) -> Result<Vec<(String, String)>, String>;
}

#[async_trait]
impl ImageSource for ImageStore {
    async fn ensure(
        &self,
        reference: &str,
        policy: PullPolicy,
        credentials: &[Credentials],
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, PullError> {
        Self::ensure(self, reference, policy, credentials, progress).await
    }

    fn get(&self, reference: &str) -> Option<Arc<Image>> {
        Self::get(self, reference)
    }

    fn usable(&self, reference: &str, credentials: &[Credentials]) -> Option<Arc<Image>> {
        Self::usable(self, reference, credentials)
    }

    fn list(&self) -> Vec<(Arc<Image>, Vec<String>)> {
        Self::list(self)
    }

    fn remove(&self, ids: &HashSet<String>) -> std::io::Result<u64> {
        Self::remove(self, ids)
    }

    fn space(&self) -> std::io::Result<(u64, u64)> {
        Self::space(self)
    }

    async fn import(&self, archive: &Path, name: Option<&str>) -> Result<Vec<(String, String)>, String> {
        let taken = Self::import(self, archive, name).await;
        let pair = |(name, image): (images::ImageReference, Arc<Image>)| (name.to_string(), image.id.clone());
        taken
            .map(|images| images.into_iter().map(pair).collect())
            .map_err(|error| error.to_string())
    }
}

/// The images of a simulated host: every name that parses is there at once and holds nothing.
#[derive(Debug, Default)]
pub struct NoImages;

#[async_trait]
impl ImageSource for NoImages {
    async fn ensure(
        &self,
        reference: &str,
        policy: PullPolicy,
        _credentials: &[Credentials],
        _progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, PullError> {
        let reference: images::ImageReference = reference.parse()?;
        let digest = hex(&<sha2::Sha256 as sha2::Digest>::digest(
            reference.to_string().as_bytes(),
        ));
        Ok(Pulled {
            image: Arc::new(Image {
                id: format!("sha256:{digest}"),
                repo_digest: format!("{}@sha256:{digest}", reference.repository()),
                disk: PathBuf::new(),
                size_bytes: 0,
                config: ImageConfig {
                    cmd: vec!["/pause".to_owned()],
                    ..ImageConfig::default()
                },
            }),
            pulled: false,
            asked: policy == PullPolicy::Always,
        })
    }

    fn get(&self, _reference: &str) -> Option<Arc<Image>> {
        None
    }

    fn usable(&self, _reference: &str, _credentials: &[Credentials]) -> Option<Arc<Image>> {
        None
    }

    fn list(&self) -> Vec<(Arc<Image>, Vec<String>)> {
        Vec::new()
    }

    fn remove(&self, _ids: &HashSet<String>) -> std::io::Result<u64> {
        Ok(0)
    }

    fn space(&self) -> std::io::Result<(u64, u64)> {
        Ok((1, 1))
    }

    async fn import(&self, _archive: &Path, _name: Option<&str>) -> Result<Vec<(String, String)>, String> {
        Err("a simulated host keeps no images".to_owned())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A Pod's tap, ready for its VM.
#[derive(Debug)]
pub struct TapHandle {
    /// The device's name.
    pub name: String,
    /// An open descriptor for the hypervisor; none on a simulated network.
    pub fd: Option<OwnedFd>,
}

/// Why a Pod could not be connected or disconnected; the text stands in the Pod's event.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// How Pods reach the network.
#[async_trait]
pub trait PodNetwork: Send + Sync {
    /// Makes a Pod's tap with its rules and route in force. Idempotent.
    async fn attach(&self, nic: &PodNic) -> Result<TapHandle, NetworkError>;
    /// Removes a Pod's tap, route and rules. Idempotent.
    async fn detach(&self, vm_id: &str) -> Result<(), NetworkError>;
    /// Replaces all Services.
    async fn set_services(&self, services: Vec<Service>) -> Result<(), NetworkError>;
    /// Replaces all policies.
    async fn set_policies(&self, policies: Vec<Policy>) -> Result<(), NetworkError>;

    /// Replaces the ports of the host that are containers'.
    async fn set_host_ports(&self, ports: Vec<HostPort>) -> Result<(), NetworkError>;
}

#[async_trait]
impl PodNetwork for Dataplane {
    async fn attach(&self, nic: &PodNic) -> Result<TapHandle, NetworkError> {
        let tap = self
            .attach_pod(nic)
            .await
            .map_err(|error| NetworkError(error.to_string()))?;
        Ok(TapHandle {
            name: tap.name,
            fd: Some(tap.fd),
        })
    }

    async fn detach(&self, vm_id: &str) -> Result<(), NetworkError> {
        self.detach_pod(vm_id)
            .await
            .map_err(|error| NetworkError(error.to_string()))
    }

    async fn set_services(&self, services: Vec<Service>) -> Result<(), NetworkError> {
        Self::set_services(self, services)
            .await
            .map_err(|error| NetworkError(error.to_string()))
    }

    async fn set_host_ports(&self, ports: Vec<HostPort>) -> Result<(), NetworkError> {
        Self::set_host_ports(self, ports)
            .await
            .map_err(|error| NetworkError(error.to_string()))
    }

    async fn set_policies(&self, policies: Vec<Policy>) -> Result<(), NetworkError> {
        Self::set_policies(self, policies)
            .await
            .map_err(|error| NetworkError(error.to_string()))
    }
}

/// The network of a simulated host: addresses exist, packets do not.
#[derive(Debug, Default)]
pub struct NoNetwork;

#[async_trait]
impl PodNetwork for NoNetwork {
    async fn attach(&self, nic: &PodNic) -> Result<TapHandle, NetworkError> {
        Ok(TapHandle {
            name: dataplane::tap_name(&nic.vm_id),
            fd: None,
        })
    }

    async fn detach(&self, _vm_id: &str) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn set_services(&self, _services: Vec<Service>) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn set_host_ports(&self, _ports: Vec<HostPort>) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn set_policies(&self, _policies: Vec<Policy>) -> Result<(), NetworkError> {
        Ok(())
    }
}
