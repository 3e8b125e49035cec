use super::{
    ARRAY, Flaw, MAP, MAX_DEPTH, Number, Scanner, close, head, number, text, value_len, write_f64,
    write_i64, write_str, write_u64,
};
use proptest::prelude::*;
use rmpv::Value;

const LIMIT: usize = 1 << 20;

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Binary),
        (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
    ];
    leaf.prop_recursive(4, 60, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            prop::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
        ]
    })
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

proptest! {
    #[test]
    fn a_value_ends_where_the_reference_says(value in values(), tail in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut bytes = encode(&value);
        let end = bytes.len();
        bytes.extend(tail);
        prop_assert_eq!(value_len(&bytes), Some(end));
        prop_assert_eq!(Scanner::default().scan(&bytes, LIMIT), Ok(Some(end)));
        prop_assert_eq!(value_len(&bytes[..end - 1]), None);
    }

    #[test]
    fn scanning_piece_by_piece_gives_the_same_end(value in values(), step in 1usize..50) {
        let bytes = encode(&value);
        let mut scanner = Scanner::default();
        for end in (0..bytes.len()).step_by(step) {
            prop_assert_eq!(scanner.scan(&bytes[..end], LIMIT), Ok(None));
        }
        prop_assert_eq!(scanner.scan(&bytes, LIMIT), Ok(Some(bytes.len())));
        prop_assert_eq!(scanner.scan(&[0xc0], LIMIT), Ok(Some(1)), "ready for the next value");
    }

    #[test]
    fn arbitrary_bytes_agree_with_the_reference_or_are_refused(
        // The reference takes the reserved byte for a nil.
        bytes in prop::collection::vec(any::<u8>().prop_filter("reserved", |byte| *byte != 0xc1), 0..200),
    ) {
        let mut rest = &bytes[..];
        let ours = Scanner::default().scan(&bytes, LIMIT);
        if let Ok(_value) = rmpv::decode::read_value_ref(&mut rest) {
            prop_assert_eq!(ours, Ok(Some(bytes.len() - rest.len())));
        } else {
            prop_assert!(!matches!(ours, Ok(Some(_))));
        }
    }

    #[test]
    fn numbers_survive_writing_and_reading(int in any::<i64>(), float in any::<f64>()) {
        for int in [int, int >> 20, int >> 40, int >> 50, int >> 57] {
            let mut bytes = Vec::new();
            write_i64(&mut bytes, int);
            prop_assert_eq!(&bytes, &encode(&Value::from(int)), "shortest form");
            prop_assert_eq!(number(&bytes), Some(Number::Int(int)));
        }
        let mut bytes = Vec::new();
        write_f64(&mut bytes, float);
        prop_assert_eq!(bytes, encode(&Value::from(float)));
    }
}

#[test]
fn a_claim_beyond_the_limit_is_refused_at_once() {
    let too_large = Err(Flaw::TooLarge { limit: LIMIT });
    for claim in [
        &b"\xdd\xff\xff\xff\xff"[..],     // array of 2^32-1
        b"\xdf\xff\xff\xff\xff",          // map
        b"\xdb\xff\xff\xff\xff",          // str
        b"\xc6\xff\xff\xff\xff",          // bin
        b"\xc9\xff\xff\xff\xff\x00",      // ext
        b"\x93\xa1t\xdb\xff\xff\xff\xff", // inside a frame
    ] {
        assert_eq!(
            Scanner::default().scan(claim, LIMIT),
            too_large,
            "{claim:x?}"
        );
    }
    // Small pieces that add up.
    let mut scanner = Scanner::default();
    let mut bytes = vec![0xdc, 0xff, 0xff];
    bytes.resize(4000, 0xc0);
    assert_eq!(scanner.scan(&bytes, 65_538), Ok(None));
    assert_eq!(
        Scanner::default().scan(&bytes, 4000),
        Err(Flaw::TooLarge { limit: 4000 })
    );
}

#[test]
fn a_depth_bomb_is_refused_and_the_deepest_allowed_value_is_not() {
    let nested = |depth: usize| {
        let mut bytes = vec![0x91; depth];
        bytes.push(0xc0);
        bytes
    };
    assert_eq!(
        Scanner::default().scan(&nested(MAX_DEPTH), LIMIT),
        Ok(Some(MAX_DEPTH + 1))
    );
    assert_eq!(
        Scanner::default().scan(&nested(2000), LIMIT),
        Err(Flaw::TooDeep)
    );
    assert_eq!(value_len(&nested(100_000)), Some(100_001));
}

#[test]
fn the_reserved_byte_is_no_value_anywhere() {
    assert_eq!(head(b"\xc1"), Err(Flaw::Reserved));
    assert_eq!(
        Scanner::default().scan(b"\x92\x00\xc1", LIMIT),
        Err(Flaw::Reserved)
    );
    assert_eq!(value_len(b"\x92\x00\xc1"), None);
}

#[test]
fn str_and_bin_are_both_text() {
    for len in [0, 5, 31, 32, 255, 256, 65_535, 65_536] {
        let content = vec![b'x'; len];
        let mut bytes = Vec::new();
        write_str(&mut bytes, &content);
        assert_eq!(bytes, encode(&Value::from("x".repeat(len))));
        assert_eq!(text(&bytes), Some((&content[..], bytes.len())));
        let binary = encode(&Value::Binary(content.clone()));
        assert_eq!(text(&binary), Some((&content[..], binary.len())));
    }
    assert_eq!(text(b"\x01"), None);
    assert_eq!(text(b"\xa5abc"), None);
}

#[test]
fn closing_moves_the_content_when_the_head_needs_more_room() {
    for (n, room, size) in [
        (3, 1, 1),
        (16, 1, 3),
        (70_000, 1, 5),
        (3, 3, 3),
        (70_000, 3, 5),
    ] {
        let mut out = vec![0xaa; 4 + room];
        out.resize(4 + room + n, 0xc0);
        close(&mut out, 4, room, ARRAY, n);
        assert_eq!(out.len(), 4 + size + n);
        assert_eq!(out[..4], [0xaa; 4]);
        let head = head(&out[4..]).unwrap();
        assert_eq!((head.size, head.len), (size, n));
        assert_eq!(value_len(&out[4..]), Some(size + n));
    }
    let mut out = vec![0, 0xa1, b'k', 0xc0];
    close(&mut out, 0, 1, MAP, 1);
    assert_eq!(out, b"\x81\xa1k\xc0");
}

#[test]
fn every_integer_form_is_read() {
    for (bytes, value) in [
        (&b"\x05"[..], 5),
        (b"\xff", -1),
        (b"\xcc\xff", 255),
        (b"\xcd\xff\xff", 65_535),
        (b"\xce\xff\xff\xff\xff", 4_294_967_295),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", i64::MAX),
        (b"\xd0\xff", -1),
        (b"\xd1\xff\xfe", -2),
        (b"\xd2\x65\x00\x00\x00", 0x6500_0000),
        (b"\xd3\xff\xff\xff\xff\xff\xff\xff\xfd", -3),
    ] {
        assert_eq!(number(bytes), Some(Number::Int(value)), "{bytes:x?}");
    }
    assert_eq!(number(b"\xa1x"), None);
    assert_eq!(number(b"\xce\xff"), None);
    let mut bytes = Vec::new();
    write_u64(&mut bytes, u64::MAX);
    assert_eq!(bytes, encode(&Value::from(u64::MAX)));
}
