//! The recipes as read from `images.toml`, checked before anything is fetched.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use anyhow::{Result, ensure};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipes {
    /// In the order in which they are built: a base before what stands on it.
    pub image: Vec<Image>,
}

/// One image; the fields are described at the head of `images.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Image {
    pub name: String,
    pub base: Option<String>,
    pub architecture: String,
    pub tags: Vec<String>,
    pub packages: Vec<String>,
    pub keep: Vec<String>,
    pub applets: Option<String>,
    pub directories: Vec<String>,
    pub files: BTreeMap<String, String>,
    pub programs: BTreeMap<String, String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub ports: Vec<String>,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            name: String::new(),
            base: None,
            architecture: "amd64".to_owned(),
            tags: Vec::new(),
            packages: Vec::new(),
            keep: Vec::new(),
            applets: None,
            directories: Vec::new(),
            files: BTreeMap::new(),
            programs: BTreeMap::new(),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            working_dir: "/".to_owned(),
            ports: Vec::new(),
        }
    }
}

impl Recipes {
    /// Reads and checks the recipes.
    pub fn parse(text: &str) -> Result<Self> {
        let recipes: Self = toml::from_str(text)?;
        for image in &recipes.image {
            image.check()?;
        }
        Ok(recipes)
    }
}

impl Image {
    /// Whether the image has a layer of its own.
    pub fn adds_files(&self) -> bool {
        !(self.packages.is_empty()
            && self.files.is_empty()
            && self.programs.is_empty()
            && self.directories.is_empty())
    }

    fn check(&self) -> Result<()> {
        let name = &self.name;
        ensure!(!name.is_empty(), "an image has no name");
        ensure!(
            !self.tags.is_empty(),
            "image {name}: tags: at least one is needed"
        );
        for tag in &self.tags {
            ensure!(
                tag.rsplit_once(':').is_some(),
                "image {name}: tags: {tag:?} is not repository:tag"
            );
        }
        ensure!(
            self.packages.is_empty() == self.keep.is_empty(),
            "image {name}: packages and keep come together"
        );
        let paths = self.directories.iter().chain(self.files.keys());
        for path in paths.chain(self.programs.keys()).chain(&self.applets) {
            let inside = Path::new(path)
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            ensure!(
                inside,
                "image {name}: {path:?} must be a plain path without a leading slash"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_of_the_demo_are_good() -> Result<()> {
        let recipes = Recipes::parse(include_str!("../../../examples/guestbook/images.toml"))?;
        let names: Vec<_> = recipes.image.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "busybox",
                "redis-master",
                "redis-slave",
                "frontend",
                "engine",
                "etcd",
                "wrong-arch"
            ]
        );
        Ok(())
    }

    #[test]
    fn mistakes_name_the_field() {
        let cases = [
            ("tags = [\"a:1\"]", "no name"),
            ("name = \"a\"", "tags"),
            ("name = \"a\"\ntags = [\"a\"]", "repository:tag"),
            ("name = \"a\"\ntags = [\"a:1\"]\npackages = [\"p\"]", "keep"),
            (
                "name = \"a\"\ntags = [\"a:1\"]\ndirectories = [\"../x\"]",
                "plain path",
            ),
            ("name = \"a\"\ntags = [\"a:1\"]\ncolour = 1", "colour"),
        ];
        for (body, word) in cases {
            let error = match Recipes::parse(&format!("[[image]]\n{body}\n")) {
                Ok(recipes) => panic!("{body}: accepted as {recipes:?}"),
                Err(error) => format!("{error:#}"),
            };
            assert!(error.contains(word), "{body}: {error}");
        }
    }
}
