//! Env files, as the Compose specification has them ("env_file format"), with
//! two differences for safety: a name without a value and a `$NAME` that
//! nothing sets are errors, where Compose asks its own environment or leaves
//! an empty value.
//!
//! `NAME=value` or `NAME: value`, `export` before it allowed; a `#` begins a
//! comment at the start of a line or behind a blank. Single quotes keep
//! everything but `\'`; double quotes know `\n`, `\r`, `\t`, `\"`, `\\`, `\$`.
//! Without quotes and in double ones `$NAME`, `${NAME}`, `${NAME:-default}`,
//! `${NAME:+other}` and `${NAME:?reason}` stand for what was set above; `$$` is
//! a dollar.

use super::EnvFormat;
use super::resolve::MAX_VARIABLE;
use std::collections::BTreeMap;

/// `${A:-${B:-…}}` no deeper than this.
const DEEPEST: usize = 16;

/// No process can be started with more: ARG_MAX of Linux. Unit: bytes.
const MOST: usize = 2 << 20;

/// What is wrong, and in which line; nothing of a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// 1 for the first.
    pub line: usize,
    pub problem: String,
}

type Variables = BTreeMap<String, String>;

/// Reads `text` over what earlier files set.
pub fn read(text: &str, format: EnvFormat, variables: &mut Variables) -> Result<(), Wrong> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { text, line: 1 };
    let mut total: usize = variables.iter().map(|(k, v)| k.len() + v.len()).sum();
    loop {
        reader.skip(char::is_whitespace);
        match reader.peek() {
            None => return Ok(()),
            Some('#') => {
                reader.rest_of_line();
            }
            Some(_) => {
                let line = reader.line;
                let at = |problem: String| Wrong { line, problem };
                let (name, value) = match format {
                    EnvFormat::Compose => reader.statement(variables).map_err(at)?,
                    EnvFormat::Raw => reader.raw().map_err(at)?,
                };
                if name.len() + 1 + value.len() > MAX_VARIABLE {
                    return Err(at(format!("{name} is longer than 128 KiB")));
                }
                total += name.len() + value.len();
                if total > MOST {
                    return Err(at("more than 2 MiB of variables".into()));
                }
                variables.insert(name, value);
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.text.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.text = &self.text[c.len_utf8()..];
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn skip(&mut self, skipped: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&skipped) {
            self.next();
        }
    }

    /// Up to the line's end, which is left.
    fn rest_of_line(&mut self) -> &'a str {
        let end = self.text.find('\n').unwrap_or(self.text.len());
        let (line, rest) = self.text.split_at(end);
        self.text = rest;
        line
    }

    fn raw(&mut self) -> Result<(String, String), String> {
        let line = self.rest_of_line();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(|| bare(line))?;
        check_name(name)?;
        Ok((name.into(), value.into()))
    }

    fn statement(&mut self, variables: &Variables) -> Result<(String, String), String> {
        if let Some(rest) = self.text.strip_prefix("export")
            && rest.starts_with([' ', '\t'])
        {
            self.text = rest.trim_start_matches([' ', '\t']);
        }
        let end = self
            .text
            .find(['=', ':', '\n'])
            .filter(|end| !self.text[*end..].starts_with('\n'));
        let Some(end) = end else {
            return Err(bare(self.rest_of_line()));
        };
        let name = self.text[..end].trim_end();
        check_name(name)?;
        self.text = &self.text[end + 1..];
        let blank = |c: char| c.is_whitespace() && c != '\n';
        let value = match self.text.trim_start_matches(blank).chars().next() {
            Some(quote @ ('\'' | '"')) => {
                self.skip(blank);
                self.next();
                let value = self.quoted(quote)?;
                let after = self.rest_of_line().trim();
                if !after.is_empty() && !after.starts_with('#') {
                    return Err("text behind the closing quote".into());
                }
                match quote {
                    '"' => expand(&value, variables, 0)?,
                    _ => value,
                }
            }
            _ => {
                let line = self.rest_of_line();
                let comment = line
                    .match_indices('#')
                    .find(|(at, _)| line[..*at].ends_with([' ', '\t']));
                let value = comment.map_or(line, |(at, _)| &line[..at]);
                expand(value.trim(), variables, 0)?
            }
        };
        Ok((name.into(), value))
    }

    /// Up to the closing quote. In double quotes a dollar that is no reference becomes `$$`.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut value = String::new();
        while let Some(c) = self.next() {
            if c == quote {
                return Ok(value);
            }
            if c != '\\' {
                value.push(c);
                continue;
            }
            match (quote, self.next()) {
                (_, None) => break,
                (_, Some(c)) if c == quote => value.push(c),
                ('"', Some('n')) => value.push('\n'),
                ('"', Some('r')) => value.push('\r'),
                ('"', Some('t')) => value.push('\t'),
                ('"', Some('\\')) => value.push('\\'),
                ('"', Some('$')) => value.push_str("$$"),
                (_, Some(c)) => value.extend(['\\', c]),
            }
        }
        Err(format!("no closing {quote}"))
    }
}

fn bare(name: &str) -> String {
    let name = name.trim();
    match check_name(name) {
        Ok(()) => format!(
            "{name} has no value, and the agent's own environment is not passed on: write {name}=value"
        ),
        Err(problem) => problem,
    }
}

/// The name is not shown: what is no name may be part of a value.
fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    match !name.is_empty() && !digit && name.chars().all(is_allowed) {
        true => Ok(()),
        false => Err("no NAME=value: a name has letters, digits and \"_\", \".\", \"-\"".into()),
    }
}

/// Puts what is set in the place of `$NAME` and its kin.
fn expand(text: &str, variables: &Variables, depth: usize) -> Result<String, String> {
    let lone = || "a lone $: write $$, or use single quotes".to_string();
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or("no closing brace behind ${")?;
            expanded.push_str(&reference(&after[..end], variables, depth)?);
            rest = &after[end + 1..];
        } else {
            let end = name_end(rest);
            if end == 0 {
                return Err(lone());
            }
            let name = &rest[..end];
            expanded.push_str(variables.get(name).ok_or_else(|| unset(name))?);
            rest = &rest[end..];
        }
        // Short text must not become endless values.
        if expanded.len() > MAX_VARIABLE {
            return Err("the value is longer than 128 KiB".into());
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// What stands between the braces: `NAME`, or `NAME` with `:-`, `-`, `:+`, `+`, `:?`, `?`.
fn reference(text: &str, variables: &Variables, depth: usize) -> Result<String, String> {
    if depth >= DEEPEST {
        return Err(format!("${{…}} nested deeper than {DEEPEST}"));
    }
    let (name, rest) = text.split_at(name_end(text));
    if name.is_empty() {
        return Err("${ without a name".into());
    }
    let (colon, rest) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let value = variables.get(name);
    let is_set = value.is_some_and(|value| !colon || !value.is_empty());
    let operator = rest.chars().next();
    let word = || expand(&rest[1..], variables, depth + 1);
    match (operator, value) {
        (None, Some(value)) if !colon => Ok(value.clone()),
        (None, None) if !colon => Err(unset(name)),
        (Some('-' | '?'), Some(value)) if is_set => Ok(value.clone()),
        (Some('-'), _) => word(),
        (Some('+'), _) if is_set => word(),
        (Some('+'), _) => Ok(String::new()),
        (Some('?'), _) => Err(unset(name)),
        _ => Err(format!(
            "${{{name}…}} has something else than :-, :+ or :? behind the name"
        )),
    }
}

fn unset(name: &str) -> String {
    format!("${name} is not set by anything above it: write $$ for a dollar")
}

fn name_end(text: &str) -> usize {
    let digit = text.starts_with(|c: char| c.is_ascii_digit());
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    if digit { 0 } else { end }
}

/// Where the brace ends that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
