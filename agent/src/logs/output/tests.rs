use super::{Ending, Forward, Kind, Link, Opener, Progress, Server, Telemetry, json, run, stdout};
use crate::dns::Resolver;
use crate::logs::buffer::{Batch, Buffer, Intake, Settings, WhenFull, intake, open};
use crate::pulse::Pulse;
use prometheus::Registry;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// `[1, {"n": n}]`
fn entry(n: u8) -> Vec<u8> {
    vec![0x92, 1, 0x81, 0xa1, b'n', 0xcc, n]
}

struct Bench {
    _dir: TempDir,
    buffer: Buffer,
    entry: Option<Intake>,
    thread: Option<JoinHandle<()>>,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            dir: dir.path().into(),
            chunk_size: 1 << 20,
            max_chunks: 8,
            flush_interval: Duration::from_millis(10),
            sync_interval: Duration::from_millis(10),
            when_full: WhenFull::Block,
        };
        let registry = Registry::new();
        let (buffer, writer) = open(&settings, &["out"], &registry).unwrap();
        let (entry, appends) = intake(16);
        let telemetry = Telemetry::new(&registry).unwrap();
        Bench {
            _dir: dir,
            buffer,
            entry: Some(entry),
            thread: Some(std::thread::spawn(move || writer.run(appends, &|| ()))),
            progress: Arc::new(Progress::new("out", telemetry)),
            stop: CancellationToken::new(),
        }
    }

    async fn append(&self, tag: &str, n: u8) {
        let batch = Batch {
            tag: tag.into(),
            entries: entry(n),
            n_records: 1,
        };
        let entry = self.entry.as_ref().unwrap();
        entry.append(vec![batch]).await.unwrap();
    }

    fn link(&self, kind: &Kind) -> Link {
        Link {
            reader: self.buffer.reader("out", kind.follow()).unwrap(),
            resolver: Resolver::new("/nonexistent".into()),
            progress: self.progress.clone(),
            beat: Pulse::default().register("out", Duration::from_secs(60)),
            stop: self.stop.clone(),
        }
    }

    /// Runs the output until all is delivered.
    async fn finish(&mut self, output: tokio::task::JoinHandle<Ending>) {
        self.entry = None;
        assert_eq!(output.await.unwrap(), Ending::Done);
        self.thread.take().unwrap().join().unwrap();
        assert_eq!(self.buffer.status().cursors[0].pending_bytes, 0);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.buffer.give_up();
    }
}

fn forward(port: u16, require_ack: bool) -> Kind {
    Kind::Forward(Forward {
        servers: vec![Server {
            host: "127.0.0.1".into(),
            port,
        }],
        require_ack,
        ack_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_secs(2),
    })
}

#[allow(clippy::disallowed_methods)]
fn spawn(kind: Kind, link: Link) -> tokio::task::JoinHandle<Ending> {
    tokio::spawn(run(kind, link))
}

/// What an independent reader makes of a frame.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    tag: String,
    numbers: Vec<u64>,
    id: Option<String>,
}

async fn frame(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        if let Ok(value) = rmpv::decode::read_value(&mut bytes.as_slice()) {
            let parts = value.as_array().unwrap();
            let mut body = parts[1].as_slice().unwrap();
            let mut numbers = Vec::new();
            while !body.is_empty() {
                let entry = rmpv::decode::read_value(&mut body).unwrap();
                numbers.push(entry[1]["n"].as_u64().unwrap());
            }
            let option = &parts[2];
            assert_eq!(option["size"].as_u64(), Some(numbers.len() as u64));
            assert_eq!(option["compressed"].as_str(), Some("text"));
            return Some(Seen {
                tag: parts[0].as_str().unwrap().into(),
                numbers,
                id: option["chunk"].as_str().map(str::to_owned),
            });
        }
        // One byte at a time: frames follow each other without a gap.
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1) => bytes.push(byte[0]),
            _ => return None,
        }
    }
}

async fn ack(stream: &mut TcpStream, id: &str) {
    let mut bytes = b"\x81\xa3ack\xd9".to_vec();
    bytes.push(id.len() as u8);
    bytes.extend_from_slice(id.as_bytes());
    stream.write_all(&bytes).await.unwrap();
}

#[tokio::test]
async fn records_arrive_by_tag_and_count_once_they_are_acknowledged() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (tag, n) in [("a", 1), ("b", 2), ("a", 3)] {
        bench.append(tag, n).await;
    }
    let kind = forward(listener.local_addr().unwrap().port(), true);
    let output = spawn(kind.clone(), bench.link(&kind));
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    while numbers.values().map(Vec::len).sum::<usize>() < 3 {
        let seen = frame(&mut stream).await.unwrap();
        numbers.entry(seen.tag).or_default().extend(seen.numbers);
        assert!(bench.progress.records() < 3);
        tokio::time::sleep(Duration::from_millis(20)).await;
        ack(&mut stream, &seen.id.unwrap()).await;
    }
    assert_eq!(numbers["a"], [1, 3]);
    assert_eq!(numbers["b"], [2]);
    bench.finish(output).await;
    assert_eq!(bench.progress.records(), 3);
    assert_eq!(bench.progress.last_error(), None);
}

#[tokio::test]
async fn what_is_not_acknowledged_is_sent_again_under_the_same_id() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bench.append("a", 1).await;
    let kind = forward(listener.local_addr().unwrap().port(), true);
    let output = spawn(kind.clone(), bench.link(&kind));
    // No ack at all, then a wrong one, then a connection that breaks.
    let (mut stream, _) = listener.accept().await.unwrap();
    let first = frame(&mut stream).await.unwrap();
    assert_eq!(frame(&mut stream).await, None);
    let error = bench.progress.last_error().unwrap();
    assert!(error.contains("no ack from 127.0.0.1"), "{error}");
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(frame(&mut stream).await.unwrap(), first);
    ack(&mut stream, "another").await;
    assert_eq!(frame(&mut stream).await, None);
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(frame(&mut stream).await.unwrap(), first);
    drop(stream);
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(frame(&mut stream).await.unwrap(), first);
    assert_eq!(bench.progress.records(), 0);
    ack(&mut stream, &first.id.unwrap()).await;
    bench.finish(output).await;
    assert_eq!(bench.progress.records(), 1);
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_until_the_server_is_back() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    bench.append("a", 1).await;
    let kind = forward(address.port(), false);
    let output = spawn(kind.clone(), bench.link(&kind));
    while bench.progress.last_error().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let seen = frame(&mut stream).await.unwrap();
    assert_eq!((seen.numbers, seen.id), (vec![1], None));
    bench.finish(output).await;
}

/// Reads until the peer's frame is too long for this server, and hangs up.
async fn refuse_over(stream: &mut TcpStream, limit: usize) {
    let mut n = 0;
    let mut bytes = vec![0; 64 << 10];
    while n <= limit {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(read) => n += read,
        }
    }
}

#[tokio::test]
async fn a_record_too_large_for_the_server_does_not_hold_the_others_back_for_ever() {
    let mut bench = Bench::new();
    let mut giant = b"\x92\x01\x81\xa1n\xc6\x00\x50\x00\x00".to_vec();
    giant.resize(giant.len() + (5 << 20), 7);
    let batch = Batch {
        tag: b"app".to_vec(),
        entries: giant,
        n_records: 1,
    };
    let entry = bench.entry.clone().unwrap();
    entry.append(vec![batch]).await.unwrap();
    drop(entry);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kind = forward(listener.local_addr().unwrap().port(), true);
    // The pauses between tries, over a minute, pass at once.
    tokio::time::pause();
    let Kind::Forward(mut settings) = kind else {
        unreachable!()
    };
    settings.ack_timeout = Duration::from_secs(86_400);
    settings.connect_timeout = Duration::from_secs(86_400);
    let kind = Kind::Forward(settings);
    let output = spawn(kind.clone(), bench.link(&kind));
    for _ in 0..super::forward::REFUSALS {
        let (mut stream, _) = listener.accept().await.unwrap();
        refuse_over(&mut stream, 1 << 20).await;
    }
    tokio::time::resume();
    bench.append("app", 2).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    let seen = frame(&mut stream).await.unwrap();
    assert_eq!(seen.numbers, [2]);
    ack(&mut stream, &seen.id.unwrap()).await;
    bench.finish(output).await;
    assert_eq!(bench.progress.records(), 1);
    assert_eq!(bench.buffer.status().dropped, 1);
}

#[tokio::test]
async fn a_server_that_wants_a_shared_key_is_named() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bench.append("a", 1).await;
    let kind = forward(listener.local_addr().unwrap().port(), false);
    let output = spawn(kind.clone(), bench.link(&kind));
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"\x92\xa4HELO\x80").await.unwrap();
    while bench.progress.last_error().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(bench.progress.last_error().unwrap().contains("shared key"));
    assert_eq!(bench.progress.records(), 0);
    bench.stop.cancel();
    assert_eq!(output.await.unwrap(), Ending::Stopped);
}

/// Fails twice as a closed pipe does, then collects.
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods)]
async fn stdout_survives_a_closed_pipe_and_prints_each_record_once() {
    let mut bench = Bench::new();
    bench.append("app", 7).await;
    let text = Arc::new(Mutex::new(Vec::new()));
    let (sink, mut failures) = (text.clone(), 2);
    let opener: Opener = Box::new(move || {
        if failures > 0 {
            failures -= 1;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(Box::new(Sink(sink.clone())))
    });
    let output = tokio::spawn(stdout::run(bench.link(&Kind::Stdout), opener));
    while bench.progress.last_error().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.finish(output).await;
    let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
    assert_eq!(
        text,
        "{\"time\":\"1970-01-01T00:00:01.000000000Z\",\"tag\":\"app\",\"n\":7}\n"
    );
}

#[test]
fn every_msgpack_form_has_a_json_form() {
    let cases: [(&[u8], &str); 14] = [
        (b"\xc0", "null"),
        (b"\xc3", "true"),
        (b"\xff", "-1"),
        (
            b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            "18446744073709551615",
        ),
        (b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", "1.5"),
        (b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "\"NaN\""),
        (b"\xca\xff\x80\x00\x00", "\"-Infinity\""),
        (b"\xa3a\xffb", "\"a\u{fffd}b\""),
        (b"\xa3\"\\\n", "\"\\\"\\\\\\n\""),
        (b"\xc4\x01\x01", "\"\\u0001\""),
        (b"\xd4\x05\xab", "{\"ext\":5,\"hex\":\"ab\"}"),
        (
            b"\xd7\x00\x00\x00\x00\x02\x00\x00\x00\x03",
            "\"1970-01-01T00:00:02.000000003Z\"",
        ),
        (b"\x92\x01\x90", "[1,[]]"),
        (b"\x81\x05\x80", "{\"5\":{}}"),
    ];
    for (packed, shown) in cases {
        let entries = [b"\x92\xd2\xff\xff\xff\xff\x81\xa4time", packed].concat();
        let mut line = String::new();
        json::lines(b"t", &entries, &mut line).unwrap();
        let wanted = format!(
            "{{\"time\":\"1969-12-31T23:59:59.000000000Z\",\"tag\":\"t\",\"record_time\":{shown}}}\n"
        );
        assert_eq!(line, wanted);
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
        // Cut anywhere it is refused, and nothing half is printed.
        for len in 1..entries.len() {
            let mut line = String::new();
            json::lines(b"t", &entries[..len], &mut line).unwrap_err();
            assert_eq!(line, "");
        }
    }
    let deep = [&b"\x92\x00\x81\xa1d"[..], &[0x91; 100_000], b"\xc0"].concat();
    let mut line = String::new();
    json::lines(b"t", &deep, &mut line).unwrap();
    assert!(line.contains("[null]"));
    // Maps as keys of maps: one level is shown, none is followed.
    let deep = [&b"\x92\x00\x81"[..], &[0x81; 50_000], &[0xc0; 50_002]].concat();
    let mut line = String::new();
    json::lines(b"t", &deep, &mut line).unwrap();
    serde_json::from_str::<serde_json::Value>(&line).unwrap();
}
