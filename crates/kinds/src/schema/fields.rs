//! The fields of an object type, found by name.
//!
//! Every field of every object that comes in is looked up here, several times a request. A name has a tag, a number made of
//! its ends, and tags are compared: a tree of texts compares whole texts on the way down.

use std::ops::Index;

use super::Field;

/// Fields by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// The tags of the names, in order.
    tags: Vec<u64>,
    /// In the order of their tags, and of their names where these have the same.
    all: Vec<(String, Field)>,
}

/// What is compared first of a name: its ends and its length.
fn tag(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let ends = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29),
        _ => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    ends.wrapping_add(bytes.len() as u64)
}

impl Fields {
    /// The field of a name.
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.position(name).ok().map(|at| &self.all[at].1)
    }

    /// The field of a name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Field> {
        self.position(name).ok().map(|at| &mut self.all[at].1)
    }

    /// Whether there is a field of a name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Names and fields, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Field)> {
        self.all.iter().map(|(name, field)| (name, field))
    }

    /// The fields, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Field> {
        self.all.iter_mut().map(|(_, field)| field)
    }

    /// Adds a field, or puts it in the place of the one that has its name.
    pub fn insert(&mut self, name: String, field: Field) {
        match self.position(&name) {
            Ok(at) => self.all[at].1 = field,
            Err(at) => {
                self.tags.insert(at, tag(&name));
                self.all.insert(at, (name, field));
            }
        }
    }

    /// Where a field is, or would have to be.
    fn position(&self, name: &str) -> Result<usize, usize> {
        let tag = tag(name);
        let start = self.tags.partition_point(|known| *known < tag);
        match (self.tags.get(start), self.tags.get(start + 1)) {
            (Some(one), next) if *one == tag && next != Some(&tag) && self.all[start].0 == name => Ok(start),
            // Several names with one tag, as whoever writes a schema could make them, are not gone through one by one.
            (Some(one), _) if *one == tag => {
                let alike = self.tags[start..].partition_point(|known| *known == tag);
                let found =
                    self.all[start..start + alike].binary_search_by(|(known, _)| known.as_str().cmp(name));
                found.map(|at| start + at).map_err(|at| start + at)
            }
            _ => Err(start),
        }
    }
}

impl FromIterator<(String, Field)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, Field)>>(all: I) -> Self {
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by(|(a, _), (b, _)| tag(a).cmp(&tag(b)).then_with(|| a.cmp(b)));
        // The last of a name counts, as with every map.
        all.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        all.shrink_to_fit();
        let tags = all.iter().map(|(name, _)| tag(name)).collect();
        Fields { tags, all }
    }
}

impl Index<&str> for Fields {
    type Output = Field;

    /// # Panics
    /// When there is no field of the name.
    fn index(&self, name: &str) -> &Field {
        match self.get(name) {
            Some(field) => field,
            None => panic!("no field {name:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin;

    #[test]
    fn every_field_is_found_by_its_name_and_nothing_else_is() {
        let spec = builtin().definition("io.k8s.api.core.v1.PodSpec").unwrap();
        for (name, field) in spec.fields.iter() {
            assert_eq!(spec.fields.get(name), Some(field), "{name}");
            assert!(spec.fields.get(&format!("{name}~")).is_none(), "{name}");
            assert!(spec.fields.get(&name[1..]).is_none(), "{name}");
        }
        assert!(spec.fields.get("").is_none());
        assert!(spec.fields.get(&"x".repeat(99)).is_none());
    }

    #[test]
    fn names_with_the_same_ends_are_told_apart() {
        let field = &builtin().definition("io.k8s.api.core.v1.PodSpec").unwrap().fields["nodeName"];
        let names = [
            "00000000b00000000",
            "00000000a00000000",
            "00000000c00000000",
            "short",
            "",
        ];
        let mut fields: Fields = names
            .map(|name| (name.to_owned(), field.clone()))
            .into_iter()
            .collect();
        assert!(names.iter().all(|name| fields.contains_key(name)));
        assert!(!fields.contains_key("00000000d00000000"));
        fields.insert("00000000d00000000".to_owned(), field.clone());
        fields.insert("00000000a00000000".to_owned(), field.clone());
        assert!(
            names
                .iter()
                .chain(&["00000000d00000000"])
                .all(|name| fields.contains_key(name))
        );
        assert_eq!(fields.iter().count(), 6);
    }
}
