//! The image store: an index of references, one disk an image, one pull at a time for each reference.
//!
//! ```text
//! DIR/index.json      references -> image -> who may use it, written atomically after a disk is in place
//! DIR/disks/ID.erofs  read-only, shared by every Pod of the image
//! DIR/tmp/            trees in the making; whatever a crash left is removed at open
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::access::Access;
use crate::config::ImageConfig;
use crate::download::Download;
use crate::error::{OpenError, PullError};
use crate::import::{Found, ImportError};
use crate::reference::{Host, ImageReference, Mirrors};
use crate::registry::{Credentials, Registry, Resolved};
use crate::{disk, import, layer};

/// Chunks between the network and the unpacking thread: bounds the memory of a pull to about a megabyte.
const CHUNKS_IN_FLIGHT: usize = 16;

/// How often and at what intervals a temporary directory is tried to be removed.
const REMOVALS: u32 = 5;
const REMOVAL_PAUSE: Duration = Duration::from_millis(100);

/// How an image store behaves.
#[derive(Debug, Clone, Default)]
pub struct ImagesConfig {
    /// Registries that stand in for others.
    pub mirrors: Mirrors,
    /// Certificate authorities (DER) of registries, besides those that the machine trusts.
    pub authorities: Vec<(Host, Vec<u8>)>,
    /// Through which proxy a registry is reached: a URL, or `direct`.
    pub proxies: Vec<(Host, String)>,
}

/// `imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Ask the registry what the reference stands for now; pull only what is not here.
    Always,
    /// What is here is good.
    IfNotPresent,
    /// Never ask a registry.
    Never,
}

/// What a pull is doing, for events and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullProgress {
    /// The manifest is known: this many bytes in this many layers.
    Resolved {
        /// Number of layers.
        layers: usize,
        /// Bytes to come over the network.
        bytes: u64,
    },
    /// So many bytes of the whole have been unpacked.
    Received {
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All layers are unpacked; the disk is being written.
    BuildingDisk,
}

/// An image on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The digest of the configuration, `sha256:…`: the image's identity.
    pub id: String,
    /// The repository and manifest digest it was pulled by, as `containerStatuses[].imageID` shows it.
    pub repo_digest: String,
    /// The EROFS disk.
    pub disk: PathBuf,
    /// Bytes of the disk.
    pub size_bytes: u64,
    /// How its process runs.
    pub config: ImageConfig,
}

/// The outcome of [`ImageStore::ensure`].
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Arc<Image>,
    /// Whether layers came over the network for this call.
    pub pulled: bool,
    /// Whether its registry was asked for it.
    pub asked: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Index {
    /// Canonical reference -> image id.
    references: BTreeMap<String, String>,
    /// Image id -> image.
    images: BTreeMap<String, Arc<Image>>,
    /// Image id -> who may use it.
    access: Access,
}

/// Who gave an image.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// Its registry, for these credentials or without any.
    Registry(Option<&'a Credentials>),
    /// An operator, by an archive.
    Archive,
}

/// The images of a host.
pub struct ImageStore {
    directory: PathBuf,
    config: ImagesConfig,
    index: Mutex<Index>,
    /// One lock a reference in the making; removed with its last user.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Numbers of temporary directories.
    workspaces: AtomicU64,
}

/// A temporary directory that goes with its last user, however a pull ends.
struct Workspace {
    path: PathBuf,
    removed: AtomicBool,
}

impl Workspace {
    fn remove(&self) {
        if !self.removed.swap(true, Ordering::Relaxed) {
            remove_directory(&self.path);
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if !self.removed.load(Ordering::Relaxed) {
            // Nobody waits for a pull that was given up; a large tree must not stall the runtime.
            let path = std::mem::take(&mut self.path);
            std::thread::spawn(move || remove_directory(&path));
        }
    }
}

/// A program that was killed a moment ago may still have made a file: hence several attempts.
fn remove_directory(path: &Path) {
    let mut result = Ok(());
    for _ in 0..REMOVALS {
        result = fs::remove_dir_all(path);
        match &result {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(_) => std::thread::sleep(REMOVAL_PAUSE),
        }
    }
    if let Err(error) = result {
        tracing::warn!("{} stays until the next start: {error}", path.display());
    }
}

/// The right to bring one thing; others who want it wait.
struct Turn<'a> {
    store: &'a ImageStore,
    name: String,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut turns = self.store.turns.lock();
        // Who waits holds the lock, too.
        if turns
            .get(&self.name)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            turns.remove(&self.name);
        }
    }
}

impl ImageStore {
    /// Opens or makes the store and removes what a crash left half done.
    pub fn open(directory: &Path, config: ImagesConfig) -> Result<Self, OpenError> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OpenError::Directory { path, source }
        };
        let temporary = directory.join("tmp");
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(at(&temporary))?;
        }
        for path in [&temporary, &directory.join("disks")] {
            fs::create_dir_all(path).map_err(at(path))?;
        }
        let path = directory.join("index.json");
        let mut index = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Index>(&bytes).map_err(|error| OpenError::Index {
                path: path.clone(),
                reason: error.to_string(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Index::default(),
            Err(error) => return Err(at(&path)(error)),
        };
        // A disk removed by hand is pulled again when it is wanted.
        index.images.retain(|_, image| image.disk.exists());
        let Index {
            references,
            images,
            access,
        } = &mut index;
        references.retain(|_, id| images.contains_key(id));
        access.retain(|id| images.contains_key(id));
        let store = Self {
            directory: directory.to_path_buf(),
            config,
            index: Mutex::new(index),
            turns: Mutex::default(),
            workspaces: AtomicU64::new(0),
        };
        store
            .remove_unknown_disks()
            .map_err(at(&directory.join("disks")))?;
        Ok(store)
    }

    /// The image of a reference, if it is here.
    pub fn get(&self, reference: &str) -> Option<Arc<Image>> {
        let canonical = reference.parse::<ImageReference>().ok()?.to_string();
        let id = self.index.lock().references.get(&canonical)?.clone();
        self.known(&id)
    }

    /// The image of a reference, if it is here and who has these credentials may use it.
    pub fn usable(&self, reference: &str, credentials: &[Credentials]) -> Option<Arc<Image>> {
        let repository = reference.parse::<ImageReference>().ok()?.repository();
        let found = self.get(reference)?;
        let mut index = self.index.lock();
        let (may, learnt) = index.access.allows(&found.id, &repository, credentials);
        if learnt && let Err(error) = self.write_index(&index) {
            tracing::warn!(%error, "a registry may be asked again for what it has allowed");
        }
        may.then_some(found)
    }

    /// Every image with the references that name it.
    pub fn list(&self) -> Vec<(Arc<Image>, Vec<String>)> {
        let index = self.index.lock();
        let names_of = |id: &str| {
            index
                .references
                .iter()
                .filter(|(_, image)| *image == id)
                .map(|(name, _)| name.clone())
                .collect()
        };
        index
            .images
            .iter()
            .map(|(id, image)| (Arc::clone(image), names_of(id)))
            .collect()
    }

    /// Makes sure that an image is here, as the policy says, for who has these credentials. What is here and was given to
    /// others is asked for anew, and not brought again. Concurrent calls for one reference pull once.
    pub async fn ensure(
        &self,
        reference: &str,
        policy: PullPolicy,
        credentials: &[Credentials],
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, PullError> {
        let image: ImageReference = reference.parse()?;
        let canonical = image.to_string();
        let here = || {
            Some(Pulled {
                image: self.usable(&canonical, credentials)?,
                pulled: false,
                asked: false,
            })
        };
        match policy {
            PullPolicy::Never => {
                return here().ok_or_else(|| PullError::NeverPull(reference.to_owned()));
            }
            PullPolicy::IfNotPresent => {
                if let Some(found) = here() {
                    return Ok(found);
                }
            }
            PullPolicy::Always => {}
        }
        let _turn = self.turn(&canonical).await;
        // Whoever waited may find the work done.
        match here() {
            Some(found) if policy == PullPolicy::IfNotPresent => Ok(found),
            _ => self.pull_by_any(&image, credentials, progress).await,
        }
    }

    /// Tries all credentials until one serves; without any, none.
    async fn pull_by_any(
        &self,
        image: &ImageReference,
        credentials: &[Credentials],
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, PullError> {
        if credentials.is_empty() {
            return self.pull(image, None, progress).await;
        }
        let mut failures = Vec::new();
        for one in credentials {
            match self.pull(image, Some(one), progress).await {
                Ok(pulled) => return Ok(pulled),
                Err(error) => failures.push(error),
            }
        }
        Err(PullError::several(failures))
    }

    /// Waits until nobody else brings what this name stands for.
    async fn turn(&self, name: &str) -> Turn<'_> {
        let lock = Arc::clone(self.turns.lock().entry(name.to_owned()).or_default());
        Turn {
            store: self,
            name: name.to_owned(),
            guard: Some(lock.lock_owned().await),
        }
    }

    fn workspace(&self) -> Arc<Workspace> {
        let number = self.workspaces.fetch_add(1, Ordering::Relaxed);
        Arc::new(Workspace {
            path: self.directory.join("tmp").join(format!("pull-{number}")),
            removed: AtomicBool::new(false),
        })
    }

    /// An image that is known and whose disk is still there: whoever removed it by hand wants it pulled again.
    fn known(&self, id: &str) -> Option<Arc<Image>> {
        let known = self.index.lock().images.get(id).cloned();
        known.filter(|image| image.disk.exists())
    }

    /// Removes the images with these ids, and no other: one may just have come. Returns the bytes that were freed.
    pub fn remove(&self, ids: &HashSet<String>) -> std::io::Result<u64> {
        let mut freed = 0;
        let removed: Vec<Arc<Image>> = {
            let mut index = self.index.lock();
            let Index {
                references,
                images,
                access,
            } = &mut *index;
            references.retain(|_, id| !ids.contains(id));
            access.retain(|id| !ids.contains(id));
            let removed = ids.iter().filter_map(|id| images.remove(id)).collect();
            self.write_index(&index)?;
            removed
        };
        for image in removed {
            fs::remove_file(&image.disk)?;
            freed += image.size_bytes;
        }
        Ok(freed)
    }

    /// Bytes of the file system with the images, and how many of them are free.
    pub fn space(&self) -> std::io::Result<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.directory)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok((bytes(stat.f_blocks), bytes(stat.f_bavail)))
    }

    /// Takes the images of an archive (`docker save`, OCI layout). `name` is for the image of one that has none.
    /// Returns references and images.
    pub async fn import(
        &self,
        archive: &Path,
        name: Option<&str>,
    ) -> Result<Vec<(ImageReference, Arc<Image>)>, ImportError> {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let workspace = self.directory.join("tmp").join(format!("import-{number}"));
        let (source, files) = (archive.to_path_buf(), workspace.join("files"));
        let name = name.map(str::to_owned);
        let result = async {
            let found = tokio::task::spawn_blocking(move || {
                fs::create_dir_all(&files).map_err(|source| ImportError::Read {
                    path: files.clone(),
                    source,
                })?;
                import::unpack(&source, &files)?;
                import::images(&files, name.as_deref())
            })
            .await
            .map_err(|error| ImportError::Content(error.to_string()))??;
            let mut taken = Vec::new();
            for (number, image) in found.into_iter().enumerate() {
                taken.extend(self.take(image, &workspace.join(number.to_string())).await?);
            }
            Ok(taken)
        }
        .await;
        let removal = tokio::task::spawn_blocking(move || fs::remove_dir_all(workspace)).await;
        if let Ok(Err(error)) = removal {
            tracing::warn!("a temporary image directory stays until the next start: {error}");
        }
        result
    }

    /// Makes the disk of an image out of an archive.
    async fn take(
        &self,
        found: Found,
        workspace: &Path,
    ) -> Result<Vec<(ImageReference, Arc<Image>)>, ImportError> {
        let content = |reason: &dyn std::fmt::Display| ImportError::Content(reason.to_string());
        let Some(first) = found.names.first().cloned() else {
            return Ok(Vec::new());
        };
        let known = self.known(&found.id);
        let image = match known {
            Some(known) => known,
            None => {
                let (tree, layers) = (workspace.join("root"), found.layers);
                let diff_ids = found.config.rootfs.diff_ids.clone();
                let root = tree.clone();
                tokio::task::spawn_blocking(move || import::apply(&layers, &diff_ids, &root))
                    .await
                    .map_err(|error| content(&error))??;
                let draft = workspace.join("disk");
                disk::build(&tree, &draft)
                    .await
                    .map_err(|reason| content(&reason))?;
                // Without a manifest, the configuration's digest stands for the image.
                let digest = found.digest.unwrap_or_else(|| found.id.clone());
                let repo_digest = format!("{}@{digest}", first.repository());
                self.adopt_disk(
                    &first,
                    &found.id,
                    repo_digest,
                    found.config.config,
                    &draft,
                    Source::Archive,
                )
                .map_err(|error| content(&error))?
            }
        };
        let mut taken = Vec::new();
        for name in found.names {
            self.record(&name, &image, Source::Archive)
                .map_err(|error| content(&error))?;
            taken.push((name, Arc::clone(&image)));
        }
        Ok(taken)
    }

    async fn pull(
        &self,
        image: &ImageReference,
        credentials: Option<&Credentials>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, PullError> {
        let registry = Registry::new(image, &self.config, credentials);
        let source = Source::Registry(credentials);
        let resolved = registry.resolve().await?;
        if let Some(known) = self.known(&resolved.id) {
            // Another name, or the same one checked anew: nothing to bring.
            self.record(image, &known, source)?;
            return Ok(Pulled {
                image: known,
                pulled: false,
                asked: true,
            });
        }
        let config = registry.config(&resolved).await?;
        let layers = &resolved.manifest.layers;
        let total = layers
            .iter()
            .map(|layer| u64::try_from(layer.size).unwrap_or(0))
            .sum();
        progress(PullProgress::Resolved {
            layers: layers.len(),
            bytes: total,
        });
        let workspace = self.workspace();
        let result = async {
            let tree = workspace.path.join("root");
            fs::create_dir_all(&tree).map_err(|error| disk_error(image, error))?;
            let diff_ids = &config.rootfs.diff_ids;
            self.unpack_layers(&registry, &resolved, diff_ids, &workspace, total, progress)
                .await?;
            progress(PullProgress::BuildingDisk);
            let draft = workspace.path.join("disk");
            disk::build(&tree, &draft)
                .await
                .map_err(|reason| disk_error(image, reason))?;
            let repo_digest = format!("{}@{}", image.repository(), resolved.digest);
            self.adopt_disk(image, &resolved.id, repo_digest, config.config, &draft, source)
        }
        .await;
        // A failed pull leaves nothing, and a finished one has left nothing when it is reported.
        let _ = tokio::task::spawn_blocking(move || workspace.remove()).await;
        Ok(Pulled {
            image: result?,
            pulled: true,
            asked: true,
        })
    }

    async fn unpack_layers(
        &self,
        registry: &Registry,
        resolved: &Resolved,
        diff_ids: &[String],
        workspace: &Arc<Workspace>,
        total: u64,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), PullError> {
        let mut received = 0;
        for (number, descriptor) in resolved.manifest.layers.iter().enumerate() {
            let mut download = Download::begin(registry, descriptor).await?;
            let (sender, chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
            // Shared: when nobody wants the image any more, the directory stays for as long as this writes there.
            let workspace = Arc::clone(workspace);
            let unpacking = tokio::task::spawn_blocking(move || {
                let mut reader = layer::ChunkReader::new(chunks);
                let digest = layer::unpack(&mut reader, &workspace.path.join("root"), layer::MAX_UNPACKED)?;
                // To the very end: the stream checks the compressed digest with its last chunk.
                std::io::copy(&mut reader, &mut std::io::sink())?;
                Ok::<_, std::io::Error>(digest)
            });
            while let Some(chunk) = download.next().await {
                received += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                if sender.send(chunk).await.is_err() {
                    // The unpacking thread ended early; its error says why.
                    break;
                }
                progress(PullProgress::Received {
                    bytes: received,
                    total,
                });
            }
            drop(sender);
            let unpacked = unpacking
                .await
                .map_err(|error| registry.layer_error(descriptor, error))?;
            let digest = match unpacked {
                Ok(digest) => digest,
                Err(error) => return Err(registry.layer_error(descriptor, download.fault(error).await)),
            };
            if diff_ids.get(number).is_some_and(|expected| *expected != digest) {
                return Err(registry.layer_error(
                    descriptor,
                    format!(
                        "digest mismatch: the configuration says {}, the content is {digest}",
                        diff_ids[number]
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Puts a finished disk in place and into the index.
    fn adopt_disk(
        &self,
        image: &ImageReference,
        id: &str,
        repo_digest: String,
        config: ImageConfig,
        draft: &Path,
        source: Source<'_>,
    ) -> Result<Arc<Image>, PullError> {
        let place = || -> std::io::Result<(PathBuf, u64)> {
            let file = fs::File::open(draft)?;
            file.sync_all()?;
            let mut permissions = file.metadata()?.permissions();
            permissions.set_readonly(true);
            fs::set_permissions(draft, permissions)?;
            let name = id.trim_start_matches("sha256:");
            let disk = self.directory.join("disks").join(format!("{name}.erofs"));
            fs::rename(draft, &disk)?;
            Ok((disk, file.metadata()?.len()))
        };
        let (disk, size_bytes) = place().map_err(|error| disk_error(image, error))?;
        let entry = Arc::new(Image {
            id: id.to_owned(),
            repo_digest,
            disk,
            size_bytes,
            config,
        });
        self.record(image, &entry, source)?;
        Ok(entry)
    }

    /// Takes an image into the index, in one step with who may use it.
    fn record(
        &self,
        image: &ImageReference,
        entry: &Arc<Image>,
        source: Source<'_>,
    ) -> Result<(), PullError> {
        let mut index = self.index.lock();
        if let Source::Registry(credentials) = source {
            index.access.given(&entry.id, &image.repository(), credentials);
        }
        index.images.insert(entry.id.clone(), Arc::clone(entry));
        index.references.insert(image.to_string(), entry.id.clone());
        self.write_index(&index).map_err(|error| disk_error(image, error))
    }

    fn write_index(&self, index: &Index) -> std::io::Result<()> {
        let draft = self.directory.join("index.json.new");
        let text = serde_json::to_vec_pretty(index).map_err(std::io::Error::other)?;
        // Digests of passwords are nobody else's.
        let mut options = fs::File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, self.directory.join("index.json"))
    }

    fn remove_unknown_disks(&self) -> std::io::Result<()> {
        let known: HashSet<PathBuf> = self
            .index
            .lock()
            .images
            .values()
            .map(|image| image.disk.clone())
            .collect();
        for entry in fs::read_dir(self.directory.join("disks"))? {
            let path = entry?.path();
            if !known.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn disk_error(image: &ImageReference, reason: impl ToString) -> PullError {
    PullError::Disk {
        image: image.to_string(),
        reason: reason.to_string(),
    }
}
