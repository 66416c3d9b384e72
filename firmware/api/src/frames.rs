//! The framing of Docker's log streams: each line behind a header that names its stream.

/// Where a frame belongs: the numbers are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The container's standard output.
    Stdout = 1,
    /// The container's standard error.
    Stderr = 2,
    /// The engine's own error; a client stops there.
    Engine = 3,
}

/// Bytes in a header: the channel, three zeros, the length in big-endian order.
pub const HEADER_BYTES: usize = 8;

/// A header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Where the frame belongs.
    pub channel: Channel,
    /// How many bytes follow.
    pub length: u32,
}

impl Header {
    /// Reads a header; `None` if it is none.
    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Option<Self> {
        let channel = match bytes[0] {
            1 => Channel::Stdout,
            2 => Channel::Stderr,
            3 => Channel::Engine,
            _ => return None,
        };
        let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        (bytes[1..4] == [0, 0, 0]).then_some(Self { channel, length })
    }
}

/// A frame: header and content.
pub fn frame(channel: Channel, content: &[u8]) -> Vec<u8> {
    // A line of a log is bounded far below 4 GiB where it is read.
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let content = &content[..usize::try_from(length).unwrap_or(content.len())];
    let mut frame = Vec::with_capacity(HEADER_BYTES + content.len());
    frame.extend_from_slice(&[channel as u8, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(content);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_docker_writes_it_and_reads_back() {
        let bytes = frame(Channel::Stderr, b"hi\n");
        assert_eq!(bytes, [2, 0, 0, 0, 0, 0, 0, 3, b'h', b'i', b'\n']);
        let header = bytes[..HEADER_BYTES].try_into().expect("8 bytes");
        let header = Header::parse(header);
        assert_eq!(header, Some(Header { channel: Channel::Stderr, length: 3 }));
        assert_eq!(Header::parse([9, 0, 0, 0, 0, 0, 0, 1]), None);
        assert_eq!(Header::parse([1, 1, 0, 0, 0, 0, 0, 1]), None);
    }
}
