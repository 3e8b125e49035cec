use super::{Parse, Scratch, Shaped, Shaper, Template, Time};
use crate::facts::{Facts, Source};
use rmpv::Value;

const NOW: Time = Time {
    seconds: 1_700_000_000,
    nanoseconds: 42,
};

fn facts() -> Facts {
    let mut facts = Facts::default();
    facts.learn(Source::Config, [("region".into(), "eu-west-1".into())]);
    facts
}

fn shaper(parse: &Parse, fields: &[(&str, &str)]) -> Shaper {
    let fields: Vec<(String, Template)> = fields
        .iter()
        .map(|(name, text)| ((*name).into(), Template::parse(text).unwrap()))
        .collect();
    Shaper::new(parse, &fields, &facts())
}

fn record(fields: &[(&str, &str)]) -> Vec<u8> {
    let pairs = fields
        .iter()
        .map(|(k, v)| (Value::from(*k), Value::from(*v)));
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::Map(pairs.collect())).unwrap();
    bytes
}

/// Shapes one record and prints it as `key=value …`; checks the entry's form.
fn shape(shaper: &Shaper, record: &[u8]) -> (Shaped, String) {
    let mut out = vec![0x55];
    let mut scratch = Scratch::default();
    let shaped = shaper.shape(NOW, scratch.read(record).unwrap(), &mut out);
    assert_eq!(
        out[..12],
        *b"\x55\x92\xd7\x00\x65\x53\xf1\x00\x00\x00\x00\x2a"
    );
    let mut rest = &out[12..];
    let value = rmpv::decode::read_value(&mut rest).unwrap();
    assert!(rest.is_empty());
    let fields: Vec<String> = value
        .as_map()
        .unwrap()
        .iter()
        .map(|(key, value)| format!("{}={value}", key.as_str().unwrap()))
        .collect();
    (shaped, fields.join(" "))
}

#[test]
fn the_line_is_merged_the_envelope_kept_and_the_facts_added() {
    let shaper = shaper(
        &Parse::default(),
        &[
            ("aws_region", "${node.region}"),
            ("product", "titan-${node.region}"),
        ],
    );
    let record = record(&[
        ("source", "stdout"),
        ("log", r#"{"level":"info","n":7}"#),
        ("container_name", "/web"),
    ]);
    assert_eq!(
        shape(&shaper, &record),
        (
            Shaped::Parsed,
            r#"level="info" n=7 source="stdout" container_name="/web" aws_region="eu-west-1" product="titan-eu-west-1""#.into()
        )
    );
}

#[test]
fn a_line_that_does_not_parse_goes_on_as_it_is() {
    let shaper = shaper(&Parse::default(), &[("r", "x")]);
    for line in [
        "GET / 200",
        "",
        "[1]",
        "12",
        "\"s\"",
        r#"{"a":1} tail"#,
        r#"{"a":1e400}"#,
    ] {
        let (shaped, fields) = shape(&shaper, &record(&[("log", line)]));
        assert_eq!(shaped, Shaped::Unparsed, "{line}");
        assert_eq!(fields, format!("log={} r=\"x\"", Value::from(line)));
    }
}

#[test]
fn enrichment_beats_parsed_keys_which_beat_the_envelope() {
    let shaper = shaper(
        &Parse::default(),
        &[("region", "fact"), ("zone", "a"), ("zone", "b")],
    );
    let record = record(&[
        ("region", "envelope"),
        ("source", "stdout"),
        ("source", "stderr"),
        ("level", "envelope"),
        (
            "log",
            r#"{"region":"json","level":"json","level":"last","log":"inner"}"#,
        ),
    ]);
    assert_eq!(
        shape(&shaper, &record).1,
        r#"level="last" log="inner" source="stderr" region="fact" zone="b""#
    );
}

#[test]
fn a_field_whose_fact_is_unknown_is_left_out() {
    let shaper = shaper(
        &Parse::default(),
        &[("id", "${node.instance_id}"), ("r", "${node.region}")],
    );
    assert_eq!(
        shape(&shaper, &record(&[("log", "{}")])).1,
        r#"r="eu-west-1""#
    );
}

#[test]
fn the_raw_line_is_kept_on_demand_and_parsing_can_be_off() {
    let keep = Parse {
        keep_raw: true,
        ..Parse::default()
    };
    let line = r#"{"a":1}"#;
    let quoted = Value::from(line).to_string();
    let both = shape(&shaper(&keep, &[]), &record(&[("log", line)]));
    assert_eq!(both, (Shaped::Parsed, format!("a=1 log={quoted}")));

    let off = Parse {
        json_field: None,
        keep_raw: false,
    };
    let plain = shape(&shaper(&off, &[]), &record(&[("log", line)]));
    assert_eq!(plain, (Shaped::Plain, format!("log={quoted}")));

    let other = Parse {
        json_field: Some("message".into()),
        keep_raw: false,
    };
    let shaper = shaper(&other, &[]);
    assert_eq!(
        shape(&shaper, &record(&[("log", "x"), ("message", line)])),
        (Shaped::Parsed, "a=1 log=\"x\"".into())
    );
    assert_eq!(shape(&shaper, &record(&[("log", "x")])).0, Shaped::Plain);
}

#[test]
fn more_fields_than_a_map16_holds_are_kept() {
    let members: Vec<String> = (0..70_000).map(|n| format!("\"k{n}\":1")).collect();
    let line = format!("{{{}}}", members.join(","));
    let mut out = Vec::new();
    let record = record(&[("log", &line)]);
    let mut scratch = Scratch::default();
    let shaper = shaper(&Parse::default(), &[("r", "x")]);
    shaper.shape(NOW, scratch.read(&record).unwrap(), &mut out);
    let value = rmpv::decode::read_value(&mut &out[11..]).unwrap();
    assert_eq!(value.as_map().unwrap().len(), 70_001);
}

#[test]
fn a_template_names_what_is_wrong_with_it() {
    assert!(
        Template::parse("${node.region")
            .unwrap_err()
            .contains("closing brace")
    );
    assert!(Template::parse("${host.x}").unwrap_err().contains("host.x"));
}
