//! Signals by name or number.

use std::str::FromStr;

use nix::sys::signal::Signal;

/// Real-time signals as programs count them. C libraries keep some of the kernel's for themselves,
/// not all the same number.
const FIRST_REAL_TIME: i32 = 34;
const LAST_REAL_TIME: i32 = 64;

/// The number of `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`, in any case.
pub(super) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=LAST_REAL_TIME).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |offset: &str| offset.parse::<i32>().ok().filter(|offset| *offset >= 0);
    let number = match name {
        "RTMIN" => FIRST_REAL_TIME,
        "RTMAX" => LAST_REAL_TIME,
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(offset), _) => FIRST_REAL_TIME.checked_add(real_time(offset)?)?,
            (_, Some(offset)) => LAST_REAL_TIME.checked_sub(real_time(offset)?)?,
            _ => Signal::from_str(&format!("SIG{name}")).ok()? as i32,
        },
    };
    (1..=LAST_REAL_TIME).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(parse(text), Some(15), "{text}");
        }
        assert_eq!(parse("SIGRTMIN+3"), Some(37));
        for text in ["", "SIG", "0", "-1", "99", "SIGNOTHING", "RTMIN+99", "RTMIN+-1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
