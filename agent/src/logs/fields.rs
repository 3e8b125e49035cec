//! The fields of a msgpack map, as places in a byte slice.
//!
//! Shared by the two maps that meet in a record: the envelope that the sender
//! wrote and the object that its JSON line holds. Finding duplicate keys is
//! linear in practice and never worse than n log n hash work, so a hostile
//! record costs its bytes and no more.

use crate::logs::msgpack::{self, Kind};
use std::collections::HashMap;

/// Up to this many keys are compared pairwise (by hash, in one cache line or
/// two); more go through a hash map.
const PAIRWISE: usize = 32;

/// One key and its value: offsets into the bytes that hold the map.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    hash: u32,
    /// The key is a str or bin, `key` is its content; else `key` is the whole encoded key.
    text: bool,
    /// A later field has the same key, which wins.
    pub shadowed: bool,
    pub start: usize,
    key: (usize, usize),
    /// Where the value begins.
    pub value: usize,
    pub end: usize,
}

impl Field {
    /// A field whose key text lies at `key` of `bytes`.
    #[inline]
    pub fn new(bytes: &[u8], start: usize, key: (usize, usize), value: usize, end: usize) -> Field {
        Field {
            hash: hash(&bytes[key.0..key.1]),
            text: true,
            shadowed: false,
            start,
            key,
            value,
            end,
        }
    }

    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.key.0..self.key.1]
    }

    /// Is this the text key `name`, whose hash is `name_hash`?
    #[inline]
    pub fn is_named(&self, bytes: &[u8], name: &[u8], name_hash: u32) -> bool {
        self.hash == name_hash && self.text && self.key(bytes) == name
    }

    #[inline]
    fn same_key(&self, bytes: &[u8], other: &Field, other_bytes: &[u8]) -> bool {
        self.hash == other.hash
            && self.text == other.text
            && self.key(bytes) == other.key(other_bytes)
    }

    fn moved(self, back: usize) -> Field {
        Field {
            start: self.start - back,
            key: (self.key.0 - back, self.key.1 - back),
            value: self.value - back,
            end: self.end - back,
            ..self
        }
    }
}

/// A cheap hash over length, head and tail of a key; equal hashes are always
/// checked byte by byte.
#[inline]
pub fn hash(key: &[u8]) -> u32 {
    let (head, tail) =
        if let (Some(head), Some(tail)) = (key.first_chunk::<8>(), key.last_chunk::<8>()) {
            (u64::from_le_bytes(*head), u64::from_le_bytes(*tail))
        } else if let (Some(head), Some(tail)) = (key.first_chunk::<4>(), key.last_chunk::<4>()) {
            (
                u64::from(u32::from_le_bytes(*head)),
                u64::from(u32::from_le_bytes(*tail)),
            )
        } else {
            let byte = |at: usize| u64::from(key.get(at).copied().unwrap_or(0));
            (byte(0) << 8 | byte(1), byte(2))
        };
    let mixed = head ^ tail.rotate_left(29) ^ (key.len() as u64) << 57;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// A value that should be a map of complete values is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAMap;

/// Lists the fields of the map that is `record` into `fields`, duplicates marked.
pub fn read(record: &[u8], fields: &mut Vec<Field>) -> Result<(), NotAMap> {
    fields.clear();
    let head = msgpack::head(record).map_err(|_| NotAMap)?;
    if head.kind != Kind::Map {
        return Err(NotAMap);
    }
    let mut at = head.size;
    for _ in 0..head.len {
        let start = at;
        let rest = record.get(at..).ok_or(NotAMap)?;
        let (key, text) = match msgpack::text(rest) {
            Some((key, len)) => {
                at += len;
                ((at - key.len(), at), true)
            }
            None => {
                at += msgpack::value_len(rest).ok_or(NotAMap)?;
                ((start, at), false)
            }
        };
        let value = at;
        let rest = record.get(at..).ok_or(NotAMap)?;
        at += match msgpack::text(rest) {
            Some((_, len)) => len,
            None => msgpack::value_len(rest).ok_or(NotAMap)?,
        };
        fields.push(Field {
            text,
            ..Field::new(record, start, key, value, at)
        });
    }
    shadow_duplicates(fields, record);
    Ok(())
}

/// Marks every field that a later one with the same key overrides. True if there is one.
pub fn shadow_duplicates(fields: &mut [Field], bytes: &[u8]) -> bool {
    let mut found = false;
    if fields.len() <= PAIRWISE {
        for later in 1..fields.len() {
            let winner = fields[later];
            for earlier in &mut fields[..later] {
                if earlier.hash == winner.hash && earlier.same_key(bytes, &winner, bytes) {
                    earlier.shadowed = true;
                    found = true;
                }
            }
        }
        return found;
    }
    let mut last: HashMap<(bool, &[u8]), usize> = HashMap::with_capacity(fields.len());
    for at in 0..fields.len() {
        let field = fields[at];
        if let Some(earlier) = last.insert((field.text, field.key(bytes)), at) {
            fields[earlier].shadowed = true;
            found = true;
        }
    }
    found
}

/// Marks the envelope's fields whose key the parsed fields have too.
pub fn shadow_by(envelope: &mut [Field], record: &[u8], parsed: &[Field], out: &[u8]) {
    if envelope.len().saturating_mul(parsed.len()) <= PAIRWISE * PAIRWISE {
        for field in envelope {
            field.shadowed |= parsed
                .iter()
                .any(|winner| winner.same_key(out, field, record));
        }
        return;
    }
    let keys: HashMap<&[u8], ()> = parsed.iter().map(|field| (field.key(out), ())).collect();
    for field in envelope {
        field.shadowed |= field.text && keys.contains_key(field.key(record));
    }
}

/// Takes the shadowed fields out of the tail of `out`, which `fields` describe
/// in order; keeps the places of the others right.
pub fn compact(out: &mut Vec<u8>, fields: &mut Vec<Field>, from: usize) {
    let Some(first) = fields.get(from) else {
        return;
    };
    let mut end = first.start;
    let mut kept = from;
    for at in from..fields.len() {
        let field = fields[at];
        if field.shadowed {
            continue;
        }
        out.copy_within(field.start..field.end, end);
        fields[kept] = field.moved(field.start - end);
        end = fields[kept].end;
        kept += 1;
    }
    fields.truncate(kept);
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::{Field, compact, hash, read, shadow_by, shadow_duplicates};
    use crate::logs::msgpack;

    fn map(pairs: &[(&str, u8)]) -> Vec<u8> {
        let mut out = vec![0];
        for (key, value) in pairs {
            msgpack::write_str(&mut out, key.as_bytes());
            out.push(*value);
        }
        msgpack::close(&mut out, 0, 1, msgpack::MAP, pairs.len());
        out
    }

    fn live<'a>(fields: &[Field], bytes: &'a [u8]) -> Vec<(&'a [u8], u8)> {
        let live = fields.iter().filter(|field| !field.shadowed);
        live.map(|field| (field.key(bytes), bytes[field.value]))
            .collect()
    }

    #[test]
    fn the_last_of_equal_keys_wins_in_small_and_large_maps() {
        let small = map(&[("a", 1), ("b", 2), ("a", 3)]);
        let mut fields = Vec::new();
        read(&small, &mut fields).unwrap();
        assert_eq!(live(&fields, &small), [(&b"b"[..], 2), (&b"a"[..], 3)]);

        let names: Vec<String> = (0..100).map(|n| format!("key-{}", n % 90)).collect();
        let pairs: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(0..).collect();
        let large = map(&pairs);
        read(&large, &mut fields).unwrap();
        assert_eq!(live(&fields, &large).len(), 90);
        assert!(live(&fields, &large).contains(&(&b"key-9"[..], 99)));
    }

    #[test]
    fn compacting_keeps_the_places_of_the_survivors() {
        let mut bytes = map(&[("a", 1), ("bb", 2), ("a", 3), ("ccc", 4)]);
        let mut fields = Vec::new();
        read(&bytes, &mut fields).unwrap();
        compact(&mut bytes, &mut fields, 0);
        bytes[0] = 0x83;
        assert_eq!(bytes, map(&[("bb", 2), ("a", 3), ("ccc", 4)]));
        assert_eq!(live(&fields, &bytes).len(), 3);
        assert!(!shadow_duplicates(&mut fields, &bytes));
    }

    #[test]
    fn parsed_keys_override_the_envelope_but_a_number_is_not_a_text_key() {
        // The integer key 0x61 is the byte of the text key "a".
        let mut envelope = map(&[("a", 1), ("b", 2)]);
        envelope[0] = 0x83;
        envelope.extend([0x61, 3]);
        let parsed = map(&[("a", 9)]);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        read(&envelope, &mut ours).unwrap();
        read(&parsed, &mut theirs).unwrap();
        shadow_by(&mut ours, &envelope, &theirs, &parsed);
        let shadowed: Vec<bool> = ours.iter().map(|field| field.shadowed).collect();
        assert_eq!(shadowed, [true, false, false]);
        assert!(theirs[0].is_named(&parsed, b"a", hash(b"a")));
    }

    #[test]
    fn what_is_not_a_whole_map_is_refused() {
        let mut fields = Vec::new();
        let whole = map(&[("key", 1), ("other", 2)]);
        for end in 0..whole.len() {
            assert!(read(&whole[..end], &mut fields).is_err(), "cut at {end}");
        }
        assert!(read(b"\x93abc", &mut fields).is_err());
        assert!(read(b"\xdf\xff\xff\xff\xff", &mut fields).is_err());
    }
}
