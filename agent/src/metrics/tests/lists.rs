//! The two lists of collectors, what `make` knows, and the documentation are in step.

use super::{nobody, settings_in};
use crate::host::roots::Roots;
use crate::metrics::left_out::LEFT_OUT;

use crate::metrics::{COLLECTORS, OPTIONAL, Shares, make};
use std::path::Path;

#[test]
fn every_listed_collector_exists_under_its_name_in_order_and_is_documented() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for list in [COLLECTORS, OPTIONAL] {
        assert!(list.is_sorted());
        for name in list {
            assert_eq!(
                make(
                    name,
                    &settings_in(Roots::default()),
                    &Shares::default(),
                    &nobody()
                )
                .map(|made| made.name()),
                Some(*name)
            );
            assert!(docs.contains(&format!("\n| `{name}` |")), "{name}");
        }
    }
    assert!(!OPTIONAL.iter().any(|name| COLLECTORS.contains(name)));
}

#[test]
fn what_is_left_out_is_listed_with_its_reason_and_not_built() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    assert!(LEFT_OUT.is_sorted_by_key(|one| one.name));
    for one in LEFT_OUT {
        assert!(
            make(
                one.name,
                &settings_in(Roots::default()),
                &Shares::default(),
                &nobody()
            )
            .is_none()
        );
        let there = if one.is_on_there { "on" } else { "off" };
        let row = format!("\n| `{}` | {there} | {} |", one.name, one.reason);
        assert!(docs.contains(&row), "{row}");
    }
    let rows = docs.lines().filter(|line| {
        let mut cells = line.split(" | ").skip(1);
        line.starts_with("| `") && matches!(cells.next(), Some("on" | "off"))
    });
    assert_eq!(rows.count(), LEFT_OUT.len());
}
