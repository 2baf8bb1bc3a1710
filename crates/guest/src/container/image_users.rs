//! Users and groups as an image's own files name them. (No `getaddrinfo` family here: the agent is static.)

use std::io;
use std::path::Path;

use guest_api::v1::User;

use crate::files::read_in;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Resolves the wanted user inside the image at `root`.
pub fn resolve(root: &Path, wanted: &User) -> io::Result<Identity> {
    resolve_text(
        &read_in(root, "/etc/passwd"),
        &read_in(root, "/etc/group"),
        wanted,
    )
}

fn resolve_text(passwd: &str, group: &str, wanted: &User) -> io::Result<Identity> {
    let (user_part, group_part) = wanted.name.split_once(':').unwrap_or((&wanted.name, ""));
    let user_part = if user_part.is_empty() { "0" } else { user_part };
    let key = wanted
        .uid
        .map_or_else(|| user_part.to_owned(), |uid| uid.to_string());
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| {
            fields.len() >= 6 && (fields[0] == key || (fields[2] == key && key.parse::<u32>().is_ok()))
        });
    let uid = match (&entry, key.parse::<u32>()) {
        (Some(fields), _) => fields[2].parse().map_err(io::Error::other)?,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => {
            return Err(missing(format!(
                "unable to find user {key}: no matching entries in passwd file"
            )));
        }
    };
    let gid = if let Some(gid) = wanted.gid {
        gid
    } else if !group_part.is_empty() && wanted.uid.is_none() {
        group_id(group, group_part)?
    } else {
        entry
            .as_ref()
            .and_then(|fields| fields[3].parse().ok())
            .unwrap_or(0)
    };
    if wanted.must_not_be_root && uid == 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "container has runAsNonRoot and image will run as root",
        ));
    }
    let name = entry.as_ref().map(|fields| fields[0]);
    let mut groups: Vec<u32> = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| {
            !wanted.strict_groups
                && fields.len() >= 4
                && name.is_some_and(|name| fields[3].split(',').any(|member| member == name))
        })
        .filter_map(|fields| fields[2].parse().ok())
        .chain(wanted.supplemental_groups.iter().copied())
        // As runtimes have it: a program that changes its primary group keeps this one.
        .chain([gid])
        .collect();
    groups.sort_unstable();
    groups.dedup();
    let home = entry
        .map(|fields| fields[5].to_owned())
        .filter(|home| !home.is_empty());
    Ok(Identity {
        uid,
        gid,
        groups,
        home: home.unwrap_or_else(|| "/".to_owned()),
    })
}

fn group_id(group: &str, key: &str) -> io::Result<u32> {
    let found = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == key);
    match (found.and_then(|fields| fields.get(2)?.parse().ok()), key.parse()) {
        (Some(gid), _) | (None, Ok(gid)) => Ok(gid),
        (None, Err(_)) => Err(missing(format!(
            "unable to find group {key}: no matching entries in group file"
        ))),
    }
}

fn missing(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nredis:x:101:102::/var/lib/redis:/bin/false\n";
    const GROUP: &str = "root:x:0:\nredis:x:102:\nextra:x:500:redis,other\n";

    fn user(name: &str) -> User {
        User {
            name: name.to_owned(),
            ..User::default()
        }
    }

    #[test]
    fn users_resolve_as_container_engines_do() {
        let cases = [
            (user(""), (0, 0, vec![0], "/root")),
            (user("redis"), (101, 102, vec![102, 500], "/var/lib/redis")),
            (user("101"), (101, 102, vec![102, 500], "/var/lib/redis")),
            (user("redis:root"), (101, 0, vec![0, 500], "/var/lib/redis")),
            (user("1000:1001"), (1000, 1001, vec![1001], "/")),
            (
                User {
                    uid: Some(7),
                    ..user("redis")
                },
                (7, 0, vec![0], "/"),
            ),
            (
                User {
                    gid: Some(9),
                    supplemental_groups: vec![3, 2],
                    ..user("redis")
                },
                (101, 9, vec![2, 3, 9, 500], "/var/lib/redis"),
            ),
            (
                User {
                    strict_groups: true,
                    supplemental_groups: vec![3],
                    ..user("redis")
                },
                (101, 102, vec![3, 102], "/var/lib/redis"),
            ),
        ];
        for (wanted, (uid, gid, groups, home)) in cases {
            let expected = Identity {
                uid,
                gid,
                groups,
                home: home.to_owned(),
            };
            assert_eq!(
                resolve_text(PASSWD, GROUP, &wanted).expect("resolved"),
                expected,
                "{wanted:?}"
            );
        }
        assert!(resolve_text(PASSWD, GROUP, &user("nobody")).is_err());
        assert!(
            resolve_text(
                PASSWD,
                GROUP,
                &User {
                    must_not_be_root: true,
                    ..user("")
                }
            )
            .is_err()
        );
    }
}
