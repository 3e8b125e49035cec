//! msgpack, as much of it as log records need: heads, a skip that cannot be
//! fooled, and the writers of what we send.
//!
//! Spec: github.com/msgpack/msgpack/blob/master/spec.md. Own code because the
//! forward input never builds values: a record stays a slice of the bytes
//! that came in, which costs a tenth of decoding and encoding it again.
//!
//! Invariants: nothing is allocated from a claimed length; every index is
//! checked; [`Scanner`] keeps at most [`MAX_DEPTH`] counters per connection
//! and never looks at a byte twice, however the input is cut into reads.
//!
//! It does not know what a frame, a tag or a record is.

/// Values nested deeper than this are refused. A JSON line that we transcode
/// adds at most [`crate::logs::json::MAX_DEPTH`] levels, so our own output passes.
pub const MAX_DEPTH: usize = 256;

/// Why bytes are not (yet) a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("the value is not complete")]
    Incomplete,
    #[error("byte 0xc1 begins no msgpack value")]
    Reserved,
    #[error("a value would be larger than the limit of {limit} bytes")]
    TooLarge { limit: usize },
    #[error("values are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// What a head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nil,
    /// Boolean, integer or float.
    Scalar,
    /// str or bin: senders mix them freely, so do we.
    Text,
    Ext,
    Array,
    Map,
}

/// The first bytes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    /// The head itself, with the type byte of an ext. Unit: bytes.
    pub size: usize,
    /// What follows: bytes, or elements of an array, or pairs of a map. Only a claim.
    pub len: usize,
}

/// Reads the head of the value at the front of `bytes`.
#[inline]
pub fn head(bytes: &[u8]) -> Result<Head, Flaw> {
    let &first = bytes.first().ok_or(Flaw::Incomplete)?;
    let (kind, size, len) = match first {
        0xa0..=0xbf => (Kind::Text, 1, usize::from(first & 0x1f)),
        0xd9 | 0xc4 => (Kind::Text, 2, uint::<1>(bytes)?),
        0xda | 0xc5 => (Kind::Text, 3, uint::<2>(bytes)?),
        0xdb | 0xc6 => (Kind::Text, 5, uint::<4>(bytes)?),
        0x00..=0x7f | 0xe0..=0xff | 0xc2 | 0xc3 => (Kind::Scalar, 1, 0),
        0xcc | 0xd0 => (Kind::Scalar, 1, 1),
        0xcd | 0xd1 => (Kind::Scalar, 1, 2),
        0xce | 0xd2 | 0xca => (Kind::Scalar, 1, 4),
        0xcf | 0xd3 | 0xcb => (Kind::Scalar, 1, 8),
        0x80..=0x8f => (Kind::Map, 1, usize::from(first & 0x0f)),
        0xde => (Kind::Map, 3, uint::<2>(bytes)?),
        0xdf => (Kind::Map, 5, uint::<4>(bytes)?),
        0x90..=0x9f => (Kind::Array, 1, usize::from(first & 0x0f)),
        0xdc => (Kind::Array, 3, uint::<2>(bytes)?),
        0xdd => (Kind::Array, 5, uint::<4>(bytes)?),
        0xc0 => (Kind::Nil, 1, 0),
        0xd4..=0xd8 => (Kind::Ext, 2, 1 << (first - 0xd4)),
        0xc7 => (Kind::Ext, 3, uint::<1>(bytes)?),
        0xc8 => (Kind::Ext, 4, uint::<2>(bytes)?),
        0xc9 => (Kind::Ext, 6, uint::<4>(bytes)?),
        0xc1 => return Err(Flaw::Reserved),
    };
    Ok(Head { kind, size, len })
}

/// The big-endian length of N bytes behind the first byte.
#[inline]
fn uint<const N: usize>(bytes: &[u8]) -> Result<usize, Flaw> {
    let digits = bytes.get(1..1 + N).ok_or(Flaw::Incomplete)?;
    Ok(digits
        .iter()
        .fold(0, |sum, &digit| sum << 8 | usize::from(digit)))
}

/// Length of the whole value at the front of `bytes`; None when it does not
/// end within them or is malformed. Time is linear in the bytes present.
#[inline]
pub fn value_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut left: u64 = 1;
    while left > 0 {
        let head = head(bytes.get(at..)?).ok()?;
        left -= 1;
        at += head.size;
        match head.kind {
            Kind::Array => left += head.len as u64,
            Kind::Map => left += 2 * head.len as u64,
            _ => at += head.len,
        }
    }
    (at <= bytes.len()).then_some(at)
}

/// Finds where a value ends in bytes that arrive piece by piece.
///
/// It remembers where it stopped, so a large frame that comes in many reads
/// is walked once. After an answer it is ready for the next value.
#[derive(Debug, Default)]
pub struct Scanner {
    at: usize,
    /// Values still to come at each open level.
    open: Vec<u64>,
}

impl Scanner {
    /// The length of the value at the front of `bytes`, or None while more
    /// bytes are needed; then call again with the same bytes and more behind.
    ///
    /// Errors: not msgpack, nested too deep, or certain to exceed `limit`
    /// bytes (known from the claim, without waiting for the bytes).
    #[inline]
    pub fn scan(&mut self, bytes: &[u8], limit: usize) -> Result<Option<usize>, Flaw> {
        if self.open.is_empty() {
            self.at = 0;
            self.open.push(1);
        }
        let scanned = self.advance(bytes, limit);
        if !matches!(scanned, Ok(None)) {
            self.open.clear();
        }
        scanned
    }

    /// Forgets a value that was begun.
    pub fn reset(&mut self) {
        self.open.clear();
    }

    fn advance(&mut self, bytes: &[u8], limit: usize) -> Result<Option<usize>, Flaw> {
        let mut at = self.at;
        while let Some(left) = self.open.last_mut() {
            if *left == 0 {
                self.open.pop();
                continue;
            }
            let head = match head(bytes.get(at..).unwrap_or_default()) {
                Ok(head) => head,
                Err(Flaw::Incomplete) if at < limit => {
                    self.at = at;
                    return Ok(None);
                }
                Err(Flaw::Incomplete) => return Err(Flaw::TooLarge { limit }),
                Err(flaw) => return Err(flaw),
            };
            // An element takes at least one byte, so a count is a claim of bytes too.
            let (claim, values) = match head.kind {
                Kind::Array => (head.len, Some(head.len as u64)),
                Kind::Map => (head.len.saturating_mul(2), Some(2 * head.len as u64)),
                _ => (head.len, None),
            };
            let end = at.saturating_add(head.size).saturating_add(claim);
            if end > limit {
                return Err(Flaw::TooLarge { limit });
            }
            match values {
                Some(values) => {
                    *left -= 1;
                    at += head.size;
                    if self.open.len() > MAX_DEPTH {
                        return Err(Flaw::TooDeep);
                    }
                    self.open.push(values);
                }
                None if end > bytes.len() => {
                    self.at = at;
                    return Ok(None);
                }
                None => {
                    *left -= 1;
                    at = end;
                }
            }
        }
        Ok(Some(at))
    }
}

/// The content of a str or bin at the front of `bytes`, and the value's length.
#[inline]
pub fn text(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let head = head(bytes).ok()?;
    let end = head.size.checked_add(head.len)?;
    match head.kind {
        Kind::Text => Some((bytes.get(head.size..end)?, end)),
        _ => None,
    }
}

/// A number, in whatever form it was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Unsigned values above `i64::MAX` saturate.
    Int(i64),
    Float(f64),
}

/// The number that is the value `bytes`.
pub fn number(bytes: &[u8]) -> Option<Number> {
    let (&first, digits) = bytes.split_first()?;
    let number = match first {
        0x00..=0x7f => Number::Int(i64::from(first)),
        0xe0..=0xff => Number::Int(i64::from(first as i8)),
        0xcc => Number::Int(i64::from(*digits.first()?)),
        0xcd => Number::Int(i64::from(u16::from_be_bytes(*digits.first_chunk()?))),
        0xce => Number::Int(i64::from(u32::from_be_bytes(*digits.first_chunk()?))),
        0xcf => {
            let value = u64::from_be_bytes(*digits.first_chunk()?);
            Number::Int(i64::try_from(value).unwrap_or(i64::MAX))
        }
        0xd0 => Number::Int(i64::from(*digits.first()? as i8)),
        0xd1 => Number::Int(i64::from(i16::from_be_bytes(*digits.first_chunk()?))),
        0xd2 => Number::Int(i64::from(i32::from_be_bytes(*digits.first_chunk()?))),
        0xd3 => Number::Int(i64::from_be_bytes(*digits.first_chunk()?)),
        0xca => Number::Float(f64::from(f32::from_be_bytes(*digits.first_chunk()?))),
        0xcb => Number::Float(f64::from_be_bytes(*digits.first_chunk()?)),
        _ => return None,
    };
    Some(number)
}

/// Appends the head of a str of `len` bytes, in its shortest form.
#[inline]
pub fn write_str_head(out: &mut Vec<u8>, len: usize) {
    match len {
        0..=31 => out.push(0xa0 | len as u8),
        32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        0x100..=0xffff => out.extend_from_slice(&[0xda, (len >> 8) as u8, len as u8]),
        _ => {
            out.push(0xdb);
            // No str that we write outgrows a frame (MiB), so nothing is cut here.
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// Appends a whole str.
#[inline]
pub fn write_str(out: &mut Vec<u8>, text: &[u8]) {
    write_str_head(out, text.len());
    out.extend_from_slice(text);
}

/// Appends an integer in its shortest form.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    match value {
        0.. => write_u64(out, value.unsigned_abs()),
        -32..0 => out.push(value as u8),
        -0x80..-32 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000..-0x80 => {
            out.push(0xd1);
            out.extend_from_slice(&(value as i16).to_be_bytes());
        }
        -0x8000_0000..-0x8000 => {
            out.push(0xd2);
            out.extend_from_slice(&(value as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Appends an unsigned integer in its shortest form.
pub fn write_u64(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => out.extend_from_slice(&[0xcd, (value >> 8) as u8, value as u8]),
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Which container a head is for: fix, 16 and 32 bit markers.
#[derive(Clone, Copy)]
pub struct Container([u8; 3]);

pub const ARRAY: Container = Container([0x90, 0xdc, 0xdd]);
pub const MAP: Container = Container([0x80, 0xde, 0xdf]);

/// Writes the head of a container of `n` elements in front of what was put
/// behind `mark`, where `room` bytes (1, 3 or 5) were left for it; moves the
/// content where that was too little.
pub fn close(out: &mut Vec<u8>, mark: usize, room: usize, container: Container, n: usize) {
    let [fix, short, long] = container.0;
    let needed = match n {
        0..=15 => 1,
        16..=0xffff => 3,
        _ => 5,
    };
    let size = needed.max(room);
    if size > room {
        let end = out.len();
        out.resize(end + size - room, 0);
        out.copy_within(mark + room..end, mark + size);
    }
    let digits = (n as u32).to_be_bytes();
    match size {
        1 => out[mark] = fix | digits[3],
        3 => out[mark..mark + 3].copy_from_slice(&[short, digits[2], digits[3]]),
        _ => {
            out[mark] = long;
            out[mark + 1..mark + 5].copy_from_slice(&digits);
        }
    }
}

#[cfg(test)]
mod tests;
