//! What a record costs on its whole way, with acks on both sides and the disk between.

use crate::process::{Run, cpu_seconds, status_kb};
use anyhow::{Context, Result, ensure};
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const RECORDS: u64 = 1_000_000;

#[derive(Clone, Copy)]
pub enum Mode {
    /// One event a frame, as Docker's driver sends, 32 frames a write.
    Message,
    /// 1,000 events a frame with an ack each.
    Packed,
}

/// Forward in with acks → JSON parse → five fields → disk → forward out with acks.
pub fn log_cost(agent: &Path, mode: Mode) -> Result<()> {
    let sink = Sink::start()?;
    let config = format!(
        r#"
[node]
region = "us-east-1"
product = "titan"
environment = "prod1"
instance_id = "i-0123456789abcdef0"
private_ip = "10.1.2.3"
[logs.enrich]
aws_region = "${{node.region}}"
product_name = "${{node.product}}"
environment_tag = "${{node.environment}}"
instance_id = "${{node.instance_id}}"
ip_address = "${{node.private_ip}}"
[logs.buffer]
flush_interval = "200ms"
[logs.outputs.sink]
type = "forward"
servers = ["127.0.0.1:{}"]
require_ack = true
"#,
        sink.port
    );
    let run = Run::start(agent, &config, true)?;
    let before = cpu_seconds(run.child.id())?;
    let began = Instant::now();
    let senders: Vec<_> = (0..4)
        .map(|n| {
            let port = run.forward;
            thread::spawn(move || send_load(port, mode, RECORDS / 4, n))
        })
        .collect();
    for sender in senders {
        sender
            .join()
            .map_err(|_| anyhow::anyhow!("a sender died"))??;
    }
    let taken = began.elapsed();
    let deadline = Instant::now() + Duration::from_secs(120);
    while sink.records.load(Ordering::Relaxed) < RECORDS {
        ensure!(
            Instant::now() < deadline,
            "only {} of {RECORDS} records arrived",
            sink.records.load(Ordering::Relaxed)
        );
        thread::sleep(Duration::from_millis(5));
    }
    let whole = began.elapsed();
    let cpu = cpu_seconds(run.child.id())? - before;
    let name = match mode {
        Mode::Message => "Message, one event a frame",
        Mode::Packed => "PackedForward, 1000 a frame",
    };
    println!(
        "logs        {name}: {:.2} CPU-s per million, {:.0} records/s taken, {:.0} records/s through, peak rss {} kB",
        cpu * 1e6 / RECORDS as f64,
        RECORDS as f64 / taken.as_secs_f64(),
        RECORDS as f64 / whole.as_secs_f64(),
        status_kb(run.child.id(), "VmHWM:")?,
    );
    Ok(())
}

fn send_load(port: u16, mode: Mode, records: u64, sender: u64) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let per_write = match mode {
        Mode::Message => 32,
        Mode::Packed => 1000,
    };
    let mut sent = 0;
    let mut answer = vec![0; 1 << 16];
    while sent < records {
        let count = per_write.min(records - sent);
        let mut bytes = Vec::with_capacity(600 * per_write as usize);
        let mut entries = Vec::new();
        for n in 0..count {
            let id = sender << 40 | (sent + n);
            match mode {
                Mode::Message => {
                    bytes.push(0x94);
                    text(&mut bytes, "campaigns");
                    event(&mut bytes, id, false);
                    // The last frame of a write asks for an ack, and all before it are safe with it.
                    if n + 1 == count {
                        option(&mut bytes, &format!("{id:024x}"));
                    } else {
                        bytes.push(0x80);
                    }
                }
                Mode::Packed => event(&mut entries, id, true),
            }
        }
        if let Mode::Packed = mode {
            bytes.push(0x93);
            text(&mut bytes, "campaigns");
            bytes.push(0xc6);
            bytes.extend((entries.len() as u32).to_be_bytes());
            bytes.extend(&entries);
            option(&mut bytes, &format!("{:024x}", sender << 40 | sent));
        }
        stream.write_all(&bytes)?;
        // One ack of 24 characters: map1, "ack", str24.
        let mut got = 0;
        while got < 1 + 4 + 25 {
            let read = stream.read(&mut answer)?;
            ensure!(read > 0, "the agent closed the connection");
            got += read;
        }
        sent += count;
    }
    Ok(())
}

fn option(bytes: &mut Vec<u8>, chunk: &str) {
    bytes.push(0x81);
    text(bytes, "chunk");
    text(bytes, chunk);
}

/// `time, record` as two values, or as one entry. The record has Docker's fields.
fn event(bytes: &mut Vec<u8>, id: u64, entry: bool) {
    if entry {
        bytes.push(0x92);
    }
    bytes.extend([0xd7, 0x00]);
    bytes.extend(1_795_000_000u32.to_be_bytes());
    bytes.extend(((id % 1_000_000_000) as u32).to_be_bytes());
    let line = format!(
        r#"{{"level":"info","time":"2026-11-21T12:00:00.{:03}Z","requestId":"{id:032x}","method":"GET","path":"/api/v2/campaigns/{}/exports","status":200,"duration":{}.25,"userAgent":"Mozilla/5.0 (X11; Linux x86_64) export-client/1.42","message":"request finished","tenant":{{"id":{},"plan":"enterprise"}}}}"#,
        id % 1000,
        id % 5000,
        id % 900,
        id % 77,
    );
    bytes.push(0x84);
    text(bytes, "container_id");
    text(
        bytes,
        "5f0c6f1d2b7e4a3988c1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f7081",
    );
    text(bytes, "container_name");
    text(bytes, "/vf-export");
    text(bytes, "source");
    text(bytes, "stdout");
    text(bytes, "log");
    text(bytes, &line);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    match text.len() {
        length @ 0..=31 => bytes.push(0xa0 | length as u8),
        length @ 32..=255 => bytes.extend([0xd9, length as u8]),
        length => {
            bytes.push(0xda);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend(text.as_bytes());
}

/// Takes PackedForward frames, acks them, counts their records.
struct Sink {
    port: u16,
    records: Arc<AtomicU64>,
}

impl Sink {
    fn start() -> Result<Sink> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let records = Arc::new(AtomicU64::new(0));
        let counted = records.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = counted.clone();
                thread::spawn(move || drain(stream, &counted));
            }
        });
        Ok(Sink { port, records })
    }
}

fn drain(stream: TcpStream, records: &AtomicU64) -> Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(1 << 20, stream);
    loop {
        let Ok(rmpv::Value::Array(frame)) = rmpv::decode::read_value(&mut reader) else {
            return Ok(());
        };
        let option = |name: &str| {
            let map = frame.get(2)?.as_map()?;
            let (_, value) = map.iter().find(|(key, _)| key.as_str() == Some(name))?;
            Some(value.clone())
        };
        let size = option("size").and_then(|size| size.as_u64());
        records.fetch_add(size.context("a frame without size")?, Ordering::Relaxed);
        if let Some(chunk) = option("chunk") {
            let ack = rmpv::Value::Map(vec![("ack".into(), chunk)]);
            rmpv::encode::write_value(&mut writer, &ack)?;
        }
    }
}
