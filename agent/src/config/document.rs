//! TOML text to a tree in which every key and value knows its place.
//!
//! Knows nothing of our keys. Several files become one tree: tables merge,
//! anything else is replaced by what the later file says. A file with syntax
//! errors still gives the lines that could be read, so that their faults are
//! told in the same go.

use crate::config::fault::{Fault, Place, quoted};
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Tables and arrays nested deeper than this are refused.
const MAX_DEPTH: usize = 16;

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// TOML's date and time, which no key of ours takes.
    Datetime(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// One key of a table; entries stand in the order of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    /// Of the key; the value has its own.
    pub place: Place,
    pub node: Node,
}

impl Value {
    /// `integer 5`, `string "x"`: for "expected …, found …".
    pub fn describe(&self) -> String {
        match self {
            Value::String(text) => format!("string {}", quoted(text)),
            Value::Integer(number) => format!("integer {number}"),
            Value::Float(number) => format!("float {number}"),
            Value::Bool(value) => format!("boolean {value}"),
            Value::Datetime(text) => format!("date {text}"),
            Value::Array(_) => "an array".into(),
            Value::Table(_) => "a table".into(),
        }
    }
}

/// Reads one file's text. `file` is its index for places.
pub fn parse(file: usize, text: &str) -> (Vec<Entry>, Vec<Fault>) {
    let lines = Lines::new(file, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut faults = Vec::new();
    let mut broken = BTreeSet::new();
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let place = lines.place(span.start);
        // One line often gives several errors; the first is the cause.
        if broken.insert(place.line) {
            faults.push(Fault::new(place, syntax(error.message(), text.get(span))));
        }
    }
    let mut tree = Tree {
        lines,
        broken,
        faults,
    };
    let entries = tree.table(root.get_ref(), 0);
    (entries, tree.faults)
}

/// Lays `later` over `base`: tables merge, anything else is replaced.
pub fn merge(base: &mut Vec<Entry>, later: Vec<Entry>) {
    let keys = base.iter().enumerate();
    let index: BTreeMap<String, usize> = keys.map(|(n, entry)| (entry.key.clone(), n)).collect();
    for entry in later {
        let Some(known) = index.get(&entry.key).and_then(|n| base.get_mut(*n)) else {
            base.push(entry);
            continue;
        };
        match (&mut known.node.value, entry.node.value) {
            (Value::Table(below), Value::Table(above)) => merge(below, above),
            (_, value) => {
                known.node = Node {
                    value,
                    place: entry.node.place,
                };
                known.place = entry.place;
            }
        }
    }
}

/// The parser's message, with the offending text where that is short.
fn syntax(message: &str, offending: Option<&str>) -> String {
    let message = message.lines().next().unwrap_or("not TOML");
    match offending.map(str::trim) {
        Some(key) if message == "duplicate key" => format!("duplicate key {}", quoted(key)),
        Some("") if message.starts_with("string values must be quoted") => {
            "a value is missing".into()
        }
        Some(text) if !text.is_empty() && text.len() <= 40 && !text.contains('\n') => {
            format!("{message}, found {}", quoted(text))
        }
        _ => message.to_string(),
    }
}

struct Tree {
    lines: Lines,
    /// Lines with a syntax error: what was recovered from them is a guess, so it is left out.
    broken: BTreeSet<u32>,
    faults: Vec<Fault>,
}

impl Tree {
    fn table(&mut self, table: &DeTable<'_>, depth: usize) -> Vec<Entry> {
        let mut spans: Vec<_> = table.iter().collect();
        spans.sort_by_key(|(key, _)| key.span().start);
        let mut entries = Vec::with_capacity(spans.len());
        for (key, value) in spans {
            let place = self.lines.place(key.span().start);
            // A table's header may be broken and its keys sound, not so a value.
            if self.broken.contains(&place.line) {
                continue;
            }
            if let Some(node) = self.node(value, depth + 1) {
                entries.push(Entry {
                    key: key.get_ref().to_string(),
                    place,
                    node,
                });
            }
        }
        entries
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Option<Node> {
        let place = self.lines.place(value.span().start);
        if depth > MAX_DEPTH {
            let text = format!("nested deeper than {MAX_DEPTH} levels");
            self.faults.push(Fault::new(place, text));
            return None;
        }
        let end = self.lines.place(value.span().end);
        let is_broken = self.broken.range(place.line..=end.line).next().is_some();
        // The span of a table is its header alone; its keys are judged one by one.
        if is_broken && !value.get_ref().is_table() {
            return None;
        }
        let value = match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(date) => Value::Datetime(date.to_string()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => {
                        let text = format!("integer {} is out of range", quoted(number.as_str()));
                        self.faults.push(Fault::new(place, text));
                        return None;
                    }
                }
            }
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Float(number),
                _ => {
                    let text = format!("float {} is not a number", quoted(number.as_str()));
                    self.faults.push(Fault::new(place, text));
                    return None;
                }
            },
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .filter_map(|item| self.node(item, depth + 1))
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table, depth)),
        };
        Some(Node { value, place })
    }
}

/// Byte offsets to lines and columns.
struct Lines {
    file: usize,
    text: String,
    /// Offset of each line's first byte.
    starts: Vec<usize>,
}

impl Lines {
    fn new(file: usize, text: &str) -> Lines {
        let mut starts = vec![0];
        starts.extend(memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1));
        Lines {
            file,
            text: text.into(),
            starts,
        }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset.min(self.text.len()));
        let column = before.map_or(0, |text| text.chars().count()) + 1;
        Place {
            file: self.file,
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}
