//! What modules drive: patterns like `usb:v0424pEC00d*dc*dsc*dp*ic*isc*ip*in*`.

use std::collections::BTreeMap;

/// Steps that a match may take; an honest one takes some hundred.
const STEPS_MAX: usize = 100_000;

/// The patterns of all modules, by what stands before their first colon or wildcard: a device on
/// one bus is not compared with the patterns of another.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    by_bus: BTreeMap<String, Vec<(String, String)>>,
}

impl Aliases {
    /// Reads `modules.alias`: lines of `alias PATTERN MODULE`.
    pub(super) fn parse(text: &str) -> Self {
        let mut by_bus: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let pattern = uniform(pattern);
            let entry = (pattern.clone(), super::index::canonical(module));
            by_bus.entry(bus(&pattern).to_owned()).or_default().push(entry);
        }
        Self { by_bus }
    }

    /// The modules that have a matching pattern, each once.
    pub(super) fn matching(&self, modalias: &str) -> Vec<String> {
        let modalias = uniform(modalias);
        let mut names: Vec<String> = Vec::new();
        for (pattern, module) in self.by_bus.get(bus(&modalias)).into_iter().flatten() {
            if !names.contains(module) && is_match(pattern.as_bytes(), modalias.as_bytes()) {
                names.push(module.clone());
            }
        }
        names
    }
}

/// `-` and `_` are the same in names, but for what stands in brackets.
fn uniform(pattern: &str) -> String {
    let mut is_inside = false;
    let each = pattern.chars().map(|letter| {
        match letter {
            '[' => is_inside = true,
            ']' => is_inside = false,
            _ => {}
        }
        if letter == '-' && !is_inside { '_' } else { letter }
    });
    each.collect()
}

/// What is before the first colon; names without one are a group of their own.
fn bus(pattern: &str) -> &str {
    pattern.split_once(':').map_or("", |(bus, _)| bus)
}

/// Whether a text matches a pattern with `*`, `?` and `[a-z]`, as the shell's do.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    // Where to go on when what follows the last `*` did not match: it swallows one letter more.
    let mut retry: Option<(usize, usize)> = None;
    for _ in 0..STEPS_MAX {
        if pattern.get(at) == Some(&b'*') {
            retry = Some((at + 1, position));
            at += 1;
            continue;
        }
        match (one(&pattern[at..], text.get(position).copied()), text.get(position)) {
            (Some(length), Some(_)) => {
                at += length;
                position += 1;
            }
            (_, None) if at == pattern.len() => return true,
            (_, letter) => match retry {
                Some((after, from)) if letter.is_some() && from < text.len() => {
                    retry = Some((after, from + 1));
                    (at, position) = (after, from + 1);
                }
                _ => return false,
            },
        }
    }
    false
}

/// How long the head of the pattern is, if it stands for this letter.
fn one(pattern: &[u8], letter: Option<u8>) -> Option<usize> {
    let letter = letter?;
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let end = pattern.iter().position(|byte| *byte == b']')?;
            is_in_class(&pattern[1..end], letter).then_some(end + 1)
        }
        other => (*other == letter).then_some(1),
    }
}

fn is_in_class(class: &[u8], letter: u8) -> bool {
    let (class, is_negated) = match class.split_first() {
        Some((b'!' | b'^', rest)) => (rest, true),
        _ => (class, false),
    };
    let mut at = 0;
    let mut is_inside = false;
    while at < class.len() {
        if class.get(at + 1) == Some(&b'-') && at + 2 < class.len() {
            is_inside |= (class[at]..=class[at + 2]).contains(&letter);
            at += 3;
        } else {
            is_inside |= class[at] == letter;
            at += 1;
        }
    }
    is_inside != is_negated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        is_match(pattern.as_bytes(), text.as_bytes())
    }

    #[test]
    fn patterns_match_as_the_shells_do() {
        let smsc = "usb:v0424pEC00d*dc*dsc*dp*ic*isc*ip*in*";
        assert!(matches(smsc, "usb:v0424pEC00d0200dcFFdsc00dp01icFFisc00ipFFin00"));
        assert!(!matches(smsc, "usb:v0424p7800d0300dcFFdsc00dpFFicFFisc00ipFFin00"));
        assert!(matches(
            "of:N*T*Cbrcm,bcm2711-genet-v5",
            "of:NethernetT(null)Cbrcm,bcm2711-genet-v5"
        ));
        assert!(!matches("of:N*T*Cbrcm,genet", "of:NethernetT(null)Cbrcm,genet-v5"));
        assert!(matches("a[0-9A-F]?c", "aDxc"));
        assert!(!matches("a[0-9A-F]?c", "aGxc"));
        assert!(matches("[!a]*", "b"));
        assert!(matches("*", ""));
        assert!(!matches("", "a"));
        assert!(!matches("[", "["));
    }

    #[test]
    fn dashes_and_underscores_are_the_same_outside_of_brackets() {
        let aliases = Aliases::parse("alias fs-vfat vfat\nalias x:a[0-9] y-z\nalias broken\n");
        assert_eq!(aliases.matching("fs_vfat"), ["vfat"]);
        assert_eq!(aliases.matching("fs-vfat"), ["vfat"]);
        assert_eq!(aliases.matching("x:a5"), ["y_z"]);
        assert_eq!(aliases.matching("x:a-"), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn no_pattern_makes_a_match_run_on(pattern in "[*?a\\[\\]-]{0,40}", text in "[a-]{0,60}") {
            matches(&pattern, &text);
        }

        #[test]
        fn a_text_with_a_star_before_and_after_is_found(head in "[ab]{0,9}", tail in "[ab]{0,9}") {
            let found = matches("*needle*", &format!("{head}needle{tail}"));
            prop_assert!(found);
        }
    }
}
