//! What is printed: tables in Docker's columns, JSON, and simple templates.

use std::io::{self, Write};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Map, Value};

/// Bytes that a column takes at least, as in Docker's tables.
const COLUMN_MIN: usize = 10;
/// Blanks between two columns.
const GAP: usize = 3;

/// How a list is printed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ListFormat {
    /// `table`, `json`, or text with fields: '{{.Name}}: {{.ID}}'
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<String>,
    /// Print only ids
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Print everything in full
    #[arg(long)]
    pub(super) no_trunc: bool,
}

/// How an object is printed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct InspectFormat {
    /// `json`, or text with fields: '{{.Spec.Name}}', '{{json .Spec}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub(super) format: Option<String>,
}

/// A list, one row a thing. A column that is in no heading is there for JSON and templates only.
#[derive(Debug)]
pub(super) struct Table {
    headings: &'static [(&'static str, &'static str)],
    rows: Vec<Map<String, Value>>,
}

impl Table {
    /// An empty list; `headings` are the columns' titles and the fields below them.
    pub(super) fn new(headings: &'static [(&'static str, &'static str)]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, fields: [(&str, String); N]) {
        let fields = fields.into_iter();
        self.rows.push(fields.map(|(name, value)| (name.to_owned(), value.into())).collect());
    }

    /// Prints the list as asked for.
    pub(super) fn print(&self, format: &ListFormat) -> Result<()> {
        let text = self.render(format)?;
        print(&text)
    }

    pub(super) fn render(&self, format: &ListFormat) -> Result<String> {
        if format.quiet {
            return Ok(self.lines(|row| field(row, "ID")));
        }
        match format.format.as_deref() {
            None | Some("table") => Ok(self.render_table()),
            Some("json") => Ok(self.lines(|row| Value::Object(row.clone()).to_string())),
            Some(template) => {
                let template = template.strip_prefix("table ").unwrap_or(template);
                let lines: Result<Vec<_>> = self
                    .rows
                    .iter()
                    .map(|row| fill(template, &Value::Object(row.clone())))
                    .collect();
                Ok(lines?.into_iter().map(|line| line + "\n").collect())
            }
        }
    }

    fn lines(&self, line: impl Fn(&Map<String, Value>) -> String) -> String {
        self.rows.iter().map(|row| line(row) + "\n").collect()
    }

    fn render_table(&self) -> String {
        let cells = |row: &Map<String, Value>| -> Vec<String> {
            self.headings.iter().map(|(_, name)| field(row, name)).collect()
        };
        let titles = self.headings.iter().map(|(title, _)| (*title).to_owned()).collect();
        let lines: Vec<Vec<String>> =
            std::iter::once(titles).chain(self.rows.iter().map(cells)).collect();
        let width = |column: usize| {
            let widest = lines.iter().map(|cells| cells[column].chars().count()).max();
            COLUMN_MIN.max(widest.unwrap_or(0) + GAP)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let mut text = String::new();
        for cells in &lines {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}"));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn field(row: &Map<String, Value>, name: &str) -> String {
    row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Prints objects as an array of JSON, or each through a template.
pub(super) fn print_objects(objects: &[Value], format: &InspectFormat) -> Result<()> {
    match format.format.as_deref() {
        None => print(&(pretty(&Value::Array(objects.to_vec()))? + "\n")),
        Some("json") => print(&(serde_json::to_string(objects)? + "\n")),
        Some(template) => {
            for object in objects {
                print(&(fill(template, object)? + "\n"))?;
            }
            Ok(())
        }
    }
}

/// JSON with Docker's indentation of four blanks.
pub(super) fn pretty(value: &Value) -> Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer)?;
    Ok(String::from_utf8(bytes)?)
}

/// Fills `{{.Path.To.Field}}` and `{{json .Path}}` with an object's values. The rest of Go's template
/// language is not understood, and says so.
pub(super) fn fill(template: &str, object: &Value) -> Result<String> {
    let template = template.replace("\\t", "\t").replace("\\n", "\n");
    let mut text = String::new();
    let mut rest = template.as_str();
    while let Some(start) = rest.find("{{") {
        text.push_str(&rest[..start]);
        let Some(length) = rest[start..].find("}}") else {
            bail!("invalid format: `{{{{` without `}}}}`");
        };
        text.push_str(&evaluate(rest[start + 2..start + length].trim(), object)?);
        rest = &rest[start + length + 2..];
    }
    text.push_str(rest);
    Ok(text)
}

fn evaluate(expression: &str, object: &Value) -> Result<String> {
    let (is_json, path) = match expression.strip_prefix("json ") {
        Some(path) => (true, path.trim()),
        None => (false, expression),
    };
    let Some(path) = path.strip_prefix('.') else {
        bail!("invalid format `{{{{{expression}}}}}`: write {{{{.Field}}}} or {{{{json .Field}}}}");
    };
    let mut value = object;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let Some(next) = value.get(name) else {
            let names: Vec<_> = value
                .as_object()
                .map(|fields| fields.keys().map(String::as_str).collect())
                .unwrap_or_default();
            bail!("there is no field `{name}`: {} are", names.join(", "));
        };
        value = next;
    }
    Ok(match value {
        _ if is_json => value.to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

/// Prints text. A reader that has gone away (`| head`) is no error.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[("ID", "ID"), ("NAME", "Name"), ("PORTS", "Ports")]);
        table.row([
            ("ID", "abc".into()),
            ("Name", "a-rather-long-name".into()),
            ("Ports", String::new()),
            ("Mode", "global".into()),
        ]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_dockers() -> Result<()> {
        let format = ListFormat::default();
        assert_eq!(
            table().render(&format)?,
            "ID        NAME                 PORTS\nabc       a-rather-long-name\n"
        );
        let quiet = ListFormat { quiet: true, ..ListFormat::default() };
        assert_eq!(table().render(&quiet)?, "abc\n");
        Ok(())
    }

    #[test]
    fn json_and_templates_see_every_field() -> Result<()> {
        let with = |text: &str| ListFormat { format: Some(text.into()), ..ListFormat::default() };
        assert_eq!(
            table().render(&with("{{.Name}}:\\t{{ .Mode }}"))?,
            "a-rather-long-name:\tglobal\n"
        );
        assert_eq!(
            table().render(&with("json"))?,
            "{\"ID\":\"abc\",\"Mode\":\"global\",\"Name\":\"a-rather-long-name\",\"Ports\":\"\"}\n"
        );
        assert!(table().render(&with("{{.Nmae}}")).is_err());
        assert!(table().render(&with("{{range .}}{{end}}")).is_err());
        Ok(())
    }

    #[test]
    fn objects_are_walked_into() -> Result<()> {
        let object = json!({"Spec": {"Name": "web", "Labels": {"a": 1}}});
        assert_eq!(fill("{{.Spec.Name}} {{json .Spec.Labels}}", &object)?, "web {\"a\":1}");
        assert!(fill("{{.Spec", &object).is_err());
        Ok(())
    }
}
