//! The little of YAML that is written here.

/// Lines at a depth of two spaces each.
#[derive(Default)]
pub struct Yaml(String);

impl Yaml {
    pub fn text(self) -> String {
        self.0
    }

    /// A whole line: a comment, a key that opens a map, a word or number that needs no quotes.
    pub fn line(&mut self, depth: usize, line: &str) {
        self.indent(depth);
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// `key: "value"`; the key may begin with `- `.
    pub fn string(&mut self, depth: usize, key: &str, value: &str) {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "/._-@".contains(c);
        let begins_well = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
        let is_bool = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&value.to_ascii_lowercase().as_str());
        if begins_well && value.chars().all(is_word) && !is_bool {
            self.line(depth, &format!("{key}: {value}"));
        } else {
            self.line(depth, &format!("{key}: {}", quoted(value)));
        }
    }

    /// Text of several lines, readable where YAML has a way to say it as it is.
    pub fn block(&mut self, depth: usize, key: &str, text: &str) {
        if !is_plain(text) {
            return self.line(depth, &format!("{key}: {}", quoted(text)));
        }
        self.line(depth, &format!("{key}: |"));
        for line in text.lines() {
            match line {
                "" => self.0.push('\n'),
                line => self.line(depth + 1, line),
            }
        }
    }

    fn indent(&mut self, depth: usize) {
        for _ in 0..depth {
            self.0.push_str("  ");
        }
    }
}

/// Whether a literal block gives back exactly this: one line end after the last
/// line, no space that would count as indentation, nothing unprintable.
pub fn is_plain(text: &str) -> bool {
    let is_printable = |c: char| {
        matches!(c, '\n' | '\t' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
            && !matches!(c, '\u{2028}' | '\u{2029}')
    };
    text.ends_with('\n')
        && !text.ends_with("\n\n")
        && !text.starts_with([' ', '\t', '\n'])
        && !text
            .lines()
            .any(|line| !line.is_empty() && line.trim().is_empty())
        && text.chars().all(is_printable)
}

/// A double-quoted scalar, one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(c),
            c if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}
