//! Tables of the store file and how a version of a key is encoded in them.

use crate::contract::EventKind;
use redb::{Database, ReadableDatabase, TableDefinition};

/// Version of this layout, kept in the file.
pub(crate) const FORMAT: u64 = 1;
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
/// Counter: the latest revision.
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

/// Encodes an entry of [`VERSIONS`].
pub(crate) fn encode(kind: EventKind, created: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + value.len());
    out.push(match kind {
        EventKind::Created => 0,
        EventKind::Updated => 1,
        EventKind::Deleted => 2,
    });
    out.extend_from_slice(&created.to_be_bytes());
    out.extend_from_slice(value);
    out
}

/// Decodes an entry of [`VERSIONS`]; `None` when it is damaged.
pub(crate) fn decode(entry: &[u8]) -> Option<Version<'_>> {
    let (head, value) = entry.split_at_checked(HEAD)?;
    let kind = match head[0] {
        0 => EventKind::Created,
        1 => EventKind::Updated,
        2 => EventKind::Deleted,
        _ => return None,
    };
    let created = u64::from_be_bytes(head[1..HEAD].try_into().ok()?);
    Some(Version { kind, created, value })
}

/// Makes the tables of a new file; answers format and current revision.
pub(crate) fn prepare(database: &Database) -> Result<(u64, u64), redb::Error> {
    {
        let read = database.begin_read()?;
        if let Ok(meta) = read.open_table(META) {
            let get = |name| -> Result<u64, redb::Error> { Ok(meta.get(name)?.map_or(0, |v| v.value())) };
            return Ok((get(META_FORMAT)?, get(META_CURRENT)?));
        }
    }
    let write = database.begin_write()?;
    {
        write.open_table(VERSIONS)?;
        write.open_table(LOG)?;
        let mut meta = write.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_CURRENT, 0)?;
        meta.insert(META_OLDEST, 0)?;
    }
    write.commit()?;
    Ok((FORMAT, 0))
}
