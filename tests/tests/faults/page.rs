//! docs/supervision.md lists every scenario.

use std::fs;
use tests::program::workspace;

/// Names of the tests of a source.
fn tests_of(text: &str) -> Vec<&str> {
    let bodies = text.split("#[test]\n").skip(1);
    let names = bodies.filter_map(|body| body.strip_prefix("fn ")?.split_once('('));
    names.map(|(name, _)| name).collect()
}

#[test]
fn the_page_lists_each_scenario_and_none_that_is_not_there() {
    let page = fs::read_to_string(workspace().join("docs/supervision.md")).unwrap();
    let tests = workspace().join("tests/tests");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(2);
        let program = cells.next()?;
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((program, name)).filter(|(_, name)| name.matches('_').count() > 1)
    });
    let rows: Vec<(&str, &str)> = rows.collect();
    assert!(rows.len() >= 100, "{}", rows.len());
    for (program, name) in &rows {
        let file = tests.join(program.replace(' ', "/")).with_extension("rs");
        let text = fs::read_to_string(&file).unwrap();
        assert!(tests_of(&text).contains(name), "{program}: no {name}");
    }
    for file in fs::read_dir(tests.join("faults")).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let is_listed = |name: &&str| rows.iter().any(|row| row.1 == *name);
        let missing: Vec<&str> = tests_of(&text)
            .into_iter()
            .filter(|name| !is_listed(name))
            .collect();
        let itself = missing == ["the_page_lists_each_scenario_and_none_that_is_not_there"];
        assert!(
            missing.is_empty() || itself,
            "{}: {missing:?}",
            path.display()
        );
    }
}
