//! Times and sizes as people read them, in Docker's words.

use std::time::Duration;

use jiff::Timestamp;

/// `3 minutes`, as Docker says it.
pub(super) fn duration(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (minutes, hours, days) = (seconds / 60, (seconds + 1_800) / 3_600, seconds / 86_400);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..2_760 => format!("{minutes} minutes"),
        2_760..5_400 => "About an hour".to_owned(),
        5_400..172_800 => format!("{hours} hours"),
        172_800..1_209_600 => format!("{days} days"),
        1_209_600..5_184_000 => format!("{} weeks", days / 7),
        5_184_000..63_072_000 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    }
}

/// How long ago an RFC 3339 instant was: `3 minutes ago`; empty if it is none.
pub(super) fn ago(instant: &str, now: Timestamp) -> String {
    let Ok(then) = instant.parse::<Timestamp>() else { return String::new() };
    let elapsed = Duration::try_from(now.duration_since(then)).unwrap_or_default();
    format!("{} ago", duration(elapsed).to_lowercase())
}

/// `12.3MB`: powers of 1000 and three digits, as Docker shows images.
pub(super) fn decimal_size(bytes: u64) -> String {
    scaled(bytes, 1_000, &["B", "kB", "MB", "GB", "TB"])
}

/// `1.87GiB`: powers of 1024, as Docker shows memory.
pub(super) fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1_024, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Three digits, rounded.
fn scaled(bytes: u64, base: u64, units: &[&str]) -> String {
    let mut divisor = 1;
    let mut unit = 0;
    while bytes / divisor >= base && unit + 1 < units.len() {
        divisor *= base;
        unit += 1;
    }
    let decimals = match bytes / divisor {
        100.. => 0,
        10.. => 1,
        _ => 2,
    };
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let text = format!("{:.decimals$}", bytes as f64 / divisor as f64);
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", units[unit])
}

/// The first 12 characters of an id, without the kind of its digest.
pub(super) fn short_id(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// `Running`, from `running`.
pub(super) fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map(|first| first.to_uppercase().chain(characters).collect())
        .unwrap_or_default()
}

/// The name of an image without its digest.
pub(super) fn image_without_digest(image: &str) -> &str {
    image.split_once('@').map_or(image, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (3_600, "About an hour"),
            (7_200, "2 hours"),
            (86_400, "24 hours"),
            (3 * 86_400, "3 days"),
            (21 * 86_400, "3 weeks"),
            (90 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
        let now: Timestamp = "2026-01-01T00:03:00Z".parse().expect("an instant");
        assert_eq!(ago("2026-01-01T00:00:00.5Z", now), "2 minutes ago");
        assert_eq!(ago("later", now), "");
    }

    #[test]
    fn sizes_are_dockers() {
        assert_eq!(decimal_size(0), "0B");
        assert_eq!(decimal_size(12_300_000), "12.3MB");
        assert_eq!(decimal_size(4_500), "4.5kB");
        assert_eq!(decimal_size(999), "999B");
        assert_eq!(decimal_size(686_768), "687kB");
        assert_eq!(binary_size(2_008_000_000), "1.87GiB");
        assert_eq!(binary_size(128 * 1_024 * 1_024), "128MiB");
    }

    #[test]
    fn names_are_shortened() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
        assert_eq!(capitalized("running"), "Running");
        assert_eq!(image_without_digest("a:1@sha256:00"), "a:1");
    }
}
