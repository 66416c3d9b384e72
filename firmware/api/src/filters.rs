//! The `filters` of a list request.

use std::collections::{BTreeMap, BTreeSet};

use bramble_cluster::Labels;
use serde::Deserialize;

use crate::error::ApiError;

/// What a list is narrowed to: for each key, any of the values will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters(BTreeMap<String, BTreeSet<String>>);

/// Docker writes `{"name": {"web": true}}`, and before API 1.22 `{"name": ["web"]}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Set(BTreeMap<String, bool>),
    List(Vec<String>),
}

impl Filters {
    /// Reads the request's `filters`, and refuses keys that this list does not know.
    pub(crate) fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let read: BTreeMap<String, Values> = serde_json::from_str(text)
            .map_err(|error| ApiError::BadRequest(format!("invalid filters `{text}`: {error}")))?;
        let mut filters = BTreeMap::new();
        for (key, values) in read {
            if !known.contains(&key.as_str()) {
                let known = known.join(", ");
                let message = format!("invalid filter `{key}`: this list knows {known}");
                return Err(ApiError::BadRequest(message));
            }
            let values: BTreeSet<String> = match values {
                Values::Set(set) => {
                    set.into_iter().filter_map(|(value, is_on)| is_on.then_some(value)).collect()
                }
                Values::List(list) => list.into_iter().collect(),
            };
            if !values.is_empty() {
                filters.insert(key, values);
            }
        }
        Ok(Self(filters))
    }

    /// The values of a key; none if it does not narrow the list.
    pub(crate) fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether the key is not there, or one of its values passes.
    pub(crate) fn admits(&self, key: &str, mut passes: impl FnMut(&str) -> bool) -> bool {
        self.0.get(key).is_none_or(|values| values.iter().any(|value| passes(value)))
    }

    /// The same for labels: every `name` or `name=value` given must be there.
    pub(crate) fn admits_labels(&self, key: &str, labels: &Labels) -> bool {
        self.values(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }

    /// Refuses values that are none of the words a key knows.
    pub(crate) fn check_words(&self, key: &str, words: &[&str]) -> Result<(), ApiError> {
        match self.values(key).find(|value| !words.contains(value)) {
            None => Ok(()),
            Some(value) => {
                let words = words.join(", ");
                let message = format!("invalid filter `{key}={value}`: it is none of {words}");
                Err(ApiError::BadRequest(message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let set = Filters::parse(Some(r#"{"name":{"web":true,"old":false}}"#), &["name"]);
        let list = Filters::parse(Some(r#"{"name":["web"]}"#), &["name"]);
        assert_eq!(set, list);
        let filters = set.expect("valid");
        assert!(filters.admits("name", |value| value == "web"));
        assert!(!filters.admits("name", |value| value == "old"));
        assert!(filters.admits("id", |_| false), "a key that is not there narrows nothing");
    }

    #[test]
    fn unknown_keys_and_broken_json_are_named() {
        let error = Filters::parse(Some(r#"{"nmae":["web"]}"#), &["name", "id"]);
        assert_eq!(
            error.expect_err("unknown").to_string(),
            "invalid filter `nmae`: this list knows name, id"
        );
        assert!(Filters::parse(Some("{"), &[]).is_err());
        assert!(Filters::parse(Some("[1]"), &[]).is_err());
        assert_eq!(Filters::parse(Some(""), &[]), Ok(Filters::default()));
    }

    #[test]
    fn all_labels_must_be_there() {
        let labels = Labels::from([("a".to_owned(), "1".to_owned())]);
        let admits = |text: &str| {
            Filters::parse(Some(text), &["label"]).expect("valid").admits_labels("label", &labels)
        };
        assert!(admits(r#"{"label":["a"]}"#));
        assert!(admits(r#"{"label":["a=1"]}"#));
        assert!(!admits(r#"{"label":["a=2"]}"#));
        assert!(!admits(r#"{"label":["a","b"]}"#));
    }
}
