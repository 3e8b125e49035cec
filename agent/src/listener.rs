//! A bound listening socket, TCP or unix, and what it accepts. A connection may
//! come to speak TLS later; who reads and writes it sees no difference.

use rustix::net::{RecvFlags, recv};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

/// Where to listen: `127.0.0.1:24224` or `unix:/run/agent/forward.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound socket, made by `app` or handed over by systemd.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// One accepted connection.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// One of the others behind a finished handshake.
    Tls(Box<TlsStream<Stream>>),
}

impl Listener {
    /// Where the socket listens, for messages; `?` where the kernel does not tell.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "?".into(), |address| address.to_string()),
            Listener::Unix(listener) => listener
                .local_addr()
                .ok()
                .and_then(|address| {
                    address
                        .as_pathname()
                        .map(|p| format!("unix:{}", p.display()))
                })
                .unwrap_or_else(|| "unix:?".into()),
        }
    }

    /// Waits for the next connection. Cancel-safe. TCP gets `TCP_NODELAY`:
    /// acks and answers here are small and awaited.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

impl Stream {
    /// The other end, for messages.
    pub fn peer(&self) -> String {
        match self {
            Stream::Tcp(stream) => stream
                .peer_addr()
                .map_or_else(|_| "?".into(), |address| address.to_string()),
            Stream::Unix(stream) => match stream.peer_cred().ok().and_then(|cred| cred.pid()) {
                Some(pid) => format!("unix peer, pid {pid}"),
                None => "unix peer".into(),
            },
            Stream::Tls(stream) => stream.get_ref().0.peer(),
        }
    }

    /// Waits for the first byte and leaves it where it is; `None` when the peer
    /// closes without one. Behind TLS it can no longer be told.
    pub async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut byte = [0u8];
        let readable = Interest::READABLE;
        let length = match self {
            Stream::Tcp(stream) => {
                let look = || Ok(recv(stream, &mut byte, RecvFlags::PEEK)?.1);
                stream.async_io(readable, look).await?
            }
            Stream::Unix(stream) => {
                let look = || Ok(recv(stream, &mut byte, RecvFlags::PEEK)?.1);
                stream.async_io(readable, look).await?
            }
            Stream::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok((length > 0).then_some(byte[0]))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
