//! A hash that costs less than the standard library's, for what is asked some thousand times a
//! page: was this series seen, was this name decided on.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map of which nobody outside can fill a bucket for long: its owner bounds it.
pub type ShortHashMap<K, V> = HashMap<K, V, BuildHasherDefault<Short>>;

/// Two multiplications per 16 bytes, each folded to its halves' exclusive or, as wyhash has
/// it. Against collisions by chance only: whoever can write a series that collides with
/// another can write the other one as well.
pub fn hash(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    const SECRETS: [u64; 2] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ (product >> 64) as u64
    };
    let mut state = SEED ^ bytes.len() as u64;
    let (chunks, rest) = bytes.as_chunks::<16>();
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&last]) {
        let (halves, _) = chunk.as_chunks::<8>();
        let [low, high] = [halves[0], halves[1]].map(u64::from_ne_bytes);
        state = fold(low ^ SECRETS[0] ^ state, high ^ SECRETS[1]);
    }
    fold(state ^ SECRETS[0], SECRETS[1])
}

/// A hasher of names.
#[derive(Default)]
pub struct Short(u64);

impl Hasher for Short {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(5) ^ hash(bytes);
    }

    // Ends a name; one follows the other in no key of ours.
    fn write_u8(&mut self, _end: u8) {}
}

/// A hasher for numbers that are hashes already.
#[derive(Default)]
pub struct Passed(u64);

impl Hasher for Passed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::{ShortHashMap, hash};
    use std::collections::HashSet;

    #[test]
    fn names_that_are_much_alike_hash_differently() {
        let names = (0..20_000).map(|n| format!("node_network_info{{device=\"veth{n}\"}}"));
        let hashes: HashSet<u64> = names.map(|name| hash(name.as_bytes())).collect();
        assert_eq!(hashes.len(), 20_000);
        assert_ne!(hash(b""), hash(b"\0"));
    }

    #[test]
    fn a_map_finds_what_was_put_in() {
        let mut map = ShortHashMap::default();
        for n in 0..1000 {
            map.insert(n.to_string(), n);
        }
        assert!((0..1000).all(|n| map.get(n.to_string().as_str()) == Some(&n)));
        assert_eq!(map.get("1000"), None);
    }
}
