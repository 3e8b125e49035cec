//! The examples of the Compose specification, and what goes wrong.

use super::{Wrong, read};
use crate::supervise::spec::EnvFormat;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn parsed(text: &str, format: EnvFormat) -> Result<BTreeMap<String, String>, Wrong> {
    let mut variables = BTreeMap::new();
    read(text, format, &mut variables)?;
    Ok(variables)
}

fn value(line: &str) -> Result<String, String> {
    let text = format!("SET=old\nNONE=\n{line}\n");
    let variables = parsed(&text, EnvFormat::Compose).map_err(|wrong| {
        assert!(wrong.line >= 3, "{wrong:?}");
        wrong.problem
    })?;
    Ok(variables["VAR"].clone())
}

#[test]
fn values_read_as_compose_reads_them() {
    let cases = [
        ("VAR=VAL", "VAL"),
        ("VAR=\"VAL\"", "VAL"),
        ("VAR='VAL'", "VAL"),
        ("VAR=", ""),
        ("VAR: VAL", "VAL"),
        ("export VAR=VAL", "VAL"),
        ("  VAR = VAL  ", "VAL"),
        ("VAR=VAL # comment", "VAL"),
        ("VAR=VAL# not a comment", "VAL# not a comment"),
        ("VAR=#hash", "#hash"),
        ("VAR= # comment", ""),
        ("VAR=\"VAL # not a comment\"", "VAL # not a comment"),
        ("VAR=\"VAL\" # comment", "VAL"),
        ("VAR='VAL' # comment", "VAL"),
        ("VAR='$SET'", "$SET"),
        ("VAR='${SET}'", "${SET}"),
        ("VAR='Let\\'s go!'", "Let's go!"),
        (
            "VAR=\"{\\\"hello\\\": \\\"json\\\"}\"",
            "{\"hello\": \"json\"}",
        ),
        ("VAR=\"some\\tvalue\\n\"", "some\tvalue\n"),
        ("VAR='some\\tvalue'", "some\\tvalue"),
        ("VAR=some\\tvalue", "some\\tvalue"),
        ("VAR='two\nlines'", "two\nlines"),
        ("VAR=a=b:c", "a=b:c"),
        ("VAR=crlf\r", "crlf"),
        ("VAR=$SET", "old"),
        ("VAR=${SET}er", "older"),
        ("VAR=\"$SET\"", "old"),
        ("VAR=\"\\$SET\"", "$SET"),
        ("VAR=pa$$word", "pa$word"),
        ("VAR=${UNSET:-new}", "new"),
        ("VAR=${UNSET-${SET}}", "old"),
        ("VAR=${NONE:-new}", "new"),
        ("VAR=${NONE-new}", ""),
        ("VAR=${SET:+other}", "other"),
        ("VAR=${NONE:+other}", ""),
        ("VAR=${SET:?reason}", "old"),
    ];
    for (line, expected) in cases {
        assert_eq!(value(line).as_deref(), Ok(expected), "{line}");
    }
}

#[test]
fn what_would_become_an_empty_or_a_wrong_value_is_told_with_its_line() {
    let cases = [
        ("VAR", "VAR has no value"),
        ("VAR=$UNSET", "$UNSET is not set"),
        ("VAR=${UNSET}", "$UNSET is not set"),
        ("VAR=${NONE:?reason}", "$NONE is not set"),
        ("VAR=a$", "a lone $"),
        ("VAR=a$1", "a lone $"),
        ("VAR=${SET", "no closing brace"),
        ("VAR=${}", "without a name"),
        ("VAR=${SET%x}", "something else than"),
        ("VAR=\"open", "no closing \""),
        ("VAR='a' b", "text behind the closing quote"),
        ("=value", "no NAME=value"),
        ("A B=value", "no NAME=value"),
        ("1A=value", "no NAME=value"),
    ];
    for (line, expected) in cases {
        let problem = value(line).unwrap_err();
        assert!(problem.contains(expected), "{line}: {problem}");
    }
    let error = parsed("# one\nA=1\n\nsecret!word\n", EnvFormat::Compose).unwrap_err();
    assert_eq!(error.line, 4);
    assert!(!error.problem.contains("secret"), "{error:?}");
}

#[test]
fn raw_files_are_taken_as_docker_takes_them() {
    let text = "\u{feff}# comment\nA=\"quoted\" # no comment\nB=$x=y\r\n\nC=\n";
    let variables = parsed(text, EnvFormat::Raw).unwrap();
    assert_eq!(variables["A"], "\"quoted\" # no comment");
    assert_eq!(variables["B"], "$x=y");
    assert_eq!(variables["C"], "");
    assert_eq!(parsed("A=1\nB", EnvFormat::Raw).unwrap_err().line, 2);
}

#[test]
fn a_later_line_wins_and_sees_the_earlier_ones() {
    let variables = parsed("A=1\nA=${A}2\n", EnvFormat::Compose).unwrap();
    assert_eq!(variables["A"], "12");
}

#[test]
fn short_files_do_not_become_endless_values() {
    let mut text = "A=0123456789\n".to_string();
    for _ in 0..64 {
        text.push_str("A=$A$A\n");
    }
    let error = parsed(&text, EnvFormat::Compose).unwrap_err();
    assert!(error.problem.contains("longer than 128 KiB"), "{error:?}");
    let deep = format!("A={}{}", "${B:-".repeat(10_000), "}".repeat(10_000));
    let error = parsed(&deep, EnvFormat::Compose).unwrap_err();
    assert!(error.problem.contains("nested deeper"), "{error:?}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[A-C=:$\\{\\}\\-'\"\\\\# \n]{0,60}") {
        for format in [EnvFormat::Compose, EnvFormat::Raw] {
            if let Err(wrong) = parsed(&text, format) {
                prop_assert!(wrong.line <= text.matches('\n').count() + 1);
            }
        }
    }

    #[test]
    fn single_quotes_keep_what_is_in_them(value in "[^'\\\\\0]{0,40}") {
        let variables = parsed(&format!("A='{value}'"), EnvFormat::Compose).unwrap();
        prop_assert_eq!(&variables["A"], &value);
    }
}
