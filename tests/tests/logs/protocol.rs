//! The forward input, from a raw client: modes, acks, limits, odd input.

use crate::place::{assert_enriched, bad_frames, forward_to, rss, said, sample};
use rmpv::Value;
use std::io::{Read, Write};
use std::time::Duration;
use tests::agent::{Place, free_port};
use tests::forward::{Client, MODES, Mode, frame, numbered};
use tests::receiver::Receiver;
use tests::wait;

fn converse<S: Read + Write>(mut client: Client<S>, first: u64) {
    for (number, mode) in (0..).zip(MODES) {
        let ids = first + number * 10;
        let n = if mode == Mode::Message { 1 } else { 10 };
        let records: Vec<Value> = (ids..ids + n).map(numbered).collect();
        // fluentd's ids end in a newline.
        let chunk = format!("{mode:?}-{first}\n");
        let bytes = frame(mode, "raw", &records, Some(&chunk));
        client.send(&bytes).unwrap();
        assert_eq!(client.ack(), Some(chunk), "{mode:?}");
        client
            .send(&frame(mode, "raw", &[numbered(ids + 1000)], None))
            .unwrap();
    }
}

#[test]
fn every_carrier_mode_is_taken_and_acknowledged_on_both_sockets() {
    let aggregator = Receiver::start();
    let place = Place::new();
    let agent = place.start(&forward_to(aggregator.address));
    converse(Client::tcp(place.forward), 0);
    converse(Client::unix(&place.forward_socket()), 100);
    // Each mode: one frame with an ack, one without.
    let expected = 2 * (1 + 3 * 10 + 4);
    let ids = wait::until("all records arrive", || {
        Some(aggregator.ids()).filter(|ids| ids.len() >= expected)
    });
    assert_eq!(ids.len(), expected);
    assert!(ids.values().all(|&n| n == 1), "some arrived twice: {ids:?}");
    for record in aggregator.records() {
        assert_eq!(record.tag, "raw");
        assert_eq!(record.text("level"), Some("info"));
        assert!(!record.fields.contains_key("log"), "{record:?}");
        assert_enriched(&record);
    }
    assert_eq!(sample(&place, "agent_log_records_total") as usize, expected);
    assert_eq!(agent.status()["logs"]["bad_frames"], 0);
    assert!(agent.stop().success());
}

#[test]
fn what_is_no_msgpack_closes_its_own_connection_only() {
    let aggregator = Receiver::start();
    let place = Place::new();
    let agent = place.start(&forward_to(aggregator.address));
    let mut good = Client::tcp(place.forward);
    good.send(&frame(Mode::Message, "raw", &[numbered(1)], Some("one")))
        .unwrap();
    assert_eq!(good.ack().as_deref(), Some("one"));

    let mut bad = Client::tcp(place.forward);
    // A good frame, then a byte that msgpack never uses.
    bad.send(&frame(Mode::Message, "raw", &[numbered(2)], Some("two")))
        .unwrap();
    bad.send(&[0xc1]).unwrap();
    assert_eq!(
        bad.ack().as_deref(),
        Some("two"),
        "it was whole before the damage"
    );
    assert!(bad.is_closed());

    let mut web = Client::unix(&place.forward_socket());
    web.send(b"GET / HTTP/1.1\r\nhost: agent\r\n\r\n").unwrap();
    assert!(web.is_closed());

    let mut cut = Client::tcp(place.forward);
    let half = frame(Mode::Packed, "raw", &[numbered(3)], None);
    cut.send(&half[..half.len() / 2]).unwrap();
    drop(cut);

    // Health checks: connect and close without a word.
    for _ in 0..5 {
        drop(Client::tcp(place.forward));
    }
    good.send(&frame(Mode::Message, "raw", &[numbered(4)], Some("four")))
        .unwrap();
    assert_eq!(
        good.ack().as_deref(),
        Some("four"),
        "a neighbour's connection goes on"
    );

    wait::until("three bad frames are counted", || {
        (agent.status()["logs"]["bad_frames"] == 3).then_some(())
    });
    for reason in ["malformed", "garbage", "cut_off"] {
        assert_eq!(bad_frames(&place, reason), 1.0, "{reason}");
    }
    let warnings = said(&agent, "closed a log connection");
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings.iter().all(|line| line.contains("WARN")),
        "{warnings:?}"
    );
    wait::until("the good ones arrive", || {
        (aggregator.ids().keys().copied().collect::<Vec<_>>() == [1, 2, 4]).then_some(())
    });
}

#[test]
fn claims_of_gigabytes_cost_no_memory() {
    let aggregator = Receiver::start();
    let place = Place::new();
    let agent = place.start(&format!(
        "max_frame = \"4MiB\"\n{}",
        forward_to(aggregator.address)
    ));
    let before = rss(&agent);
    let claims: [&[u8]; 3] = [
        // ["raw", bin32 of 4 GiB
        b"\x93\xa3raw\xc6\xff\xff\xff\xff",
        // ["raw", str32 of 4 GiB
        b"\x93\xa3raw\xdb\xff\xff\xff\xff",
        // An array of 2^32 - 1 elements.
        b"\xdd\xff\xff\xff\xff",
    ];
    for _ in 0..100 {
        for claim in claims {
            let mut client = Client::tcp(place.forward);
            client.send(claim).unwrap();
            assert!(client.is_closed(), "{claim:x?}");
        }
    }
    wait::until("all are counted", || {
        (bad_frames(&place, "too_large") == 300.0).then_some(())
    });
    let grown = rss(&agent).saturating_sub(before);
    eprintln!("300 claims of 4 GiB: resident memory grew by {grown} KiB");
    assert!(grown < 16 << 10, "resident memory grew by {grown} KiB");
}

#[test]
fn senders_of_large_frames_share_bounded_memory() {
    let aggregator = Receiver::start();
    let place = Place::new();
    let agent = place.start(&format!(
        "max_frame = \"4MiB\"\n{}",
        forward_to(aggregator.address)
    ));
    let before = rss(&agent);
    // Each begins a frame of 3.9 MiB and leaves its end out: 250 MiB in all.
    let mut begun = b"\x93\xa3raw\xc6\x00\x3e\x00\x00".to_vec();
    begun.resize(0x3e_0000, 0);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut client = Client::tcp(place.forward);
                // The agent reads no more than it has room for; its end ends this.
                let _ = client.send(&begun);
                client.is_closed()
            });
        }
        let small = frame(Mode::Message, "raw", &[numbered(1)], Some("small"));
        let mut most = 0;
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            most = most.max(rss(&agent).saturating_sub(before));
            let mut client = Client::tcp(place.forward);
            client.send(&small).unwrap();
            assert_eq!(client.ack().as_deref(), Some("small"), "small frames go on");
        }
        eprintln!("64 unfinished frames of 3.9 MiB: resident memory grew by {most} KiB");
        assert!(
            most > 8 << 10,
            "the senders did not get as far as this test wants"
        );
        assert!(most < 160 << 10, "resident memory grew by {most} KiB");
        agent.kill();
    });
}

#[test]
fn each_input_has_its_own_limits() {
    let aggregator = Receiver::start();
    let place = Place::new();
    let narrow = free_port();
    let rest = forward_to(aggregator.address);
    let agent = place.start(&format!(
        "{rest}[logs.inputs.narrow]\nlisten = \"{narrow}\"\nmax_frame = \"4KiB\"\n\
         frame_timeout = \"1s\"\n"
    ));
    let records: Vec<Value> = (0..1000).map(numbered).collect();
    let large = frame(Mode::Packed, "raw", &records, Some("large"));
    let mut client = Client::tcp(place.forward);
    client.send(&large).unwrap();
    assert_eq!(client.ack().as_deref(), Some("large"));

    let mut client = Client::tcp(narrow);
    client.send(&large[..1024]).unwrap();
    assert!(client.is_closed(), "the claim is over this input's limit");
    let mut client = Client::tcp(narrow);
    client.send(&large[..2]).unwrap();
    assert!(client.is_closed(), "silent inside a frame");
    wait::until("both are counted", || {
        (bad_frames(&place, "too_large") == 1.0 && bad_frames(&place, "timeout") == 1.0)
            .then_some(())
    });
    let warnings = said(&agent, "closed a log connection");
    assert!(
        warnings.iter().all(|line| line.contains("narrow")),
        "{warnings:?}"
    );
}
