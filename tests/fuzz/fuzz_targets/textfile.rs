//! Any bytes as a file of another program: no panic, a page that a reader of the format takes,
//! and the same page again when that page is the file.

#![no_main]

use fuzz::Hosts;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static HOSTS: LazyLock<Hosts> = LazyLock::new(Hosts::new);

fuzz_target!(|input: &[u8]| {
    let input = [b"textfile textfile/a.prom\n", input].concat();
    let page = HOSTS.run(&input).expect("this file is among the seeds");
    assert!(HOSTS.is_well_formed(&page), "{page}");
});
