//! Any text as a web configuration: right, or a fault with its line; never a panic.

#![no_main]

use agent::metrics::web::{WebError, check_text};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    match check_text(Path::new("/etc/agent/web.yml"), text) {
        Ok(()) => {}
        Err(WebError::Fault { line, what, .. }) => assert!(line > 0 && !what.is_empty()),
        Err(other) => panic!("{other}"),
    }
});
