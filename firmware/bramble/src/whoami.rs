//! The built-in service: answers every request with who it is. For demonstrations and tests; the
//! image is this very binary and nothing else.

use std::{fs::File, io::BufWriter, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result};
use bramble_cluster::ImageName;
use bramble_containers::images::{FileContent, ImageBuilder};
use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    signal::unix::{SignalKind, signal},
};

/// The largest request head that is read; browsers send less.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// How long a client may take to ask.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections waiting to be accepted.
const BACKLOG: u32 = 128;

/// Answer every HTTP request with who I am
#[derive(Debug, Args)]
pub(crate) struct Whoami {
    /// Where to listen
    #[arg(long, default_value = "0.0.0.0:8000")]
    listen: SocketAddr,
}

impl Whoami {
    /// Serves until SIGTERM or SIGINT. As process 1 of a container it must ask for them: the kernel
    /// drops signals that process 1 does not handle.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let listener = listen(self.listen)?;
            println!("listening at {}", listener.local_addr()?);
            tokio::select! {
                failed = serve(listener) => failed,
                _ = terminate.recv() => Ok(()),
                _ = interrupt.recv() => Ok(()),
            }
        })
    }
}

/// Writes the image `whoami` as an OCI archive: this very binary, which is static, and nothing else.
///
/// # Errors
/// If this binary cannot be read or the archive not written.
pub(crate) fn write_image(archive: &Path) -> Result<()> {
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    let name: ImageName = "whoami".parse().context("`whoami` is an image's name")?;
    let file =
        File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
    ImageBuilder::new()
        .file("/bramble", FileContent::Copy(binary), 0o755)
        .entrypoint(["/bramble"])
        .command(["whoami"])
        .expose("8000/tcp")
        .write_archive(&name, BufWriter::new(file))
        .with_context(|| format!("cannot write {}", archive.display()))?;
    Ok(())
}

/// Several replicas share the port of a board's network; the kernel deals connections out to them.
fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address).with_context(|| format!("cannot listen at {address}"))?;
    Ok(socket.listen(BACKLOG)?)
}

async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (connection, client) = listener.accept().await?;
        tokio::spawn(async move {
            // A client that goes away, or never asks, is no concern of the others.
            let _ = tokio::time::timeout(REQUEST_TIMEOUT, answer(connection, client)).await;
        });
    }
}

async fn answer(mut connection: TcpStream, client: SocketAddr) -> Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES_MAX || connection.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let hostname = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    let variables = ["BRAMBLE_SERVICE", "BRAMBLE_TASK", "BRAMBLE_NODE"];
    let mut body = format!("Hostname: {hostname}\nClient: {client}\n");
    for name in variables {
        if let Ok(value) = std::env::var(name) {
            body.push_str(&format!("{name}: {value}\n"));
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(body.as_bytes()).await?;
    Ok(connection.shutdown().await?)
}
