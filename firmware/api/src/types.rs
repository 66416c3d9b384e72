//! The Docker Engine API's objects as JSON, and their translation from and to the cluster's nouns.
//!
//! The only place where the two vocabularies meet. Each file holds one resource: its JSON shape,
//! `from_cluster` and, where people may write it, `into_cluster`. What a person asks for and the
//! cluster has no word for is found by [`unsupported::leftovers`], never dropped in silence.

pub mod container;
pub mod image;
pub mod mount;
pub mod network;
pub mod node;
pub mod os;
pub mod service;
pub mod swarm;
pub mod system;
pub mod task;
pub mod task_spec;
pub mod unsupported;

mod words;

use std::{fmt, time::Duration};

use bramble_cluster::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

pub use words::{Word, parse_word, update_state_word, word};

/// A field of a request does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {field}: {reason}")]
pub struct InvalidField {
    /// Which, in the words of the request (`EndpointSpec.Ports[0].PublishedPort`).
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl InvalidField {
    /// Names the field and the reason.
    pub fn new(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { field: field.into(), reason: reason.to_string() }
    }
}

/// The number of the change that an object is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// Sent back with an update, so that nobody overwrites what they have not seen.
    pub index: u64,
}

impl From<bramble_cluster::Version> for Version {
    fn from(version: bramble_cluster::Version) -> Self {
        Self { index: version.0 }
    }
}

/// An instant as Docker writes it: RFC 3339, with as many digits of a second as there are.
pub fn rfc3339(at: Timestamp) -> String {
    i64::try_from(at.as_millis())
        .ok()
        .and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok())
        .map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |instant| instant.to_string())
}

/// Nanoseconds, as Docker writes durations.
pub(crate) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The duration of so many nanoseconds; a negative one names its field.
pub(crate) fn duration(field: &str, nanoseconds: i64) -> Result<Duration, InvalidField> {
    u64::try_from(nanoseconds)
        .map(Duration::from_nanos)
        .map_err(|_| InvalidField::new(field, "a duration cannot be negative"))
}

/// The same for one that may be absent.
pub(crate) fn optional_duration(
    field: &str,
    nanoseconds: Option<i64>,
) -> Result<Option<Duration>, InvalidField> {
    nanoseconds.map(|nanoseconds| duration(field, nanoseconds)).transpose()
}

/// An amount that JSON may give as any integer, and that cannot be negative.
pub(crate) fn amount(field: &str, value: i64) -> Result<u64, InvalidField> {
    u64::try_from(value).map_err(|_| InvalidField::new(field, "it cannot be negative"))
}

/// An amount as JSON carries it; JSON's integers end at 2⁶³ - 1.
pub(crate) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Whether a value is what its type starts with; such fields are left out of the JSON.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads `null` as absent, as Go does.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
