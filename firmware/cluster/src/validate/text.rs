//! Lengths and counts.

use std::time::Duration;

use crate::{Labels, Rejection, limits};

/// Checks a text of a specification.
pub(super) fn text(field: &str, value: &str) -> Result<(), Rejection> {
    at_most(field, value, limits::TEXT_BYTES)
}

/// Checks a text that may have so many bytes. Nothing that reaches a kernel call may hold a NUL.
pub(super) fn at_most(field: &str, value: &str, limit: usize) -> Result<(), Rejection> {
    if value.len() > limit {
        return Err(Rejection::over(format!("bytes in the {field}"), limit));
    }
    if value.contains('\0') {
        return Err(Rejection::invalid(field, "it holds a NUL"));
    }
    Ok(())
}

/// Checks how many there are in a list.
pub(super) fn list(field: &str, length: usize, limit: usize) -> Result<(), Rejection> {
    if length > limit {
        return Err(Rejection::over(field, limit));
    }
    Ok(())
}

/// Checks labels, or whatever else is names and values.
pub(super) fn labels(field: &str, labels: &Labels) -> Result<(), Rejection> {
    list(field, labels.len(), limits::LABELS)?;
    for (key, value) in labels {
        if key.is_empty() {
            return Err(Rejection::invalid(field, "a name is empty"));
        }
        at_most(field, key, limits::LABEL_BYTES)?;
        at_most(field, value, limits::LABEL_BYTES)?;
    }
    Ok(())
}

/// Checks a length of time.
pub(super) fn duration(field: &str, duration: Duration) -> Result<(), Rejection> {
    if duration.as_secs() > limits::SECONDS {
        return Err(Rejection::invalid(field, "it is longer than a year"));
    }
    Ok(())
}

/// Checks a length of time that need not be given.
pub(super) fn optional_duration(field: &str, value: Option<Duration>) -> Result<(), Rejection> {
    value.map_or(Ok(()), |value| duration(field, value))
}
