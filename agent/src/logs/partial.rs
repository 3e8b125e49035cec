//! Docker's partial records, joined into the line that the container wrote.
//!
//! Docker cuts lines at 16 KiB and sends each part as a record of its own with
//! `partial_message`, `partial_id`, `partial_ordinal` (from 1) and
//! `partial_last`. Parts of one id are put in order here, whatever order they
//! come in; the joined record has the fields and the time of its first part,
//! without the `partial_*` ones.
//!
//! What cannot be joined is emitted as far as it is there, never dropped, with
//! [`MARKER`] naming why and `partial_id` kept so that pieces can be matched:
//! over [`MAX_LINE`] bytes in one line, more than [`MAX_HELD`] bytes or
//! [`MAX_LINES`] lines held, no last part within [`TIMEOUT`], or the connection
//! closed (Docker never completes a final line that has no newline).
//!
//! **The risk, stated:** a held part is in memory only, and is acked, since
//! Docker's driver sends the next part only after the ack of this one. So a
//! kill -9 loses the parts held at that moment: of each container at most the
//! one unfinished line of stdout and of stderr, [`MAX_LINE`] each. An orderly
//! stop emits them.

use crate::logs::enrich::{Record, Time};
use crate::logs::fields::Field;
use crate::logs::msgpack;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Longest joined line. Unit: bytes.
pub const MAX_LINE: usize = 1 << 20;
/// What one connection may hold in all. Unit: bytes.
pub const MAX_HELD: usize = 4 << 20;
/// How many unfinished lines one connection may hold.
pub const MAX_LINES: usize = 64;
/// How long after its first part an unfinished line is emitted.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// The field that marks an incomplete line; its value is a [`Cause`].
pub const MARKER: &str = "partial_incomplete";

/// What a held part costs beside its text, so that empty parts are not free. Unit: bytes.
const PART_COST: usize = 64;

/// Why a line was emitted before it was whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Overflow,
    Timeout,
    Closed,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Overflow => "overflow",
            Cause::Timeout => "timeout",
            Cause::Closed => "closed",
        }
    }
}

/// A joined record, ready to be shaped like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub tag: Vec<u8>,
    pub time: Time,
    pub record: Vec<u8>,
    /// None: all parts are there.
    pub incomplete: Option<Cause>,
}

/// One part, as slices of its record.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    id: &'a [u8],
    ordinal: u32,
    last: bool,
    text: &'a [u8],
}

impl<'a> Part<'a> {
    /// The part that `record` is, if it has all that a part needs.
    #[inline]
    pub fn of(record: &Record<'a>) -> Option<Part<'a>> {
        let (bytes, fields) = (record.bytes(), record.fields());
        let is_part = fields.iter().any(|f| f.key(bytes) == b"partial_id");
        is_part.then(|| Part::read(bytes, fields)).flatten()
    }

    fn read(record: &'a [u8], fields: &[Field]) -> Option<Part<'a>> {
        let value = |name: &str| {
            let field = fields
                .iter()
                .find(|field| !field.shadowed && field.key(record) == name.as_bytes())?;
            Some(msgpack::text(&record[field.value..field.end])?.0)
        };
        if value("partial_message")? != b"true" {
            return None;
        }
        Some(Part {
            id: value("partial_id")?,
            ordinal: std::str::from_utf8(value("partial_ordinal")?)
                .ok()?
                .parse()
                .ok()
                .filter(|ordinal| (1..u32::MAX).contains(ordinal))?,
            last: value("partial_last")? == b"true",
            text: value("log")?,
        })
    }
}

/// The unfinished lines of one connection.
#[derive(Debug, Default)]
pub struct Joiner {
    lines: Vec<Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    id: Vec<u8>,
    tag: Vec<u8>,
    time: Time,
    since: Instant,
    /// Fields that the joined record keeps, as map members.
    envelope: Vec<u8>,
    n_fields: usize,
    /// Parts `..next`, joined; an emitted beginning is no longer there.
    text: Vec<u8>,
    next: u32,
    /// Parts that came before their turn.
    ahead: BTreeMap<u32, Vec<u8>>,
    last: Option<u32>,
    held: usize,
    /// A beginning was emitted already.
    broken: bool,
}

impl Joiner {
    /// Takes the part that `record` is and appends the lines that this makes ready.
    pub fn take(
        &mut self,
        tag: &[u8],
        time: Time,
        (part, record): (Part<'_>, &Record<'_>),
        now: Instant,
        ready: &mut Vec<Line>,
    ) {
        let at = match self.lines.iter().position(|line| line.id == part.id) {
            Some(at) => at,
            None => {
                if self.lines.len() >= MAX_LINES {
                    ready.extend(self.lines.remove(0).emit(Some(Cause::Overflow)));
                }
                let line = Unfinished::begin(tag, time, record, part.id, now);
                self.lines.push(line);
                self.lines.len() - 1
            }
        };
        let line = &mut self.lines[at];
        line.add(part);
        if line.is_whole() {
            let line = self.lines.remove(at);
            let cause = line.broken.then_some(Cause::Overflow);
            ready.extend(line.emit(cause));
        } else if line.held > MAX_LINE {
            ready.extend(line.emit_beginning());
        }
        while self.lines.iter().map(|line| line.held).sum::<usize>() > MAX_HELD {
            ready.extend(self.lines.remove(0).emit(Some(Cause::Overflow)));
        }
    }

    /// When [`Joiner::expire`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.lines.first().map(|line| line.since + TIMEOUT)
    }

    /// Emits what has waited for too long.
    pub fn expire(&mut self, now: Instant, ready: &mut Vec<Line>) {
        while self.due().is_some_and(|due| due <= now) {
            ready.extend(self.lines.remove(0).emit(Some(Cause::Timeout)));
        }
    }

    /// Emits all that is held, at the connection's end.
    pub fn close(&mut self, ready: &mut Vec<Line>) {
        for line in self.lines.drain(..) {
            ready.extend(line.emit(Some(Cause::Closed)));
        }
    }
}

impl Unfinished {
    fn begin(tag: &[u8], time: Time, record: &Record<'_>, id: &[u8], now: Instant) -> Unfinished {
        let (record, fields) = (record.bytes(), record.fields());
        let mut envelope = Vec::new();
        let mut n_fields = 0;
        for field in fields.iter().filter(|field| !field.shadowed) {
            let key = field.key(record);
            if key != b"log" && !key.starts_with(b"partial_") {
                envelope.extend_from_slice(&record[field.start..field.end]);
                n_fields += 1;
            }
        }
        Unfinished {
            id: id.to_vec(),
            tag: tag.to_vec(),
            time,
            since: now,
            held: envelope.len(),
            envelope,
            n_fields,
            text: Vec::new(),
            next: 1,
            ahead: BTreeMap::new(),
            last: None,
            broken: false,
        }
    }

    fn add(&mut self, part: Part<'_>) {
        if part.last {
            self.last = Some(part.ordinal);
        }
        // A part sent twice, because its first ack was lost, counts once.
        if part.ordinal < self.next || self.ahead.contains_key(&part.ordinal) {
            return;
        }
        self.held += part.text.len();
        if part.ordinal > self.next {
            self.held += PART_COST;
            self.ahead.insert(part.ordinal, part.text.to_vec());
            return;
        }
        self.text.extend_from_slice(part.text);
        self.next += 1;
        while let Some(text) = self.ahead.remove(&self.next) {
            self.text.extend_from_slice(&text);
            self.next += 1;
        }
    }

    fn is_whole(&self) -> bool {
        self.last.is_some_and(|last| self.next > last)
    }

    /// What is there, as a line of its own; later parts go on behind it.
    fn emit_beginning(&mut self) -> Option<Line> {
        let follows = self.ahead.keys().next_back().map_or(self.next, |at| at + 1);
        let line = self.line(Some(Cause::Overflow));
        self.text = Vec::new();
        self.ahead.clear();
        self.next = follows;
        self.held = self.envelope.len();
        self.broken = true;
        line
    }

    fn emit(mut self, incomplete: Option<Cause>) -> Option<Line> {
        self.line(incomplete)
    }

    /// None when a broken line has no text left to tell.
    fn line(&mut self, incomplete: Option<Cause>) -> Option<Line> {
        let mut text = std::mem::take(&mut self.text);
        for part in std::mem::take(&mut self.ahead).into_values() {
            text.extend_from_slice(&part);
        }
        if self.broken && text.is_empty() {
            return None;
        }
        let mut record = Vec::with_capacity(self.envelope.len() + text.len() + 160);
        record.extend_from_slice(&[0; 3]);
        record.extend_from_slice(&self.envelope);
        let mut n = self.n_fields + 1;
        if let Some(cause) = incomplete {
            msgpack::write_str(&mut record, b"partial_id");
            msgpack::write_str(&mut record, &self.id);
            msgpack::write_str(&mut record, MARKER.as_bytes());
            msgpack::write_str(&mut record, cause.as_str().as_bytes());
            n += 2;
        }
        msgpack::write_str(&mut record, b"log");
        msgpack::write_str(&mut record, &text);
        msgpack::close(&mut record, 0, 3, msgpack::MAP, n);
        Some(Line {
            tag: self.tag.clone(),
            time: self.time,
            record,
            incomplete,
        })
    }
}

#[cfg(test)]
mod tests;
