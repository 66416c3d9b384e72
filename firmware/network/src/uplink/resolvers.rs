//! `resolv.conf`: who answers for names.

use std::{
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
};

/// C libraries read no more.
const SERVERS_MAX: usize = 3;

/// The file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}, so names cannot be looked up")]
pub(super) struct ResolversError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The file's text.
fn render(servers: &[IpAddr], domain: Option<&str>) -> String {
    let mut text = String::from("# Written by Bramble.\n");
    if let Some(domain) = domain {
        text.push_str(&format!("search {domain}\n"));
    }
    for server in servers.iter().take(SERVERS_MAX) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text.push_str("options timeout:2 attempts:2\n");
    text
}

/// Writes the file, at once or not at all, if it says anything else.
pub(super) fn write(
    path: &Path,
    servers: &[IpAddr],
    domain: Option<&str>,
) -> Result<(), ResolversError> {
    let text = render(servers, domain);
    if std::fs::read_to_string(path).is_ok_and(|current| current == text) {
        return Ok(());
    }
    replace(path, &text).map_err(|source| ResolversError { path: path.to_owned(), source })
}

/// No reader may see half a file. It need not survive a power cut.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::{render, write};

    #[test]
    fn three_servers_at_most_and_the_domain_are_written() {
        let servers: Vec<std::net::IpAddr> = (1..=4)
            .map(|last| [10, 0, 0, last].into())
            .chain(["fd00::1".parse().unwrap()])
            .collect();
        let expected = "# Written by Bramble.\nsearch home.arpa\nnameserver 10.0.0.1\nnameserver \
            10.0.0.2\nnameserver 10.0.0.3\noptions timeout:2 attempts:2\n";
        assert_eq!(render(&servers, Some("home.arpa")), expected);
    }

    #[test]
    fn the_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("resolv.conf");
        write(&path, &["192.0.2.1".parse().expect("an address")], None).expect("it is written");
        write(&path, &[], None).expect("it is written again");
        let text = std::fs::read_to_string(&path).expect("it is there");
        assert!(!text.contains("nameserver"), "nobody answers any more");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
