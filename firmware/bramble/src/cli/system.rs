//! `bramble info`, `bramble version`

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::{
    client::{Client, Query},
    human::binary_size,
    output::{InspectFormat, fill, print},
};

/// Show what the board and its cluster are.
#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    format: InspectFormat,
}

/// Show the versions of the client and of the board's firmware.
#[derive(Debug, Args)]
pub(crate) struct Version {
    #[command(flatten)]
    format: InspectFormat,
}

impl Info {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        let info: Value = client.get("/info", &Query::new()).await?;
        match self.format.format.as_deref() {
            Some("json") => print(&format!("{info}\n")),
            Some(template) => print(&(fill(template, &info)? + "\n")),
            None => print(&describe(&info)),
        }
    }
}

fn describe(info: &Value) -> String {
    let text = |pointer: &str| match info.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let memory = info["MemTotal"].as_u64().unwrap_or(0);
    let state = text("/Swarm/LocalNodeState");
    let mut lines = vec![
        format!("Board: {}", text("/Name")),
        format!("Firmware: {}", text("/OperatingSystem")),
        format!("Kernel: {} ({})", text("/KernelVersion"), text("/Architecture")),
        format!("Processors: {}", text("/NCPU")),
        format!("Memory: {}", binary_size(memory)),
        format!("Data: {}", text("/DockerRootDir")),
        format!("Images: {}", text("/Images")),
        format!(
            "Containers: {} running, {} ended",
            text("/ContainersRunning"),
            text("/ContainersStopped")
        ),
        format!("Cluster: {state}"),
    ];
    if state == "active" {
        lines.push(format!(" Id: {}", text("/Swarm/Cluster/ID")));
        lines.push(format!(" Node: {} at {}", text("/Swarm/NodeID"), text("/Swarm/NodeAddr")));
        lines.push(format!(" Boards: {}", text("/Swarm/Nodes")));
        lines.push(format!(" Managers: {}", text("/Swarm/Managers")));
    }
    let error = text("/Swarm/Error");
    if !error.is_empty() {
        lines.push(format!(" Error: {error}"));
    }
    lines.join("\n") + "\n"
}

impl Version {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        let board: Result<Value> = client.get("/version", &Query::new()).await;
        let both = json!({
            "Client": {"Version": env!("CARGO_PKG_VERSION")},
            "Server": board.as_ref().ok(),
        });
        match self.format.format.as_deref() {
            Some("json") => print(&format!("{both}\n"))?,
            Some(template) => print(&(fill(template, &both)? + "\n"))?,
            None => {
                print(&format!("Client: Bramble {}\n", env!("CARGO_PKG_VERSION")))?;
                if let Ok(board) = &board {
                    let text = |key: &str| board[key].as_str().unwrap_or_default().to_owned();
                    print(&format!(
                        "Board:  Bramble {}\n API version: {} (minimum {})\n OS/Arch: {}/{}\n \
                         Kernel: {}\n",
                        text("Version"),
                        text("ApiVersion"),
                        text("MinAPIVersion"),
                        text("Os"),
                        text("Arch"),
                        text("KernelVersion"),
                    ))?;
                }
            }
        }
        board.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_described_with_its_cluster() {
        let info = json!({
            "Name": "pi-1", "OperatingSystem": "Bramble 0.1.0", "NCPU": 4,
            "MemTotal": 4_u64 << 30,
            "Swarm": {"LocalNodeState": "active", "Nodes": 3, "NodeID": "n", "Error": "no quorum"},
        });
        let text = describe(&info);
        assert!(text.contains("Memory: 4GiB\n"), "{text}");
        assert!(text.contains(" Boards: 3\n"), "{text}");
        assert!(text.contains(" Error: no quorum\n"), "{text}");
        let seeking = describe(&json!({"Swarm": {"LocalNodeState": "pending"}}));
        assert!(seeking.ends_with("Cluster: pending\n"), "{seeking}");
    }
}
