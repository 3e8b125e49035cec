//! A line's JSON object, turned into msgpack map members in one pass.
//!
//! Strict RFC 8259: anything else leaves the output as it was and the caller
//! keeps the line untouched. Decided here, since peers differ:
//!
//! - only an object with nothing but blanks around it counts as JSON;
//! - integers are exact from `i64::MIN` to `u64::MAX`, larger ones become
//!   floats; a number that no finite float can hold (1e400) is an error;
//! - a lone surrogate escape, a raw control character, invalid UTF-8: errors;
//! - more than [`MAX_DEPTH`] levels: an error;
//! - of equal keys the last wins, at every level; no duplicate is emitted.
//!
//! Strings without escapes, the bulk of every log line, are a head and a copy.
//! It does not know records, tags or the envelope.

use crate::logs::fields::{self, Field};
use crate::logs::msgpack;

/// Objects and arrays nested deeper than this are not parsed. The recursion of
/// the parser is bounded by it, some 200 bytes of stack each.
pub const MAX_DEPTH: usize = 128;

/// The line is not a JSON object in the sense above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnObject;

/// Reusable space for [`Transcoder::object`].
#[derive(Debug, Default)]
pub struct Transcoder {
    /// Members of the objects now open, outermost first; at the end those of the outermost.
    members: Vec<Field>,
    unescaped: Vec<u8>,
}

impl Transcoder {
    /// Appends the members of the object that is `line` to `out`, keys and
    /// values in turn and without a map head, and returns where each lies in `out`.
    ///
    /// On error `out` is as it was.
    pub fn object(
        &mut self,
        line: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<&mut Vec<Field>, NotAnObject> {
        self.members.clear();
        let start = line
            .iter()
            .position(|byte| !is_blank(*byte))
            .unwrap_or(line.len());
        // Most lines that are not JSON end here, before any work is done.
        if line.get(start) != Some(&b'{') || std::str::from_utf8(line).is_err() {
            return Err(NotAnObject);
        }
        let mark = out.len();
        let mut parser = Parser {
            line,
            at: start + 1,
            out,
            members: &mut self.members,
            unescaped: &mut self.unescaped,
        };
        let parsed = parser.object(MAX_DEPTH).and_then(|()| {
            parser.blanks();
            match parser.at == line.len() {
                true => Ok(()),
                false => Err(NotAnObject),
            }
        });
        match parsed {
            Ok(()) => Ok(&mut self.members),
            Err(error) => {
                out.truncate(mark);
                Err(error)
            }
        }
    }
}

/// Reads `line`, which is valid UTF-8, from `at` on.
struct Parser<'a> {
    line: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    members: &'a mut Vec<Field>,
    unescaped: &'a mut Vec<u8>,
}

#[inline]
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

impl<'a> Parser<'a> {
    #[inline]
    fn blanks(&mut self) {
        while self.line.get(self.at).is_some_and(|byte| is_blank(*byte)) {
            self.at += 1;
        }
    }

    /// The next byte that is not blank, passed.
    #[inline]
    fn next(&mut self) -> Result<u8, NotAnObject> {
        self.blanks();
        let byte = *self.line.get(self.at).ok_or(NotAnObject)?;
        self.at += 1;
        Ok(byte)
    }

    /// Members up to and with the closing brace; the opening one is passed.
    /// Leaves them on top of `self.members`, duplicates gone.
    fn object(&mut self, depth: usize) -> Result<(), NotAnObject> {
        let base = self.members.len();
        let mut byte = self.next()?;
        if byte == b'}' {
            return Ok(());
        }
        loop {
            if byte != b'"' {
                return Err(NotAnObject);
            }
            let start = self.out.len();
            let key_len = self.string()?;
            let value = self.out.len();
            if self.next()? != b':' {
                return Err(NotAnObject);
            }
            self.value(depth)?;
            let key = (value - key_len, value);
            let member = Field::new(self.out, start, key, value, self.out.len());
            self.members.push(member);
            match self.next()? {
                b',' => byte = self.next()?,
                b'}' => break,
                _ => return Err(NotAnObject),
            }
        }
        if fields::shadow_duplicates(&mut self.members[base..], self.out) {
            fields::compact(self.out, self.members, base);
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), NotAnObject> {
        match self.next()? {
            b'"' => self.string().map(|_| ()),
            b'{' => {
                let depth = depth.checked_sub(1).filter(|left| *left > 0);
                let (mark, base) = (self.out.len(), self.members.len());
                self.out.push(0);
                self.object(depth.ok_or(NotAnObject)?)?;
                let n = self.members.len() - base;
                self.members.truncate(base);
                msgpack::close(self.out, mark, 1, msgpack::MAP, n);
                Ok(())
            }
            b'[' => {
                let depth = depth.checked_sub(1).filter(|left| *left > 0);
                self.array(depth.ok_or(NotAnObject)?)
            }
            b't' => self.literal(b"rue", 0xc3),
            b'f' => self.literal(b"alse", 0xc2),
            b'n' => self.literal(b"ull", 0xc0),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(NotAnObject),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), NotAnObject> {
        let mark = self.out.len();
        self.out.push(0);
        let mut n = 0;
        self.blanks();
        if self.line.get(self.at) == Some(&b']') {
            self.at += 1;
        } else {
            loop {
                self.value(depth)?;
                n += 1;
                match self.next()? {
                    b',' => {}
                    b']' => break,
                    _ => return Err(NotAnObject),
                }
            }
        }
        msgpack::close(self.out, mark, 1, msgpack::ARRAY, n);
        Ok(())
    }

    fn literal(&mut self, rest: &[u8], code: u8) -> Result<(), NotAnObject> {
        if !self.line[self.at..].starts_with(rest) {
            return Err(NotAnObject);
        }
        self.at += rest.len();
        self.out.push(code);
        Ok(())
    }

    /// A number whose first byte is passed.
    fn number(&mut self) -> Result<(), NotAnObject> {
        let start = self.at - 1;
        let negative = self.line[start] == b'-';
        let digits = if negative { self.at } else { start };
        let mut at = digits;
        let mut value: Option<u64> = Some(0);
        while let Some(digit @ b'0'..=b'9') = self.line.get(at) {
            let digit = u64::from(digit - b'0');
            value = value.and_then(|value| value.checked_mul(10)?.checked_add(digit));
            at += 1;
        }
        let n_digits = at - digits;
        if n_digits == 0 || (n_digits > 1 && self.line[digits] == b'0') {
            return Err(NotAnObject);
        }
        let whole = at;
        if self.line.get(at) == Some(&b'.') {
            at = self.digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = self.line.get(at) {
            at += 1;
            if let Some(b'+' | b'-') = self.line.get(at) {
                at += 1;
            }
            at = self.digits(at)?;
        }
        self.at = at;
        match value.filter(|_| at == whole) {
            Some(value) if !negative => {
                msgpack::write_u64(self.out, value);
                return Ok(());
            }
            // -0 is a float, the only form that keeps its sign.
            Some(value) if value > 0 && value <= i64::MIN.unsigned_abs() => {
                msgpack::write_i64(self.out, (value as i64).wrapping_neg());
                return Ok(());
            }
            _ => {}
        }
        let text = std::str::from_utf8(&self.line[start..at]).map_err(|_| NotAnObject)?;
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => msgpack::write_f64(self.out, float),
            _ => return Err(NotAnObject),
        }
        Ok(())
    }

    /// Where the digits from `at` on end; there must be one.
    fn digits(&self, at: usize) -> Result<usize, NotAnObject> {
        let n = self.line[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if n == 0 {
            return Err(NotAnObject);
        }
        Ok(at + n)
    }

    /// A string whose opening quote is passed, written as a str.
    /// Returns the length of its content.
    #[inline]
    fn string(&mut self) -> Result<usize, NotAnObject> {
        let rest = &self.line[self.at..];
        let len = plain_len(rest);
        match rest.get(len) {
            Some(b'"') => {
                msgpack::write_str(self.out, &rest[..len]);
                self.at += len + 1;
                Ok(len)
            }
            Some(b'\\') => self.escaped(),
            _ => Err(NotAnObject),
        }
    }

    /// As `string`, by way of a copy with the escapes resolved.
    fn escaped(&mut self) -> Result<usize, NotAnObject> {
        self.unescaped.clear();
        loop {
            let rest = &self.line[self.at..];
            let len = plain_len(rest);
            self.unescaped.extend_from_slice(&rest[..len]);
            self.at += len + 1;
            match rest.get(len) {
                Some(b'"') => break,
                Some(b'\\') => {}
                _ => return Err(NotAnObject),
            }
            let escape = *self.line.get(self.at).ok_or(NotAnObject)?;
            self.at += 1;
            let byte = match escape {
                b'"' | b'\\' | b'/' => escape,
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    let character = self.unicode_escape()?;
                    let mut utf8 = [0; 4];
                    let utf8 = character.encode_utf8(&mut utf8);
                    self.unescaped.extend_from_slice(utf8.as_bytes());
                    continue;
                }
                _ => return Err(NotAnObject),
            };
            self.unescaped.push(byte);
        }
        msgpack::write_str(self.out, self.unescaped);
        Ok(self.unescaped.len())
    }

    /// The character of `\uXXXX`, or of a surrogate pair of them; `\u` is passed.
    fn unicode_escape(&mut self) -> Result<char, NotAnObject> {
        let first = self.hex4()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or(NotAnObject);
        }
        if first >= 0xdc00 || !self.line[self.at..].starts_with(b"\\u") {
            return Err(NotAnObject);
        }
        self.at += 2;
        let second = self.hex4()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(NotAnObject);
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(NotAnObject)
    }

    fn hex4(&mut self) -> Result<u32, NotAnObject> {
        let digits = self.line.get(self.at..self.at + 4).ok_or(NotAnObject)?;
        self.at += 4;
        digits.iter().try_fold(0, |sum, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(NotAnObject)?;
            Ok(sum << 4 | digit)
        })
    }
}

/// How many bytes come before the first quote, backslash or control character
/// (or the end). Eight bytes at a time: a borrow can only make false marks
/// behind the first true one, and only the first is used.
#[inline]
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let quotes = quote.wrapping_sub(ONES) & !quote;
        let backslashes = backslash.wrapping_sub(ONES) & !backslash;
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let marks = (quotes | backslashes | controls) & HIGHS;
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let tail = &bytes[at..];
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    at + tail.iter().position(is_special).unwrap_or(tail.len())
}

#[cfg(test)]
mod tests;
