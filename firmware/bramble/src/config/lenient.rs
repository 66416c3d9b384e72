//! What is sound in a file that may hold anything.
//!
//! First the text becomes settings: by the TOML parser if it takes the text whole, line by line if
//! not. Then every setting is tried alone against the very types that the strict reader uses, so
//! that there is one description of what is sound.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value, de::DeTable};

use super::{
    Config,
    soundness::{discreet, line_at, shown},
};

/// Bytes of a file that are looked at. Nobody's settings are longer.
const TEXT_MAX: usize = 64 * 1_024;
/// Lines that a single value may span when the text is read line by line.
const VALUE_LINES_MAX: usize = 64;
/// Problems that are told. Whoever has more had another file in mind.
const PROBLEMS_MAX: usize = 16;

/// Settings as they stand in the file, and where.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Settings {
    table: Table,
    /// The line of a key (`cluster.key`), where it is known.
    lines: BTreeMap<String, usize>,
}

/// Takes the settings out of a text, and tells which lines are none.
pub(super) fn gather(text: &str) -> (Settings, Vec<String>) {
    let mut problems = Vec::new();
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end < text.len() {
        problems.push(format!("it is longer than {TEXT_MAX} bytes; the rest is not read"));
    }
    let text = text[..end].trim_start_matches('\u{feff}');
    let settings = match (text.parse::<Table>(), DeTable::parse(text)) {
        (Ok(table), Ok(spanned)) => Settings { table, lines: key_lines(text, spanned.get_ref()) },
        _ => by_lines(text, &mut problems),
    };
    (settings, curbed(problems))
}

/// Makes a configuration of those settings that are sound, and tells which are not.
pub(super) fn sift(settings: Settings) -> (Config, Vec<String>) {
    let Settings { table, lines } = settings;
    // By line, then in no particular order.
    let mut problems: Vec<(usize, String)> = Vec::new();
    let mut sound = Table::new();
    for (section, content) in table {
        let line = lines.get(&section).copied().unwrap_or(0);
        let Value::Table(content) = content else {
            problems.push((line, format!("{} is in no section", shown(&section))));
            continue;
        };
        if let Err(error) = tried(nested(&[&section], Table::new().into())) {
            problems.push((line, error.replacen("key", "section", 1)));
            continue;
        }
        let mut kept = Table::new();
        for (key, value) in content {
            let (value, error) = sound_part(&[&section, &key], value);
            if let Some(error) = error {
                let line = lines.get(&format!("{section}.{key}")).copied().unwrap_or(line);
                let is_unknown = error.starts_with("unknown key");
                let name = if is_unknown { String::new() } else { format!("{key}: ") };
                problems.push((line, format!("[{section}] {name}{error}")));
            }
            if let Some(value) = value {
                kept.insert(key, value);
            }
        }
        sound.insert(section, kept.into());
    }
    // Each part was tried; together they are as sound, for no part knows of another.
    let config = Config::deserialize(Value::Table(sound)).unwrap_or_else(|error| {
        problems.push((0, discreet(error.message())));
        Config::default()
    });
    problems.sort();
    let told = problems.into_iter().map(|(line, problem)| match line {
        0 => problem,
        line => format!("line {line}: {problem}"),
    });
    (config, curbed(told.collect()))
}

/// What of a value is sound, and what is wrong with the rest. A list or a table may be sound in
/// parts.
fn sound_part(path: &[&str], value: Value) -> (Option<Value>, Option<String>) {
    let Err(error) = tried(nested(path, value.clone())) else { return (Some(value), None) };
    match value {
        Value::Array(elements) => {
            let is_sound =
                |element: &Value| tried(nested(path, vec![element.clone()].into())).is_ok();
            let kept: Vec<_> = elements.into_iter().filter(is_sound).collect();
            ((!kept.is_empty()).then(|| kept.into()), Some(error))
        }
        Value::Table(content) => {
            let is_sound = |(key, value): &(String, Value)| {
                let alone = Table::from_iter([(key.clone(), value.clone())]);
                tried(nested(path, alone.into())).is_ok()
            };
            let kept: Table = content.into_iter().filter(is_sound).collect();
            ((!kept.is_empty()).then(|| kept.into()), Some(error))
        }
        _ => (None, Some(error)),
    }
}

/// Whether the strict reader takes the settings; what it says otherwise.
fn tried(settings: Table) -> Result<(), String> {
    match Config::deserialize(Value::Table(settings)) {
        Ok(_) => Ok(()),
        Err(error) => Err(discreet(error.message())),
    }
}

fn nested(path: &[&str], value: Value) -> Table {
    let wrap = |inner: Value, key: &&str| Table::from_iter([((*key).to_owned(), inner)]).into();
    match path.iter().rev().fold(value, wrap) {
        Value::Table(table) => table,
        _ => Table::new(),
    }
}

fn key_lines(text: &str, table: &DeTable<'_>) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for (section, content) in table {
        lines.insert(section.get_ref().to_string(), line_at(text, section.span().start));
        let Some(content) = content.get_ref().as_table() else { continue };
        for (key, _) in content {
            let name = format!("{}.{}", section.get_ref(), key.get_ref());
            lines.insert(name, line_at(text, key.span().start));
        }
    }
    lines
}

/// Reads a text that is not TOML as a whole: each line (or value of several lines) for itself.
fn by_lines(text: &str, problems: &mut Vec<String>) -> Settings {
    let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
    let mut settings = Settings::default();
    // The section that the line is in; none below a heading that nobody understands.
    let mut section: Option<Vec<String>> = Some(Vec::new());
    let mut index = 0;
    while let Some(line) = lines.get(index) {
        let number = index + 1;
        index += 1;
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if trimmed.starts_with('[') {
            section = heading(trimmed);
            match &section {
                Some(path) => {
                    settings.lines.entry(path.join(".")).or_insert(number);
                    merge(&mut settings.table, path_table(path, Table::new()), &mut false);
                }
                None => problems.push(format!("line {number}: it is not a heading, as [board] is")),
            }
            continue;
        }
        let Some(path) = &section else {
            problems.push(format!("line {number}: it is below a heading that cannot be read"));
            continue;
        };
        let (entry, taken) = match entry(&lines[index - 1..]) {
            Ok(found) => found,
            Err(message) => {
                problems.push(format!("line {number}: {}", advice(line, message)));
                continue;
            }
        };
        index += taken - 1;
        for key in entry.keys() {
            let name = path.iter().map(String::as_str).chain([key.as_str()]);
            settings.lines.entry(name.collect::<Vec<_>>().join(".")).or_insert(number);
        }
        let mut is_repeated = false;
        merge(&mut settings.table, path_table(path, entry), &mut is_repeated);
        if is_repeated {
            problems.push(format!("line {number}: it is said already; the first is used"));
        }
    }
    settings
}

/// The path of a section's heading (`[board.labels]`).
pub(crate) fn heading(line: &str) -> Option<Vec<String>> {
    let mut table: Table = line.parse().ok()?;
    let mut path = Vec::new();
    while let Some(key) = table.keys().next().cloned() {
        let inner = table.remove(&key)?;
        path.push(key);
        match inner {
            Value::Table(inner) => table = inner,
            _ => return None,
        }
    }
    Some(path)
}

/// The setting that begins with the first of `lines`, and how many lines it takes.
fn entry(lines: &[&str]) -> Result<(Table, usize), String> {
    let first = lines[0];
    let message = match first.parse::<Table>() {
        Ok(table) => return Ok((table, 1)),
        Err(error) => discreet(error.message()),
    };
    let value = first.split_once('=').map_or("", |(_, value)| value.trim_start());
    if ["[", "{", "\"\"\"", "'''"].iter().any(|opening| value.starts_with(opening)) {
        for taken in 2..=lines.len().min(VALUE_LINES_MAX) {
            if let Ok(table) = lines[..taken].join("\n").parse::<Table>() {
                return Ok((table, taken));
            }
        }
    }
    Err(message)
}

/// What a person who wrote `line` should know.
fn advice(line: &str, message: String) -> String {
    if line.contains(['“', '”', '„', '‘', '’']) {
        return "text stands between straight quotes, \"like this\"".to_owned();
    }
    match line.contains('=') {
        true => message,
        false => "it is not a setting, as name = \"value\" is".to_owned(),
    }
}

fn path_table(path: &[String], inner: Table) -> Table {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    nested(&names, inner.into())
}

/// Adds what `from` says to `into`, whose own word counts.
fn merge(into: &mut Table, from: Table, is_repeated: &mut bool) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from, is_repeated),
            (Some(_), _) => *is_repeated = true,
            (None, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn curbed(mut problems: Vec<String>) -> Vec<String> {
    if problems.len() > PROBLEMS_MAX {
        let more = problems.len() - PROBLEMS_MAX;
        problems.truncate(PROBLEMS_MAX);
        problems.push(format!("{more} more lines are wrong"));
    }
    problems
}
