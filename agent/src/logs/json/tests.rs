use super::{MAX_DEPTH, Transcoder};
use crate::logs::{fields, msgpack};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// What the transcoder makes of a line, decoded by an independent reader.
fn transcode(line: &[u8]) -> Option<rmpv::Value> {
    let mut out = vec![0xee; 3];
    let mut transcoder = Transcoder::default();
    let n = match transcoder.object(line, &mut out) {
        Ok(members) => members.len(),
        Err(_) => {
            assert_eq!(out, [0xee; 3], "the output is as it was");
            return None;
        }
    };
    let mut map = vec![0];
    map.extend(&out[3..]);
    msgpack::close(&mut map, 0, 1, msgpack::MAP, n);
    let mut listed = Vec::new();
    fields::read(&map, &mut listed).unwrap();
    assert!(listed.iter().all(|field| !field.shadowed), "duplicate keys");
    let mut rest = &map[..];
    let value = rmpv::decode::read_value(&mut rest).unwrap();
    assert!(rest.is_empty());
    Some(value)
}

fn same(json: &Value, ours: &rmpv::Value) -> bool {
    match (json, ours) {
        (Value::Null, rmpv::Value::Nil) => true,
        (Value::Bool(a), rmpv::Value::Boolean(b)) => a == b,
        (Value::String(a), rmpv::Value::String(b)) => Some(a.as_str()) == b.as_str(),
        (Value::Number(a), rmpv::Value::Integer(b)) => {
            a.as_i64() == b.as_i64() && a.as_u64() == b.as_u64()
        }
        // The oracle rounds some floats by one unit in the last place.
        (Value::Number(a), rmpv::Value::F64(b)) => {
            a.is_f64() && (a.as_f64().unwrap() - b).abs() <= b.abs() * 1e-15 + 1e-322
        }
        (Value::Array(a), rmpv::Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), rmpv::Value::Map(b)) => {
            a.len() == b.len()
                && b.iter()
                    .all(|(key, b)| a.get(key.as_str().unwrap()).is_some_and(|a| same(a, b)))
        }
        _ => false,
    }
}

fn agrees_with_the_oracle(line: &[u8]) -> Result<(), TestCaseError> {
    let oracle = serde_json::from_slice::<Map<String, Value>>(line);
    match (oracle, transcode(line)) {
        (Ok(oracle), Some(ours)) => prop_assert!(
            same(&Value::Object(oracle), &ours),
            "{} became {ours}",
            String::from_utf8_lossy(line)
        ),
        (Err(_), None) => {}
        (oracle, ours) => prop_assert!(
            false,
            "{}: oracle {oracle:?}, ours {ours:?}",
            String::from_utf8_lossy(line)
        ),
    }
    Ok(())
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[\\x00-\\x7f]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 60, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(".{0,3}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_object_becomes_the_same_map(members in prop::collection::btree_map(".{0,12}", json(), 0..40)) {
        let object: Map<String, Value> = members.into_iter().collect();
        agrees_with_the_oracle(&serde_json::to_vec(&object).unwrap())?;
        agrees_with_the_oracle(&serde_json::to_vec_pretty(&object).unwrap())?;
    }

    #[test]
    fn a_damaged_object_is_judged_as_the_oracle_does(
        value in json(),
        at in any::<prop::sample::Index>(),
        with in prop_oneof![Just(&b""[..]), Just(&b"\""[..]), Just(&b"\\"[..]), Just(&b","[..]), Just(&b"}"[..]), Just(&b"\x1f"[..]), Just(&b"\xff"[..]), Just(&b"0"[..]), Just(&b" "[..])],
        cut in any::<bool>(),
    ) {
        let mut line = serde_json::to_vec(&serde_json::json!({"k": value, "s": "text \u{e9}\n"})).unwrap();
        let at = at.index(line.len());
        if cut {
            line.truncate(at);
        } else {
            line.splice(at..=at, with.iter().copied());
        }
        agrees_with_the_oracle(&line)?;
    }

    #[test]
    fn json_like_noise_is_judged_as_the_oracle_does(noise in "\\{\"[a-c\"\\\\{}\\[\\]:,0-9eE+\\-. tu]{0,30}\\}") {
        agrees_with_the_oracle(noise.as_bytes())?;
    }
}

#[test]
fn each_edge_of_the_grammar_is_as_decided() {
    for line in [
        r#"{}"#,
        " \t\r\n{ \"a\" : [ ] , \"b\":{ } }\n",
        r#"{"i":-9223372036854775808,"u":18446744073709551615}"#,
        r#"{"big":18446744073709551616,"small":-9223372036854775809}"#,
        r#"{"z":-0,"e":1E+2,"f":0.5e-3,"n":null,"t":true}"#,
        r#"{"esc":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\u0000"}"#,
        r#"{"same":1,"other":2,"same":3,"in":{"x":1,"x":2},"\u0073ame":4}"#,
        r#"{"arr":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}"#,
    ] {
        assert!(transcode(line.as_bytes()).is_some(), "{line}");
        agrees_with_the_oracle(line.as_bytes()).unwrap();
    }
    for line in [
        "",
        "plain text",
        "[1]",
        "\"text\"",
        "12",
        "null",
        "{",
        "{\"a\":1",
        "{\"a\":1}x",
        "{\"a\":1}{}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":1e}",
        "{\"a\":-}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":1e400}",
        "{\"a\":tru}",
        "{\"a\":\"\\ud83d\"}",
        "{\"a\":\"\\ude00\\ud83d\"}",
        "{\"a\":\"\\x41\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"tab\there\"}",
        "\u{feff}{\"a\":1}",
    ] {
        assert_eq!(transcode(line.as_bytes()), None, "{line}");
        agrees_with_the_oracle(line.as_bytes()).unwrap();
    }
    assert_eq!(transcode(b"{\"a\":\"\xff\"}"), None);
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(transcode(nested(MAX_DEPTH - 2).as_bytes()).is_some());
    assert_eq!(transcode(nested(MAX_DEPTH).as_bytes()), None);
    assert_eq!(transcode(nested(1_000_000).as_bytes()), None);
    let objects = "{\"a\":".repeat(100_000);
    assert_eq!(transcode(objects.as_bytes()), None);
}

#[test]
fn many_equal_keys_cost_no_more_than_many_keys() {
    // Same length, head and tail: equal hashes on purpose.
    let members: Vec<String> = (0..50_000)
        .map(|n| format!("\"headhead-{:05}-tailtail\":{n}", n % 40_000))
        .collect();
    let line = format!("{{{}}}", members.join(","));
    let started = std::time::Instant::now();
    let Some(rmpv::Value::Map(members)) = transcode(line.as_bytes()) else {
        panic!("not parsed");
    };
    assert_eq!(members.len(), 40_000);
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
}
