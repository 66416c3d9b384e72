//! Errors as text, for whoever gets them as text: people, logs, other boards.

use std::error::Error;

/// An error and its causes in one line, the cause behind the effect.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the board cannot be reached")]
    struct Unreachable(#[source] std::fmt::Error);

    #[test]
    fn the_cause_stands_behind_the_effect() {
        let error = Unreachable(std::fmt::Error);
        let text = chain(&error);
        assert_eq!(text, format!("the board cannot be reached: {}", std::fmt::Error));
        assert_eq!(chain(&std::fmt::Error), std::fmt::Error.to_string());
    }
}
