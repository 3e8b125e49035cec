//! The two lists of collectors, what `make` knows, and the documentation are in step.

use super::settings_in;
use crate::host::roots::Roots;
use crate::metrics::rtnetlink::SharedLinks;
use crate::metrics::{COLLECTORS, OPTIONAL, make};
use std::path::Path;

#[test]
fn every_listed_collector_exists_under_its_name_in_order_and_is_documented() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for list in [COLLECTORS, OPTIONAL] {
        assert!(list.is_sorted());
        for name in list {
            assert_eq!(
                make(name, &settings_in(Roots::default()), &SharedLinks::new())
                    .map(|made| made.name()),
                Some(*name)
            );
            assert!(docs.contains(&format!("\n| `{name}` |")), "{name}");
        }
    }
    assert!(!OPTIONAL.iter().any(|name| COLLECTORS.contains(name)));
}
