//! A page in the text format 0.0.4, as far as tests look at it, and programs that stay beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use tests::program::command;

/// A program of the test's own; ends with it, also when the test is aborted.
pub struct Beside(pub Child);

impl Beside {
    pub fn start(program: &str, arguments: &[&str]) -> Beside {
        let mut run: Command = command("setpriv");
        run.args(["--pdeathsig", "KILL", program]).args(arguments);
        run.stdin(Stdio::null()).stdout(Stdio::null());
        Beside(run.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where Debian puts it. Panics with what to do when it is not there.
pub fn installed(program: &str, package: &str) -> String {
    let path = format!("/usr/bin/{program}");
    let there = std::path::Path::new(&path).is_file();
    assert!(
        there,
        "no {path}: apt-get install {package} (tests/run does)"
    );
    path
}

/// Family → type, from the TYPE lines.
pub fn families(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut families = BTreeMap::new();
    for line in types {
        let (name, kind) = line.split_once(' ').unwrap();
        let twice = families.insert(name.to_owned(), kind.to_owned());
        assert!(twice.is_none(), "{name} stands twice");
    }
    families
}

pub fn names(page: &str) -> BTreeSet<String> {
    families(page).into_keys().collect()
}

/// `name{label="value",…}` of every series whose family starts so; no value may hold a comma.
pub fn series(page: &str, prefix: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| line.starts_with(prefix));
    let sorted = samples.map(|line| {
        let (name, _value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
        labels.sort_unstable();
        format!("{name}{{{}}}", labels.join(","))
    });
    sorted.collect()
}

/// The number of a series without labels.
pub fn value(page: &str, name: &str) -> f64 {
    let wanted = format!("{name} ");
    let found = page.lines().find_map(|line| line.strip_prefix(&wanted));
    let found = found.unwrap_or_else(|| panic!("no {name} in\n{page}"));
    found.parse().unwrap()
}

/// One line with a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// All samples of a page, label values unescaped.
pub fn samples(page: &str) -> Vec<Sample> {
    let lines = page.lines();
    lines
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(sample)
        .collect()
}

fn sample(line: &str) -> Sample {
    let (name, mut rest) = line.split_at(line.find(['{', ' ']).expect(line));
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.trim_start_matches(',').split_once("=\"").expect(line);
            let mut value = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next().expect(line) {
                    (end, '"') => break end,
                    (_, '\\') => value.push(match chars.next().expect(line).1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            };
            labels.insert(label.to_owned(), value);
            rest = &quoted[end + 1..];
        }
        rest = &rest[1..];
    }
    let value = match rest.trim() {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().expect(line),
    };
    Sample {
        name: name.to_owned(),
        labels,
        value,
    }
}
