use super::{Cause, Joiner, Line, MAX_HELD, MAX_LINE, MAX_LINES, Part, TIMEOUT};
use crate::logs::enrich::{Scratch, Time};
use proptest::prelude::*;
use rmpv::Value;
use tokio::time::Instant;

const TIME: Time = Time {
    seconds: 7,
    nanoseconds: 0,
};

fn record(fields: &[(&str, &str)]) -> Vec<u8> {
    let pairs = fields
        .iter()
        .map(|(k, v)| (Value::from(*k), Value::from(*v)));
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::Map(pairs.collect())).unwrap();
    bytes
}

fn part(id: &str, ordinal: u32, last: bool, text: &str) -> Vec<u8> {
    record(&[
        ("partial_ordinal", &ordinal.to_string()),
        ("source", "stdout"),
        ("log", text),
        ("partial_id", id),
        ("partial_last", if last { "true" } else { "false" }),
        ("partial_message", "true"),
    ])
}

fn take(joiner: &mut Joiner, record: &[u8]) -> Vec<Line> {
    let mut ready = Vec::new();
    let mut scratch = Scratch::default();
    let record = scratch.read(record).unwrap();
    let part = Part::of(&record).unwrap();
    joiner.take(b"tag", TIME, (part, &record), Instant::now(), &mut ready);
    ready
}

fn show(line: &Line) -> String {
    let value = rmpv::decode::read_value(&mut &line.record[..]).unwrap();
    let fields = value.as_map().unwrap().iter();
    let fields: Vec<String> = fields
        .map(|(key, value)| format!("{}={}", key.as_str().unwrap(), value.as_str().unwrap()))
        .collect();
    fields.join(" ")
}

#[test]
fn parts_become_one_line_without_the_partial_fields() {
    let mut joiner = Joiner::default();
    assert!(take(&mut joiner, &part("i", 1, false, "one ")).is_empty());
    assert!(take(&mut joiner, &part("other", 1, false, "mixed")).is_empty());
    assert!(take(&mut joiner, &part("i", 2, false, "two ")).is_empty());
    let lines = take(&mut joiner, &part("i", 3, true, "three"));
    assert_eq!(lines.len(), 1);
    assert_eq!(show(&lines[0]), "source=stdout log=one two three");
    assert_eq!((lines[0].incomplete, lines[0].time), (None, TIME));
    // A line of exactly 16 KiB ends with an empty last part.
    let lines = take(&mut joiner, &part("other", 2, true, ""));
    assert_eq!(show(&lines[0]), "source=stdout log=mixed");
    assert_eq!(joiner.due(), None);
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_gives_the_same_line(
        order in Just((1u32..=9).collect::<Vec<_>>()).prop_shuffle(),
        again in prop::collection::vec(0usize..9, 0..5),
    ) {
        let mut joiner = Joiner::default();
        let mut lines = Vec::new();
        for (sent, ordinal) in order.iter().enumerate() {
            lines.extend(take(&mut joiner, &part("i", *ordinal, *ordinal == 9, &ordinal.to_string())));
            if sent < 8 {
                for earlier in again.iter().filter(|earlier| **earlier <= sent) {
                    let ordinal = order[*earlier];
                    lines.extend(take(&mut joiner, &part("i", ordinal, ordinal == 9, "repeated")));
                }
            }
        }
        prop_assert_eq!(lines.len(), 1);
        prop_assert_eq!(show(&lines[0]), "source=stdout log=123456789");
    }
}

#[test]
fn a_line_without_end_is_emitted_after_the_timeout_or_at_close() {
    let mut joiner = Joiner::default();
    take(&mut joiner, &part("i", 1, false, "no newline"));
    let due = joiner.due().unwrap();
    let mut ready = Vec::new();
    joiner.expire(due - TIMEOUT / 2, &mut ready);
    assert!(ready.is_empty());
    joiner.expire(due, &mut ready);
    assert_eq!(ready[0].incomplete, Some(Cause::Timeout));
    assert_eq!(
        show(&ready[0]),
        "source=stdout partial_id=i partial_incomplete=timeout log=no newline"
    );

    take(&mut joiner, &part("j", 2, true, "second only"));
    ready.clear();
    joiner.close(&mut ready);
    assert_eq!(
        show(&ready[0]),
        "source=stdout partial_id=j partial_incomplete=closed log=second only"
    );
    assert_eq!(joiner.due(), None);
}

#[test]
fn a_line_over_the_limit_comes_in_marked_pieces_and_loses_nothing() {
    let mut joiner = Joiner::default();
    let chunk = "x".repeat(16_384);
    let n_parts = 200;
    let mut lines = Vec::new();
    for ordinal in 1..=n_parts {
        lines.extend(take(
            &mut joiner,
            &part("i", ordinal, ordinal == n_parts, &chunk),
        ));
    }
    assert!(lines.len() > 2);
    assert!(
        lines
            .iter()
            .all(|line| line.incomplete == Some(Cause::Overflow))
    );
    assert!(
        lines
            .iter()
            .all(|line| line.record.len() < MAX_LINE + 20_000)
    );
    let total: usize = lines
        .iter()
        .map(|line| show(line).matches('x').count())
        .sum();
    assert_eq!(total, 16_384 * n_parts as usize);
    assert_eq!(joiner.due(), None);
}

#[test]
fn what_a_connection_holds_is_bounded() {
    let mut joiner = Joiner::default();
    let chunk = "x".repeat(MAX_LINE / 2);
    let mut emitted = 0;
    for n in 0..1000 {
        emitted += take(&mut joiner, &part(&n.to_string(), 2, false, &chunk)).len();
        assert!(joiner.lines.iter().map(|line| line.held).sum::<usize>() <= MAX_HELD);
    }
    assert!(emitted >= 990);
    for n in 0..1000 {
        take(&mut joiner, &part(&format!("s{n}"), 2, false, ""));
        assert!(joiner.lines.len() <= MAX_LINES);
    }
    // Parts without text are not free either.
    for ordinal in 2..100_000 {
        take(&mut joiner, &part("empty", ordinal, false, ""));
        assert!(joiner.lines.iter().map(|line| line.held).sum::<usize>() <= MAX_HELD);
    }
}

#[test]
fn a_record_that_only_looks_like_a_part_goes_on_by_itself() {
    for record in [
        record(&[("log", "x")]),
        record(&[("log", "x"), ("partial_id", "i")]),
        record(&[
            ("log", "x"),
            ("partial_id", "i"),
            ("partial_message", "false"),
            ("partial_ordinal", "1"),
            ("partial_last", "true"),
        ]),
        part("i", 0, true, "ordinals begin at one"),
        record(&[
            ("log", "x"),
            ("partial_id", "i"),
            ("partial_message", "true"),
            ("partial_ordinal", "x"),
            ("partial_last", "true"),
        ]),
    ] {
        let mut scratch = Scratch::default();
        assert!(Part::of(&scratch.read(&record).unwrap()).is_none());
    }
}
