//! Reader of text exposition 0.0.4 as other programs write it, with bounds.
//!
//! It takes and refuses what Go's parser (prometheus/common, expfmt) takes and
//! refuses, which is stricter than the format's description: no carriage
//! return, no blank after a value, a line feed behind the last line. Refused
//! here alone: text that is not UTF-8, quoted names, label names that begin
//! with `__`, and what exceeds the bounds. Time stamps are read as a fault, as
//! node_exporter serves no file that has any.
//!
//! Summaries and histograms become one [`Series`] per label set, as there: the
//! last value of a quantile or bucket counts, what is missing is 0.

use crate::metrics::exposition::Kind;
use std::collections::{BTreeSet, HashMap};

/// Samples of one text; more is refused.
const MAX_SAMPLES: usize = 20_000;
/// Label names of one family; more is refused, as each stands on all of its series.
const MAX_LABELS: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    pub name: String,
    pub kind: Kind,
    pub help: Option<String>,
    /// All label names of its series, sorted; without `le` and `quantile` where these have a meaning.
    pub labels: Vec<String>,
    pub series: Vec<Series>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// One for each of the family's labels; empty where the text had none.
    pub values: Vec<Box<str>>,
    pub points: Points,
}

/// What a series says.
#[derive(Debug, Clone, PartialEq)]
pub enum Points {
    Number(f64),
    /// Values by quantile.
    Summary(Vec<(f64, f64)>, Totals),
    /// Cumulative counts by upper bound.
    Histogram(Vec<(f64, u64)>, Totals),
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    pub sum: f64,
    pub count: u64,
}

impl Series {
    /// Lines that it prints as; at most one more for a histogram's last bucket.
    pub fn lines(&self) -> usize {
        match &self.points {
            Points::Number(_) => 1,
            Points::Summary(quantiles, _) => quantiles.len() + 2,
            Points::Histogram(buckets, _) => buckets.len() + 3,
        }
    }
}

type Label<'a> = (&'a str, Box<str>);

/// A family while it is read.
#[derive(Default)]
struct Draft<'a> {
    name: &'a str,
    /// `None` until a TYPE or the first sample.
    kind: Option<Kind>,
    help: Option<String>,
    series: Vec<(Vec<Label<'a>>, Points)>,
    /// Of summaries and histograms: where the series of these labels is.
    index: HashMap<Vec<Label<'a>>, usize>,
}

#[derive(Default)]
struct Reader<'a> {
    families: Vec<Draft<'a>>,
    index: HashMap<&'a str, usize>,
    count: usize,
}

/// All families with samples, in the text's order, or the line that breaks the format.
pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    let mut reader = Reader::default();
    let mut rest = text;
    let mut n_lines = 0;
    while let Some((line, after)) = rest.split_once('\n') {
        n_lines += 1;
        let read = reader.line(skip_blanks(line));
        read.map_err(|what| format!("line {n_lines}: {what}"))?;
        rest = after;
    }
    if !skip_blanks(rest).is_empty() {
        return Err("the last line has no end".to_owned());
    }
    let families = reader.families.into_iter();
    families
        .filter(|draft| !draft.series.is_empty())
        .map(finish)
        .collect()
}

fn finish(draft: Draft<'_>) -> Result<Family, String> {
    let all = draft.series.iter().flat_map(|(labels, _)| labels);
    let names: BTreeSet<&str> = all.map(|(name, _)| *name).collect();
    if names.len() > MAX_LABELS {
        return Err(format!(
            "{}: more than {MAX_LABELS} label names",
            draft.name
        ));
    }
    let series = draft.series.into_iter().map(|(mut given, points)| {
        let values = names.iter().map(|name| {
            let found = given.iter_mut().find(|(label, _)| label == name);
            found.map(|(_, value)| std::mem::take(value))
        });
        let values = values.map(Option::unwrap_or_default).collect();
        Series { values, points }
    });
    Ok(Family {
        name: draft.name.to_owned(),
        kind: draft.kind.unwrap_or(Kind::Untyped),
        help: draft.help,
        series: series.collect(),
        labels: names.into_iter().map(str::to_owned).collect(),
    })
}

/// What a sample's name says beside its family.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Whole,
    Sum,
    Count,
}

impl<'a> Reader<'a> {
    /// The family that this name belongs to: its own, or that of the summary or
    /// histogram that its end points at.
    fn family(&mut self, name: &'a str) -> (&mut Draft<'a>, Part) {
        let (at, part) = match self.index.get(name) {
            Some(at) => (*at, Part::Whole),
            None => self.owner(name).unwrap_or_else(|| {
                self.families.push(Draft {
                    name,
                    ..Draft::default()
                });
                self.index.insert(name, self.families.len() - 1);
                (self.families.len() - 1, Part::Whole)
            }),
        };
        (&mut self.families[at], part)
    }

    fn owner(&self, name: &str) -> Option<(usize, Part)> {
        for (suffix, part) in [
            ("_count", Part::Count),
            ("_sum", Part::Sum),
            ("_bucket", Part::Whole),
        ] {
            let base = name.strip_suffix(suffix).filter(|base| !base.is_empty());
            let Some(at) = base.and_then(|base| self.index.get(base)) else {
                continue;
            };
            match self.families[*at].kind {
                Some(Kind::Histogram) => return Some((*at, part)),
                Some(Kind::Summary) if part != Part::Whole => return Some((*at, part)),
                _ => {}
            }
        }
        None
    }

    /// A line without the blanks before it.
    fn line(&mut self, line: &'a str) -> Result<(), &'static str> {
        match line.strip_prefix('#') {
            Some(comment) => self.comment(skip_blanks(comment)),
            None if line.is_empty() => Ok(()),
            None => self.sample(line),
        }
    }

    fn comment(&mut self, comment: &'a str) -> Result<(), &'static str> {
        let (keyword, rest) = split_word(comment);
        if !["HELP", "TYPE"].contains(&keyword) {
            return Ok(());
        }
        let (name, rest) = split_name(skip_blanks(rest), true);
        if rest.is_empty() {
            return Ok(()); // nothing is said of it
        }
        if name.is_empty() || !rest.starts_with([' ', '\t']) {
            return Err("a comment with a bad name");
        }
        let (family, _) = self.family(name);
        match (keyword, skip_blanks(rest)) {
            (_, "") => Ok(()),
            ("HELP", _) if family.help.is_some() => Err("a second HELP"),
            ("HELP", text) => {
                let (help, _) = unescaped(text, None)?;
                family.help = Some(help);
                Ok(())
            }
            _ if family.kind.is_some() => Err("a second TYPE, or one after samples"),
            (_, word) => {
                family.kind = Some(kind(word)?);
                Ok(())
            }
        }
    }

    fn sample(&mut self, line: &'a str) -> Result<(), &'static str> {
        self.count += 1;
        if self.count > MAX_SAMPLES {
            return Err("too many samples");
        }
        let (name, rest) = split_name(line, true);
        if name.is_empty() {
            return Err("no name of a metric");
        }
        let (family, part) = self.family(name);
        let kind = *family.kind.get_or_insert(Kind::Untyped);
        let own = match kind {
            Kind::Histogram => Some("le"),
            Kind::Summary => Some("quantile"),
            _ => None,
        };
        let rest = skip_blanks(rest);
        let (labels, bound, rest) = match rest.strip_prefix('{') {
            Some(inside) => read_labels(inside, own)?,
            None => (Vec::new(), None, rest),
        };
        let (word, rest) = split_word(rest);
        let value = number(word).ok_or("a value that is no number")?;
        if !rest.is_empty() {
            return Err("a time stamp, or a blank after the value");
        }
        family.add(kind, labels, (part, bound), value);
        Ok(())
    }
}

impl<'a> Draft<'a> {
    fn add(&mut self, kind: Kind, labels: Vec<Label<'a>>, place: (Part, Option<f64>), value: f64) {
        let empty = match kind {
            Kind::Summary => Points::Summary(Vec::new(), Totals::default()),
            Kind::Histogram => Points::Histogram(Vec::new(), Totals::default()),
            _ => return self.series.push((labels, Points::Number(value))),
        };
        let next = self.series.len();
        let at = *self.index.entry(labels).or_insert_with_key(|labels| {
            self.series.push((labels.clone(), empty));
            next
        });
        // A count below zero or beyond u64 says nothing; `as` holds it within.
        match (&mut self.series[at].1, place) {
            (Points::Summary(_, totals) | Points::Histogram(_, totals), (Part::Sum, _)) => {
                totals.sum = value;
            }
            (Points::Summary(_, totals) | Points::Histogram(_, totals), (Part::Count, _)) => {
                totals.count = value as u64;
            }
            (Points::Summary(quantiles, _), (Part::Whole, Some(bound))) => {
                put(quantiles, bound, value);
            }
            (Points::Histogram(buckets, _), (Part::Whole, Some(bound))) => {
                put(buckets, bound, value as u64);
            }
            _ => {}
        }
    }
}

/// Keeps the points sorted; the later of two at one bound counts.
fn put<T>(points: &mut Vec<(f64, T)>, bound: f64, value: T) {
    let found = points.binary_search_by(|(known, _)| known.total_cmp(&bound));
    match found {
        Ok(at) => points[at].1 = value,
        Err(at) => points.insert(at, (bound, value)),
    }
}

fn kind(word: &str) -> Result<Kind, &'static str> {
    let kinds = [
        Kind::Counter,
        Kind::Gauge,
        Kind::Untyped,
        Kind::Histogram,
        Kind::Summary,
    ];
    let found = kinds
        .into_iter()
        .find(|kind| kind.text().eq_ignore_ascii_case(word));
    found.ok_or("an unknown TYPE")
}

type Labels<'a> = (Vec<Label<'a>>, Option<f64>, &'a str);

/// The labels up to `}` sorted by name, the number in the label `own`, and what follows the
/// blanks behind them.
fn read_labels<'a>(text: &'a str, own: Option<&str>) -> Result<Labels<'a>, &'static str> {
    let mut labels: Vec<Label<'a>> = Vec::new();
    let mut bound = None;
    let mut rest = skip_blanks(text);
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            labels.sort_unstable();
            return Ok((labels, bound, skip_blanks(after)));
        }
        let (name, after) = split_name(rest, false);
        if name.is_empty() {
            return Err("no name of a label");
        }
        if name.starts_with("__") {
            return Err("a reserved label name");
        }
        let after = skip_blanks(after).strip_prefix('=');
        let after = after.ok_or("a label without value")?;
        let quoted = skip_blanks(after).strip_prefix('"');
        let quoted = quoted.ok_or("a label value without quotes")?;
        let (value, after) = unescaped(quoted, Some('"'))?;
        if own == Some(name) {
            let number = number(&value).ok_or("a bound that is no number")?;
            bound = Some(number).filter(|number| !number.is_nan());
        } else if labels.iter().any(|(label, _)| *label == name) {
            return Err("a label twice");
        } else if labels.len() == MAX_LABELS {
            return Err("too many labels");
        } else {
            labels.push((name, value.into()));
        }
        rest = skip_blanks(after);
        match rest.strip_prefix(',') {
            Some(after) => rest = skip_blanks(after),
            None if rest.starts_with('}') => {}
            None => return Err("labels without comma"),
        }
    }
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Up to the first blank, and from there.
fn split_word(text: &str) -> (&str, &str) {
    text.split_at(text.find([' ', '\t']).unwrap_or(text.len()))
}

/// The name of a metric or label that the text begins with, and what follows.
fn split_name(text: &str, of_metric: bool) -> (&str, &str) {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && of_metric);
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => text.split_at(0),
        false => text.split_at(end),
    }
}

/// As Go reads numbers, less its hexadecimal ones: beyond the largest is none, NaN has no sign.
fn number(word: &str) -> Option<f64> {
    let number: f64 = word.parse().ok()?;
    let is_word = |c: char| c.is_ascii_alphabetic();
    match word.chars().next()? {
        '+' | '-' if number.is_nan() => None,
        _ if number.is_infinite() && !word.trim_start_matches(['+', '-']).starts_with(is_word) => {
            None
        }
        _ => Some(number),
    }
}

/// The text up to `end` and what follows it; without an `end`, all of it.
fn unescaped(text: &str, end: Option<char>) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if Some(c) == end => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                _ => return Err("an unknown escape sequence"),
            },
            c => value.push(c),
        }
    }
    match end {
        None => Ok((value, "")),
        Some(_) => Err("a label value without end"),
    }
}

/// As Go prints a bucket's bound or a quantile, which names the series: shortest `%g`.
pub fn bound_text(bound: f64) -> String {
    if bound.is_infinite() {
        return if bound > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let shortest = format!("{bound:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => bound.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Points, Totals, bound_text, parse};
    use proptest::prelude::proptest;

    #[test]
    fn suffixes_belong_to_a_typed_family() {
        let text = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\nx_sum 1\n";
        let families = parse(text).unwrap();
        let names: Vec<(&str, Kind, usize)> = families
            .iter()
            .map(|f| (f.name.as_str(), f.kind, f.series.len()))
            .collect();
        assert_eq!(
            names,
            [("h", Kind::Histogram, 1), ("x_sum", Kind::Untyped, 1)]
        );
        let totals = Totals { sum: 3.0, count: 2 };
        let points = Points::Histogram(vec![(f64::INFINITY, 2)], totals);
        assert_eq!(families[0].series[0].points, points);
    }

    #[test]
    fn what_would_put_wrong_numbers_on_the_page_is_refused() {
        for text in [
            "a 1",
            "a\n",
            "a x\n",
            "a 1 2\n",
            "a 1 \n",
            "a 1\r\n",
            "# TYPE a counter\r\na 1\n",
            "\r\n",
            "1a 1\n",
            "a-b 1\n",
            "a{b=\"c} 1\n",
            "a{b=\"c\" d=\"e\"} 1\n",
            "a{b=\"1\",b=\"2\"} 1\n",
            "a{b} 1\n",
            "a{,} 1\n",
            "a{b:c=\"1\"} 1\n",
            "a{__b=\"1\"} 1\n",
            "a{b=\"\\x\"} 1\n",
            "{\"a\"} 1\n",
            "# HELP a \\x\na 1\n",
            "# HELP a A.\n# HELP a B.\na 1\n",
            "# HELP a-b A.\n",
            "a 1\n# TYPE a counter\n",
            "# TYPE a counter\n# TYPE a gauge\n",
            "# TYPE a nonsense\n",
            "# TYPE a counter \na 1\n",
            "# TYPE s summary\ns{quantile=\"x\"} 1\n",
            "a 1e999\n",
            "a -NaN\n",
            "a 0x1\n",
            "#",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_odd_and_says_one_thing_is_taken() {
        for text in [
            "",
            "   ",
            "a 1\n  \t",
            "\t a  1\n",
            "a{}1\n",
            "a {b = \"c\" , } 1\n",
            "#no comment\n# HELP\n# HELP a\n# TYPE a\na 1\n",
            "#TYPE a COUNTER\na +Inf\n",
            "# HELP a  words \\\" and \\\\ \na .5\n",
            "a NaN\na 1\n",
        ] {
            assert!(parse(text).is_ok(), "{text:?} {:?}", parse(text));
        }
    }

    #[test]
    fn bounds_name_their_series_as_in_go() {
        for (bound, text) in [
            (0.0, "0"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (123_456_789.5, "1.234567895e+08"),
            (-2.5, "-2.5"),
            (1e300, "1e+300"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(bound_text(bound), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_ends_in_families_or_an_error(text in "[a-c_{}\"=,\\\\# \n0-9é]{0,60}") {
            let _ = parse(&text);
        }
    }
}
