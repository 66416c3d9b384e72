//! Names of images: as people write them, in full, and short again.

use std::{fmt, str::FromStr};

use crate::Digest;

/// The registry that a name without one means.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The folder of that registry that a name without one means.
const DEFAULT_FOLDER: &str = "library/";
/// The tag that a name without one means.
const DEFAULT_TAG: &str = "latest";
/// Bytes in a repository (registry and path), as the distribution specification has it.
const REPOSITORY_BYTES: usize = 255;
/// Bytes in a tag, as the distribution specification has it.
const TAG_BYTES: usize = 128;

/// The name of an image, made complete: `whoami` is `docker.io/library/whoami:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The text does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of an image: {reason}")]
pub struct ParseImageNameError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl ImageName {
    /// Registry and path: `docker.io/library/whoami`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; a name with a digest may have none.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the name has one; it decides then, not the tag.
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The name without its digest, in full: `docker.io/library/whoami:latest`.
    pub fn full(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.repository),
            None => self.repository.clone(),
        }
    }

    /// The repository as people write it: `whoami`.
    pub fn familiar_repository(&self) -> &str {
        let Some(path) = self.repository.strip_prefix("docker.io/") else {
            return &self.repository;
        };
        match path.strip_prefix(DEFAULT_FOLDER) {
            Some(short) if !short.contains('/') => short,
            _ => path,
        }
    }

    /// The name without its digest, as people write it: `whoami:latest`.
    pub fn familiar(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.familiar_repository()),
            None => self.familiar_repository().to_owned(),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.full())?;
        match self.digest {
            Some(digest) => write!(formatter, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for ImageName {
    type Err = ParseImageNameError;

    fn from_str(text: &str) -> Result<Self, ParseImageNameError> {
        parse(text).map_err(|reason| ParseImageNameError { text: shortened(text), reason })
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(REPOSITORY_BYTES).collect()
}

fn parse(text: &str) -> Result<ImageName, &'static str> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => {
            (name, Some(digest.parse().map_err(|_| "what follows the @ is not a digest")?))
        }
        None => (text, None),
    };
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (first, path),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if path.is_empty() {
        return Err("it is empty");
    }
    if !path.split('/').all(is_path_component) {
        return Err("a-z, 0-9 and single `.`, `_`, `-` between them are allowed");
    }
    let is_official = registry == DEFAULT_REGISTRY && !path.contains('/');
    let folder = if is_official { DEFAULT_FOLDER } else { "" };
    let repository = format!("{registry}/{folder}{path}");
    if repository.len() > REPOSITORY_BYTES {
        return Err("it is longer than 255 bytes");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("the tag is up to 128 of a-z, A-Z, 0-9, `_`, `.`, `-`");
    }
    let tag = match (tag, digest) {
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(ImageName { repository, tag, digest })
}

/// Whether the first part of a name is a registry rather than a folder of the default one.
fn is_registry(part: &str) -> bool {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !part.is_empty()
        && part.bytes().all(is_host)
        && (part == "localhost" || part.contains(['.', ':']))
}

fn is_path_component(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_separator =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let bytes = part.as_bytes();
    let ends_with_words =
        bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    ends_with_words
        && part
            .split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit())
            .all(is_separator)
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_inner = |byte: u8| is_word(byte) || byte == b'.' || byte == b'-';
    tag.len() <= TAG_BYTES && tag.bytes().next().is_some_and(is_word) && tag.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn short_names_are_made_complete_and_short_again() {
        for (text, full, familiar) in [
            ("whoami", "docker.io/library/whoami:latest", "whoami:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("docker.io/whoami", "docker.io/library/whoami:latest", "whoami:latest"),
            ("index.docker.io/library/a", "docker.io/library/a:latest", "a:latest"),
            ("ghcr.io/a/b:v1", "ghcr.io/a/b:v1", "ghcr.io/a/b:v1"),
            ("localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a:latest"),
            ("localhost/a--b__c.d", "localhost/a--b__c.d:latest", "localhost/a--b__c.d:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ] {
            let name: ImageName = text.parse().unwrap();
            assert_eq!((name.full().as_str(), name.familiar().as_str()), (full, familiar));
            assert_eq!(name.familiar().parse(), Ok(name));
        }
    }

    #[test]
    fn a_digest_stands_in_for_the_tag() {
        let digest = Digest::from_bytes([7; 32]);
        let name: ImageName = format!("whoami@{digest}").parse().unwrap();
        assert_eq!((name.tag(), name.digest()), (None, Some(digest)));
        assert_eq!(name.to_string(), format!("docker.io/library/whoami@{digest}"));
        let name: ImageName = format!("whoami:1@{digest}").parse().unwrap();
        assert_eq!(name.to_string(), format!("docker.io/library/whoami:1@{digest}"));
    }

    #[test]
    fn text_that_is_no_name_is_refused() {
        let long = "a".repeat(300);
        for text in [
            "",
            ":",
            "a:",
            "Whoami",
            "a/",
            "/a",
            "a//b",
            "a b",
            "a@",
            "a@sha256:12",
            "a..b",
            "-a",
            "a:-tag",
            "ghcr.io/",
            "../../etc/passwd",
            "a:b/c:d/",
            "é",
            long.as_str(),
        ] {
            assert!(text.parse::<ImageName>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_reads_back_as_itself(text in "[a-zA-Z0-9./:@_-]{0,40}") {
            if let Ok(name) = text.parse::<ImageName>() {
                prop_assert_eq!(name.to_string().parse::<ImageName>(), Ok(name.clone()));
                prop_assert_eq!(name.familiar().parse::<ImageName>().map(|it| it.full()),
                    Ok(if name.tag().is_some() { name.full() } else { name.full() + ":latest" }));
            }
        }
    }
}
