//! A web server on loopback with a few files in memory.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

/// Serves these until the process ends; anything else is 404.
pub fn serve(files: BTreeMap<String, Vec<u8>>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who goes away early has its own reasons.
            let _ = answer(stream, &files);
        }
    });
    Ok(address)
}

fn answer(
    mut stream: std::net::TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
) -> std::io::Result<()> {
    let mut request = BufReader::new(stream.try_clone()?).lines();
    let first = request.next().transpose()?.unwrap_or_default();
    for line in request {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (status, body): (&str, &[u8]) = match files.get(path) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", b""),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    if !first.starts_with("HEAD ") {
        stream.write_all(body)?;
    }
    Ok(())
}
