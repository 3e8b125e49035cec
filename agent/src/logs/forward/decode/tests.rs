use super::{Body, Broken, Decoded, Entries, Entry, Frame, Refusal, Stamp, decode, gunzip, stamp};
use crate::logs::enrich::Time;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::Write;

const RECORD: &[u8] = b"\x81\xa1k\xa1v";

fn frame<'a>(tag: &'a [u8], body: Body<'a>, chunk: Option<&'a [u8]>) -> Decoded<'a> {
    Decoded::Frame(Frame { tag, body, chunk })
}

#[test]
fn the_second_element_decides_the_mode() {
    let one = || Body::One(b"\x05", RECORD);
    // Message, with no option, nil, an empty map, a chunk.
    assert_eq!(
        decode(b"\x93\xa1t\x05\x81\xa1k\xa1v"),
        frame(b"t", one(), None)
    );
    assert_eq!(
        decode(b"\x94\xa1t\x05\x81\xa1k\xa1v\xc0"),
        frame(b"t", one(), None)
    );
    assert_eq!(
        decode(b"\x94\xa1t\x05\x81\xa1k\xa1v\x80"),
        frame(b"t", one(), None)
    );
    assert_eq!(
        decode(b"\x94\xa1t\x05\x81\xa1k\xa1v\x81\xa5chunk\xa2id"),
        frame(b"t", one(), Some(b"\xa2id"))
    );
    // Forward; the tag as bin; other options around the chunk.
    assert_eq!(
        decode(b"\x93\xc4\x01t\x91\x92\x05\x81\xa1k\xa1v\x82\xa4size\x01\xa5chunk\xc4\x01x"),
        frame(
            b"t",
            Body::Entries(b"\x92\x05\x81\xa1k\xa1v"),
            Some(b"\xc4\x01x")
        )
    );
    // PackedForward as str and as bin, empty too.
    for packed in [
        &b"\x92\xa1t\xa7\x92\x05\x81\xa1k\xa1v"[..],
        b"\x92\xa1t\xc4\x07\x92\x05\x81\xa1k\xa1v",
    ] {
        assert_eq!(
            decode(packed),
            frame(b"t", Body::Entries(b"\x92\x05\x81\xa1k\xa1v"), None)
        );
    }
    assert_eq!(
        decode(b"\x93\xa1t\xa0\x81\xa5chunk\x07"),
        frame(b"t", Body::Entries(b""), Some(b"\x07"))
    );
    // The magic is trusted, whatever `compressed` says.
    assert_eq!(
        decode(b"\x93\xa1t\xa3\x1f\x8b\x08\x81\xaacompressed\xa4text"),
        frame(b"t", Body::Gzip(b"\x1f\x8b\x08"), None)
    );
    assert_eq!(
        decode(b"\x92\xa1t\xa4\x28\xb5\x2f\xfd"),
        frame(b"t", Body::Zstd, None)
    );
    // v1.5: a time with metadata, alone and in a Forward frame.
    assert_eq!(
        decode(b"\x93\xa1t\x92\x05\x80\x81\xa1k\xa1v"),
        frame(b"t", Body::One(b"\x92\x05\x80", RECORD), None)
    );
    let entries = b"\x92\x92\x05\x80\x81\xa1k\xa1v";
    assert_eq!(
        decode(&[b"\x92\xa1t\x91", &entries[..]].concat()),
        frame(b"t", Body::Entries(entries), None)
    );
    assert_eq!(
        Entries::new(entries).collect::<Vec<_>>(),
        [Entry::Good(b"\x92\x05\x80", RECORD)]
    );
}

#[test]
fn odd_values_are_ignored_refused_or_garbage() {
    for alive in [&b"\xc0"[..], b"\x90", b"\xdc\x00\x00"] {
        assert_eq!(decode(alive), Decoded::KeepAlive);
    }
    for garbage in [
        &b"\x07"[..],
        b"{",
        b"\xa3GET",
        b"\x80",
        b"\xc3",
        b"\xcb\0\0\0\0\0\0\0\0",
    ] {
        assert_eq!(decode(garbage), Decoded::Garbage, "{garbage:x?}");
    }
    let refused = |refusal, chunk| Decoded::Refused(refusal, chunk);
    let chunk: Option<&[u8]> = Some(b"\xa1c");
    for (bytes, refusal, chunk) in [
        (
            &b"\x94\xc0\x05\x80\x81\xa5chunk\xa1c"[..],
            Refusal::Tag,
            chunk,
        ), // nil tag
        (b"\x93\x07\x90\x81\xa5chunk\xa1c", Refusal::Tag, chunk),
        (b"\x91\xa1t", Refusal::Shape, None),
        (b"\x92\xa1t\x05", Refusal::Shape, None),
        // A string for a time: looks like PackedForward, is a Message.
        (
            b"\x94\xa1t\xa42026\x80\x81\xa5chunk\xa1c",
            Refusal::Shape,
            chunk,
        ),
        (
            b"\x93\xa1t\x90\x82\xadfluent_signal\x01\xa5chunk\xa1c",
            Refusal::Signal,
            chunk,
        ),
    ] {
        assert_eq!(decode(bytes), refused(refusal, chunk), "{bytes:x?}");
    }
    // Signal 0 is logs; a chunk of nil is none.
    assert_eq!(
        decode(b"\x93\xa1t\x90\x82\xadfluent_signal\x00\xa5chunk\xc0"),
        frame(b"t", Body::Entries(b""), None)
    );
}

#[test]
fn good_entries_around_bad_ones_are_kept() {
    let good = || Entry::Good(b"\x05", RECORD);
    let entries =
        b"\x92\x05\x81\xa1k\xa1v\x07\x91\x05\xa3str\x92\x05\x81\xa1k\xa1v\x92\x05\x82\xa1k";
    assert_eq!(
        Entries::new(entries).collect::<Vec<_>>(),
        [
            good(),
            Entry::Bad,
            Entry::Bad,
            Entry::Bad,
            good(),
            Entry::Truncated
        ]
    );
    let hostile = b"\x92\x05\x81\xa1k\xa1v\x92\x05\xdf\xff\xff\xff\xff\x92";
    assert_eq!(
        Entries::new(hostile).collect::<Vec<_>>(),
        [good(), Entry::Truncated]
    );
    let bomb = vec![0x91; 100_000];
    assert_eq!(Entries::new(&bomb).collect::<Vec<_>>(), [Entry::Truncated]);
}

#[test]
fn every_form_of_time_is_read() {
    let at = |seconds, nanoseconds| {
        Some(Stamp::At(Time {
            seconds,
            nanoseconds,
        }))
    };
    let odd = |seconds, nanoseconds| {
        Some(Stamp::Odd(Time {
            seconds,
            nanoseconds,
        }))
    };
    for (bytes, expected) in [
        (
            &b"\xd7\x00\x65\x00\x00\x00\x00\x00\x00\x2a"[..],
            at(0x6500_0000, 42),
        ),
        (
            b"\xc7\x08\x00\x65\x00\x00\x00\x00\x00\x00\x2a",
            at(0x6500_0000, 42),
        ),
        (
            b"\xd7\x00\xf5\x00\x00\x00\x00\x00\x00\x00",
            at(0xf500_0000, 0),
        ), // 2100: never negative
        (b"\xd2\x65\x00\x00\x00", at(0x6500_0000, 0)), // Docker
        (b"\xce\xf5\x00\x00\x00", at(0xf500_0000, 0)),
        (b"\xcf\x00\x00\x00\x00\x65\x00\x00\x00", at(0x6500_0000, 0)),
        (b"\xd3\x00\x00\x00\x00\x65\x00\x00\x00", at(0x6500_0000, 0)),
        (b"\x05", at(5, 0)),
        (b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", at(1, 500_000_000)),
        (b"\xca\x3f\xc0\x00\x00", at(1, 500_000_000)),
        (b"\x92\x05\x80", at(5, 0)),
        (b"\xc0", Some(Stamp::Now)),
        (b"\x00", odd(0, 0)),
        (b"\xff", odd(0, 0)),
        (b"\xcb\xbf\xf8\x00\x00\x00\x00\x00\x00", odd(0, 0)), // -1.5
        (b"\xcf\x00\x00\x01\x80\x00\x00\x00\x00", odd(u32::MAX, 0)), // milliseconds
        (
            b"\xd7\x00\x00\x00\x00\x05\xff\xff\xff\xff",
            odd(5, 999_999_999),
        ),
        (b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", None), // NaN
        (b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", None), // infinity
        (b"\xa42026", None),
        (b"\xc3", None),
        (b"\xd7\x01\x65\x00\x00\x00\x00\x00\x00\x2a", None), // another ext type
        (b"\xd6\x00\x65\x00\x00\x00", None),
        (b"\x91\x91\x05", None),
        (b"\x90", None),
    ] {
        assert_eq!(stamp(bytes), expected, "{bytes:x?}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn all_gzip_members_are_unpacked_within_the_limit() {
    let mut entries = Vec::new();
    let body = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
    gunzip(&body, 7, &mut entries).unwrap();
    assert_eq!(entries, b"one two");
    let bomb = gzip(&vec![0; 10 << 20]);
    assert!(bomb.len() < 200_000);
    assert!(matches!(
        gunzip(&bomb, 1 << 20, &mut entries),
        Err(Broken::TooLarge { .. })
    ));
    assert!(entries.len() <= (1 << 20) + 1);
    let mut corrupt = gzip(b"some text that is long enough to be damaged");
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0x55;
    assert!(matches!(
        gunzip(&corrupt, 100, &mut entries),
        Err(Broken::Corrupt(_))
    ));
    let cut = gzip(b"cut");
    assert!(gunzip(&cut[..cut.len() - 1], 100, &mut entries).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(&bytes);
        let _ = decode(&[b"\x94\xa1t", &bytes[..]].concat());
        let _ = stamp(&bytes);
        let n = Entries::new(&bytes).count();
        prop_assert!(n <= bytes.len());
        let _ = gunzip(&bytes, 1000, &mut Vec::new());
    }
}
