//! Layers as data, hostile ones among them. They need root, as the host agent does, for owners and devices.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::*;

/// One entry of a test archive.
enum Item<'a> {
    Directory(&'a str),
    File(&'a str, &'a str, u32),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
    Device(&'a str, u32, u32),
    WithAttribute(&'a str, &'a str, &'a [u8]),
}

fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = tar::Header::new_gnu();
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000);
        header.set_mode(0o755);
        header.set_size(0);
        let (path, data) = match item {
            Item::Device(path, major, minor) => {
                header.set_entry_type(tar::EntryType::Char);
                header.set_device_major(*major).expect("a number");
                header.set_device_minor(*minor).expect("a number");
                (path, "")
            }
            Item::WithAttribute(path, name, value) => {
                let name = format!("SCHILY.xattr.{name}");
                let extensions = [(name.as_str(), *value)];
                builder.append_pax_extensions(extensions).expect("appended");
                (path, "")
            }
            Item::Directory(path) => {
                header.set_entry_type(tar::EntryType::Directory);
                (path, "")
            }
            Item::File(path, data, mode) => {
                header.set_mode(*mode);
                header.set_size(data.len() as u64);
                (path, *data)
            }
            Item::Symlink(path, target) | Item::Hardlink(path, target) => {
                let symlink = matches!(item, Item::Symlink(..));
                header.set_entry_type(if symlink {
                    tar::EntryType::Symlink
                } else {
                    tar::EntryType::Link
                });
                header.set_link_name_literal(target).expect("a link name");
                (path, "")
            }
        };
        // The name goes in as it is: the builder's own checks must not help the code under test.
        let bytes = path.as_bytes();
        header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).expect("appended");
    }
    builder.into_inner().expect("finished")
}

fn unpack_all(layers: &[Vec<u8>]) -> (tempfile::TempDir, io::Result<()>) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let root = scratch.path().join("root");
    fs::create_dir(&root).expect("made");
    fs::write(scratch.path().join("outside"), "untouched").expect("written");
    let result = layers
        .iter()
        .try_for_each(|layer| unpack(layer.as_slice(), &root, MAX_UNPACKED).map(drop));
    (scratch, result)
}

/// The capability `CAP_NET_RAW`, effective, as a file has it.
const MAY_SEND: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn attributes_are_kept() {
    let layer = archive(&[
        Item::Directory("bin"),
        Item::File("bin/su", "x", 0o4755),
        Item::Symlink("sbin", "bin"),
        Item::File("sbin/init", "y", 0o700),
        Item::Hardlink("bin/su2", "bin/su"),
        Item::Device("null", 1, 3),
        Item::WithAttribute("bin/ping", "security.capability", &MAY_SEND),
    ]);
    let (scratch, result) = unpack_all(&[layer]);
    result.expect("unpacked");
    let root = scratch.path().join("root");
    let su = fs::metadata(root.join("bin/su")).expect("there");
    assert_eq!(
        (su.permissions().mode() & 0o7777, su.uid(), su.gid(), su.mtime()),
        (0o4755, 7, 8, 1_000_000)
    );
    assert_eq!(su.nlink(), 2);
    let null = fs::symlink_metadata(root.join("null")).expect("there");
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), null.uid()), (rustix::fs::makedev(1, 3), 7));
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(root.join("bin/ping"), "security.capability", &mut value[..]);
    assert_eq!(&value[..length.expect("kept")], MAY_SEND);
    // Through the link of the same archive, inside the root.
    assert_eq!(fs::read_to_string(root.join("bin/init")).expect("there"), "y");
    assert_eq!(fs::metadata(root.join("bin")).expect("there").mtime(), 1_000_000);
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let lower = archive(&[
        Item::File("a/keep", "1", 0o644),
        Item::File("a/gone", "1", 0o644),
        Item::File("b/old", "1", 0o644),
        Item::File("c/sub/x", "1", 0o644),
    ]);
    let upper = archive(&[
        Item::File("a/.wh.gone", "", 0o644),
        Item::File("b/new", "2", 0o644),
        Item::File("b/.wh..wh..opq", "", 0o644),
        Item::File("c/.wh.sub", "", 0o644),
        Item::File("a/.wh.never-there", "", 0o644),
    ]);
    let (scratch, result) = unpack_all(&[lower, upper]);
    result.expect("unpacked");
    let root = scratch.path().join("root");
    let cases = [
        ("a/keep", true),
        ("a/gone", false),
        ("b/old", false),
        ("b/new", true),
        ("c/sub", false),
    ];
    for (path, expected) in cases {
        assert_eq!(root.join(path).exists(), expected, "{path}");
    }
    assert!(!root.join("b/.wh..wh..opq").exists());
}

#[test]
fn nothing_leaves_the_root() {
    let cases = [
        ("dots", vec![Item::File("../outside", "bad", 0o644)]),
        ("dots inside", vec![Item::File("a/../../outside", "bad", 0o644)]),
        (
            "link",
            vec![
                Item::Symlink("out", ".."),
                Item::File("out/outside", "bad", 0o644),
            ],
        ),
        (
            "absolute link",
            vec![
                Item::Symlink("out", "/tmp"),
                Item::File("out/podvisor-bad", "bad", 0o644),
            ],
        ),
        ("hard link", vec![Item::Hardlink("h", "../outside")]),
        (
            "whiteout",
            vec![
                Item::Symlink("out", ".."),
                Item::File("out/.wh.outside", "", 0o644),
            ],
        ),
    ];
    for (name, items) in cases {
        let (scratch, _) = unpack_all(&[archive(&items)]);
        let outside = fs::read_to_string(scratch.path().join("outside")).expect("still there");
        assert_eq!(outside, "untouched", "{name}");
        assert!(!Path::new("/tmp/podvisor-bad").exists(), "{name}");
    }
}

#[test]
fn compressions_are_recognised_and_the_digest_is_of_the_plain_bytes() {
    use std::io::Write;
    let plain = archive(&[Item::File("f", "data", 0o644)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("compressed");
    let zstd =
        ruzstd::encoding::compress_to_vec(plain.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
    let expected = crate::registry::digest_of(&plain);
    for layer in [plain, gzip.finish().expect("finished"), zstd] {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(
            unpack(layer.as_slice(), scratch.path(), MAX_UNPACKED).expect("unpacked"),
            expected
        );
        assert_eq!(
            fs::read_to_string(scratch.path().join("f")).expect("there"),
            "data"
        );
    }
}

#[test]
fn a_cut_archive_is_an_error() {
    let layer = archive(&[Item::File("f", &"x".repeat(4096), 0o644)]);
    let (_scratch, result) = unpack_all(&[layer[..1024].to_vec()]);
    assert!(result.is_err());
}

#[test]
fn a_layer_that_grows_is_refused() {
    // A sparse file of a gigabyte in one block, and a plain one of a megabyte.
    let mut sparse = tar::Header::new_gnu();
    sparse.set_entry_type(tar::EntryType::GNUSparse);
    sparse.set_size(0);
    sparse.set_path("sparse").expect("a path");
    let gnu = sparse.as_gnu_mut().expect("a GNU header");
    gnu.realsize = *b"010000000000";
    gnu.sparse[0].offset = *b"010000000000";
    gnu.sparse[0].numbytes = *b"000000000000";
    sparse.set_mode(0o644);
    sparse.set_uid(0);
    sparse.set_gid(0);
    sparse.set_mtime(0);
    sparse.set_cksum();
    let mut sparse = sparse.as_bytes().to_vec();
    sparse.resize(sparse.len() + 1024, 0);
    let mut plain = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1 << 20);
    header.set_mode(0o644);
    header.set_cksum();
    plain
        .append_data(&mut header, "plain", io::repeat(0).take(1 << 20))
        .expect("written");
    let plain = plain.into_inner().expect("whole");
    for (name, layer) in [("sparse", sparse), ("plain", plain)] {
        let scratch = tempfile::tempdir().expect("a directory");
        let error = unpack(layer.as_slice(), scratch.path(), 1 << 19).expect_err(name);
        assert!(error.to_string().contains("larger"), "{name}: {error}");
    }
}
