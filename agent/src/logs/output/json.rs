//! A stored entry as one JSON line.
//!
//! `time` (RFC 3339, nine decimals, UTC) and `tag` come first, then the record's
//! fields; a field that is itself named `time` or `tag` becomes `record_time`,
//! `record_tag`. What JSON has no form for: bytes that are no UTF-8 are
//! replaced (U+FFFD), bin is text, NaN and infinities are the strings `NaN`,
//! `Infinity`, `-Infinity`, EventTime is a time, any other ext is
//! `{"ext":TYPE,"hex":"…"}`, below [`DEPTH`] levels there is `null`.

use super::message::{Stop, Token, skip, token};
use std::fmt::Write;

const DEPTH: u32 = 64;

/// Appends one line per entry. Returns how many; Err: the rest is no msgpack entry.
pub(super) fn lines(tag: &[u8], mut entries: &[u8], out: &mut String) -> Result<u64, Stop> {
    let mut n = 0;
    while !entries.is_empty() {
        let start = out.len();
        if let Err(stop) = line(tag, &mut entries, out) {
            out.truncate(start);
            return Err(stop);
        }
        n += 1;
    }
    Ok(n)
}

fn line(tag: &[u8], entry: &mut &[u8], out: &mut String) -> Result<(), Stop> {
    let Token::Array(2) = token(entry)? else {
        return Err(Stop::Garbage);
    };
    out.push_str("{\"time\":");
    match token(entry)? {
        Token::Uint(seconds) => time(i64::try_from(seconds).unwrap_or(i64::MAX), 0, out),
        Token::Int(seconds) => time(seconds, 0, out),
        Token::Ext(0, &[a, b, c, d, e, f, g, h]) => time(
            u32::from_be_bytes([a, b, c, d]).into(),
            u32::from_be_bytes([e, f, g, h]),
            out,
        ),
        _ => return Err(Stop::Garbage),
    }
    out.push_str(",\"tag\":");
    string(tag, out);
    let Token::Map(n) = token(entry)? else {
        return Err(Stop::Garbage);
    };
    for _ in 0..n {
        out.push(',');
        let mut after = *entry;
        match token(&mut after)? {
            Token::Str(name @ (b"time" | b"tag")) => {
                string(&[b"record_", name].concat(), out);
                *entry = after;
            }
            _ => key(entry, out)?,
        }
        out.push(':');
        value(entry, DEPTH, out)?;
    }
    out.push_str("}\n");
    Ok(())
}

/// A key that is no string is its JSON text as a string; an array or map as a
/// key is its raw bytes as one, since quotes within quotes grow without bound.
fn key(rest: &mut &[u8], out: &mut String) -> Result<(), Stop> {
    let whole = *rest;
    let mut after = whole;
    match token(&mut after)? {
        Token::Str(text) | Token::Bin(text) => string(text, out),
        Token::Array(_) | Token::Map(_) => {
            after = whole;
            skip(&mut after)?;
            string(&whole[..whole.len() - after.len()], out);
        }
        scalar => {
            let mut text = String::new();
            shown(scalar, &mut after, 1, &mut text)?;
            string(text.as_bytes(), out);
        }
    }
    *rest = after;
    Ok(())
}

fn value(bytes: &mut &[u8], depth: u32, out: &mut String) -> Result<(), Stop> {
    if depth == 0 {
        out.push_str("null");
        return skip(bytes);
    }
    let token = token(bytes)?;
    shown(token, bytes, depth, out)
}

fn shown(token: Token<'_>, rest: &mut &[u8], depth: u32, out: &mut String) -> Result<(), Stop> {
    match token {
        Token::Nil => out.push_str("null"),
        Token::Bool(flag) => out.push_str(if flag { "true" } else { "false" }),
        Token::Int(number) => out.push_str(itoa::Buffer::new().format(number)),
        Token::Uint(number) => out.push_str(itoa::Buffer::new().format(number)),
        Token::Float(number) => float(number, out),
        Token::Str(bytes) | Token::Bin(bytes) => string(bytes, out),
        Token::Ext(0, &[a, b, c, d, e, f, g, h]) => time(
            u32::from_be_bytes([a, b, c, d]).into(),
            u32::from_be_bytes([e, f, g, h]),
            out,
        ),
        Token::Ext(kind, bytes) => {
            let _ = write!(out, "{{\"ext\":{kind},\"hex\":\"");
            for byte in bytes {
                let _ = write!(out, "{byte:02x}");
            }
            out.push_str("\"}");
        }
        Token::Array(n) => {
            out.push('[');
            for index in 0..n {
                if index > 0 {
                    out.push(',');
                }
                value(rest, depth - 1, out)?;
            }
            out.push(']');
        }
        Token::Map(n) => {
            out.push('{');
            for index in 0..n {
                if index > 0 {
                    out.push(',');
                }
                key(rest, out)?;
                out.push(':');
                value(rest, depth - 1, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn float(number: f64, out: &mut String) {
    if number.is_nan() {
        out.push_str("\"NaN\"");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        });
    } else {
        out.push_str(zmij::Buffer::new().format_finite(number));
    }
}

/// Seconds outside jiff's range (years ±9999) are shown as the number.
fn time(seconds: i64, nanoseconds: u32, out: &mut String) {
    let nanoseconds = i32::try_from(nanoseconds.min(999_999_999)).unwrap_or(0);
    let _ = match jiff::Timestamp::new(seconds, nanoseconds) {
        Ok(timestamp) => write!(out, "\"{timestamp:.9}\""),
        Err(_) => write!(out, "{seconds}"),
    };
}

fn string(bytes: &[u8], out: &mut String) {
    out.push('"');
    for part in bytes.utf8_chunks() {
        let mut plain = 0;
        let valid = part.valid();
        for (at, byte) in valid.bytes().enumerate() {
            let escape = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                b'\r' => "\\r",
                b'\t' => "\\t",
                0x00..=0x1f | 0x7f => "",
                _ => continue,
            };
            out.push_str(&valid[plain..at]);
            plain = at + 1;
            if escape.is_empty() {
                let _ = write!(out, "\\u{byte:04x}");
            } else {
                out.push_str(escape);
            }
        }
        out.push_str(&valid[plain..]);
        if !part.invalid().is_empty() {
            out.push('\u{fffd}');
        }
    }
    out.push('"');
}
