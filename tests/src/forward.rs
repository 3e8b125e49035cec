//! A raw forward-protocol client: frames in each carrier mode, made with rmpv.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use flate2::Compression;
use flate2::write::GzEncoder;
use rmpv::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How entries travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Message,
    Forward,
    Packed,
    Compressed,
}

pub const MODES: [Mode; 4] = [Mode::Message, Mode::Forward, Mode::Packed, Mode::Compressed];

/// A record with a number, as `{"id": 7}` in the field that the agent parses.
pub fn numbered(id: u64) -> Value {
    let line = format!("{{\"id\":{id},\"level\":\"info\"}}");
    Value::Map(vec![("log".into(), line.into())])
}

/// The bytes of one frame. Message mode takes exactly one record.
pub fn frame(mode: Mode, tag: &str, records: &[Value], chunk: Option<&str>) -> Vec<u8> {
    let time = Value::from(1_700_000_000u64);
    let entry = |record: &Value| Value::Array(vec![time.clone(), record.clone()]);
    let mut option = Vec::new();
    if let Some(chunk) = chunk {
        option.push((Value::from("chunk"), Value::from(chunk)));
    }
    let packed = || {
        let mut bytes = Vec::new();
        for record in records {
            rmpv::encode::write_value(&mut bytes, &entry(record)).unwrap();
        }
        bytes
    };
    let mut parts = vec![Value::from(tag)];
    match mode {
        Mode::Message => parts.extend([time.clone(), records[0].clone()]),
        Mode::Forward => parts.push(Value::Array(records.iter().map(entry).collect())),
        Mode::Packed => parts.push(Value::Binary(packed())),
        Mode::Compressed => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(&packed()).unwrap();
            parts.push(Value::Binary(gzip.finish().unwrap()));
            option.push(("compressed".into(), "gzip".into()));
        }
    }
    parts.push(Value::Map(option));
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::Array(parts)).unwrap();
    bytes
}

/// A connection to a forward input.
pub struct Client<S>(S);

impl Client<TcpStream> {
    pub fn tcp(address: SocketAddr) -> Client<TcpStream> {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Client(stream)
    }
}

impl Client<UnixStream> {
    pub fn unix(path: &Path) -> Client<UnixStream> {
        let stream = UnixStream::connect(path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Client(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    /// The next acknowledgement's chunk id; None when the connection ended.
    pub fn ack(&mut self) -> Option<String> {
        let answer = rmpv::decode::read_value(&mut self.0).ok()?;
        let pairs = answer.as_map().expect("an ack is a map");
        assert_eq!(pairs[0].0.as_str(), Some("ack"), "{answer}");
        pairs[0].1.as_str().map(str::to_owned)
    }

    /// True when the peer closed the connection.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(n) => n == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
