//! The boards of a lab as a table.

use anyhow::Result;
use serde::Serialize;

use super::{board::Board, folder::LabFolder};

/// How the list is printed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For machines: one object a line.
    Json,
}

#[derive(Debug, Serialize)]
struct Row {
    board: u8,
    hostname: String,
    address: String,
    has_power: bool,
    has_cable: bool,
    socket: String,
}

impl Row {
    async fn of(board: &Board) -> Result<Self> {
        Ok(Self {
            board: board.number(),
            hostname: board.hostname(),
            address: board.address().to_string(),
            has_power: board.pid().is_some(),
            has_cable: board.is_plugged_in().await?,
            socket: board.socket().display().to_string(),
        })
    }
}

/// Prints the boards of the lab; says so if there are none.
pub(super) async fn print(folder: &LabFolder, format: Format) -> Result<()> {
    let boards = folder.boards()?;
    if boards.is_empty() && matches!(format, Format::Table) {
        println!("there is no lab in {}: `bramble lab up` starts one", folder.path().display());
        return Ok(());
    }
    if matches!(format, Format::Table) {
        println!(
            "{:<8}{:<12}{:<14}{:<8}{:<8}SOCKET",
            "BOARD", "HOSTNAME", "ADDRESS", "POWER", "CABLE"
        );
    }
    for board in &boards {
        let row = Row::of(board).await?;
        match format {
            Format::Json => println!("{}", serde_json::to_string(&row)?),
            Format::Table => {
                let power = if row.has_power { "on" } else { "off" };
                let cable = if row.has_cable { "in" } else { "pulled" };
                println!(
                    "{:<8}{:<12}{:<14}{power:<8}{cable:<8}{}",
                    row.board, row.hostname, row.address, row.socket
                );
            }
        }
    }
    Ok(())
}
