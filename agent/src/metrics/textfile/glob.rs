//! Names with `*`, `?` and `[a-z]`, as Go's filepath.Glob understands them:
//! a hidden name is one like others, and no sign stands for a `/`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Paths looked at for one pattern; more are left out.
const MAX_PATHS: usize = 1024;
/// Entries of a directory looked at.
const MAX_ENTRIES: usize = 65_536;

/// The pattern cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad;

/// What there is by that pattern, sorted; without signs, the path itself if it is there.
pub fn glob(pattern: &str) -> Result<Vec<PathBuf>, Bad> {
    if !has_signs(pattern) {
        let there = fs::symlink_metadata(pattern).is_ok();
        return Ok(there.then(|| PathBuf::from(pattern)).into_iter().collect());
    }
    matches(pattern, "")?; // a bad one is bad wherever it stands
    let (directory, last) = match pattern.rsplit_once('/') {
        Some(("", last)) => ("/", last),
        Some((directory, last)) => (directory, last),
        None => (".", pattern),
    };
    let mut found = Vec::new();
    for directory in glob(directory)? {
        for name in names(&directory, |name| matches(last, name) == Ok(true)) {
            if found.len() == MAX_PATHS {
                return Ok(found);
            }
            found.push(match directory.as_os_str() == "." {
                true => PathBuf::from(name),
                false => directory.join(name),
            });
        }
    }
    Ok(found)
}

/// Names in a directory that `takes` likes, sorted; none where it cannot be read.
fn names(directory: &Path, takes: impl Fn(&str) -> bool) -> Vec<OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let names = entries.take(MAX_ENTRIES).flatten();
    let names = names.map(|entry| entry.file_name());
    let mut names: Vec<OsString> = names
        .filter(|name| takes(&name.to_string_lossy()))
        .collect();
    names.sort_unstable();
    names
}

fn has_signs(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

/// Whether the whole of `name` is by the pattern.
pub fn matches(pattern: &str, name: &str) -> Result<bool, Bad> {
    let mut stars = None;
    let (mut pattern, mut name) = (pattern, name);
    let mut result = None;
    // After the outcome is known the rest is read on, to find what is bad in it.
    loop {
        let mut signs = pattern.chars();
        let Some(sign) = signs.next() else {
            match (name.is_empty() || result.is_some(), retry(&mut stars)) {
                (true, _) => return Ok(result.unwrap_or(true)),
                (false, Some((again, rest))) => (pattern, name) = (again, rest),
                (false, None) => return Ok(false),
            }
            continue;
        };
        if sign == '*' {
            pattern = signs.as_str();
            stars = Some((pattern, name));
            continue;
        }
        let next = name.chars().next();
        let (fits, rest) = one(sign, signs.as_str(), next)?;
        match next.filter(|_| fits) {
            Some(c) if result.is_none() => {
                pattern = rest;
                name = &name[c.len_utf8()..];
            }
            _ => match retry(&mut stars).filter(|_| result.is_none()) {
                Some((again, rest)) => (pattern, name) = (again, rest),
                None => {
                    result = Some(false);
                    pattern = rest;
                }
            },
        }
    }
}

/// Lets the last `*` take one character more.
fn retry<'a>(stars: &mut Option<(&'a str, &'a str)>) -> Option<(&'a str, &'a str)> {
    let (pattern, name) = (*stars)?;
    let c = name.chars().next().filter(|c| *c != '/')?;
    *stars = Some((pattern, &name[c.len_utf8()..]));
    *stars
}

/// Whether the sign, which `rest` follows, stands for `c`, and what follows it.
fn one(sign: char, rest: &str, c: Option<char>) -> Result<(bool, &str), Bad> {
    match sign {
        '?' => Ok((c.is_some_and(|c| c != '/'), rest)),
        '[' => class(rest, c),
        '\\' => {
            let escaped = rest.chars().next().ok_or(Bad)?;
            Ok((c == Some(escaped), &rest[escaped.len_utf8()..]))
        }
        sign => Ok((c == Some(sign), rest)),
    }
}

/// `a-z]`, `^a-z]`
fn class(rest: &str, c: Option<char>) -> Result<(bool, &str), Bad> {
    let (negated, mut rest) = match rest.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let mut is_in = false;
    let mut n_ranges = 0;
    loop {
        if let (Some(after), true) = (rest.strip_prefix(']'), n_ranges > 0) {
            return Ok((c.is_some() && is_in != negated, after));
        }
        let (low, after) = end_of_range(rest)?;
        let (high, after) = match after.strip_prefix('-') {
            Some(after) => end_of_range(after)?,
            None => (low, after),
        };
        is_in |= c.is_some_and(|c| (low..=high).contains(&c));
        n_ranges += 1;
        rest = after;
    }
}

fn end_of_range(text: &str) -> Result<(char, &str), Bad> {
    let mut chars = text.chars();
    let c = match chars.next().ok_or(Bad)? {
        '-' | ']' => return Err(Bad),
        '\\' => chars.next().ok_or(Bad)?,
        c => c,
    };
    // Something has to follow: at least the closing bracket.
    match chars.as_str() {
        "" => Err(Bad),
        rest => Ok((c, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Bad, glob, matches};

    #[test]
    fn signs_stand_for_what_they_stand_for_in_go() {
        for (pattern, name, is_match) in [
            ("abc", "abc", true),
            ("*", "", true),
            ("*", ".hidden", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axbxbx", false),
            ("a?c", "aéc", true),
            ("?", "/", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "ace", false),
            ("a[^b-d]e", "axe", true),
            ("[\\]]", "]", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[x-]", "x", false),
        ] {
            let found = matches(pattern, name);
            if pattern == "[x-]" {
                assert_eq!(found, Err(Bad));
            } else {
                assert_eq!(found, Ok(is_match), "{pattern} {name}");
            }
        }
        for bad in ["[", "[]", "[]a]", "[-x]", "a[", "a\\", "x*[", "[a-", "zzz["] {
            assert_eq!(matches(bad, "a"), Err(Bad), "{bad}");
        }
    }

    #[test]
    fn paths_are_found_below_matching_directories_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b/one/t", "a/two/t", "a/one/t", "a/.one/u"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let prefix = format!("{}/", dir.path().display());
            let paths = glob(&format!("{prefix}{pattern}")).unwrap();
            let paths = paths.iter().map(|p| p.display().to_string());
            paths.map(|p| p.replacen(&prefix, "", 1)).collect()
        };
        assert_eq!(found("*/*/t"), ["a/one/t", "a/two/t", "b/one/t"]);
        assert_eq!(found("[ab]/one"), ["a/one", "b/one"]);
        assert_eq!(found("a/*ne"), ["a/.one", "a/one"]);
        assert_eq!(found("a"), ["a"]);
        assert!(found("none").is_empty() && found("a/*/").is_empty());
        assert_eq!(glob("/[").unwrap_err(), Bad);
    }
}
