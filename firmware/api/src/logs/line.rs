//! Lines of logs on the wire: as Docker's clients read them, and as boards pass them on.

use bramble_cluster::TaskId;

use super::Source;
use crate::{
    board::LogLine,
    error::ApiError,
    frames::{Channel, frame},
    router::{Parameters, flag},
};

/// Bytes of the task's id before a line, between boards.
const TASK_BYTES: usize = 16;
/// Bytes of the time behind it.
const TIME_BYTES: usize = 8;

/// How a client wants its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// The standard output's.
    has_output: bool,
    /// The standard error's.
    has_errors: bool,
    /// Behind their time.
    has_times: bool,
    /// Behind where they are from.
    has_details: bool,
    /// Without frames, because a terminal mixes both anyway.
    pub(crate) is_raw: bool,
}

impl Style {
    /// Reads a request's parameters.
    pub(super) fn parse(parameters: &Parameters, is_raw: bool) -> Result<Self, ApiError> {
        let style = Self {
            has_output: flag(parameters, "stdout"),
            has_errors: flag(parameters, "stderr"),
            has_times: flag(parameters, "timestamps"),
            has_details: flag(parameters, "details"),
            is_raw,
        };
        if !style.has_output && !style.has_errors {
            let message = "Bad parameters: you must choose at least one stream (stdout, stderr)";
            return Err(ApiError::BadRequest(message.to_owned()));
        }
        Ok(style)
    }

    /// A line as the client wants it; `None` if it does not want it.
    pub(super) fn write(&self, source: &Source, line: &LogLine) -> Option<Vec<u8>> {
        if line.is_error && !self.has_errors || !line.is_error && !self.has_output {
            return None;
        }
        let mut content = String::new();
        if self.has_times {
            content.push_str(&fixed(line.at));
            content.push(' ');
        }
        if self.has_details {
            let Source { service, task, node } = source;
            content.push_str(&format!(
                "com.docker.swarm.node.id={node},com.docker.swarm.service.id={service},\
                 com.docker.swarm.task.id={task} "
            ));
        }
        let mut content = content.into_bytes();
        content.extend_from_slice(&line.text);
        let channel = if line.is_error { Channel::Stderr } else { Channel::Stdout };
        Some(if self.is_raw { content } else { frame(channel, &content) })
    }

    /// Something that the engine has to say; a client stops reading there.
    pub(super) fn complain(&self, message: &str) -> Vec<u8> {
        if self.is_raw {
            message.as_bytes().to_vec()
        } else {
            frame(Channel::Engine, message.as_bytes())
        }
    }
}

/// RFC 3339 with nine digits of a second, as Docker writes times before lines.
fn fixed(at: u64) -> String {
    let instant = jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default();
    format!("{instant:.9}")
}

/// A line as boards pass it on: behind its task and its time, both big-endian.
pub(super) fn passed_on(task: TaskId, line: &LogLine) -> Vec<u8> {
    let channel = if line.is_error { Channel::Stderr } else { Channel::Stdout };
    let (task, at) = (task.bits().to_be_bytes(), line.at.to_be_bytes());
    frame(channel, &[task.as_slice(), at.as_slice(), line.text.as_slice()].concat())
}

/// Reads it back; `None` if it is none.
pub(super) fn received(channel: Channel, content: &[u8]) -> Option<(TaskId, LogLine)> {
    let (task, rest) = content.split_first_chunk::<TASK_BYTES>()?;
    let (at, text) = rest.split_first_chunk::<TIME_BYTES>()?;
    let line = LogLine {
        at: u64::from_be_bytes(*at),
        is_error: channel == Channel::Stderr,
        text: text.to_vec(),
    };
    Some((TaskId::from_random(u128::from_be_bytes(*task)), line))
}

/// Nanoseconds since 1970, from `1767225600.5` or RFC 3339.
pub(super) fn nanoseconds(text: &str) -> Option<u64> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return u64::try_from(instant.as_nanosecond()).ok();
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: u64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let fraction: u64 = digits.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::extract::Query;
    use bramble_cluster::{NodeId, ServiceId};

    use super::*;

    fn style(names: &[&str], is_raw: bool) -> Result<Style, ApiError> {
        let pair = |name: &&str| ((*name).to_owned(), "1".to_owned());
        Style::parse(&Query(names.iter().map(pair).collect::<BTreeMap<_, _>>()), is_raw)
    }

    fn source() -> Source {
        Source {
            service: ServiceId::from_random(1),
            task: TaskId::from_random(2),
            node: NodeId::from_random(3),
        }
    }

    #[test]
    fn lines_are_written_as_docker_writes_them() {
        let line =
            LogLine { at: 1_767_225_600_500_000_000, is_error: true, text: b"hi\n".to_vec() };
        let all = style(&["stdout", "stderr", "timestamps", "details"], true).expect("valid");
        let written = all.write(&source(), &line).expect("it is wanted");
        assert_eq!(
            String::from_utf8_lossy(&written),
            "2026-01-01T00:00:00.500000000Z com.docker.swarm.node.id=0000000000000000000000003,\
             com.docker.swarm.service.id=0000000000000000000000001,com.docker.swarm.task.id=\
             0000000000000000000000002 hi\n"
        );
        let output = style(&["stdout"], false).expect("valid");
        assert_eq!(output.write(&source(), &line), None);
        let errors = style(&["stderr"], false).expect("valid");
        assert_eq!(errors.write(&source(), &line), Some(frame(Channel::Stderr, b"hi\n")));
        assert!(style(&["timestamps"], false).is_err());
    }

    #[test]
    fn boards_pass_lines_on_whole() {
        let line = LogLine { at: 5, is_error: false, text: vec![0xff, b'\n'] };
        let task = TaskId::from_random(7);
        let frame = passed_on(task, &line);
        assert_eq!(received(Channel::Stdout, &frame[8..]), Some((task, line)));
        assert_eq!(received(Channel::Stdout, &[1; 23]), None);
    }

    #[test]
    fn instants_are_read_in_both_notations() {
        assert_eq!(nanoseconds("1.5"), Some(1_500_000_000));
        assert_eq!(nanoseconds("1767225600.000000001"), Some(1_767_225_600_000_000_001));
        assert_eq!(nanoseconds("2026-01-01T00:00:00Z"), Some(1_767_225_600_000_000_000));
        assert_eq!(nanoseconds("yesterday"), None);
        assert_eq!(nanoseconds("99999999999999999999"), None);
    }
}
