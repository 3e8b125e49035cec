//! Frames of the forward protocol, as slices.
//!
//! Spec: github.com/fluent/forward-protocol, "Forward Protocol v1.5". A frame
//! is an array `[tag, …, option?]`; what stands second decides the mode:
//! a time → Message, an array → Forward, a str or bin → PackedForward, gzip'ed
//! if its first bytes say so (they are trusted over the `compressed` option).
//!
//! What a peer may get wrong without losing its connection, its neighbours or
//! its sanity is decided here: see [`Refusal`], [`Entry::Bad`] and `decode/tests.rs`.
//! A frame that is refused but has a `chunk` is acked all the same: sending it
//! again would not make it better. Corrupt or unknown compression is the
//! exception ([`Broken`]), since it may be damage on the way.

use crate::logs::enrich::Time;
use crate::logs::msgpack::{self, Kind, Number, Scanner};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, Read};

const GZIP_MAGIC: &[u8] = b"\x1f\x8b";
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// One msgpack value from a sender, understood.
#[derive(Debug, PartialEq)]
pub enum Decoded<'a> {
    Frame(Frame<'a>),
    /// nil, or an empty array.
    KeepAlive,
    /// Well-formed but no log frame: counted, acked if asked, and the connection goes on.
    Refused(Refusal, Option<&'a [u8]>),
    /// A bare number, string, map …: this peer speaks something else.
    Garbage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The tag is neither str nor bin.
    Tag,
    /// Fewer elements than the mode needs, or a second element of no mode.
    Shape,
    /// `fluent_signal` says metrics or traces.
    Signal,
}

#[derive(Debug, PartialEq)]
pub struct Frame<'a> {
    pub tag: &'a [u8],
    pub body: Body<'a>,
    /// The `chunk` option as it was encoded; the ack echoes these bytes.
    pub chunk: Option<&'a [u8]>,
}

#[derive(Debug, PartialEq)]
pub enum Body<'a> {
    /// Time and record of a Message.
    One(&'a [u8], &'a [u8]),
    /// Entries of a Forward or PackedForward frame, concatenated.
    Entries(&'a [u8]),
    /// Entries behind gzip, perhaps in several members.
    Gzip(&'a [u8]),
    /// Entries behind zstd, which is not supported.
    Zstd,
}

/// Decodes one complete value.
pub fn decode(value: &[u8]) -> Decoded<'_> {
    let Ok(head) = msgpack::head(value) else {
        return Decoded::Garbage;
    };
    match head.kind {
        Kind::Nil => return Decoded::KeepAlive,
        Kind::Array if head.len == 0 => return Decoded::KeepAlive,
        Kind::Array => {}
        _ => return Decoded::Garbage,
    }
    let mut rest = Elements(&value[head.size..]);
    let tag = rest.next();
    let second = rest.next();
    let (kind, mode) = match second.map(|second| (msgpack::head(second), second)) {
        Some((Ok(head), second)) => (head.kind, second),
        _ => return Decoded::Refused(Refusal::Shape, None),
    };
    let (body, option) = match kind {
        Kind::Text => {
            let packed = msgpack::text(mode).map_or(&b""[..], |(body, _)| body);
            let body = if packed.starts_with(GZIP_MAGIC) {
                Body::Gzip(packed)
            } else if packed.starts_with(ZSTD_MAGIC) {
                Body::Zstd
            } else {
                Body::Entries(packed)
            };
            (Some(body), rest.next())
        }
        Kind::Array if !is_annotated_time(mode) => {
            let size = msgpack::head(mode).map_or(0, |head| head.size);
            (Some(Body::Entries(&mode[size..])), rest.next())
        }
        // A time that is none of the forms is judged with its record.
        _ => {
            let record = rest.next();
            (record.map(|record| Body::One(mode, record)), rest.next())
        }
    };
    let option = read_option(option);
    let Some((tag, _)) = tag.and_then(msgpack::text) else {
        return Decoded::Refused(Refusal::Tag, option.chunk);
    };
    let Some(body) = body else {
        return Decoded::Refused(Refusal::Shape, option.chunk);
    };
    // A Message whose time is a string looks like PackedForward: its "body"
    // does not begin with an entry.
    if let Body::Entries(entries) = body {
        let first = entries.first().map(|_| msgpack::head(entries));
        if kind == Kind::Text && matches!(first, Some(Ok(head)) if head.kind != Kind::Array) {
            let chunk = read_option(rest.next()).chunk.or(option.chunk);
            return Decoded::Refused(Refusal::Shape, chunk);
        }
    }
    if option.is_other_signal {
        return Decoded::Refused(Refusal::Signal, option.chunk);
    }
    Decoded::Frame(Frame {
        tag,
        body,
        chunk: option.chunk,
    })
}

/// v1.5 allows `[time, {metadata}]` for a time. Second in a frame this looks
/// like a Forward array, whose first element would be an entry, thus an array.
fn is_annotated_time(value: &[u8]) -> bool {
    let Ok(head) = msgpack::head(value) else {
        return false;
    };
    let mut elements = Elements(&value[head.size..]);
    let kinds = [elements.next(), elements.next()].map(|element| {
        let head = element.map(msgpack::head)?.ok()?;
        Some(head.kind)
    });
    head.len == 2 && matches!(kinds, [Some(first), Some(Kind::Map)] if first != Kind::Array)
}

#[derive(Default)]
struct FrameOption<'a> {
    chunk: Option<&'a [u8]>,
    is_other_signal: bool,
}

/// Reads the option map; anything else there counts as no option (Docker 18 sends nil).
fn read_option(option: Option<&[u8]>) -> FrameOption<'_> {
    let mut read = FrameOption::default();
    let Some(option) = option else {
        return read;
    };
    let n = match msgpack::head(option) {
        Ok(head) if head.kind == Kind::Map => head.len,
        _ => return read,
    };
    let size = msgpack::head(option).map_or(0, |head| head.size);
    let mut elements = Elements(&option[size..]);
    for _ in 0..n {
        let (Some(key), Some(value)) = (elements.next(), elements.next()) else {
            break;
        };
        match msgpack::text(key) {
            Some((b"chunk", _)) if value != [0xc0] => read.chunk = Some(value),
            Some((b"fluent_signal", _)) => {
                read.is_other_signal =
                    matches!(msgpack::number(value), Some(Number::Int(signal)) if signal != 0);
            }
            _ => {}
        }
    }
    read
}

/// Values one behind the other.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let len = msgpack::value_len(self.0)?;
        let (value, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(value)
    }
}

/// Why a compressed body gives no entries.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("cannot decompress a frame")]
    Corrupt(#[source] io::Error),
    #[error("a frame holds more than {limit} bytes when decompressed")]
    TooLarge { limit: usize },
    #[error("zstd compression is not supported: set the sender to gzip or none")]
    Zstd,
}

/// Decompresses all members of `body` into `entries`, at most `limit` bytes.
pub fn gunzip(body: &[u8], limit: usize, entries: &mut Vec<u8>) -> Result<(), Broken> {
    entries.clear();
    let decoder = MultiGzDecoder::new(body);
    decoder
        .take(limit as u64 + 1)
        .read_to_end(entries)
        .map_err(Broken::Corrupt)?;
    if entries.len() > limit {
        return Err(Broken::TooLarge { limit });
    }
    Ok(())
}

/// One entry of a body.
#[derive(Debug, PartialEq)]
pub enum Entry<'a> {
    /// The time as it was encoded, and the record.
    Good(&'a [u8], &'a [u8]),
    /// A value that is no `[time, record]`; the next one may be good.
    Bad,
    /// What follows is cut off or not msgpack: nothing comes after it.
    Truncated,
}

/// Walks concatenated entries.
pub struct Entries<'a> {
    rest: &'a [u8],
    scanner: Scanner,
}

impl<'a> Entries<'a> {
    pub fn new(entries: &'a [u8]) -> Entries<'a> {
        Entries {
            rest: entries,
            scanner: Scanner::default(),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let Ok(Some(len)) = self.scanner.scan(self.rest, self.rest.len()) else {
            self.rest = &[];
            return Some(Entry::Truncated);
        };
        let (value, rest) = self.rest.split_at(len);
        self.rest = rest;
        let entry = match msgpack::head(value) {
            Ok(head) if head.kind == Kind::Array && head.len >= 2 => {
                let mut elements = Elements(&value[head.size..]);
                elements.next().zip(elements.next())
            }
            _ => None,
        };
        Some(entry.map_or(Entry::Bad, |(time, record)| Entry::Good(time, record)))
    }
}

/// What a time says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    At(Time),
    /// Outside 1970 to 2106, clamped to it; or zero, which senders use for "unknown".
    Odd(Time),
    /// nil: the time of arrival.
    Now,
}

/// Reads a time in any form that senders use: EventTime (ext type 0, as
/// fixext8 or ext8), integers of any width, floats, nil, and `[time, metadata]`
/// of v1.5. None: something else.
#[inline]
pub fn stamp(value: &[u8]) -> Option<Stamp> {
    match value {
        [0xd7, 0x00, digits @ ..] | [0xc7, 8, 0x00, digits @ ..] => {
            let seconds = u32::from_be_bytes(*digits.first_chunk()?);
            let nanoseconds = u32::from_be_bytes(*digits.get(4..)?.first_chunk()?);
            return Some(clamp(i128::from(seconds), nanoseconds));
        }
        [0xc0] => return Some(Stamp::Now),
        _ => {}
    }
    let head = msgpack::head(value).ok()?;
    if head.kind == Kind::Array && head.len > 0 {
        let time = Elements(&value[head.size..]).next()?;
        // One level only: a time in a time in a time is none.
        return match msgpack::head(time).ok()?.kind {
            Kind::Array => None,
            _ => stamp(time),
        };
    }
    match msgpack::number(value)? {
        Number::Int(seconds) => Some(clamp(i128::from(seconds), 0)),
        Number::Float(float) if float.is_finite() => {
            let whole = float.floor();
            let nanoseconds = ((float - whole) * 1e9) as u32;
            Some(clamp(whole as i128, nanoseconds))
        }
        Number::Float(_) => None,
    }
}

fn clamp(seconds: i128, nanoseconds: u32) -> Stamp {
    const SECOND: u32 = 1_000_000_000;
    let time = |seconds, nanoseconds| Time {
        seconds,
        nanoseconds,
    };
    match u32::try_from(seconds) {
        Ok(0) => Stamp::Odd(time(0, nanoseconds.min(SECOND - 1))),
        Ok(seconds) if nanoseconds < SECOND => Stamp::At(time(seconds, nanoseconds)),
        Ok(seconds) => Stamp::Odd(time(seconds, SECOND - 1)),
        Err(_) if seconds < 0 => Stamp::Odd(time(0, 0)),
        Err(_) => Stamp::Odd(time(u32::MAX, 0)),
    }
}

#[cfg(test)]
mod tests;
