//! Changes to the text of `bramble.toml` that leave everything else in it as it was.

use toml::{Table, Value, de::DeTable};

use crate::config::heading;

/// A setting cannot be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// The file is no text.
    #[error("bramble.toml is no text (UTF-8); --reset begins it anew")]
    NoText,
    /// The file is not TOML.
    #[error(
        "bramble.toml, line {line} is not understood; mend it, or --reset begins the file anew"
    )]
    NoToml {
        /// Where.
        line: usize,
    },
    /// The file is written in a way that this editor does not master.
    #[error("[{section}] {key} stands in bramble.toml in an unusual way; change it by hand")]
    Unusual {
        /// The section.
        section: String,
        /// The setting.
        key: String,
    },
}

/// The text of a `bramble.toml`, always sound TOML.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    text: String,
    table: Table,
}

impl Settings {
    /// The settings in a file. Its padding is left out.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, EditError> {
        let text = std::str::from_utf8(content).map_err(|_| EditError::NoText)?;
        let text = text.trim_start_matches('\u{feff}');
        let text = text.trim_end_matches(['\n', '\r', '\0', ' ']).to_owned() + "\n";
        let table = text.parse().map_err(|error: toml::de::Error| {
            let offset = error.span().map_or(0, |span| span.start);
            let before = text.as_bytes().get(..offset).unwrap_or_default();
            EditError::NoToml { line: before.split(|byte| *byte == b'\n').count() }
        })?;
        Ok(Self { text, table })
    }

    /// The text, with a line's end at its end.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Every setting.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// What is set, if it is.
    pub(crate) fn get(&self, section: &str, key: &str) -> Option<&Value> {
        self.table.get(section)?.get(key)
    }

    /// Sets a setting: in place of what it was, or of its commented example, or below its section's
    /// heading.
    pub(crate) fn set(&mut self, section: &str, key: &str, value: Value) -> Result<(), EditError> {
        let written = format!("{key} = {}", render(&value));
        let text = match self.span(section, key) {
            Some(span) => replaced(&self.text, span, &render(&value)),
            None => self.with_line(section, key, &written),
        };
        let mut table = self.table.clone();
        let content = table.entry(section).or_insert_with(|| Table::new().into());
        if let Value::Table(content) = content {
            content.insert(key.to_owned(), value);
        }
        self.take(text, table, section, key)
    }

    /// Removes a setting, with the rest of its lines.
    pub(crate) fn unset(&mut self, section: &str, key: &str) -> Result<(), EditError> {
        let Some(span) = self.span(section, key) else { return Ok(()) };
        let start = self.text[..span.start].rfind('\n').map_or(0, |end| end + 1);
        let end =
            self.text[span.end..].find('\n').map_or(self.text.len(), |end| span.end + end + 1);
        let text = replaced(&self.text, start..end, "");
        let mut table = self.table.clone();
        if let Some(Value::Table(content)) = table.get_mut(section) {
            content.remove(key);
        }
        self.take(text, table, section, key)
    }

    /// Takes the new text, if it says exactly what it should.
    fn take(
        &mut self,
        text: String,
        table: Table,
        section: &str,
        key: &str,
    ) -> Result<(), EditError> {
        match text.parse::<Table>() {
            Ok(parsed) if parsed == table => {
                *self = Self { text, table };
                Ok(())
            }
            _ => Err(EditError::Unusual { section: section.to_owned(), key: key.to_owned() }),
        }
    }

    /// Where the value is in the text.
    fn span(&self, section: &str, key: &str) -> Option<std::ops::Range<usize>> {
        let table = DeTable::parse(&self.text).ok()?;
        let (_, section) = table.get_ref().iter().find(|(name, _)| name.get_ref() == section)?;
        let (_, value) =
            section.get_ref().as_table()?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(value.span())
    }

    fn with_line(&self, section: &str, key: &str, written: &str) -> String {
        let line_end = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut lines: Vec<String> = self.text.lines().map(str::to_owned).collect();
        let is_heading = |line: &String| line.trim_start().starts_with('[');
        let begins = |line: &String| {
            is_heading(line) && heading(line.trim()).is_some_and(|path| path == [section])
        };
        match lines.iter().position(begins) {
            None => lines.extend([String::new(), format!("[{section}]"), written.to_owned()]),
            Some(at) => {
                let body = at + 1;
                let next = lines[body..].iter().position(is_heading);
                let end = next.map_or(lines.len(), |end| body + end);
                match lines[body..end].iter().position(|line| is_example(line, key)) {
                    Some(example) => lines[body + example] = written.to_owned(),
                    None => lines.insert(body, written.to_owned()),
                }
            }
        }
        lines.join(line_end) + line_end
    }
}

/// Whether a line is a setting that is commented out.
fn is_example(line: &str, key: &str) -> bool {
    let rest = line.trim_start().strip_prefix('#').map(str::trim_start);
    let rest = rest.and_then(|rest| rest.strip_prefix(key));
    rest.is_some_and(|rest| rest.trim_start().starts_with('='))
}

fn replaced(text: &str, range: std::ops::Range<usize>, with: &str) -> String {
    let before = text.get(..range.start).unwrap_or_default();
    let after = text.get(range.end..).unwrap_or_default();
    format!("{before}{with}{after}")
}

/// A value as TOML writes it, on one line.
fn render(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(elements) => {
            let elements: Vec<_> = elements.iter().map(render).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Table(table) => {
            let entry =
                |(key, value): (&String, &Value)| format!("{} = {}", quoted(key), render(value));
            let entries: Vec<_> = table.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Integer(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Datetime(instant) => instant.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(letter)))
            }
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests;
