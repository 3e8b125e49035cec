//! A small, strict parser of text exposition 0.0.4.

use std::collections::BTreeMap;

pub type Labels = BTreeMap<String, String>;
pub type Pages = BTreeMap<String, Family>;

#[derive(Debug, Default, Clone)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub series: BTreeMap<Labels, f64>,
}

/// Panics with the line where the text breaks the format: a family twice, TYPE
/// missing or after samples, a series twice, a bad number or label.
pub fn parse_text(text: &str) -> Pages {
    let mut pages = Pages::new();
    let mut open = String::new();
    assert!(text.is_empty() || text.ends_with('\n'), "no final newline");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            let family = Family {
                help: help.replace("\\n", "\n").replace("\\\\", "\\"),
                ..Family::default()
            };
            assert!(pages.insert(name.into(), family).is_none(), "twice: {line}");
            open = name.into();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert_eq!(name, open, "TYPE without HELP: {line}");
            pages.get_mut(name).expect(line).kind = kind.into();
        } else {
            let (name, labels, value) = sample(line);
            let family = pages.get_mut(&open).expect(line);
            assert!(!family.kind.is_empty(), "sample before TYPE: {line}");
            let suffix = name.strip_prefix(open.as_str()).expect(line);
            let suffix_ok = matches!(family.kind.as_str(), "histogram" | "summary")
                && ["_bucket", "_sum", "_count", ""].contains(&suffix);
            assert!(suffix.is_empty() || suffix_ok, "wrong family: {line}");
            let mut labels = labels;
            if !suffix.is_empty() {
                labels.insert("__suffix".into(), suffix.into());
            }
            assert!(
                family.series.insert(labels, value).is_none(),
                "twice: {line}"
            );
        }
    }
    pages
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let name = line[..end].to_owned();
    let mut labels = Labels::new();
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").expect(line);
            let (value, after) = unescape(after, line);
            assert!(labels.insert(label.into(), value).is_none(), "{line}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = match rest.strip_prefix(' ').expect(line) {
        "NaN" => f64::NAN,
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().expect(line),
    };
    (name, labels, value)
}

/// The label value up to its closing quote, and what follows the quote.
fn unescape<'a>(text: &'a str, line: &str) -> (String, &'a str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next().expect(line).1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    panic!("open quote: {line}");
}
