//! A forward-protocol server of the test crate's own, decoding with rmpv: it shares no code with the
//! agent. It stands where the aggregator stands, acknowledges, and can be down or silent.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use flate2::read::MultiGzDecoder;
use rmpv::Value;
use rmpv::decode::read_value;
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// One record as it arrived.
#[derive(Debug, Clone)]
pub struct Record {
    pub tag: String,
    pub time: Value,
    pub fields: BTreeMap<String, Value>,
}

impl Record {
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).and_then(Value::as_str)
    }

    pub fn id(&self) -> Option<u64> {
        self.fields.get("id").and_then(Value::as_u64)
    }
}

#[derive(Default)]
struct Shared {
    records: Mutex<Vec<Record>>,
    connections: Mutex<Vec<TcpStream>>,
    silent: AtomicBool,
    closed: AtomicBool,
}

pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Receiver {
    pub fn start() -> Receiver {
        Receiver::start_at("127.0.0.1:0".parse().unwrap())
    }

    /// On an address that an earlier one had: the aggregator is back.
    pub fn start_at(address: SocketAddr) -> Receiver {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if theirs.closed.load(Ordering::SeqCst) {
                    return;
                }
                let kept = stream.try_clone().unwrap();
                theirs.connections.lock().unwrap().push(kept);
                let shared = theirs.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Receiver {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Takes records and does not acknowledge them, until told otherwise.
    pub fn set_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    pub fn records(&self) -> Vec<Record> {
        self.shared.records.lock().unwrap().clone()
    }

    /// How often each numbered record arrived.
    pub fn ids(&self) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for id in self
            .shared
            .records
            .lock()
            .unwrap()
            .iter()
            .filter_map(Record::id)
        {
            *counts.entry(id).or_default() += 1;
        }
        counts
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Wakes the accept, which then sees the flag.
        let _ = TcpStream::connect(self.address);
        for stream in self.shared.connections.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Ok(frame) = read_value(&mut reader) {
        let parts = frame.as_array().expect("a frame is an array");
        let tag = parts[0].as_str().expect("a tag is text").to_owned();
        let (records, option) = entries(&tag, parts);
        shared.records.lock().unwrap().extend(records);
        let chunk = option.and_then(|option| field(option, "chunk"));
        if let Some(chunk) = chunk
            && !shared.silent.load(Ordering::SeqCst)
        {
            let ack = Value::Map(vec![("ack".into(), chunk)]);
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &ack).unwrap();
            if writer.write_all(&bytes).is_err() {
                return;
            }
        }
    }
}

/// The records of a frame in any of the four modes, and its option map.
fn entries<'a>(tag: &str, parts: &'a [Value]) -> (Vec<Record>, Option<&'a Value>) {
    match &parts[1] {
        Value::Array(list) => {
            let records = list.iter().map(|entry| record(tag, entry)).collect();
            (records, parts.get(2))
        }
        Value::Binary(_) | Value::String(_) => {
            let packed = match &parts[1] {
                Value::Binary(bytes) => bytes.clone(),
                other => other.as_str().map(|s| s.as_bytes().to_vec()).unwrap(),
            };
            let option = parts.get(2);
            let gzip = option.and_then(|option| field(option, "compressed"));
            let packed = match gzip.as_ref().and_then(Value::as_str) {
                Some("gzip") => {
                    let mut plain = Vec::new();
                    let mut decoder = MultiGzDecoder::new(packed.as_slice());
                    decoder.read_to_end(&mut plain).unwrap();
                    plain
                }
                _ => packed,
            };
            let mut rest = packed.as_slice();
            let mut records = Vec::new();
            while !rest.is_empty() {
                records.push(record(tag, &read_value(&mut rest).unwrap()));
            }
            (records, option)
        }
        time => {
            let one = Value::Array(vec![time.clone(), parts[2].clone()]);
            (vec![record(tag, &one)], parts.get(3))
        }
    }
}

fn field(map: &Value, name: &str) -> Option<Value> {
    let pairs = map.as_map()?;
    let found = pairs.iter().find(|(key, _)| key.as_str() == Some(name));
    found.map(|(_, value)| value.clone())
}

fn record(tag: &str, entry: &Value) -> Record {
    let parts = entry.as_array().expect("an entry is an array");
    let pairs = parts[1].as_map().expect("a record is a map");
    let fields = pairs.iter().map(|(key, value)| {
        let key = key.as_str().expect("a key is text").to_owned();
        (key, value.clone())
    });
    Record {
        tag: tag.into(),
        time: parts[0].clone(),
        fields: fields.collect(),
    }
}
