//! What is wrong with a configuration, and where.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// A spot in a configuration file. Ordered as the files were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Index into the list of files that were read.
    pub file: usize,
    /// 1 for the first line; 0 means the file as a whole.
    pub line: u32,
    /// 1 for the first character, counted in characters.
    pub column: u32,
}

/// One fault: what it is and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    pub text: String,
    /// The nearest right key, the right form: whatever helps to mend it.
    pub help: Option<String>,
    /// The file could not be read at all, so that nothing is known of its content.
    pub unreadable: bool,
}

impl Fault {
    pub fn new(place: Place, text: impl Into<String>) -> Fault {
        Fault {
            place,
            text: text.into(),
            help: None,
            unreadable: false,
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Fault {
        self.help = Some(help.into());
        self
    }
}

/// Every fault of a configuration, in the order of files, lines and columns.
///
/// Prints one line `file:line:column: text` for each, an indented line below
/// it where there is help, and the count at the end. No escape sequences:
/// text from the file is printed escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    files: Vec<PathBuf>,
    faults: Vec<Fault>,
}

/// Printed at most: whoever has more wants to see the first ones.
const SHOWN: usize = 1000;

impl Faults {
    pub fn new(files: Vec<PathBuf>, mut faults: Vec<Fault>) -> Faults {
        faults.sort_by_key(|fault| fault.place);
        faults.dedup();
        Faults { files, faults }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    pub fn n_faults(&self) -> usize {
        self.faults.len()
    }

    /// Some file could not be read: the verdict on the rest is not the whole truth.
    pub fn is_unreadable(&self) -> bool {
        self.faults.iter().any(|fault| fault.unreadable)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in self.faults.iter().take(SHOWN) {
            if let Some(file) = self.files.get(fault.place.file) {
                write!(f, "{}:", harmless(&file.display().to_string()))?;
            }
            if fault.place.line > 0 {
                write!(f, "{}:{}:", fault.place.line, fault.place.column)?;
            }
            writeln!(f, " {}", harmless(&fault.text))?;
            if let Some(help) = &fault.help {
                writeln!(f, "    {}", harmless(help))?;
            }
        }
        match self.faults.len() {
            1 => write!(f, "1 fault"),
            n if n > SHOWN => write!(f, "{n} faults, the first {SHOWN} are shown"),
            n => write!(f, "{n} faults"),
        }
    }
}

impl std::error::Error for Faults {}

/// Control characters escaped: neither a name nor a value moves the reader's cursor.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut harmless = String::new();
    for c in text.chars() {
        match c.is_control() {
            true => harmless.extend(c.escape_default()),
            false => harmless.push(c),
        }
    }
    harmless.into()
}

/// `text` in quotes, escaped, and cut where it is long.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
