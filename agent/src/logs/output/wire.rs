//! Blocks as frames of the forward protocol, and its answers.
//!
//! Source: Forward Protocol Specification v1, "PackedForward Mode" and "Option".
//! Frames of one tag go together, each under [`FRAME`] bytes, cut between
//! entries. A frame's id is made of the chunk id, the number of its first record
//! and their count, so the same id always means the same records.

use super::message::{Stop, Token, skip, token};
use crate::logs::buffer::{Block, ChunkId};
use std::collections::HashMap;

/// Largest frame, unless one entry alone is larger. Fluent Bit closes at 6,144,000
/// by default. Unit: bytes.
const FRAME: usize = 4 << 20;
/// Room for tag and option, beside the body.
const BODY: usize = FRAME - (128 << 10);

pub(super) struct Frame {
    pub bytes: Vec<u8>,
    pub id: String,
    /// A single entry that alone is over the limit of a frame.
    pub giant: bool,
}

struct Part<'a> {
    tag: &'a [u8],
    first_record: u64,
    n_records: u32,
    entries: Vec<u8>,
}

/// The frames of a block. Without `ack` they ask for no answer.
pub(super) fn frames(block: &Block, ack: bool) -> Vec<Frame> {
    parts(block)
        .into_iter()
        .map(|part| encode(block.chunk, &part, ack))
        .collect()
}

fn parts(block: &Block) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut latest: HashMap<&[u8], usize> = HashMap::new();
    for piece in &block.pieces {
        let tag = block.tag(piece);
        let mut first_record = piece.first_record;
        for (entries, n_records) in split(block.entries(piece), piece.n_records) {
            let fits = latest
                .get(tag)
                .copied()
                .filter(|&at| parts[at].entries.len() + entries.len() <= BODY);
            match fits {
                Some(at) => {
                    parts[at].entries.extend_from_slice(entries);
                    parts[at].n_records += n_records;
                }
                None => {
                    latest.insert(tag, parts.len());
                    parts.push(Part {
                        tag,
                        first_record,
                        n_records,
                        entries: entries.to_vec(),
                    });
                }
            }
            first_record += u64::from(n_records);
        }
    }
    parts
}

/// Cuts entries that are too long for one frame.
fn split(entries: &[u8], n_records: u32) -> Vec<(&[u8], u32)> {
    if entries.len() <= BODY {
        return vec![(entries, n_records)];
    }
    let mut runs = Vec::new();
    let (mut start, mut n, mut rest) = (0, 0, entries);
    while !rest.is_empty() {
        let at = entries.len() - rest.len();
        let whole = skip(&mut rest).is_ok();
        let end = if whole {
            entries.len() - rest.len()
        } else {
            entries.len()
        };
        if n > 0 && end - start > BODY {
            runs.push((&entries[start..at], n));
            (start, n) = (at, 0);
        }
        n += 1;
        if !whole {
            break;
        }
    }
    runs.push((&entries[start..], n));
    runs
}

fn encode(chunk: ChunkId, part: &Part<'_>, ack: bool) -> Frame {
    let mut id = [0; 28];
    id[..16].copy_from_slice(&chunk.0);
    id[16..24].copy_from_slice(&part.first_record.to_be_bytes());
    id[24..].copy_from_slice(&part.n_records.to_be_bytes());
    let id = base64(&id);
    let mut bytes = Vec::with_capacity(part.entries.len() + part.tag.len() + 128);
    bytes.push(0x93);
    text(part.tag, &mut bytes);
    bytes.push(0xc6);
    bytes.extend_from_slice(&(part.entries.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&part.entries);
    bytes.push(if ack { 0x83 } else { 0x82 });
    text(b"size", &mut bytes);
    bytes.push(0xce);
    bytes.extend_from_slice(&part.n_records.to_be_bytes());
    text(b"compressed", &mut bytes);
    text(b"text", &mut bytes);
    if ack {
        text(b"chunk", &mut bytes);
        text(id.as_bytes(), &mut bytes);
    }
    let giant = part.entries.len() > BODY;
    Frame { bytes, id, giant }
}

/// A str; tags are at most 65,535 bytes.
fn text(bytes: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(bytes.len()) {
        Ok(len @ 0..=31) => out.push(0xa0 | len),
        Ok(len) => out.extend_from_slice(&[0xd9, len]),
        Err(_) => {
            out.push(0xda);
            out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits) << 8;
        for digit in 0..4 {
            if digit <= group.len() {
                let six = bits >> (26 - 6 * digit) & 63;
                text.push(ALPHABET[six as usize].into());
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ack(Vec<u8>),
    /// The server wants a handshake.
    Helo,
    Strange,
}

/// Takes the next answer off the front, with its length. None: not whole yet.
pub(super) fn answer(bytes: &[u8]) -> Option<(Answer, usize)> {
    let mut rest = bytes;
    match read(&mut rest) {
        Ok(answer) => Some((answer, bytes.len() - rest.len())),
        Err(Stop::Short) => None,
        Err(Stop::Garbage) => Some((Answer::Strange, bytes.len())),
    }
}

fn read(rest: &mut &[u8]) -> Result<Answer, Stop> {
    match token(rest)? {
        Token::Map(n) => {
            let mut ack = None;
            for _ in 0..n {
                let key = *rest;
                skip(rest)?;
                let mut value = *rest;
                skip(rest)?;
                if token(&mut { key })? == Token::Str(b"ack")
                    && let Token::Str(id) | Token::Bin(id) = token(&mut value)?
                {
                    ack = Some(id.to_vec());
                }
            }
            Ok(ack.map_or(Answer::Strange, Answer::Ack))
        }
        Token::Array(n) if n > 0 => match token(rest)? {
            Token::Str(b"HELO") => Ok(Answer::Helo),
            _ => Ok(Answer::Strange),
        },
        _ => Ok(Answer::Strange),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, BODY, answer, base64, split};

    #[test]
    fn base64_pads_as_rfc_4648_says() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn an_ack_is_taken_once_it_is_whole() {
        let bytes = b"\x81\xa3ack\xa2id\xc0";
        for len in 0..8 {
            assert_eq!(answer(&bytes[..len]), None, "{len} bytes");
        }
        assert_eq!(answer(bytes), Some((Answer::Ack(b"id".to_vec()), 8)));
        assert_eq!(answer(b"\x93\xa4HELO\x80\x00"), Some((Answer::Helo, 6)));
        assert_eq!(answer(b"{\"ack\"").unwrap().0, Answer::Strange);
    }

    #[test]
    fn a_long_run_is_cut_between_entries() {
        let mut entry = b"\x92\x00\xc6\x00\x10\x00\x00".to_vec();
        entry.resize(entry.len() + (1 << 20), 7);
        let entries = entry.repeat(9);
        let runs = split(&entries, 9);
        assert_eq!(runs.iter().map(|(_, n)| n).sum::<u32>(), 9);
        for (run, n) in runs {
            assert_eq!(run.len(), n as usize * entry.len());
            assert!(run.len() <= BODY);
        }
    }
}
