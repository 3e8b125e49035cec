//! Raw bytes over real sockets, the buffer's end played by the test.

use crate::facts::Facts;
use crate::listener::{Address, Listener};
use crate::logs::buffer::{Append, intake};
use crate::logs::enrich::{Parse, Shaper, Template};
use crate::logs::forward::{Settings, Telemetry, serve};
use crate::pulse::Pulse;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

struct Input {
    address: SocketAddr,
    appends: mpsc::Receiver<Append>,
    telemetry: Telemetry,
    stop: CancellationToken,
    served: JoinSet<()>,
    _shaper: watch::Sender<Arc<Shaper>>,
}

fn settings() -> Settings {
    Settings {
        name: "test".into(),
        listen: Vec::new(),
        max_frame: 1 << 20,
        frame_timeout: PATIENCE,
    }
}

async fn input(settings: Settings) -> Input {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    input_on(Listener::Tcp(listener), address, settings)
}

fn input_on(listener: Listener, address: SocketAddr, settings: Settings) -> Input {
    let (intake, appends) = intake(1);
    let fields = [("f".to_owned(), Template::parse("x").unwrap())];
    let shaper = Shaper::new(&Parse::default(), &fields, &Facts::default());
    let (shaper_tx, shaper) = watch::channel(Arc::new(shaper));
    let telemetry = Telemetry::new(&prometheus::Registry::new());
    let stop = CancellationToken::new();
    let beat = Pulse::default().register("test", PATIENCE);
    let mut served = JoinSet::new();
    served.spawn(serve(
        listener,
        settings,
        shaper,
        intake,
        telemetry.clone(),
        beat,
        stop.clone(),
    ));
    Input {
        address,
        appends,
        telemetry,
        stop,
        served,
        _shaper: shaper_tx,
    }
}

impl Input {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The next append, stored: `tag: record` of each entry.
    async fn stored(&mut self) -> Vec<String> {
        let append = timeout(PATIENCE, self.appends.recv()).await;
        let append = append.expect("an append in time").unwrap();
        let shown = show(&append);
        append.stored.send(()).unwrap();
        shown
    }

    /// Waits until `level` holds.
    async fn until(&self, level: impl Fn(&Telemetry) -> bool) {
        let reached = async {
            while !level(&self.telemetry) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("the level in time");
    }

    fn bad_frames(&self, reason: &str) -> u64 {
        self.telemetry.bad_frames.with_label_values(&[reason]).get()
    }

    fn bad_records(&self, reason: &str) -> u64 {
        self.telemetry
            .bad_records
            .with_label_values(&[reason])
            .get()
    }
}

fn show(append: &Append) -> Vec<String> {
    let mut shown = Vec::new();
    for batch in &append.batches {
        let tag = String::from_utf8_lossy(&batch.tag).into_owned();
        let mut rest = &batch.entries[..];
        let mut n = 0;
        while !rest.is_empty() {
            let entry = rmpv::decode::read_value(&mut rest).unwrap();
            let [time, record] = entry.as_array().unwrap().as_slice() else {
                panic!("{entry}");
            };
            assert_eq!(time.as_ext().unwrap().0, 0);
            let fields = record.as_map().unwrap().iter();
            let fields: Vec<String> = fields
                .map(|(key, value)| format!("{}={value}", key.as_str().unwrap()))
                .collect();
            shown.push(format!("{tag}: {}", fields.join(" ")));
            n += 1;
        }
        assert_eq!(batch.n_records, n);
    }
    shown
}

/// A Message frame whose line is `log`, with `chunk` if it is not "".
fn message(log: &str, chunk: &str) -> Vec<u8> {
    let mut frame = b"\x94\xa1t\xd2\x65\x00\x00\x00\x81\xa3log".to_vec();
    rmp::encode::write_str(&mut frame, log).unwrap();
    if chunk.is_empty() {
        frame.push(0x80);
    } else {
        frame.extend(b"\x81\xa5chunk");
        rmp::encode::write_str(&mut frame, chunk).unwrap();
    }
    frame
}

fn ack(chunk: &str) -> Vec<u8> {
    let mut ack = b"\x81\xa3ack".to_vec();
    rmp::encode::write_str(&mut ack, chunk).unwrap();
    ack
}

async fn expect(stream: &mut (impl AsyncReadExt + Unpin), bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    let whole = timeout(PATIENCE, stream.read_exact(&mut read)).await;
    whole.expect("an answer in time").unwrap();
    assert_eq!(read, bytes, "{}", String::from_utf8_lossy(&read));
}

/// The other side closes without a further byte.
async fn expect_close(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match timeout(PATIENCE, stream.read_to_end(&mut rest)).await {
        Ok(Ok(_)) | Ok(Err(_)) => assert_eq!(rest, b""),
        Err(_) => panic!("not closed"),
    }
}

#[tokio::test]
async fn an_ack_comes_only_after_the_store_and_echoes_the_chunk_byte_for_byte() {
    let mut input = input(settings()).await;
    let mut sender = input.connect().await;
    sender
        .write_all(&message("{\"a\":1}", "abc\n"))
        .await
        .unwrap();
    let append = timeout(PATIENCE, input.appends.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(show(&append), ["t: a=1 f=\"x\""]);
    let mut byte = [0];
    let early = timeout(Duration::from_millis(50), sender.read(&mut byte)).await;
    assert!(early.is_err(), "acked before it was stored");
    append.stored.send(()).unwrap();
    expect(&mut sender, &ack("abc\n")).await;
    // As an integer, as bin.
    for chunk in [&b"\xcd\x01\x02"[..], b"\xc4\x02\xff\x00"] {
        let mut frame = message("", "");
        frame.pop();
        frame.extend(b"\x81\xa5chunk");
        frame.extend(chunk);
        sender.write_all(&frame).await.unwrap();
        input.stored().await;
        expect(&mut sender, &[b"\x81\xa3ack", chunk].concat()).await;
    }
    assert_eq!(input.telemetry.records_in(), 3);
    assert_eq!(input.telemetry.records_unparsed(), 2);
}

#[tokio::test]
async fn all_four_modes_arrive_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forward.sock");
    let listener = Listener::Unix(UnixListener::bind(&path).unwrap());
    assert_eq!(listener.address(), Address::Unix(path.clone()).to_string());
    let mut input = input_on(listener, ([127, 0, 0, 1], 0).into(), settings());
    let mut sender = UnixStream::connect(&path).await.unwrap();
    let entries =
        b"\x92\x05\x81\xa3log\xa1a\x92\xd7\x00\x65\x00\x00\x00\x00\x00\x00\x01\x81\xa3log\xa1b";
    let mut gzip = Vec::new();
    for half in [&entries[..8], &entries[8..]] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(half).unwrap();
        gzip.extend(encoder.finish().unwrap());
    }
    let mut packed = b"\x93\xa1p\xc4".to_vec();
    packed.push(entries.len() as u8);
    packed.extend(entries);
    packed.extend(b"\x81\xa5chunk\xa1p");
    let mut compressed = b"\x93\xa1z\xc4".to_vec();
    compressed.push(gzip.len() as u8);
    compressed.extend(&gzip);
    compressed.extend(b"\x82\xaacompressed\xa4gzip\xa5chunk\xa1z");
    let forward = [b"\x93\xa1f\x92", &entries[..], b"\x81\xa5chunk\xa1f"].concat();
    for (frame, tag) in [(forward, "f"), (packed, "p"), (compressed, "z")] {
        sender.write_all(&frame).await.unwrap();
        let expected = ["a", "b"].map(|log| format!("{tag}: log=\"{log}\" f=\"x\""));
        assert_eq!(input.stored().await, expected);
        expect(&mut sender, &ack(tag)).await;
    }
    sender.write_all(&message("m", "m")).await.unwrap();
    assert_eq!(input.stored().await, ["t: log=\"m\" f=\"x\""]);
    expect(&mut sender, &ack("m")).await;
    assert_eq!(input.telemetry.records_in(), 7);
}

#[tokio::test]
async fn frames_of_one_read_are_one_append_and_their_acks_keep_the_order() {
    let mut input = input(settings()).await;
    let mut sender = input.connect().await;
    // The first append holds the connection until all others lie in the socket.
    sender.write_all(&message("first", "c0")).await.unwrap();
    let first = timeout(PATIENCE, input.appends.recv())
        .await
        .unwrap()
        .unwrap();
    let (mut frames, mut acks) = (Vec::new(), ack("c0"));
    for n in 1..=50 {
        frames.extend(message(&n.to_string(), &format!("c{n}")));
        acks.extend(ack(&format!("c{n}")));
    }
    sender.write_all(&frames).await.unwrap();
    first.stored.send(()).unwrap();
    assert_eq!(input.stored().await.len(), 50);
    expect(&mut sender, &acks).await;
}

#[tokio::test]
async fn any_cut_of_the_stream_gives_the_same_records() {
    let mut input = input(settings()).await;
    let mut sender = input.connect().await;
    let frames = [
        message("one", ""),
        b"\xc0\x90".to_vec(),
        message("two", "end"),
    ]
    .concat();
    let mut stored = Vec::new();
    for byte in frames {
        sender.write_all(&[byte]).await.unwrap();
        sender.flush().await.unwrap();
        tokio::task::yield_now().await;
        while let Ok(append) = input.appends.try_recv() {
            stored.extend(show(&append));
            append.stored.send(()).unwrap();
        }
    }
    while stored.len() < 2 {
        stored.extend(input.stored().await);
    }
    assert_eq!(stored, ["t: log=\"one\" f=\"x\"", "t: log=\"two\" f=\"x\""]);
    expect(&mut sender, &ack("end")).await;
}

#[tokio::test]
async fn a_bad_record_or_frame_is_counted_and_acked_and_the_connection_goes_on() {
    let mut input = input(settings()).await;
    let mut sender = input.connect().await;
    let chunk = b"\x81\xa5chunk\xa1c";
    for (frame, stored) in [
        (&b"\x94\xa1t\x05\xa3str"[..], 0),    // record is no map
        (b"\x94\xc0\x05\x81\xa3log\xa1x", 0), // nil tag
        (b"\x94\xa1t\xa42026\x80", 0),        // string time
        (b"\x93\xa1t\x93\x92\x05\x81\xa3log\xa1x\x07\x92\x05\x80", 2), // one bad of three
        (b"\x93\xa1t\xab\x92\x05\x81\xa3log\xa1x\x92\x05", 1), // last one cut
        (b"\x93\xa1t\xa0", 0),                // nothing inside
        (b"\x94\xc4\x01t\xff\x81\xa3log\xa1x", 1), // negative time, bin tag
    ] {
        sender.write_all(&[frame, chunk].concat()).await.unwrap();
        if stored > 0 {
            assert_eq!(input.stored().await.len(), stored, "{frame:x?}");
        }
        expect(&mut sender, &ack("c")).await;
    }
    let counted =
        ["not_a_map", "not_an_entry", "truncated"].map(|reason| input.bad_records(reason));
    assert_eq!(counted, [1, 1, 1]);
    assert_eq!((input.bad_frames("tag"), input.bad_frames("shape")), (1, 1));
    assert_eq!(input.telemetry.corrected_times.get(), 1);
    assert_eq!(input.telemetry.bad_frames(), 2);
}

#[tokio::test]
async fn what_is_no_frame_closes_that_connection_alone_and_good_frames_before_it_are_kept() {
    let mut input = input(settings()).await;
    let mut bystander = input.connect().await;
    let mut gzip = b"\x93\xa1t\xc4\x14\x1f\x8b\x08\0\0\0\0\0\0\0garbage..".to_vec();
    gzip.push(b'.');
    gzip.extend(b"\x81\xa5chunk\xa1c");
    let bomb = [&[0x93, 0xa1, b't'][..], &[0x91; 2000]].concat();
    for (bytes, reason) in [
        (&b"\xc1"[..], "malformed"),
        (&bomb, "malformed"),
        (b"\x93\xa1t\x05\x81\xc1", "malformed"),
        (b"\xdd\xff\xff\xff\xff", "too_large"),
        (b"\x93\xa1t\xdb\xff\xff\xff\xff", "too_large"),
        (b"GET / HTTP/1.1\r\n", "garbage"),
        (b"{\"a\":1}", "garbage"),
        (&gzip, "compression"),
        (b"\x93\xa1t\xa5\x28\xb5\x2f\xfd\x00\x80", "compression"),
    ] {
        let before = (input.bad_frames(reason), input.telemetry.bad_frames());
        let mut sender = input.connect().await;
        let good = message("good", "");
        sender.write_all(&[&good, bytes].concat()).await.unwrap();
        assert_eq!(input.stored().await, ["t: log=\"good\" f=\"x\""]);
        expect_close(&mut sender).await;
        input
            .until(|telemetry| telemetry.bad_frames() > before.1)
            .await;
        assert_eq!(input.bad_frames(reason), before.0 + 1, "{bytes:x?}");
    }
    bystander
        .write_all(&message("still here", "b"))
        .await
        .unwrap();
    input.stored().await;
    expect(&mut bystander, &ack("b")).await;
}

#[tokio::test]
async fn a_frame_at_the_limit_passes_and_an_endless_one_is_closed() {
    let mut input = input(settings()).await;
    let mut sender = input.connect().await;
    let line = "x".repeat((1 << 20) - 30);
    sender.write_all(&message(&line, "")).await.unwrap();
    assert_eq!(input.stored().await[0].len(), line.len() + 15);
    sender.write_all(&message(&line, "big")).await.unwrap();
    input.stored().await;
    expect(&mut sender, &ack("big")).await;
    let _ = sender.write_all(&message(&"x".repeat(1 << 20), "")).await;
    expect_close(&mut sender).await;
    input.until(|telemetry| telemetry.bad_frames() == 1).await;
    assert_eq!(input.bad_frames("too_large"), 1);
}

#[tokio::test]
async fn a_large_frame_is_appended_in_pieces_and_acked_once() {
    let mut big = settings();
    big.max_frame = 8 << 20;
    let mut input = input(big).await;
    let sender = input.connect().await;
    let entry = [
        b"\x92\x05\x81\xa3log\xda\x03\xe8",
        "y".repeat(1000).as_bytes(),
    ]
    .concat();
    let body = entry.repeat(4000);
    let mut frame = b"\x93\xa1t\xdb".to_vec();
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame.extend(b"\x81\xa5chunk\xa1c");
    let (mut reader, mut writer) = sender.into_split();
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        writer.write_all(&frame).await.unwrap();
        writer
    });
    let (mut n_records, mut n_appends) = (0, 0);
    while n_records < 4000 {
        let append = timeout(PATIENCE, input.appends.recv())
            .await
            .unwrap()
            .unwrap();
        let n_bytes: usize = append.batches.iter().map(|batch| batch.entries.len()).sum();
        assert!(n_bytes < (1 << 20) + 2000);
        n_records += append
            .batches
            .iter()
            .map(|batch| batch.n_records)
            .sum::<u32>();
        n_appends += 1;
        append.stored.send(()).unwrap();
    }
    assert_eq!((n_records, n_appends), (4000, 4));
    expect(&mut reader, &ack("c")).await;
}

#[tokio::test]
async fn silence_inside_a_frame_ends_the_connection_but_between_frames_it_does_not() {
    let mut short = settings();
    short.frame_timeout = Duration::from_millis(100);
    let mut input = input(short).await;
    let mut idle = input.connect().await;
    idle.write_all(&message("a", "1")).await.unwrap();
    input.stored().await;
    expect(&mut idle, &ack("1")).await;
    let mut stuck = input.connect().await;
    stuck.write_all(b"\x94\xa1t").await.unwrap();
    expect_close(&mut stuck).await;
    input.until(|telemetry| telemetry.bad_frames() == 1).await;
    assert_eq!(input.bad_frames("timeout"), 1);
    idle.write_all(&message("b", "2")).await.unwrap();
    input.stored().await;
    expect(&mut idle, &ack("2")).await;
}

#[tokio::test]
async fn connecting_and_leaving_is_no_fault_and_leaving_inside_a_frame_is_one() {
    let input = input(settings()).await;
    for _ in 0..10 {
        drop(input.connect().await);
    }
    let mut sender = input.connect().await;
    input.until(|telemetry| telemetry.connections() == 1).await;
    assert_eq!(input.telemetry.bad_frames(), 0);
    sender.write_all(b"\x94\xa1t").await.unwrap();
    drop(sender);
    input.until(|telemetry| telemetry.bad_frames() == 1).await;
    assert_eq!(input.bad_frames("cut_off"), 1);
    input.until(|telemetry| telemetry.connections() == 0).await;
}

#[tokio::test]
async fn nothing_is_read_while_an_append_waits() {
    let mut input = input(settings()).await;
    let sender = input.connect().await;
    sender.set_nodelay(true).unwrap();
    let frame = message(&"z".repeat(60_000), "");
    let mut accepted = 0;
    // The kernel's buffers fill, then the sender stands still.
    while let Ok(written) = timeout(Duration::from_millis(300), sender.writable()).await {
        written.unwrap();
        accepted += sender.try_write(&frame).unwrap_or(0);
        assert!(accepted < 64 << 20, "the input goes on reading");
    }
    let read = input.telemetry.received_bytes.get();
    assert!(read < 1 << 20, "read {read} bytes");
    assert_eq!(input.telemetry.records_in(), 0);
    input.stored().await;
    input.stored().await;
    assert!(input.telemetry.records_in() > 0);
}

#[tokio::test]
async fn parts_are_acked_joined_and_flushed_when_the_sender_leaves() {
    let part = |ordinal: &str, last: &str, text: &str| {
        let mut frame = b"\x94\xa1t\x05\x85\xa3log".to_vec();
        rmp::encode::write_str(&mut frame, text).unwrap();
        for (key, value) in [
            ("partial_message", "true"),
            ("partial_id", "id"),
            ("partial_ordinal", ordinal),
            ("partial_last", last),
        ] {
            rmp::encode::write_str(&mut frame, key).unwrap();
            rmp::encode::write_str(&mut frame, value).unwrap();
        }
        frame.extend(b"\x81\xa5chunk\xa1c");
        frame
    };
    let mut input = input(settings()).await;
    let mut sender = input.connect().await;
    // Docker sends the next part only after the ack of this one.
    sender
        .write_all(&part("1", "false", "{\"whole\":"))
        .await
        .unwrap();
    expect(&mut sender, &ack("c")).await;
    sender.write_all(&part("2", "true", "true}")).await.unwrap();
    assert_eq!(input.stored().await, ["t: whole=true f=\"x\""]);
    expect(&mut sender, &ack("c")).await;
    // The last line of a container that ends without a newline.
    sender
        .write_all(&part("1", "false", "no newline"))
        .await
        .unwrap();
    expect(&mut sender, &ack("c")).await;
    drop(sender);
    assert_eq!(
        input.stored().await,
        ["t: partial_id=\"id\" partial_incomplete=\"closed\" log=\"no newline\" f=\"x\""]
    );
}

#[tokio::test]
async fn a_stop_takes_what_lies_in_the_socket_and_waits_for_its_store() {
    let mut input = input(settings()).await;
    let mut sender = input.connect().await;
    sender.write_all(&message("first", "1")).await.unwrap();
    let first = timeout(PATIENCE, input.appends.recv())
        .await
        .unwrap()
        .unwrap();
    sender.write_all(&message("second", "2")).await.unwrap();
    input.stop.cancel();
    first.stored.send(()).unwrap();
    assert_eq!(input.stored().await, ["t: log=\"second\" f=\"x\""]);
    expect(&mut sender, &[ack("1"), ack("2")].concat()).await;
    expect_close(&mut sender).await;
    timeout(PATIENCE, input.served.join_next()).await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever_on_a_full_buffer_or_a_dead_one() {
    let mut input = input(settings()).await;
    let mut sender = input.connect().await;
    sender.write_all(&message("stuck", "1")).await.unwrap();
    let stuck = timeout(PATIENCE, input.appends.recv())
        .await
        .unwrap()
        .unwrap();
    let mut other = input.connect().await;
    other.write_all(&message("refused", "2")).await.unwrap();
    let refused = timeout(PATIENCE, input.appends.recv())
        .await
        .unwrap()
        .unwrap();
    drop(refused.stored);
    expect_close(&mut other).await;
    input.stop.cancel();
    timeout(PATIENCE, input.served.join_next()).await.unwrap();
    expect_close(&mut sender).await;
    assert_eq!(input.telemetry.records_in(), 0);
    drop(stuck);
}
