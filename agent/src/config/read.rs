//! A reader over the tree that notes faults and never stops at the first.
//!
//! A section is read by taking its keys one by one; what nobody took is
//! unknown. So the keys that code asks for are the only list of keys there
//! is, and an absent section is read as an empty one.

use crate::config::document::{Entry, Node, Value};
use crate::config::fault::{Fault, Place, quoted};
use crate::config::later;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

/// Collects what reading finds.
#[derive(Default)]
pub struct Report {
    faults: RefCell<Vec<Fault>>,
    /// Each key that was asked for, as docs/config.md writes it: `containers.NAME.image`.
    pub keys: RefCell<BTreeSet<String>>,
    /// Parts of the text could not be read, so what is missing may stand there.
    is_partial: bool,
    /// Ports that ranges were expanded to, all containers together.
    n_ports: Cell<usize>,
}

/// A host has 65,535 ports for TCP and as many for UDP.
const MOST_PORTS: usize = 131_070;

impl Report {
    pub fn new(is_partial: bool) -> Report {
        Report {
            is_partial,
            ..Report::default()
        }
    }

    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    pub fn add(&self, fault: Fault) {
        self.faults.borrow_mut().push(fault);
    }

    pub fn faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }
}

/// A value's text is not what its key wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub text: String,
    pub help: Option<String>,
}

impl Wrong {
    pub fn new(text: impl Into<String>) -> Wrong {
        Wrong {
            text: text.into(),
            help: None,
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Wrong {
        self.help = Some(help.into());
        self
    }
}

/// A table being read.
pub struct Table<'a> {
    entries: &'a [Entry],
    taken: BTreeSet<&'static str>,
    /// `containers.web`, for messages.
    path: String,
    /// `containers.NAME`, as the documentation has it.
    kind: String,
    place: Place,
    /// Something said already that the keys cannot be judged.
    ignores_the_rest: bool,
    report: &'a Report,
}

/// One value of a table, there or not.
pub struct Item<'a> {
    node: Option<&'a Node>,
    path: String,
    kind: String,
    place: Place,
    report: &'a Report,
}

/// Reads the root of a tree.
pub fn root<T>(entries: &[Entry], report: &Report, read: impl FnOnce(&mut Table<'_>) -> T) -> T {
    let mut table = Table {
        entries,
        taken: BTreeSet::new(),
        path: String::new(),
        kind: String::new(),
        place: Place::default(),
        ignores_the_rest: false,
        report,
    };
    let result = read(&mut table);
    table.refuse_the_rest();
    result
}

impl<'a> Table<'a> {
    pub fn take(&mut self, key: &'static str) -> Item<'a> {
        self.taken.insert(key);
        let kind = join(&self.kind, key);
        self.report.keys.borrow_mut().insert(kind.clone());
        let entry = self.entries.iter().find(|entry| entry.key == key);
        Item {
            node: entry.map(|entry| &entry.node),
            path: join(&self.path, key),
            kind,
            place: entry.map_or(self.place, |entry| entry.place),
            report: self.report,
        }
    }

    /// Where the table begins.
    pub fn place(&self) -> Place {
        self.place
    }

    pub fn fault(&self, text: &str) {
        let text = format!("{}: {text}", self.path);
        self.report.add(Fault::new(self.place, text));
    }

    /// A fault of one of the table's keys that was taken already.
    pub fn fault_at(&self, place: Place, key: &str, text: &str, help: &str) {
        let text = format!("{}.{key}: {text}", self.path);
        self.report.add(Fault::new(place, text).help(help));
    }

    /// A key without which the table means nothing is absent.
    pub fn missing(&self, key: &str, example: &str) {
        if !self.report.is_partial && !self.ignores_the_rest {
            let text = format!("{}: {key} is missing", self.path);
            let help = format!("add {key} = {example}");
            self.report.add(Fault::new(self.place, text).help(help));
        }
    }

    /// Unknown keys are no fault of this table: its type is one already.
    pub fn ignore_the_rest(&mut self) {
        self.ignores_the_rest = true;
    }

    fn refuse_the_rest(self) {
        if self.ignores_the_rest {
            return;
        }
        for entry in self.entries {
            if self.taken.contains(entry.key.as_str()) {
                continue;
            }
            let path = join(&self.path, &entry.key);
            if later::is_later(&self.kind, &entry.key) {
                let text = format!("{path}: not supported by this version");
                let help = "remove it: a later version brings this key";
                self.report.add(Fault::new(entry.place, text).help(help));
                continue;
            }
            let help = match later::instead(&self.kind, &entry.key) {
                Some(instead) => instead.to_string(),
                None => suggest(&entry.key, &mut self.taken.iter().copied(), "keys here"),
            };
            let text = format!("{path}: unknown key");
            self.report.add(Fault::new(entry.place, text).help(help));
        }
    }
}

impl<'a> Item<'a> {
    pub fn is_there(&self) -> bool {
        self.node.is_some()
    }

    /// The same value once more.
    pub fn copy(&self) -> Item<'a> {
        Item {
            node: self.node,
            path: self.path.clone(),
            kind: self.kind.clone(),
            place: self.place,
            report: self.report,
        }
    }

    /// Of the value; of the table where the value is absent.
    pub fn place(&self) -> Place {
        self.node.map_or(self.place, |node| node.place)
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn wrong(&self, wrong: Wrong) {
        let text = format!("{}: {}", self.path, wrong.text);
        let mut fault = Fault::new(self.place(), text);
        fault.help = wrong.help;
        self.report.add(fault);
    }

    fn expected(&self, expected: &str) {
        if let Some(node) = self.node {
            let found = node.value.describe();
            self.wrong(Wrong::new(format!("expected {expected}, found {found}")));
        }
    }

    /// Reads a table; an absent one as if it were empty.
    pub fn table<T>(self, read: impl FnOnce(&mut Table<'a>) -> T) -> T {
        let entries = self.entries("a table");
        let is_other = self.is_there() && !self.is_table();
        let mut table = Table {
            entries,
            taken: BTreeSet::new(),
            path: self.path,
            kind: self.kind,
            place: self.place,
            ignores_the_rest: is_other,
            report: self.report,
        };
        let result = read(&mut table);
        table.refuse_the_rest();
        result
    }

    /// Reads each table of a table of tables whose names are free: `[containers.NAME]`.
    pub fn named<T>(self, mut read: impl FnMut(&str, &mut Table<'a>) -> T) -> Vec<T> {
        let entries = self.entries("a table of tables");
        let kind = join(&self.kind, "NAME");
        let mut found = Vec::with_capacity(entries.len());
        for entry in entries {
            let item = Item {
                node: Some(&entry.node),
                path: join(&self.path, &entry.key),
                kind: kind.clone(),
                place: entry.place,
                report: self.report,
            };
            found.push(item.table(|table| read(&entry.key, table)));
        }
        found
    }

    /// The free keys of a table, each with its value.
    pub fn pairs(self) -> Vec<(String, Item<'a>)> {
        self.entries("a table")
            .iter()
            .map(|entry| {
                let item = Item {
                    node: Some(&entry.node),
                    path: join(&self.path, &entry.key),
                    kind: join(&self.kind, "NAME"),
                    place: entry.place,
                    report: self.report,
                };
                (entry.key.clone(), item)
            })
            .collect()
    }

    fn entries(&self, expected: &str) -> &'a [Entry] {
        match self.node.map(|node| &node.value) {
            None => &[],
            Some(Value::Table(entries)) => entries,
            Some(_) => {
                self.expected(expected);
                &[]
            }
        }
    }

    /// Whether `n` more ports may be: short text must not become endless lists.
    pub fn may_add_ports(&self, n: usize) -> bool {
        let total = self.report.n_ports.get().saturating_add(n);
        self.report.n_ports.set(total);
        total <= MOST_PORTS
    }

    pub fn is_table(&self) -> bool {
        matches!(self.node.map(|node| &node.value), Some(Value::Table(_)))
    }

    pub fn is_array(&self) -> bool {
        matches!(self.node.map(|node| &node.value), Some(Value::Array(_)))
    }

    /// The elements of an array; a value that is none is a list of itself.
    /// None where the key is absent.
    pub fn list(self) -> Option<Vec<Item<'a>>> {
        let node = self.node?;
        let items = match &node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let items = items.iter().map(|node| Item {
            node: Some(node),
            path: self.path.clone(),
            kind: self.kind.clone(),
            place: node.place,
            report: self.report,
        });
        Some(items.collect())
    }

    /// A string, not read further.
    pub fn string(&self) -> Option<String> {
        self.text("a string").map(str::to_string)
    }

    fn text(&self, expected: &str) -> Option<&'a str> {
        match &self.node?.value {
            Value::String(text) if text.contains('\0') => {
                self.nul();
                None
            }
            Value::String(text) => Some(text),
            _ => {
                self.expected(expected);
                None
            }
        }
    }

    /// Whatever it is for, it ends as a C string.
    fn nul(&self) {
        self.wrong(Wrong::new("has a NUL character in it"));
    }

    /// The string, or the number, that is written so.
    pub fn is(&self, text: &str) -> bool {
        match self.node.map(|node| &node.value) {
            Some(Value::String(value)) => value == text,
            Some(Value::Integer(number)) => number.to_string() == text,
            _ => false,
        }
    }

    /// A string that `parse` understands. `expected` names the form, with an example.
    pub fn parse<T>(
        &self,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let text = self.text(expected)?;
        parse(text).map_err(|wrong| self.wrong(wrong)).ok()
    }

    /// A string or a number, read as text: `"8080:80"` or `80`.
    pub fn scalar<T>(
        &self,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let text = match &self.node?.value {
            Value::String(text) if text.contains('\0') => {
                self.nul();
                return None;
            }
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Bool(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                self.expected(expected);
                return None;
            }
        };
        parse(&text).map_err(|wrong| self.wrong(wrong)).ok()
    }

    /// The text of a string, a number or a boolean, as an environment variable takes it.
    pub fn plain(&self) -> Option<String> {
        match &self.node?.value {
            Value::Bool(value) => Some(value.to_string()),
            _ => self.scalar("a string, a number or a boolean", |text| Ok(text.into())),
        }
    }

    pub fn bool(&self) -> Option<bool> {
        match self.node?.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.expected("true or false");
                None
            }
        }
    }

    /// A whole number from `least` to `most`.
    pub fn integer(&self, least: i64, most: i64) -> Option<i64> {
        match self.node?.value {
            Value::Integer(number) if (least..=most).contains(&number) => Some(number),
            Value::Integer(number) => {
                let text = if most == i64::MAX {
                    format!("{number} is less than {least}")
                } else {
                    format!("{number} is not within {least} to {most}")
                };
                self.wrong(Wrong::new(text));
                None
            }
            _ => {
                self.expected("an integer");
                None
            }
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)], later: &[&str]) -> Option<T> {
        let words = || choices.iter().map(|(word, _)| *word);
        let expected = words().map(|word| format!("{word:?}")).collect::<Vec<_>>();
        let text = self.text(&expected.join(" or "))?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let wrong = if later.contains(&text) {
            Wrong::new(format!("{text:?} is not supported by this version"))
                .help(format!("this version has {}", expected.join(", ")))
        } else {
            Wrong::new(format!("unknown word {}", quoted(text))).help(suggest(
                text,
                &mut words(),
                "words here",
            ))
        };
        self.wrong(wrong);
        None
    }
}

/// "did you mean …", or all there is when nothing is near.
pub fn suggest(wrong: &str, right: &mut dyn Iterator<Item = &str>, all: &str) -> String {
    const SHOWN: usize = 60;
    const COMPARED: usize = 200;
    let right: Vec<&str> = right.take(COMPARED).collect();
    let lower = wrong.to_lowercase().replace('-', "_");
    let near = right
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&lower, word), *word))
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1))
        .min();
    match near {
        Some((_, word)) => format!("did you mean {word:?}?"),
        None if right.is_empty() => "nothing is known here".into(),
        None if right.len() > SHOWN => format!("{all}: {}, …", right[..SHOWN].join(", ")),
        None => format!("{all}: {}", right.join(", ")),
    }
}

/// `containers.web`; names that are not bare keys of TOML are quoted.
fn join(path: &str, key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = match key {
        key if !key.is_empty() && key.chars().all(is_bare) => key.to_string(),
        key => quoted(key),
    };
    match path {
        "" => key,
        path => format!("{path}.{key}"),
    }
}
