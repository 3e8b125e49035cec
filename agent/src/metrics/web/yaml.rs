//! The little of YAML that a web configuration is written in: one document of
//! maps, lists and scalars.
//!
//! A key that is there twice, aliases and tags are refused, so that a file says
//! one thing and is as large in memory as on disk. Depth is bounded by
//! [`MAX_DEPTH`]. A [`Map`] is read by taking its keys; what is left is a fault.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

/// Maps and lists inside each other; the format needs three.
const MAX_DEPTH: usize = 8;

/// What is wrong, and in which line, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub what: String,
}

#[derive(Debug)]
pub struct Node {
    line: usize,
    value: Value,
}

#[derive(Debug)]
enum Value {
    /// Nothing, `~` or `null`: as if the key were absent.
    Null,
    /// With whether it was written without quotes.
    Scalar(String, bool),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A map being read.
pub struct Map {
    /// `tls_server_config`, for messages; empty at the top.
    name: &'static str,
    entries: Vec<(String, Node)>,
}

/// One document; an empty one is an empty map.
pub fn parse(text: &str) -> Result<Map, Fault> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
    };
    let mut root = None;
    loop {
        let (event, line) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) if root.is_some() => {
                return Err(fault(line, "a second document begins here"));
            }
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            event => root = Some(reader.node(event, line, 0)?),
        }
    }
    match root {
        None => Ok(Map::empty("")),
        Some(root) => root.map(""),
    }
}

fn fault(line: usize, what: impl Into<String>) -> Fault {
    Fault {
        line,
        what: what.into(),
    }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), Fault> {
        let read: Option<Result<(Event<'a>, Span), ScanError>> = self.events.next();
        match read {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(fault(error.marker().line(), error.info())),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Node, Fault> {
        if depth > MAX_DEPTH {
            return Err(fault(line, "is nested too deeply"));
        }
        let value = match event {
            Event::Scalar(.., Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return Err(fault(line, "tags (!) are not supported here"));
            }
            Event::Alias(_) => return Err(fault(line, "aliases (*) are not supported here")),
            Event::Scalar(text, style, _, None) => {
                let is_plain = style == ScalarStyle::Plain;
                match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if is_plain => Value::Null,
                    text => Value::Scalar(text.to_owned(), is_plain),
                }
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    let (event, line) = self.next()?;
                    if event == Event::SequenceEnd {
                        break Value::List(items);
                    }
                    items.push(self.node(event, line, depth + 1)?);
                }
            }
            Event::MappingStart(..) => self.entries(depth)?,
            _ => return Err(fault(line, "ends too early")),
        };
        Ok(Node { line, value })
    }

    fn entries(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, _, _, None) => text.into_owned(),
                _ => return Err(fault(line, "a key has to be a plain word")),
            };
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(fault(line, format!("{key:?} is given twice")));
            }
            let (event, line) = self.next()?;
            entries.push((key, self.node(event, line, depth + 1)?));
        }
    }
}

impl Node {
    pub fn fault(&self, what: impl Into<String>) -> Fault {
        fault(self.line, what)
    }

    /// The text of a scalar.
    pub fn text(&self) -> Result<&str, Fault> {
        match &self.value {
            Value::Scalar(text, _) => Ok(text),
            Value::Null => Err(self.fault("has no value")),
            Value::List(_) | Value::Map(_) => Err(self.fault("has to be a text")),
        }
    }

    pub fn bool(&self) -> Result<bool, Fault> {
        match &self.value {
            Value::Scalar(text, true) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => Ok(true),
                "false" | "no" | "off" | "n" => Ok(false),
                _ => Err(self.fault(format!("{text:?} is neither true nor false"))),
            },
            _ => Err(self.fault("has to be true or false")),
        }
    }

    pub fn list(self) -> Result<Vec<Node>, Fault> {
        match self.value {
            Value::List(items) => Ok(items),
            Value::Null => Ok(Vec::new()),
            _ => Err(self.fault("has to be a list")),
        }
    }

    pub fn map(self, name: &'static str) -> Result<Map, Fault> {
        match self.value {
            Value::Map(entries) => Ok(Map { name, entries }),
            Value::Null => Ok(Map::empty(name)),
            _ => Err(self.fault("has to be a map of keys and values")),
        }
    }
}

impl Map {
    pub fn empty(name: &'static str) -> Map {
        Map {
            name,
            entries: Vec::new(),
        }
    }

    /// The value of `key`; none where it is absent or null.
    pub fn take(&mut self, key: &str) -> Option<Node> {
        let at = self.entries.iter().position(|(name, _)| name == key)?;
        let (_, node) = self.entries.swap_remove(at);
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    pub fn take_map(&mut self, key: &'static str) -> Result<Map, Fault> {
        self.take(key)
            .map_or_else(|| Ok(Map::empty(key)), |node| node.map(key))
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What stands under free names, in the order of the file.
    pub fn entries(self) -> Vec<(String, Node)> {
        self.entries
    }

    /// The first key that nobody took.
    pub fn end(self) -> Result<(), Fault> {
        let left = self.entries.iter().min_by_key(|(_, node)| node.line);
        match left {
            None => Ok(()),
            Some((key, node)) if self.name.is_empty() => {
                Err(node.fault(format!("unknown key {key:?}")))
            }
            Some((key, node)) => Err(node.fault(format!("unknown key {key:?} in {}", self.name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, parse};

    fn refused(text: &str) -> String {
        let read = parse(text).and_then(super::Map::end);
        let Fault { line, what } = read.unwrap_err();
        format!("{line}: {what}")
    }

    #[test]
    fn maps_lists_and_scalars_in_each_style_are_read() {
        let mut map = parse(
            "# a comment\n---\na: {b: [x, 'y', \"z\\n\"], c: yes}\n\
             hash: $2y$10$abc\nkey: |\n  one\n  two\nnull_map:\n",
        )
        .unwrap();
        let mut a = map.take_map("a").unwrap();
        let list = a.take("b").unwrap().list().unwrap();
        let texts: Vec<&str> = list.iter().map(|node| node.text().unwrap()).collect();
        assert_eq!(texts, ["x", "y", "z\n"]);
        assert!(a.take("c").unwrap().bool().unwrap());
        a.end().unwrap();
        assert_eq!(map.take("hash").unwrap().text(), Ok("$2y$10$abc"));
        assert_eq!(map.take("key").unwrap().text(), Ok("one\ntwo\n"));
        assert!(map.take_map("null_map").unwrap().is_empty());
        map.end().unwrap();
        parse("").unwrap().end().unwrap();
        parse("# nothing\n").unwrap().end().unwrap();
    }

    #[test]
    fn what_could_be_misread_is_refused_with_its_line() {
        for (text, expected) in [
            ("a: 1\nb: 2\na: 3\n", "3: \"a\" is given twice"),
            ("a: &x 1\nb: *x\n", "2: aliases (*) are not supported here"),
            ("a: !!str 1\n", "1: tags (!) are not supported here"),
            ("a: 1\n---\nb: 2\n", "2: a second document begins here"),
            ("- a\n", "1: has to be a map of keys and values"),
            ("\na: 1\n", "2: unknown key \"a\""),
        ] {
            assert_eq!(refused(text), expected, "{text}");
        }
        assert!(
            refused("a: [1, 2\n").starts_with("2: ") || refused("a: [1, 2\n").starts_with("1: ")
        );
        let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(!refused(&deep).is_empty());
    }
}
