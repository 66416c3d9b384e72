//! Signals by name or number.

use std::str::FromStr;

use nix::{libc, sys::signal::Signal};

/// The number of `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`, in any case.
pub(super) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |offset: &str| offset.parse::<i32>().ok().filter(|offset| *offset >= 0);
    let number = match name {
        "RTMIN" => libc::SIGRTMIN(),
        "RTMAX" => libc::SIGRTMAX(),
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(offset), _) => libc::SIGRTMIN().checked_add(real_time(offset)?)?,
            (_, Some(offset)) => libc::SIGRTMAX().checked_sub(real_time(offset)?)?,
            _ => Signal::from_str(&format!("SIG{name}")).ok()? as i32,
        },
    };
    (1..=libc::SIGRTMAX()).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(parse(text), Some(15), "{text}");
        }
        assert_eq!(parse("SIGRTMIN+3"), Some(libc::SIGRTMIN() + 3));
        for text in ["", "SIG", "0", "-1", "99", "SIGNOTHING", "RTMIN+99", "RTMIN+-1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
