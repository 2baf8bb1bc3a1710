//! Tables of the store file and how a version of a key is encoded in them.

use crate::contract::EventKind;
use redb::{Database, ReadableDatabase, TableDefinition};

/// Version of this layout, kept in the file. A file of version 1 has no log beside it and is otherwise the same.
pub(crate) const FORMAT: u64 = 2;
const WITHOUT_LOG: u64 = 1;
/// Page cache of redb, in bytes. Reads come from the watch cache, so little is needed here.
pub(crate) const CACHE_BYTES: usize = 16 << 20;

/// Every version that can still be read: `(key, revision) -> head and value`.
pub(crate) const VERSIONS: TableDefinition<(&[u8], u64), &[u8]> = TableDefinition::new("versions");
/// Which key each revision wrote.
pub(crate) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Counters by name.
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// Counter: the layout's version.
pub(crate) const META_FORMAT: &str = "format";
/// A number that tells this file from others; the log bears it as well.
const META_STORE: &str = "store";
/// Counter: the latest revision in this file; the log may hold later ones.
pub(crate) const META_CURRENT: &str = "current";
/// Counter: the oldest revision that can be read.
pub(crate) const META_OLDEST: &str = "oldest";

/// Bytes before the value: one for the kind of write, eight for the creating revision.
const HEAD: usize = 9;

/// A decoded entry of [`VERSIONS`]; the value of a deletion is empty.
pub(crate) struct Version<'a> {
    pub(crate) kind: EventKind,
    pub(crate) created: u64,
    pub(crate) value: &'a [u8],
}

/// The byte that says what a write did.
pub(crate) fn kind_byte(kind: EventKind) -> u8 {
    match kind {
        EventKind::Created => 0,
        EventKind::Updated => 1,
        EventKind::Deleted => 2,
    }
}

/// What a byte of [`kind_byte`] says.
pub(crate) fn kind_of(byte: u8) -> Option<EventKind> {
    Some(match byte {
        0 => EventKind::Created,
        1 => EventKind::Updated,
        2 => EventKind::Deleted,
        _ => return None,
    })
}

/// Encodes an entry of [`VERSIONS`] into `out`, which is emptied before.
pub(crate) fn encode(out: &mut Vec<u8>, kind: EventKind, created: u64, value: &[u8]) {
    out.clear();
    out.push(kind_byte(kind));
    out.extend_from_slice(&created.to_be_bytes());
    out.extend_from_slice(value);
}

/// Decodes an entry of [`VERSIONS`]; `None` when it is damaged.
pub(crate) fn decode(entry: &[u8]) -> Option<Version<'_>> {
    let (head, value) = entry.split_at_checked(HEAD)?;
    let kind = kind_of(head[0])?;
    let created = u64::from_be_bytes(head[1..HEAD].try_into().ok()?);
    Some(Version { kind, created, value })
}

/// A number that nobody else has.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// What a file says of itself.
pub(crate) struct Head {
    pub(crate) format: u64,
    pub(crate) current: u64,
    pub(crate) store: u64,
}

/// Makes the tables of a new file, and brings an old one to this layout.
pub(crate) fn prepare(database: &Database) -> Result<Head, redb::Error> {
    let mut head = Head {
        format: FORMAT,
        current: 0,
        store: random(),
    };
    let read = database.begin_read()?;
    let mut new = true;
    if let Ok(meta) = read.open_table(META) {
        let get = |name| -> Result<u64, redb::Error> { Ok(meta.get(name)?.map_or(0, |v| v.value())) };
        let format = get(META_FORMAT)?;
        head.current = get(META_CURRENT)?;
        if format != WITHOUT_LOG {
            head.store = get(META_STORE)?;
            return Ok(Head { format, ..head });
        }
        new = false;
    }
    drop(read);
    let write = database.begin_write()?;
    {
        write.open_table(VERSIONS)?;
        write.open_table(LOG)?;
        let mut meta = write.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_STORE, head.store)?;
        if new {
            meta.insert(META_CURRENT, 0)?;
            meta.insert(META_OLDEST, 0)?;
        }
    }
    write.commit()?;
    Ok(head)
}
