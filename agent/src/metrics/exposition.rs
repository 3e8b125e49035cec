//! Writer of the text exposition format 0.0.4, the one that node_exporter serves.
//!
//! Families are written in any order into one growing `String`, which is
//! reused from scrape to scrape; [`Page::render`] then walks them sorted by
//! name. A family that got no sample is not printed, a series that was written
//! before (same name, same labels) is dropped and counted. What is written can
//! be cut off as a [`Part`], which lives on when its writer is held up; parts
//! are rendered together. A page ends at [`MAX_TEXT`]. The writer knows
//! nothing of collectors and does not check names: they are constants of ours,
//! or pass [`push_name`] first.
//!
//! Spec: "Text-based format" in Prometheus' "Exposition formats".

use crate::metrics::short_hash::{Passed, hash};
use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::ops::Range;
use std::time::Instant;

/// Bytes of all samples and headers of one page. 10,000 interfaces take 18 MB.
pub const MAX_TEXT: usize = 64 << 20;
/// Memory that is kept for the next page though this one did not need it.
const SPARE: usize = 64 << 10;

/// The TYPE of a family. `Untyped` stays untyped where node_exporter says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Untyped,
    Histogram,
    Summary,
}

impl Kind {
    pub fn text(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        }
    }
}

/// A sample's value. Whole numbers keep all their digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Whole(u64),
    Float(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Whole(u64::from(value))
    }
}

/// One page under construction.
pub struct Page {
    begun: Instant,
    open: Part,
    /// Of all parts.
    seen: HashSet<u64, BuildHasherDefault<Passed>>,
    /// Bytes that may still be written.
    room: usize,
    is_full: bool,
}

/// What was written between two cuts.
#[derive(Default)]
pub struct Part {
    text: String,
    families: Vec<Entry>,
    duplicates: u64,
}

/// Where a family stands in `Part::text`: its name, its HELP and TYPE, its samples.
struct Entry {
    name: Range<usize>,
    kind: Kind,
    header: Range<usize>,
    samples: Range<usize>,
}

/// An open family; samples go in until the next one is opened.
pub struct Family<'a> {
    page: &'a mut Page,
}

impl Default for Page {
    fn default() -> Page {
        Page {
            begun: Instant::now(),
            open: Part::default(),
            seen: HashSet::default(),
            room: MAX_TEXT,
            is_full: false,
        }
    }
}

impl Page {
    /// Continues what `parts` began at `begun`: their series are not taken again.
    pub fn after<'a>(begun: Instant, parts: impl Iterator<Item = &'a Part>) -> Page {
        let mut page = Page {
            begun,
            ..Page::default()
        };
        for part in parts {
            page.room = page.room.saturating_sub(part.text.len());
            for entry in &part.families {
                let samples = part.text[entry.samples.clone()].lines();
                let series = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0));
                page.seen
                    .extend(series.map(|series| hash(series.as_bytes())));
            }
        }
        page
    }

    /// Empties the page and keeps its memory.
    pub fn clear(&mut self) {
        self.begun = Instant::now();
        self.open.clear();
        if self.seen.capacity() > 4 * self.seen.len() + SPARE {
            self.seen.shrink_to(2 * self.seen.len());
        }
        self.seen.clear();
        self.room = MAX_TEXT;
        self.is_full = false;
    }

    /// When this page was begun: nothing on it may be older.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Takes what was written since the last cut, for an empty part to go on with.
    pub fn cut(&mut self, empty: Part) -> Part {
        self.room = self.room.saturating_sub(self.open.text.len());
        std::mem::replace(&mut self.open, empty)
    }

    /// Whether a sample since the last cut found no room; what was written since then is
    /// then taken back.
    pub fn overflowed(&mut self) -> bool {
        let is_full = std::mem::take(&mut self.is_full);
        if is_full {
            self.open.clear();
        }
        is_full
    }

    /// Opens a family. A name that was opened before is fine: `render` merges them
    /// under the first one's HELP and TYPE.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let text = &mut self.open.text;
        let start = text.len();
        text.push_str("# HELP ");
        let name_start = text.len();
        text.push_str(name);
        let name_range = name_start..text.len();
        text.push(' ');
        push_escaped(text, help, false);
        text.push_str("\n# TYPE ");
        text.push_str(name);
        text.push(' ');
        text.push_str(kind.text());
        text.push('\n');
        let end = text.len();
        self.open.families.push(Entry {
            name: name_range,
            kind,
            header: start..end,
            samples: end..end,
        });
        Family { page: self }
    }

    /// Series dropped since the last cut because the page had them already.
    pub fn duplicates(&self) -> u64 {
        self.open.duplicates
    }

    /// [`render`] of what was written since the last cut.
    pub fn render(&self, sink: impl FnMut(&str)) {
        render(std::iter::once(&self.open), &mut Order::default(), sink);
    }
}

impl Part {
    /// Empties the part and keeps its memory, as far as it was of use.
    pub fn clear(&mut self) {
        if self.text.capacity() > 4 * self.text.len() + SPARE {
            self.text.shrink_to(2 * self.text.len());
        }
        self.text.clear();
        self.families.clear();
        self.duplicates = 0;
    }

    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Whether it holds no sample.
    pub fn is_empty(&self) -> bool {
        self.families.iter().all(|entry| entry.samples.is_empty())
    }
}

/// Where the families of the last page stood: those of the next one mostly stand there again,
/// and what is sorted already is sorted at once.
#[derive(Default)]
pub struct Order(Vec<usize>);

/// Gives a page to `sink` in pieces, families sorted by name. Of families that
/// share a name, those whose type differs from the first one's are left out.
pub fn render<'a>(
    parts: impl Iterator<Item = &'a Part>,
    last: &mut Order,
    mut sink: impl FnMut(&str),
) {
    let families: Vec<(&str, &Part, &Entry)> = parts
        .flat_map(|part| {
            let printed = part.families.iter().filter(|one| !one.samples.is_empty());
            printed.map(move |entry| (&part.text[entry.name.clone()], part, entry))
        })
        .collect();
    let Order(order) = last;
    if order.len() != families.len() {
        *order = (0..families.len()).collect();
    }
    // Of one name, the first one written stays first.
    order.sort_by_key(|place| (families[*place].0, *place));
    let mut open: Option<(&str, Kind)> = None;
    for (name, part, entry) in order.iter().map(|place| families[*place]) {
        match open {
            Some((same, kind)) if same == name && kind != entry.kind => continue,
            Some((same, _)) if same == name => sink(&part.text[entry.samples.clone()]),
            _ => {
                open = Some((name, entry.kind));
                sink(&part.text[entry.header.start..entry.samples.end]);
            }
        }
    }
}

impl Family<'_> {
    /// A series without labels.
    pub fn bare(&mut self, value: impl Into<Value>) {
        self.sample(&[], value);
    }

    /// One series. Give labels sorted by name, as node_exporter prints them.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) {
        self.suffixed("", labels, value);
    }

    /// One series whose name is the family's plus `suffix`: `_bucket`, `_sum`, `_count`.
    pub fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Into<Value>) {
        let Page {
            open,
            seen,
            room,
            is_full,
            ..
        } = &mut *self.page;
        let Some(entry) = open.families.last_mut() else {
            return;
        };
        let text = &mut open.text;
        let start = text.len();
        text.extend_from_within(entry.name.clone());
        text.push_str(suffix);
        for (index, (name, value)) in labels.iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            push_escaped(text, value, true);
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        if text.len() > *room {
            *is_full = true;
            text.truncate(start);
            return;
        }
        if !seen.insert(hash(&text.as_bytes()[start..])) {
            text.truncate(start);
            open.duplicates += 1;
            return;
        }
        text.push(' ');
        push_value(text, value.into());
        text.push('\n');
        entry.samples.end = text.len();
    }
}

/// Appends `raw` as part of a family name: what a name may not hold becomes `_`.
pub fn push_name(name: &mut String, raw: &str) {
    name.extend(raw.chars().map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | ':' => c,
        _ => '_',
    }));
}

/// As part of a family name, in node_exporter's other way: a run of what a name may not hold
/// becomes one `_`, with the `_` at its ends.
pub fn sanitized(raw: &str) -> String {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut name = String::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    let skip = |rest: &[u8], wanted: &dyn Fn(&u8) -> bool| {
        let end = rest.iter().position(|byte| !wanted(byte));
        end.unwrap_or(rest.len())
    };
    while let Some(first) = rest.first() {
        let lines = skip(rest, &|byte| *byte == b'_');
        let strange = skip(&rest[lines..], &|byte| !fits(byte));
        if strange == 0 {
            name.push(char::from(*first));
            rest = &rest[1..];
        } else {
            name.push('_');
            rest = &rest[lines + strange..];
            rest = &rest[skip(rest, &|byte| *byte == b'_')..];
        }
    }
    name
}

/// `\` and line feed are escaped everywhere, `"` in label values only.
fn push_escaped(text: &mut String, raw: &str, quoted: bool) {
    let next = |rest: &str| match quoted {
        true => memchr::memchr3(b'\\', b'\n', b'"', rest.as_bytes()),
        false => memchr::memchr2(b'\\', b'\n', rest.as_bytes()),
    };
    let mut rest = raw;
    while let Some(at) = next(rest) {
        text.push_str(&rest[..at]);
        text.push_str(match rest.as_bytes()[at] {
            b'\n' => "\\n",
            b'"' => "\\\"",
            _ => "\\\\",
        });
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
}

/// Floats that are whole and exact print as integers; Prometheus reads both the same.
fn push_value(text: &mut String, value: Value) {
    /// 2^53: up to here an f64 holds every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Whole(whole) => text.push_str(itoa::Buffer::new().format(whole)),
        Value::Float(float) if float.is_nan() => text.push_str("NaN"),
        Value::Float(float) if float.is_infinite() => {
            text.push_str(if float > 0.0 { "+Inf" } else { "-Inf" });
        }
        Value::Float(float) if float.fract() == 0.0 && float.abs() < EXACT => {
            text.push_str(itoa::Buffer::new().format(float as i64));
        }
        Value::Float(float) => text.push_str(zmij::Buffer::new().format_finite(float)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Page, push_name, sanitized};

    fn text(page: &Page) -> String {
        let mut text = String::new();
        page.render(|piece| text.push_str(piece));
        text
    }

    #[test]
    fn families_are_sorted_and_empty_ones_are_left_out() {
        let mut page = Page::default();
        page.family("node_b", Kind::Gauge, "B.").bare(2u64);
        page.family("node_empty", Kind::Gauge, "Nothing.");
        page.family("node_a_total", Kind::Counter, "A \\ and\nmore \"quoted\".")
            .sample(&[("x", "1"), ("y", "a\"b\\c\nd")], 0.25);
        assert_eq!(
            text(&page),
            "# HELP node_a_total A \\\\ and\\nmore \"quoted\".\n# TYPE node_a_total counter\n\
             node_a_total{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 0.25\n\
             # HELP node_b B.\n# TYPE node_b gauge\nnode_b 2\n"
        );
    }

    #[test]
    fn a_series_is_printed_once_even_across_families_of_one_name() {
        let mut page = Page::default();
        let mut family = page.family("node_x", Kind::Gauge, "X.");
        family.sample(&[("d", "1")], 1u64);
        family.sample(&[("d", "1")], 2u64);
        page.family("node_y", Kind::Gauge, "Y.").bare(0u64);
        let mut again = page.family("node_x", Kind::Gauge, "Other words.");
        again.sample(&[("d", "1")], 3u64);
        again.sample(&[("d", "2")], 4u64);
        page.family("node_x", Kind::Counter, "Other type.")
            .sample(&[("d", "3")], 5u64);
        assert_eq!(page.duplicates(), 2);
        assert_eq!(
            text(&page),
            "# HELP node_x X.\n# TYPE node_x gauge\nnode_x{d=\"1\"} 1\nnode_x{d=\"2\"} 4\n\
             # HELP node_y Y.\n# TYPE node_y gauge\nnode_y 0\n"
        );
    }

    #[test]
    fn numbers_are_shortest_and_whole_ones_keep_their_digits() {
        let mut page = Page::default();
        let mut family = page.family("n", Kind::Untyped, "");
        let values = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -125_000.0,
            0.1,
            1e300,
        ];
        for (index, value) in values.into_iter().enumerate() {
            family.sample(&[("i", &index.to_string())], value);
        }
        family.sample(&[("i", "max")], u64::MAX);
        let values: Vec<String> = text(&page)
            .lines()
            .skip(2)
            .map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(values[..5], ["NaN", "+Inf", "-Inf", "-125000", "0.1"]);
        assert_eq!(values[5].parse(), Ok(1e300));
        assert_eq!(values[6], "18446744073709551615");
    }

    #[test]
    fn a_cleared_page_forgets_what_it_has_seen() {
        let mut page = Page::default();
        page.family("n", Kind::Gauge, "").bare(1u64);
        page.clear();
        page.family("n", Kind::Gauge, "").bare(1u64);
        assert_eq!(text(&page), "# HELP n \n# TYPE n gauge\nn 1\n");
        assert_eq!(page.duplicates(), 0);
    }

    #[test]
    fn names_made_of_kernel_text_hold_only_what_a_name_may() {
        let mut name = "node_memory_".to_owned();
        push_name(&mut name, "Active_a-b{c}é");
        assert_eq!(name, "node_memory_Active_a_b_c__");
    }

    #[test]
    fn runs_of_what_a_name_may_not_hold_become_one_line() {
        for (raw, expected) in [
            ("port.rx", "port_rx"),
            ("[3]: tx_bytes", "_3_tx_bytes"),
            ("a__--__b", "a_b"),
            ("a_-_-b", "a__b"),
            ("é", "_"),
            ("__", "__"),
        ] {
            assert_eq!(sanitized(raw), expected, "{raw}");
        }
    }
}
