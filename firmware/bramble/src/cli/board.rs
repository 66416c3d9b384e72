//! `bramble board`

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::{
    client::{Client, Query},
    output::{InspectFormat, ListFormat, Table, fill, print},
};

/// Show the board itself: its problems, and how it started
#[derive(Debug, Args)]
pub(crate) struct Board {
    #[command(flatten)]
    format: InspectFormat,
}

impl Board {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        let board: Value = client.get("/bramble/board", &Query::new()).await?;
        match self.format.format.as_deref() {
            Some("json") => return print(&format!("{board}\n")),
            Some(template) => return print(&(fill(template, &board)? + "\n")),
            None => {}
        }
        print(&describe(&board))?;
        let phases = phases(&board["boot"]);
        if let Some(phases) = phases {
            print("\n")?;
            phases.print(&ListFormat::default())?;
        }
        Ok(())
    }
}

fn describe(board: &Value) -> String {
    let text = |pointer: &str| board.pointer(pointer).and_then(Value::as_str);
    let mut lines: Vec<String> = [
        ("Board", text("/hostname")),
        ("Model", text("/profile")),
        ("Node", text("/node")),
        ("Address", text("/address")),
        ("Firmware", text("/firmware_version")),
        ("Slot", text("/boot/slot")),
        ("Disk", text("/boot/disk")),
    ]
    .into_iter()
    .filter_map(|(name, text)| Some(format!("{name}: {}", text.filter(|text| !text.is_empty())?)))
    .collect();
    let is_member = board["is_member"] == true;
    lines.push(format!("Cluster: {}", if is_member { "member" } else { "seeking" }));
    if board.pointer("/boot/data_is_temporary") == Some(&true.into()) {
        lines.push("Data: in memory, lost at the next start".to_owned());
    }
    let problems = board["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    match problems {
        [] => lines.push("Problems: none".to_owned()),
        problems => {
            lines.push("Problems:".to_owned());
            let texts = problems.iter().filter_map(Value::as_str);
            lines.extend(texts.map(|text| format!(" {text}")));
        }
    }
    lines.join("\n") + "\n"
}

/// The phases of the start; `None` where Bramble is not the operating system.
fn phases(boot: &Value) -> Option<Table> {
    let mut table = Table::new(&[
        ("PHASE", "Phase"),
        ("STARTED", "Started"),
        ("TOOK", "Took"),
        ("NOTE", "Note"),
    ]);
    let milliseconds = |value: &Value| value.as_u64().map(|count| format!("{count} ms"));
    if let Some(took) = milliseconds(&boot["kernel_ms"]) {
        let name = "kernel".to_owned();
        table.row([("Phase", name), ("Took", took), ("Started", String::new())]);
    }
    for phase in boot["phases"].as_array()? {
        let text = |key: &str| phase[key].as_str().unwrap_or_default().to_owned();
        table.row([
            ("Phase", text("name")),
            ("Started", milliseconds(&phase["started_ms"]).unwrap_or_default()),
            ("Took", milliseconds(&phase["took_ms"]).unwrap_or_default()),
            ("Note", text("note")),
        ]);
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_board_is_shown_with_its_problems_and_phases() -> Result<()> {
        let board = json!({
            "hostname": "pi-1", "node": "n", "address": "", "is_member": true, "profile": "rpi4",
            "problems": ["there is no network cable"],
            "boot": {
                "kernel_ms": 900, "slot": "a", "data_is_temporary": true,
                "phases": [{"name": "mounts", "started_ms": 3, "took_ms": 12, "note": "grown"}],
            },
        });
        assert_eq!(
            describe(&board),
            "Board: pi-1\nModel: rpi4\nNode: n\nSlot: a\nCluster: member\nData: in memory, lost at \
             the next start\nProblems:\n there is no network cable\n"
        );
        let table = phases(&board["boot"]).map(|table| table.render(&ListFormat::default()));
        assert_eq!(
            table.transpose()?.unwrap_or_default(),
            "PHASE     STARTED   TOOK      NOTE\nkernel              900 ms\n\
             mounts    3 ms      12 ms     grown\n"
        );
        assert!(phases(&Value::Null).is_none());
        assert!(describe(&json!({})).ends_with("Problems: none\n"));
        Ok(())
    }
}
