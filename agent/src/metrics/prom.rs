//! Reader of text exposition 0.0.4 as other programs write it, with bounds.
//!
//! Strict where a mistake would put wrong numbers on the page: a type that comes
//! late or twice, a family that returns, time stamps, bad names or numbers
//! refuse the whole text. Names that the agent's own page uses are not known
//! here; the page drops double series.

use crate::metrics::exposition::Kind;
use std::collections::{BTreeMap, HashMap};

/// Samples of one text; more is refused.
const MAX_SAMPLES: usize = 20_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    pub name: String,
    pub kind: Kind,
    /// Empty where the text has none.
    pub help: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// `_bucket`, `_sum`, `_count`, or nothing.
    pub suffix: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

#[derive(Default)]
struct Reader {
    families: Vec<Family>,
    index: HashMap<String, usize>,
    typed: HashMap<String, bool>,
    count: usize,
}

/// All families with samples, or the line that breaks the format.
pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    let mut reader = Reader::default();
    for (at, line) in text.lines().enumerate() {
        reader
            .line(line.trim())
            .map_err(|what| format!("line {}: {what}", at + 1))?;
    }
    reader.families.retain(|family| !family.samples.is_empty());
    Ok(reader.families)
}

impl Reader {
    fn family(&mut self, name: &str) -> &mut Family {
        let next = self.families.len();
        let at = *self.index.entry(name.to_owned()).or_insert(next);
        if at == next {
            self.families.push(Family {
                name: name.to_owned(),
                kind: Kind::Untyped,
                help: String::new(),
                samples: Vec::new(),
            });
        }
        &mut self.families[at]
    }

    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        if let Some(comment) = line.strip_prefix('#') {
            let mut words = comment.trim_start().splitn(3, [' ', '\t']);
            let (keyword, name) = (words.next(), words.next().unwrap_or_default());
            let rest = words.next().unwrap_or_default().trim();
            return match keyword {
                Some("HELP") => self.help(name, rest),
                Some("TYPE") => self.kind(name, rest),
                _ => Ok(()),
            };
        }
        if line.is_empty() {
            return Ok(());
        }
        self.count += 1;
        if self.count > MAX_SAMPLES {
            return Err("too many samples");
        }
        self.sample(line)
    }

    fn help(&mut self, name: &str, help: &str) -> Result<(), &'static str> {
        check_name(name)?;
        let family = self.family(name);
        if !family.help.is_empty() {
            return Err("a second HELP");
        }
        family.help = unescaped(help);
        Ok(())
    }

    fn kind(&mut self, name: &str, kind: &str) -> Result<(), &'static str> {
        check_name(name)?;
        let kind = match kind {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "untyped" => Kind::Untyped,
            "histogram" => Kind::Histogram,
            "summary" => Kind::Summary,
            _ => return Err("an unknown TYPE"),
        };
        if self.typed.insert(name.to_owned(), true).is_some() {
            return Err("a second TYPE");
        }
        let family = self.family(name);
        if !family.samples.is_empty() {
            return Err("TYPE after samples");
        }
        family.kind = kind;
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), &'static str> {
        let end = line.find(['{', ' ', '\t']).ok_or("a name without value")?;
        let (name, rest) = line.split_at(end);
        check_name(name)?;
        let (labels, rest) = match rest.trim_start().strip_prefix('{') {
            Some(inside) => read_labels(inside)?,
            None => (BTreeMap::new(), rest),
        };
        let mut words = rest.split_ascii_whitespace();
        let value = number(words.next().ok_or("a series without value")?)?;
        if words.next().is_some() {
            return Err("time stamps are not supported");
        }
        let (family, suffix) = self.owner(name);
        let family = self.family(&family);
        let suffix = suffix.to_owned();
        family.samples.push(Sample {
            suffix,
            labels,
            value,
        });
        Ok(())
    }

    /// `x_sum` is of the family `x` where that is a histogram or summary.
    fn owner<'a>(&self, name: &'a str) -> (String, &'a str) {
        for suffix in ["_bucket", "_sum", "_count"] {
            let base = name.strip_suffix(suffix);
            let kind = base
                .and_then(|base| self.index.get(base))
                .map(|at| self.families[*at].kind);
            let owns = match kind {
                Some(Kind::Histogram) => true,
                Some(Kind::Summary) => suffix != "_bucket",
                _ => false,
            };
            if let (true, Some(base)) = (owns, base) {
                return (base.to_owned(), &name[base.len()..]);
            }
        }
        (name.to_owned(), "")
    }
}

/// The labels up to `}`, and what follows it.
fn read_labels(text: &str) -> Result<(BTreeMap<String, String>, &str), &'static str> {
    let mut labels = BTreeMap::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once('=').ok_or("a label without value")?;
        let name = name.trim();
        check_name(name)?;
        if name.contains(':') || name.starts_with("__") {
            return Err("a reserved label name");
        }
        let quoted = after.trim_start().strip_prefix('"');
        let quoted = quoted.ok_or("a label value without quotes")?;
        let mut escaped = false;
        let end = quoted.find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let end = end.ok_or("a label value without end")?;
        let value = unescaped(&quoted[..end]);
        if labels.insert(name.to_owned(), value).is_some() {
            return Err("a label twice");
        }
        rest = quoted[end + 1..].trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with('}') => {}
            None => return Err("labels without comma"),
        }
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    match name.chars().next() {
        Some(first) if !first.is_ascii_digit() && name.chars().all(fits) => Ok(()),
        _ => Err("a name with other than letters, digits, _ and :"),
    }
}

fn number(word: &str) -> Result<f64, &'static str> {
    word.parse().map_err(|_| "a value that is no number")
}

fn unescaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => value.push('\n'),
            Some(c @ ('\\' | '"')) => value.push(c),
            Some(c) => value.extend(['\\', c]),
            None => value.push('\\'),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::{Kind, parse};
    use proptest::prelude::proptest;

    #[test]
    fn suffixes_belong_to_a_typed_family() {
        let text = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\nx_sum 1\n";
        let families = parse(text).unwrap();
        let names: Vec<(&str, Kind, usize)> = families
            .iter()
            .map(|f| (f.name.as_str(), f.kind, f.samples.len()))
            .collect();
        assert_eq!(
            names,
            [("h", Kind::Histogram, 3), ("x_sum", Kind::Untyped, 1)]
        );
    }

    #[test]
    fn what_would_put_wrong_numbers_on_the_page_is_refused() {
        for text in [
            "a 1",
            "a\n",
            "a x\n",
            "a 1 2\n",
            "1a 1\n",
            "a{b=\"c} 1\n",
            "a{b=\"c\" d=\"e\"} 1\n",
            "a{b=\"1\",b=\"2\"} 1\n",
            "a{b} 1\n",
            "a 1\n# TYPE a counter\n",
            "# TYPE a counter\n# TYPE a gauge\n",
            "# TYPE a nonsense\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_ends_in_families_or_an_error(text in "[a-c_{}\"=,\\\\# \n0-9é]{0,60}") {
            let _ = parse(&text);
        }
    }
}
