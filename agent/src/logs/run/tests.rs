use super::{Handle, open};
use crate::dns::Resolver;
use crate::facts::{Facts, Source};
use crate::listener::Listener;
use crate::logs::buffer::{self, WhenFull};
use crate::logs::enrich::{Parse, Template};
use crate::logs::{Parts, Settings, output};
use crate::pulse::Pulse;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Room {
    handle: Handle,
    address: std::net::SocketAddr,
    intake: CancellationToken,
    drain: CancellationToken,
    task: JoinHandle<()>,
    facts: watch::Sender<Arc<Facts>>,
    settings: Settings,
}

fn forward_to(name: &str, port: u16) -> output::Settings {
    output::Settings {
        name: name.into(),
        kind: output::Kind::Forward(output::Forward {
            servers: vec![output::Server {
                host: "127.0.0.1".into(),
                port,
            }],
            require_ack: false,
            ack_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
        }),
    }
}

#[allow(clippy::disallowed_methods)]
async fn start(dir: &Path, outputs: Vec<output::Settings>) -> Room {
    let settings = Settings {
        inputs: Vec::new(),
        parse: Parse::default(),
        enrich: vec![("region".into(), Template::parse("${node.region}").unwrap())],
        buffer: buffer::Settings {
            dir: dir.into(),
            chunk_size: 1 << 20,
            max_chunks: 8,
            flush_interval: Duration::from_millis(20),
            sync_interval: Duration::from_millis(10),
            when_full: WhenFull::Block,
        },
        outputs,
    };
    let (facts, facts_rx) = watch::channel(Arc::new(Facts::default()));
    let (handle, logs) = open(Parts {
        settings: settings.clone(),
        facts: facts_rx,
        resolver: Resolver::new("/nonexistent".into()),
        registry: prometheus::Registry::new(),
        pulse: Pulse::default(),
    })
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (intake, drain) = (CancellationToken::new(), CancellationToken::new());
    let run = logs.run(vec![Listener::Tcp(listener)], intake.clone(), drain.clone());
    Room {
        handle,
        address,
        intake,
        drain,
        task: tokio::spawn(run),
        facts,
        settings,
    }
}

/// Sends one record and waits until it is acknowledged.
async fn send(room: &Room, text: &str) {
    let mut stream = TcpStream::connect(room.address).await.unwrap();
    let mut frame = b"\x94\xa3app\x01\x81\xa3log".to_vec();
    frame.push(0xa0 | text.len() as u8);
    frame.extend_from_slice(text.as_bytes());
    frame.extend_from_slice(b"\x81\xa5chunk\xa1x");
    stream.write_all(&frame).await.unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\x81\xa3ack\xa1x");
}

/// What one connection brings, up to this text.
async fn receive(listener: &TcpListener, text: &str) -> Vec<u8> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    while !has(&bytes, text) {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "no {text}");
    }
    bytes
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn a_record_goes_through_and_what_is_stored_at_the_stop_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = sink.local_addr().unwrap().port();
    let room = start(dir.path(), vec![forward_to("out", port)]).await;
    let mut facts = Facts::default();
    facts.learn(Source::Config, [("region".into(), "eu-west-1".into())]);
    room.facts.send_replace(Arc::new(facts));
    tokio::time::sleep(Duration::from_millis(50)).await;
    send(&room, "{\"level\":\"info\"}").await;
    room.intake.cancel();
    let body = receive(&sink, "eu-west-1").await;
    for text in ["level", "info", "region", "eu-west-1"] {
        assert!(has(&body, text), "{text}");
    }
    room.task.await.unwrap();
    let status = room.handle.status();
    assert_eq!((status.records_in, status.outputs[0].records_out), (1, 1));
    assert_eq!(status.outputs[0].pending_bytes, 0);
}

#[tokio::test]
async fn a_stop_without_a_server_leaves_the_records_for_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = sink.local_addr().unwrap();
    drop(sink);
    let room = start(dir.path(), vec![forward_to("out", address.port())]).await;
    send(&room, "kept").await;
    while room.handle.status().outputs[0].last_error.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    room.intake.cancel();
    room.drain.cancel();
    room.task.await.unwrap();
    drop(room.handle);
    let sink = TcpListener::bind(address).await.unwrap();
    let room = start(dir.path(), vec![forward_to("out", address.port())]).await;
    receive(&sink, "kept").await;
    room.intake.cancel();
    room.drain.cancel();
    room.task.await.unwrap();
}

#[tokio::test]
async fn reload_swaps_outputs_live_and_refuses_the_buffer_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let old = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let new = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = old.local_addr().unwrap().port();
    let room = start(dir.path(), vec![forward_to("out", port)]).await;
    send(&room, "first").await;
    receive(&old, "first").await;
    let mut settings = room.settings.clone();
    settings.buffer.max_chunks = 9;
    settings.outputs.clear();
    let refused = room.handle.reload(settings.clone()).await.unwrap_err();
    assert_eq!(refused[0].field, "logs.buffer.max_chunks");
    assert_eq!(room.handle.status().outputs.len(), 1);
    settings.buffer = room.settings.buffer.clone();
    settings.outputs = vec![forward_to("other", new.local_addr().unwrap().port())];
    room.handle.reload(settings).await.unwrap();
    assert_eq!(room.handle.status().outputs[0].name, "other");
    assert!(!dir.path().join("out.cursor").exists());
    send(&room, "second").await;
    receive(&new, "second").await;
    room.drain.cancel();
    room.intake.cancel();
    room.task.await.unwrap();
}
