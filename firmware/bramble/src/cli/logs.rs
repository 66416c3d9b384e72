//! `bramble logs`, `service logs`, `task logs`

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use anyhow::{Context, Result, bail};
use bramble_api::{
    frames::{Channel, HEADER_BYTES, Header},
    types,
};
use bytes::{Buf, BytesMut};
use clap::Args;
use http_body_util::BodyExt;
use hyper::{Method, StatusCode};

use super::{
    client::{Client, Query, Refused, escape, no_body},
    human::short_id,
    ps::Names,
    values::duration,
};

/// Bytes in a frame at most: what says more is not a log.
const FRAME_BYTES: u32 = 16 * 1_024 * 1_024;

/// Show the logs of a service or a task.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// A service's name or id, or a task's id
    #[arg(value_name = "SERVICE|TASK")]
    name: String,
    #[command(flatten)]
    options: LogOptions,
}

/// Which part of a log, and how it is printed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LogOptions {
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines of each task, from the end
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    tail: String,
    /// Only what came after an instant (2026-01-31T12:00:00Z) or within a duration (10m)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
    /// Do not say which task and board a line is from
    #[arg(long)]
    raw: bool,
    /// Print ids instead of names
    #[arg(long)]
    no_resolve: bool,
    /// Leave the tasks' ids out
    #[arg(long)]
    no_task_ids: bool,
    /// Print ids in full
    #[arg(long)]
    no_trunc: bool,
}

impl Logs {
    pub(super) fn new(name: String, options: LogOptions) -> Self {
        Self { name, options }
    }

    pub(super) async fn run(self, client: &Client) -> Result<()> {
        let options = &self.options;
        let is_all = options.tail == "all";
        if !is_all && options.tail.parse::<u64>().is_err() {
            bail!("invalid --tail `{}`: a number, or `all`", options.tail);
        }
        let mut query = Query::new()
            .with("stdout", "1")
            .with("stderr", "1")
            .with("tail", &options.tail)
            .with_flag("follow", options.follow)
            .with_flag("timestamps", options.timestamps)
            .with_flag("details", !options.raw);
        if let Some(since) = &options.since {
            query = query.with("since", instant(since)?);
        }
        let response = self.open(client, &query).await?;
        let names = Names::fetch(client, options.no_resolve).await?;
        let mut printer = Printer { options, names, tasks: BTreeMap::new(), client };
        let mut body = response.into_body();
        let mut buffer = BytesMut::new();
        while let Some(piece) = body.frame().await {
            let piece = piece.context("the log broke off")?;
            let Ok(bytes) = piece.into_data() else { continue };
            buffer.extend_from_slice(&bytes);
            while let Some((channel, content)) = next_frame(&mut buffer)? {
                if !printer.print(channel, &content).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A service's log, or a task's if no service has the name.
    async fn open(
        &self,
        client: &Client,
        query: &Query,
    ) -> Result<hyper::Response<hyper::body::Incoming>> {
        let name = escape(&self.name);
        let service = format!("/services/{name}/logs");
        let error = match client.send(Method::GET, &service, query, no_body()).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let is_missing = |error: &anyhow::Error| {
            let refused = error.downcast_ref::<Refused>();
            refused.is_some_and(|refused| refused.status == StatusCode::NOT_FOUND)
        };
        if !is_missing(&error) {
            return Err(error);
        }
        let task = format!("/tasks/{name}/logs");
        match client.send(Method::GET, &task, query, no_body()).await {
            Err(error) if is_missing(&error) => bail!("no such service or task: {}", self.name),
            other => other,
        }
    }
}

/// An instant in seconds, from an instant or from a duration back from now.
fn instant(text: &str) -> Result<String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(format!("{}.{:09}", at.as_second(), at.subsec_nanosecond()));
    }
    if text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    let back = duration(text)
        .map_err(|_| anyhow::anyhow!("invalid --since `{text}`: 10m or 2026-01-31T12:00:00Z"))?;
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_nanos(back);
    Ok(format!("{}.{:09}", at.as_second(), at.subsec_nanosecond()))
}

/// The next whole frame, if there is one.
fn next_frame(buffer: &mut BytesMut) -> Result<Option<(Channel, BytesMut)>> {
    let Some(head) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let header = Header::parse(*head).context("the board's answer is not a log")?;
    if header.length > FRAME_BYTES {
        bail!("the board's answer is not a log");
    }
    let length = usize::try_from(header.length)?;
    if buffer.len() < HEADER_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    Ok(Some((header.channel, buffer.split_to(length))))
}

/// Prints lines as Docker does: `web.1.abc@pi-1    | hello`.
struct Printer<'a> {
    options: &'a LogOptions,
    names: Names,
    /// The tasks' names, by their ids.
    tasks: BTreeMap<String, String>,
    client: &'a Client,
}

impl Printer<'_> {
    /// Prints a line; answers whether somebody still reads.
    async fn print(&mut self, channel: Channel, content: &[u8]) -> Result<bool> {
        let line = match channel {
            Channel::Engine => {
                eprint!("{}", String::from_utf8_lossy(content));
                return Ok(true);
            }
            _ if self.options.raw => content.to_vec(),
            _ => self.labelled(content).await,
        };
        let written = match channel {
            Channel::Stdout => io::stdout().lock().write_all(&line),
            _ => io::stderr().lock().write_all(&line),
        };
        match written {
            // A reader that has gone away (`| head`) ends the log, without a word.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }

    /// `[time ]details line` with the details put in front in short.
    async fn labelled(&mut self, content: &[u8]) -> Vec<u8> {
        let mut parts = content.splitn(if self.options.timestamps { 3 } else { 2 }, |b| *b == b' ');
        let time = self.options.timestamps.then(|| parts.next().unwrap_or_default().to_vec());
        let details = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let text = parts.next().unwrap_or_default();
        let value = |key: &str| {
            let found =
                details.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            found.unwrap_or_default().to_owned()
        };
        let task = value("com.docker.swarm.task.id");
        let service = value("com.docker.swarm.service.id");
        let label = self.label(&service, &task, &value("com.docker.swarm.node.id")).await;
        let mut line = time.map(|time| [time, b" ".to_vec()].concat()).unwrap_or_default();
        line.extend_from_slice(format!("{label}    | ").as_bytes());
        line.extend_from_slice(text);
        line
    }

    async fn label(&mut self, service: &str, task: &str, node: &str) -> String {
        if !self.tasks.contains_key(task) {
            self.learn(service).await;
        }
        let name = self.tasks.get(task).map_or("", String::as_str);
        let id = if self.options.no_trunc { task } else { short_id(task) };
        let node = self.names.node(node);
        if self.options.no_task_ids && !name.is_empty() {
            format!("{name}@{node}")
        } else {
            format!("{name}.{id}@{node}")
        }
    }

    /// Asks for the names of all tasks of a service; what is unknown then stays without a name.
    async fn learn(&mut self, service: &str) {
        let query = Query::new().with_filters(&[format!("service={service}")]);
        let Ok(query) = query else { return };
        let tasks: Result<Vec<types::task::Task>> = self.client.get("/tasks", &query).await;
        for task in tasks.unwrap_or_default() {
            let name = self.names.task(&task);
            self.tasks.insert(task.id, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use bramble_api::frames::frame;

    use super::*;

    #[test]
    fn frames_are_cut_where_they_end() -> Result<()> {
        let bytes = [frame(Channel::Stdout, b"one\n"), frame(Channel::Stderr, b"two\n")].concat();
        let mut buffer = BytesMut::new();
        let mut lines = Vec::new();
        for byte in bytes {
            buffer.extend_from_slice(&[byte]);
            while let Some((channel, content)) = next_frame(&mut buffer)? {
                lines.push((channel, content.to_vec()));
            }
        }
        assert_eq!(
            lines,
            [(Channel::Stdout, b"one\n".to_vec()), (Channel::Stderr, b"two\n".to_vec())]
        );
        assert!(next_frame(&mut BytesMut::from(&[7, 0, 0, 0, 0, 0, 0, 1][..])).is_err());
        assert!(next_frame(&mut BytesMut::from(&[1, 0, 0, 0, 255, 0, 0, 1][..])).is_err());
        Ok(())
    }

    #[test]
    fn instants_are_seconds() -> Result<()> {
        assert_eq!(instant("2026-01-01T00:00:00.5Z")?, "1767225600.500000000");
        assert_eq!(instant("1767225600")?, "1767225600");
        assert!(instant("10m").is_ok());
        assert!(instant("yesterday").is_err());
        Ok(())
    }
}
