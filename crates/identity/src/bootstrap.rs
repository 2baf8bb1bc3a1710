//! The first user: makes `administrator@podvisor.local` able to sign in, and its group able to do everything.
//!
//! Run at every start; what exists already is left as it is, except that a password file given by the operator wins.

use crate::directory::Directory;
use crate::directory::{ApiDirectory, DirectoryError, MANAGER, api_error};
use crate::files::{self, FileError};
use crate::passwords;
use crate::{ADMINISTRATOR, ADMINISTRATORS, SUBJECT_PREFIX, SYSTEM_NAMESPACE};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rand::distr::{Alphanumeric, SampleString};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Length of a generated password (about 119 bits).
const GENERATED_LENGTH: usize = 20;

/// The first user could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The password file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The operator's password file is empty.
    #[error("{}: is empty: write the administrator's password into it", .0.display())]
    EmptyPasswordFile(PathBuf),
    /// The API server refused.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// What the first user needs, once its password is in a file.
#[derive(Debug, Clone)]
pub struct Administrator {
    /// Where the password can be read.
    pub password_file: PathBuf,
    /// The password where it is to be set.
    password: Option<String>,
}

/// Finds or makes the first password; it is in its file on return.
///
/// What `password_file`, the operator's own, holds is the password, at every start. Where there is none, or it does
/// not exist, a password is generated on the first start and written there, or to `DIR/administrator-password`.
///
/// # Errors
/// A file that is empty, or that cannot be read or written.
pub async fn first_password(
    client: &Client,
    dir: &Path,
    password_file: Option<&Path>,
) -> Result<Administrator, BootstrapError> {
    let directory = ApiDirectory::new(client.clone());
    let (password_file, password) = find_password(&directory, dir, password_file).await?;
    Ok(Administrator {
        password_file,
        password,
    })
}

/// Makes namespace, group, user and binding, as far as they are missing.
///
/// # Errors
/// What the API server refused; it may be tried again.
pub async fn administrator(client: &Client, first: &Administrator) -> Result<(), BootstrapError> {
    let directory = ApiDirectory::new(client.clone());
    // Hashing takes a while on purpose, and writes that wait together share a commit.
    let hash = async {
        match &first.password {
            Some(password) => passwords::hash_aside(password.clone()).await.map(Some),
            None => Ok(None),
        }
    };
    let hash = async { hash.await.map_err(DirectoryError::from) };
    let (hash, ..) = futures::try_join!(
        hash,
        namespace(client),
        binding(client),
        directory.ensure_group(ADMINISTRATORS, &[ADMINISTRATOR]),
        directory.ensure_user(ADMINISTRATOR, "Administrator", None),
    )?;
    if let Some(hash) = hash {
        directory.store_hash(ADMINISTRATOR, &hash).await?;
    }
    Ok(())
}

async fn namespace(client: &Client) -> Result<(), DirectoryError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SYSTEM_NAMESPACE } });
    let params = PatchParams::apply(MANAGER).force();
    namespaces
        .patch(SYSTEM_NAMESPACE, &params, &Patch::Apply(&namespace))
        .await
        .map_err(api_error(format!("create namespace {SYSTEM_NAMESPACE}")))?;
    Ok(())
}

async fn binding(client: &Client) -> Result<(), DirectoryError> {
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": "podvisor:administrators" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Group",
            "name": format!("{SUBJECT_PREFIX}{ADMINISTRATORS}"),
        }],
    });
    let params = PatchParams::apply(MANAGER).force();
    bindings
        .patch("podvisor:administrators", &params, &Patch::Apply(&binding))
        .await
        .map_err(api_error("bind the administrators"))?;
    Ok(())
}

/// The file with the password, and the password where it is to be set.
async fn find_password(
    directory: &ApiDirectory,
    dir: &Path,
    password_file: Option<&Path>,
) -> Result<(PathBuf, Option<String>), BootstrapError> {
    if let Some(path) = password_file
        && let Some(text) = files::read_optional(path)?
    {
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(BootstrapError::EmptyPasswordFile(path.to_path_buf()));
        }
        return Ok((path.to_path_buf(), Some(password.to_owned())));
    }
    let path = password_file.map_or_else(|| dir.join("administrator-password"), Path::to_path_buf);
    if directory.password_hash(ADMINISTRATOR).await?.is_some() {
        return Ok((path, None));
    }
    // A file left from a start that broke off here is used again.
    let password = match files::read_optional(&path)? {
        Some(text) if !text.trim().is_empty() => text.trim().to_string(),
        _ => {
            let password = Alphanumeric.sample_string(&mut rand::rng(), GENERATED_LENGTH);
            if let Some(parent) = path.parent() {
                files::private_dir(parent)?;
            }
            files::write_private(&path, format!("{password}\n").as_bytes())?;
            password
        }
    };
    Ok((path, Some(password)))
}
