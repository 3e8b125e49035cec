//! Any bytes in any file of /proc, /sys and udev's data that a collector or the container page
//! reads: no panic, and a page that a reader of the format takes.

#![no_main]

use fuzz::Hosts;
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};
use std::sync::LazyLock;

static HOSTS: LazyLock<Hosts> = LazyLock::new(Hosts::new);
static HEADS: LazyLock<Vec<String>> = LazyLock::new(|| HOSTS.heads().collect());

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(page) = HOSTS.run(input) else {
        return Corpus::Reject;
    };
    assert!(HOSTS.is_well_formed(&page), "{page}");
    Corpus::Keep
});

// The first line stays, or becomes another file's; the content is libFuzzer's to change.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let head = match fuzz::split(&data[..size]) {
        Some((head, _)) if seed % 64 != 0 => head.to_vec(),
        _ => HEADS[seed as usize / 64 % HEADS.len()].clone().into_bytes(),
    };
    let content = fuzz::split(&data[..size]).map_or(&[][..], |(_, content)| content);
    let mut changed = content.to_vec();
    let room = max_size.saturating_sub(head.len() + 1);
    changed.truncate(room);
    let length = changed.len();
    changed.resize(room, 0);
    let length = fuzzer_mutate(&mut changed, length, room);
    let all = [&head[..], b"\n", &changed[..length]].concat();
    let length = all.len().min(max_size);
    data[..length].copy_from_slice(&all[..length]);
    length
});
