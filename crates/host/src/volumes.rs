//! Volumes of a Pod: what the guest is told to write, and what each container mounts where.
//!
//! ConfigMap, Secret, projected and downward-API volumes are files that the guest swaps in atomically; they are built
//! here, purely, from the objects that [`references`] names. What a volume cannot be on this host is refused with the
//! words of the `FailedMount` event.

use std::collections::BTreeMap;

use guest_api::v1::{self, mount};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, Pod, Volume, VolumeMount,
};

use crate::datastore::attach::{self, DiskKind, VolumeDisk};
use crate::env::{self, Facts, Sources};
use crate::size;
use crate::trust;

/// The mode of files that name none.
const DEFAULT_MODE: i32 = 0o644;
/// Life of a projected token that names none, in seconds.
const TOKEN_SECONDS: i64 = 3600;

/// Why a volume cannot be set up: the text of the `FailedMount` event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {reason}")]
pub struct VolumeError {
    /// The volume's name.
    pub volume: String,
    /// What is missing.
    pub reason: String,
}

/// What a Pod's volumes need to know of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// ConfigMaps.
    pub config_maps: Vec<String>,
    /// Secrets.
    pub secrets: Vec<String>,
    /// Service-account tokens.
    pub tokens: Vec<Token>,
    /// Whether any trust bundle.
    pub trust_bundles: bool,
}

/// A token that a projected volume wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    /// Whom it is for; empty: the API server.
    pub audience: String,
    /// How long it is good for.
    pub seconds: i64,
}

/// Tokens at hand.
pub type Tokens = BTreeMap<Token, String>;

fn token(source: &k8s_openapi::api::core::v1::ServiceAccountTokenProjection) -> Token {
    Token {
        audience: source.audience.clone().unwrap_or_default(),
        seconds: source.expiration_seconds.unwrap_or(TOKEN_SECONDS),
    }
}

fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default()
}

/// Everything that the volumes of a Pod name.
pub fn references(pod: &Pod) -> References {
    let mut found = References::default();
    for volume in volumes(pod) {
        if let Some(source) = &volume.config_map {
            found.config_maps.push(source.name.clone());
        }
        if let Some(name) = volume
            .secret
            .as_ref()
            .and_then(|source| source.secret_name.clone())
        {
            found.secrets.push(name);
        }
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        for source in sources {
            found
                .config_maps
                .extend(source.config_map.as_ref().map(|s| s.name.clone()));
            found
                .secrets
                .extend(source.secret.as_ref().map(|s| s.name.clone()));
            found
                .tokens
                .extend(source.service_account_token.as_ref().map(token));
            found.trust_bundles |= source.cluster_trust_bundle.is_some();
        }
    }
    found
}

/// The writings of all file volumes of a Pod.
pub fn files(
    pod: &Pod,
    sources: &Sources,
    tokens: &Tokens,
    facts: &Facts,
) -> Result<Vec<v1::WriteVolumeRequest>, VolumeError> {
    each(pod, sources, tokens, facts).collect()
}

/// Each file volume of a Pod by itself: one that lacks something holds up no other.
pub fn each<'a>(
    pod: &'a Pod,
    sources: &'a Sources,
    tokens: &'a Tokens,
    facts: &'a Facts,
) -> impl Iterator<Item = Result<v1::WriteVolumeRequest, VolumeError>> + 'a {
    let group = fs_group(pod);
    let builder = Builder {
        pod,
        sources,
        tokens,
        facts,
    };
    volumes(pod).iter().filter_map(move |volume| {
        let mut files = match builder.volume(volume).transpose()? {
            Ok(files) => files,
            Err(reason) => {
                return Some(Err(VolumeError {
                    volume: volume.name.clone(),
                    reason,
                }));
            }
        };
        for file in &mut files {
            // Volumes belong to the Pod's group, which may read them (`volume.SetVolumeOwnership`).
            if let Some(gid) = group {
                file.gid = gid;
                file.mode |= 0o440;
            }
        }
        Some(Ok(v1::WriteVolumeRequest {
            volume: volume.name.clone(),
            files,
            memory: volume.secret.is_some() || volume.projected.is_some(),
        }))
    })
}

/// By which the guest finds the node's file system.
pub const NODE_TAG: &str = "node";

/// Whether a Pod mounts some of the node's file system, by itself or by a claim: a directory of this host that Podvisor owns.
pub fn uses_node(pod: &Pod, disks: &[VolumeDisk]) -> bool {
    volumes(pod).iter().any(|volume| volume.host_path.is_some())
        || disks.iter().any(|disk| disk.kind.of_node())
}

/// `fsGroup`.
pub fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    context.fs_group.and_then(|gid| u32::try_from(gid).ok())
}

/// The user that all containers of a Pod run as by its manifest, if it is one (`util.FsUserFrom`).
fn only_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|c| c.run_as_user);
    let mut users = env::all_containers(pod).map(|container| {
        let own = container.security_context.as_ref().and_then(|c| c.run_as_user);
        own.or(of_pod)
    });
    let first = users.next()??;
    let same = users.all(|user| user == Some(first));
    same.then(|| u32::try_from(first).ok()).flatten()
}

struct Builder<'a> {
    pod: &'a Pod,
    sources: &'a Sources,
    tokens: &'a Tokens,
    facts: &'a Facts,
}

impl Builder<'_> {
    /// The files of a volume; none for one that is not made of files.
    fn volume(&self, volume: &Volume) -> Result<Option<Vec<v1::File>>, String> {
        if let Some(source) = &volume.config_map {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            return self
                .config_map(&source.name, source.items.as_deref(), source.optional, mode)
                .map(Some);
        }
        if let Some(source) = &volume.secret {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let name = source.secret_name.as_deref().unwrap_or_default();
            return self
                .secret(name, source.items.as_deref(), source.optional, mode)
                .map(Some);
        }
        if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            return self
                .downward(source.items.as_deref().unwrap_or_default(), mode)
                .map(Some);
        }
        if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let mut files: Vec<v1::File> = Vec::new();
            let mut errors = Vec::new();
            for source in source.sources.iter().flatten() {
                let part = if let Some(s) = &source.config_map {
                    self.config_map(&s.name, s.items.as_deref(), s.optional, mode)
                } else if let Some(s) = &source.secret {
                    self.secret(&s.name, s.items.as_deref(), s.optional, mode)
                } else if let Some(s) = &source.downward_api {
                    self.downward(s.items.as_deref().unwrap_or_default(), mode)
                } else if let Some(s) = &source.service_account_token {
                    let token = self.tokens.get(&token(s));
                    token
                        .map(|token| vec![self.private(&s.path, token.clone().into_bytes(), mode)])
                        .ok_or_else(|| "failed to fetch token".to_owned())
                } else if let Some(s) = &source.cluster_trust_bundle {
                    let anchors = trust::anchors(s, &self.sources.trust_bundles);
                    anchors.map(|anchors| vec![self.private(&s.path, anchors, mode)])
                } else {
                    Err("this kind of projected source is not supported".to_owned())
                };
                match part {
                    Ok(part) => files.extend(part),
                    Err(error) => errors.push(error),
                }
            }
            return match errors.len() {
                0 => Ok(Some(files)),
                1 => Err(errors.remove(0)),
                _ => Err(format!("[{}]", errors.join(", "))),
            };
        }
        if volume.host_path.is_some() {
            return Ok(None);
        }
        let medium = volume
            .empty_dir
            .as_ref()
            .and_then(|empty| empty.medium.as_deref());
        if let Some(medium) = medium.filter(|medium| medium.starts_with("HugePages")) {
            return Err(format!(
                "emptyDir medium \"{medium}\" is not supported on this host"
            ));
        }
        if volume.empty_dir.is_some() || volume.image.is_some() || attach::is_claimed(volume) {
            return Ok(None);
        }
        Err(format!("{} volumes are not supported on this host", kind(volume)))
    }

    /// A file that, with a group or one user for all containers, only they may read (`projected.collectData`).
    fn private(&self, path: &str, data: Vec<u8>, mode: i32) -> v1::File {
        let user = only_user(self.pod);
        let closed = fs_group(self.pod).is_some() || user.is_some();
        v1::File {
            uid: user.unwrap_or(0),
            ..file(path, data, if closed { 0o600 } else { mode })
        }
    }

    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        mode: i32,
    ) -> Result<Vec<v1::File>, String> {
        let optional = optional == Some(true);
        let Some(map) = self.sources.config_maps.get(name) else {
            return if optional {
                Ok(Vec::new())
            } else {
                Err(format!("configmap \"{name}\" not found"))
            };
        };
        let text = map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
        let binary = map
            .binary_data
            .iter()
            .flatten()
            .map(|(k, v)| (k.as_str(), v.0.as_slice()));
        select(&text.chain(binary).collect(), items, optional, mode)
            .map_err(|key| format!("configmap references non-existent config key: {key}"))
    }

    fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        mode: i32,
    ) -> Result<Vec<v1::File>, String> {
        let optional = optional == Some(true);
        let Some(secret) = self.sources.secrets.get(name) else {
            return if optional {
                Ok(Vec::new())
            } else {
                Err(format!("secret \"{name}\" not found"))
            };
        };
        let data = secret
            .data
            .iter()
            .flatten()
            .map(|(k, v)| (k.as_str(), v.0.as_slice()));
        select(&data.collect(), items, optional, mode)
            .map_err(|key| format!("references non-existent secret key: {key}"))
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: i32) -> Result<Vec<v1::File>, String> {
        items
            .iter()
            .map(|item| {
                let value = if let Some(field) = &item.field_ref {
                    env::field_value(self.pod, &field.field_path, self.facts)
                        .ok_or_else(|| format!("unsupported fieldPath: {}", field.field_path))?
                } else if let Some(reference) = &item.resource_field_ref {
                    let name = reference.container_name.as_deref().unwrap_or_default();
                    let container = env::all_containers(self.pod)
                        .find(|container| container.name == name)
                        .ok_or_else(|| format!("container {name} not found"))?;
                    env::resource_value(
                        self.pod,
                        container,
                        &reference.resource,
                        reference.divisor.as_ref(),
                        self.facts,
                    )
                    .map_err(|error| error.to_string())?
                } else {
                    String::new()
                };
                Ok(file(&item.path, value.into_bytes(), item.mode.unwrap_or(mode)))
            })
            .collect()
    }
}

fn file(path: &str, data: Vec<u8>, mode: i32) -> v1::File {
    v1::File {
        path: path.to_owned(),
        data,
        mode: u32::try_from(mode).unwrap_or(0o644),
        uid: 0,
        gid: 0,
    }
}

/// The wanted keys as files; the error is the first missing key.
fn select(
    data: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: i32,
) -> Result<Vec<v1::File>, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data
            .iter()
            .map(|(key, value)| file(key, value.to_vec(), mode))
            .collect());
    };
    let mut files = Vec::new();
    for item in items {
        match data.get(item.key.as_str()) {
            Some(value) => files.push(file(&item.path, value.to_vec(), item.mode.unwrap_or(mode))),
            None if optional => {}
            None => return Err(item.key.clone()),
        }
    }
    Ok(files)
}

/// The name of a volume's source, as the manifest has it.
fn kind(volume: &Volume) -> String {
    serde_json::to_value(volume)
        .ok()
        .and_then(|value| Some(value.as_object()?.keys().find(|key| *key != "name")?.clone()))
        .unwrap_or_else(|| "empty".to_owned())
}

/// The mounts of a container, `/etc/hosts` and `/etc/resolv.conf` excepted: the guest adds those.
pub fn mounts(
    pod: &Pod,
    container: &Container,
    environment: &[(String, String)],
    disks: &[VolumeDisk],
) -> Result<Vec<v1::Mount>, String> {
    let known: BTreeMap<String, String> = environment.iter().cloned().collect();
    let group = fs_group(pod);
    let mut result = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let volume = volumes(pod)
            .iter()
            .find(|volume| volume.name == wanted.name)
            .ok_or_else(|| format!("volume \"{}\" not found", wanted.name))?;
        let disk = disks.iter().find(|disk| disk.volume == volume.name);
        let node = |path: &str, kind: Option<&str>| {
            mount::Source::HostPath(v1::HostPath {
                tag: NODE_TAG.to_owned(),
                path: path.to_owned(),
                r#type: kind.unwrap_or_default().to_owned(),
            })
        };
        let node = match (&volume.host_path, disk.filter(|disk| disk.kind.of_node())) {
            (Some(source), _) => Some(node(&source.path, source.type_.as_deref())),
            (None, Some(disk)) => Some(node(&disk.path.to_string_lossy(), Some(&disk.path_type))),
            (None, None) => None,
        };
        let of_node = node.is_some();
        let source = match (node, &volume.empty_dir, disk) {
            (Some(node), ..) => node,
            (None, _, Some(disk)) if disk.kind == DiskKind::Image => mount::Source::DiskSerial(disk.serial()),
            (None, _, Some(disk)) => mount::Source::Disk(guest_disk(pod, disk)),
            (None, None, None) if attach::is_claimed(volume) || volume.image.is_some() => {
                return Err(format!("volume \"{}\" is no disk of the VM", volume.name));
            }
            (None, Some(empty), None) => mount::Source::EmptyDir(empty_dir(pod, &volume.name, empty)),
            (None, None, None) => mount::Source::Volume(volume.name.clone()),
        };
        let sub_path = sub_path(wanted, &known)?;
        let recursive = matches!(
            wanted.recursive_read_only.as_deref(),
            Some("Enabled" | "IfPossible")
        );
        result.push(v1::Mount {
            destination: wanted.mount_path.clone(),
            // Files that the host writes are not the container's to change.
            read_only: wanted.read_only == Some(true)
                || disk.map_or(volume.empty_dir.is_none() && !of_node, |disk| disk.read_only),
            source: Some(source),
            propagation: wanted
                .mount_propagation
                .clone()
                .filter(|kind| kind != "None")
                .unwrap_or_default(),
            sub_path,
            recursive_read_only: recursive && wanted.read_only == Some(true),
            // The whole tree of a disk is given to the group when it is mounted; the node's files are nobody's Pod's, but for
            // local volumes.
            group: group.filter(|_| match disk {
                Some(disk) => disk.kind == DiskKind::Local && !disk.read_only,
                None => !of_node,
            }),
        });
    }
    for wanted in container.volume_devices.iter().flatten() {
        let disk = disks
            .iter()
            .find(|disk| disk.volume == wanted.name && disk.kind == DiskKind::Block)
            .ok_or_else(|| format!("volume \"{}\" is no block device of the VM", wanted.name))?;
        result.push(v1::Mount {
            destination: wanted.device_path.clone(),
            read_only: disk.read_only,
            source: Some(mount::Source::Disk(guest_disk(pod, disk))),
            ..v1::Mount::default()
        });
    }
    Ok(result)
}

/// The directories that the environment of a container is read from, each with the file (`fileKeyRef`).
pub fn environment_files(pod: &Pod, container: &Container) -> Vec<(v1::EmptyDir, String)> {
    let references = container.env.iter().flatten().filter_map(|variable| {
        let reference = variable.value_from.as_ref()?.file_key_ref.as_ref()?;
        let volume = volumes(pod)
            .iter()
            .find(|volume| volume.name == reference.volume_name)?;
        let directory = empty_dir(pod, &volume.name, volume.empty_dir.as_ref()?);
        Some((directory, reference.path.clone()))
    });
    references.collect()
}

/// One in memory is no larger than what the Pod may have of it (kubelet: `calculateEmptyDirMemorySize`).
fn empty_dir(pod: &Pod, name: &str, source: &EmptyDirVolumeSource) -> v1::EmptyDir {
    let memory = source.medium.as_deref() == Some("Memory");
    let own = source.size_limit.as_ref().and_then(size::whole);
    let whole = pod.spec.as_ref().filter(|_| memory).and_then(size::memory_limit);
    let limits = [own, whole].into_iter().flatten().filter(|bytes| *bytes > 0);
    v1::EmptyDir {
        name: name.to_owned(),
        memory,
        size_limit: limits.min().unwrap_or(0),
    }
}

/// Which part of a volume is mounted (kubelet: `makeMounts`).
fn sub_path(wanted: &VolumeMount, known: &BTreeMap<String, String>) -> Result<String, String> {
    let path = match (&wanted.sub_path_expr, &wanted.sub_path) {
        (Some(expression), _) if !expression.is_empty() => env::expand_all(expression, known)?,
        (_, Some(path)) => path.clone(),
        _ => String::new(),
    };
    if path.starts_with('/') {
        return Err(format!("error SubPath `{path}` must not be an absolute path"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!(
            "unable to provision SubPath `{path}`: must not contain '..'"
        ));
    }
    Ok(path)
}

fn guest_disk(pod: &Pod, disk: &VolumeDisk) -> v1::Disk {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
    v1::Disk {
        serial: disk.serial(),
        block: disk.kind == DiskKind::Block,
        read_only: disk.read_only,
        group: fs_group(pod),
        group_on_root_mismatch: policy == Some("OnRootMismatch"),
        shared: disk.kind == DiskKind::Shared,
        mount_options: disk.mount_options.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sources() -> Sources {
        Sources {
            config_maps: BTreeMap::from([(
                "cm".to_owned(),
                serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).expect("a ConfigMap"),
            )]),
            secrets: BTreeMap::from([(
                "s".to_owned(),
                serde_json::from_value(json!({"data": {"k": "dg=="}})).expect("a Secret"),
            )]),
            ..Sources::default()
        }
    }

    fn check(volume: serde_json::Value, expected: &str) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web", "labels": {"x": "y"}},
            "spec": {"containers": [], "volumes": [volume]}}))
        .expect("a Pod");
        let tokens = Tokens::from([(
            Token {
                audience: String::new(),
                seconds: 3607,
            },
            "tok".to_owned(),
        )]);
        let text = match files(&pod, &sources(), &tokens, &Facts::default()) {
            Ok(volumes) => volumes
                .iter()
                .flat_map(|volume| &volume.files)
                .map(|file| {
                    format!(
                        "{}={} {:o}",
                        file.path,
                        String::from_utf8_lossy(&file.data),
                        file.mode
                    )
                })
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected, "{volume}");
    }

    #[test]
    fn files_of_volumes() {
        check(
            json!({"name": "v", "configMap": {"name": "cm"}}),
            "a=1 644, b=2 644",
        );
        check(
            json!({"name": "v", "configMap": {"name": "cm", "defaultMode": 256, "items": [{"key": "b", "path": "d/x"}]}}),
            "d/x=2 400",
        );
        check(json!({"name": "v", "secret": {"secretName": "s"}}), "k=v 644");
        check(
            json!({"name": "v", "configMap": {"name": "no"}}),
            "MountVolume.SetUp failed for volume \"v\" : configmap \"no\" not found",
        );
        check(
            json!({"name": "v", "configMap": {"name": "no", "optional": true}}),
            "",
        );
        check(
            json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "q", "path": "q"}]}}),
            "MountVolume.SetUp failed for volume \"v\" : references non-existent secret key: q",
        );
        check(
            json!({"name": "v", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
            "l=x=\"y\" 644",
        );
        check(
            json!({"name": "v", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            ]}}),
            "token=tok 644, ca.crt=1 644, n=web 644",
        );
        check(
            json!({"name": "v", "projected": {"sources": [{"configMap": {"name": "x"}}, {"secret": {"name": "y"}}]}}),
            "MountVolume.SetUp failed for volume \"v\" : [configmap \"x\" not found, secret \"y\" not found]",
        );
        check(
            json!({"name": "v", "nfs": {"server": "s", "path": "/"}}),
            "MountVolume.SetUp failed for volume \"v\" : nfs volumes are not supported on this host",
        );
        check(json!({"name": "v", "hostPath": {"path": "/"}}), "");
        check(json!({"name": "v", "emptyDir": {}}), "");
        check(
            json!({"name": "v", "emptyDir": {"medium": "HugePages-2Mi"}}),
            "MountVolume.SetUp failed for volume \"v\" : emptyDir medium \"HugePages-2Mi\" is not supported on this host",
        );
    }

    #[test]
    fn tokens_are_for_the_only_user() {
        let pod = |pod: i64, own: Option<i64>| -> Pod {
            serde_json::from_value(json!({"spec": {"securityContext": {"runAsUser": pod},
                "containers": [{"name": "a"}, {"name": "b", "securityContext": {"runAsUser": own}}]}}))
            .expect("a Pod")
        };
        assert_eq!(only_user(&pod(7, None)), Some(7));
        assert_eq!(only_user(&pod(7, Some(7))), Some(7));
        assert_eq!(only_user(&pod(7, Some(8))), None);
        assert_eq!(only_user(&Pod::default()), None);
    }

    #[test]
    fn mounts_of_containers() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "securityContext": {"fsGroup": 7},
            "volumes": [{"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "c", "configMap": {"name": "c"}}],
            "containers": [{"name": "a", "volumeMounts": [
                {"name": "e", "mountPath": "/e", "subPathExpr": "$(N)/x"}, {"name": "c", "mountPath": "/c"}]}]}}))
        .expect("a Pod");
        let container = &pod.spec.as_ref().expect("spec").containers[0];
        let mounts = mounts(&pod, container, &[("N".to_owned(), "web".to_owned())], &[]).expect("mounts");
        assert_eq!(
            (mounts[0].sub_path.as_str(), mounts[0].read_only),
            ("web/x", false)
        );
        assert_eq!(
            (mounts[1].destination.as_str(), mounts[1].read_only),
            ("/c", true)
        );
        assert_eq!(mounts[0].group, Some(7));
    }

    #[test]
    fn directories_in_memory_keep_to_the_limit() {
        let pod = |limit: Option<&str>| -> Pod {
            let resources = limit.map(|memory| json!({"limits": {"memory": memory}}));
            let containers = json!([{"name": "a", "resources": {"limits": {"memory": "64Mi"}}},
                {"name": "b", "resources": resources}]);
            serde_json::from_value(json!({"spec": {"containers": containers}})).expect("a Pod")
        };
        let cases = [
            (Some("64Mi"), json!({"medium": "Memory"}), 128 << 20),
            (
                Some("64Mi"),
                json!({"medium": "Memory", "sizeLimit": "1Gi"}),
                128 << 20,
            ),
            (
                Some("64Mi"),
                json!({"medium": "Memory", "sizeLimit": "1Mi"}),
                1 << 20,
            ),
            (Some("64Mi"), json!({"sizeLimit": "1Gi"}), 1 << 30),
            // One container has no limit, so the Pod has none.
            (None, json!({"medium": "Memory"}), 0),
        ];
        for (limit, source, expected) in cases {
            let read = serde_json::from_value(source.clone()).expect("a source");
            assert_eq!(
                empty_dir(&pod(limit), "e", &read).size_limit,
                expected,
                "{limit:?} {source}"
            );
        }
    }

    #[test]
    fn sub_paths_stay_below_their_volume() {
        let known = BTreeMap::from([
            ("NONE".to_owned(), String::new()),
            ("UP".to_owned(), "..".to_owned()),
        ]);
        let of = |mount: serde_json::Value| {
            let mount: VolumeMount = serde_json::from_value(mount).expect("a mount");
            sub_path(&mount, &known)
        };
        let cases = [
            (json!({"name": "v", "mountPath": "/v"}), Ok("")),
            (
                json!({"name": "v", "mountPath": "/v", "subPath": "$(UP)/x"}),
                Ok("$(UP)/x"),
            ),
            (
                json!({"name": "v", "mountPath": "/v", "subPathExpr": "$(UP)"}),
                Err("unable to provision SubPath `..`: must not contain '..'"),
            ),
            (
                json!({"name": "v", "mountPath": "/v", "subPathExpr": "$(NONE)/x"}),
                Err("error SubPath `/x` must not be an absolute path"),
            ),
            (
                json!({"name": "v", "mountPath": "/v", "subPathExpr": "$(WHAT)/x"}),
                Err("missing value for \"WHAT\""),
            ),
        ];
        for (mount, expected) in cases {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(of(mount.clone()), expected, "{mount}");
        }
    }
}
