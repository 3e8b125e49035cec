//! A connection from the agent that is taken and not closed at once.
//!
//! Docker's own proxy, which stands before published ports, takes every
//! connection and closes it when nobody listens behind it: so what is closed
//! within 100 ms without a byte counts as refused.

use super::address;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A proxy needs less to find out that nobody listens behind it.
const SETTLE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    #[error("host {0:?} is neither an IP address nor localhost")]
    Host(String),
    #[error("no connection within {0:?}")]
    Late(Duration),
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("the connection was closed at once")]
    Closed,
    #[error("the connection broke at once")]
    Broken(#[source] std::io::Error),
}

/// One connection, made within `limit` and then dropped.
pub async fn once(host: &str, port: u16, limit: Duration) -> Result<(), TcpError> {
    let address = address(host).ok_or_else(|| TcpError::Host(host.into()))?;
    let stream = match timeout(limit, TcpStream::connect((address, port))).await {
        Ok(connected) => connected.map_err(TcpError::Connect)?,
        Err(_) => return Err(TcpError::Late(limit)),
    };
    match timeout(SETTLE.min(limit), stream.peek(&mut [0])).await {
        Ok(Ok(0)) => Err(TcpError::Closed),
        Ok(Err(error)) => Err(TcpError::Broken(error)),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}
