//! `healthcheck`, in Compose's form.

use super::not_empty;
use crate::config::fault::quoted;
use crate::config::read::{Item, Table, Wrong};
use crate::supervise::spec::Healthcheck;

pub fn healthcheck(table: &mut Table<'_>) -> Option<Healthcheck> {
    let item = table.take("test");
    let place = item.place();
    let mut test = test(item);
    if table.take("disable").bool() == Some(true) {
        if test.is_some() {
            let help = "remove one of the two";
            table.fault_at(place, "test", "has no place beside disable", help);
        }
        test = Some(vec!["NONE".into()]);
    }
    let check = Healthcheck {
        test,
        interval: table.take("interval").duration(),
        timeout: table.take("timeout").duration(),
        retries: table.take("retries").integer(1, 1000),
        start_period: table.take("start_period").duration(),
        start_interval: table.take("start_interval").duration(),
    };
    (check != Healthcheck::default()).then_some(check)
}

/// A line for the shell, or a list that begins with what it is.
fn test(item: Item<'_>) -> Option<Vec<String>> {
    if !item.is_array() {
        return item.parse("a command line or an array", |line| {
            not_empty(line)?;
            Ok(vec!["CMD-SHELL".into(), line.into()])
        });
    }
    let whole = item.copy();
    let words: Vec<String> = item.list()?.iter().filter_map(Item::plain).collect();
    let fits = match words.first().map(String::as_str) {
        Some("NONE") => words.len() == 1,
        Some("CMD-SHELL") => words.len() == 2,
        Some("CMD") => words.len() > 1,
        _ => false,
    };
    if fits {
        return Some(words);
    }
    let first = quoted(words.first().map_or("", String::as_str));
    let wrong = Wrong::new(format!("an array that begins with {first} is no test"));
    whole.wrong(wrong.help("use [\"CMD\", \"word\", …], [\"CMD-SHELL\", \"line\"] or [\"NONE\"]"));
    None
}
