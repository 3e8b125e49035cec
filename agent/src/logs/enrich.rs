//! What happens to each record: its JSON line merged, fields added from constants and facts.
//!
//! A record is never decoded. The keys of the JSON line are written first,
//! then the envelope's fields as the slices they came in, then the enrichment
//! as one byte string made when the [`Shaper`] was. A line that is no JSON
//! object goes on untouched: nothing is ever lost here.
//!
//! It does not know connections, tags or the buffer.

use crate::facts::Facts;
use crate::logs::fields::{self, Field, NotAMap};
use crate::logs::json::Transcoder;
use crate::logs::msgpack;

/// How the text of a field becomes fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parse {
    /// The field whose JSON object is merged into the record; None: nothing is parsed. Default `log`.
    pub json_field: Option<String>,
    /// Keep the raw field beside the parsed keys. Default false.
    pub keep_raw: bool,
}

impl Default for Parse {
    fn default() -> Parse {
        Parse {
            json_field: Some("log".into()),
            keep_raw: false,
        }
    }
}

/// `"${node.region}-x"`: literal text and facts, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// The fact's name: `region` in `${node.region}`.
    Node(String),
}

impl Template {
    /// Err(text) names what is wrong with it.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            if start > 0 {
                pieces.push(Piece::Text(rest[..start].into()));
            }
            let Some(length) = rest[start..].find('}') else {
                return Err(format!("no closing brace after {:?}", &rest[start..]));
            };
            let name = &rest[start + 2..start + length];
            match name.strip_prefix("node.") {
                Some(fact) if !fact.is_empty() => pieces.push(Piece::Node(fact.into())),
                _ => {
                    return Err(format!(
                        "unknown placeholder ${{{name}}}: use ${{node.NAME}}"
                    ));
                }
            }
            rest = &rest[start + length + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Template(pieces))
    }

    /// The text, or None while a fact that it needs is unknown.
    pub fn render(&self, facts: &Facts) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Node(name) => text.push_str(facts.get(name)?),
            }
        }
        Some(text)
    }
}

/// Reusable space for reading and shaping records; one per connection.
#[derive(Debug, Default)]
pub struct Scratch {
    envelope: Vec<Field>,
    transcoder: Transcoder,
}

/// A record whose fields are known.
pub struct Record<'a> {
    bytes: &'a [u8],
    scratch: &'a mut Scratch,
}

impl Scratch {
    /// Finds the fields of `bytes`. Error: they are not one whole map.
    #[inline]
    pub fn read<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Record<'a>, NotAMap> {
        fields::read(bytes, &mut self.envelope)?;
        Ok(Record {
            bytes,
            scratch: self,
        })
    }
}

impl<'a> Record<'a> {
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn fields(&self) -> &[Field] {
        &self.scratch.envelope
    }
}

/// When a record happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Since 1970. Unit: seconds.
    pub seconds: u32,
    pub nanoseconds: u32,
}

/// What became of the text field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shaped {
    /// Its JSON object was merged.
    Parsed,
    /// It is there and is no JSON object: kept as it is.
    Unparsed,
    /// There is no such text, or none is to be parsed.
    Plain,
}

/// One record's way through parsing and enrichment, with the facts of now baked in.
///
/// Of equal keys one is emitted: an enrichment field wins over a parsed key,
/// which wins over a field of the envelope; within each the last wins.
pub struct Shaper {
    json_field: Option<Vec<u8>>,
    json_field_hash: u32,
    keep_raw: bool,
    names: Vec<(u32, Vec<u8>)>,
    /// The enrichment fields as map members, ready to append.
    enrichment: Vec<u8>,
}

impl Shaper {
    /// Fields whose facts are unknown are left out until a Shaper with better facts is made.
    pub fn new(parse: &Parse, enrich: &[(String, Template)], facts: &Facts) -> Shaper {
        let mut names: Vec<(u32, Vec<u8>)> = Vec::new();
        let mut enrichment = Vec::new();
        for (at, (name, template)) in enrich.iter().enumerate() {
            let overridden = enrich[at + 1..].iter().any(|(later, _)| later == name);
            let Some(text) = template.render(facts).filter(|_| !overridden) else {
                continue;
            };
            msgpack::write_str(&mut enrichment, name.as_bytes());
            msgpack::write_str(&mut enrichment, text.as_bytes());
            names.push((fields::hash(name.as_bytes()), name.clone().into_bytes()));
        }
        let json_field = parse.json_field.clone().map(String::into_bytes);
        Shaper {
            json_field_hash: json_field.as_deref().map_or(0, fields::hash),
            json_field,
            keep_raw: parse.keep_raw,
            names,
            enrichment,
        }
    }

    /// Appends `[time, record]`, shaped, to `out`: an entry of a PackedForward body.
    pub fn shape(&self, time: Time, record: Record<'_>, out: &mut Vec<u8>) -> Shaped {
        let Record {
            bytes: record,
            scratch,
        } = record;
        let envelope = &mut scratch.envelope;
        write_entry_head(out, time);
        let mark = out.len();
        out.extend_from_slice(&[0; ROOM]);

        let text = self.text(envelope, record);
        let mut shaped = Shaped::Plain;
        let mut n = self.names.len();
        if let Some((at, line)) = text {
            shaped = Shaped::Unparsed;
            if let Ok(members) = scratch.transcoder.object(line, out) {
                shaped = Shaped::Parsed;
                envelope[at].shadowed |= !self.keep_raw;
                if self.shadow_by_enrichment(members, out) {
                    fields::compact(out, members, 0);
                }
                fields::shadow_by(envelope, record, members, out);
                n += members.len();
            }
        }
        self.shadow_by_enrichment(envelope, record);
        for field in envelope.iter().filter(|field| !field.shadowed) {
            out.extend_from_slice(&record[field.start..field.end]);
            n += 1;
        }
        out.extend_from_slice(&self.enrichment);
        msgpack::close(out, mark, ROOM, msgpack::MAP, n);
        shaped
    }

    /// The text to parse, and the place of its field in the envelope.
    #[inline]
    fn text<'r>(&self, envelope: &[Field], record: &'r [u8]) -> Option<(usize, &'r [u8])> {
        let name = self.json_field.as_deref()?;
        let at = envelope
            .iter()
            .position(|f| !f.shadowed && f.is_named(record, name, self.json_field_hash))?;
        let (line, _) = msgpack::text(&record[envelope[at].value..])?;
        Some((at, line))
    }

    /// Marks the fields that enrichment overrides. True if there is one.
    #[inline]
    fn shadow_by_enrichment(&self, fields: &mut [Field], bytes: &[u8]) -> bool {
        let mut found = false;
        for field in fields {
            for (hash, name) in &self.names {
                if field.is_named(bytes, name, *hash) {
                    field.shadowed = true;
                    found = true;
                }
            }
        }
        found
    }
}

/// Room for the head of the record's map: a map16, which nearly every record fits.
const ROOM: usize = 3;

/// An array of two and the EventTime: ext type 0 of 8 bytes, seconds and
/// nanoseconds big-endian (Forward Protocol v1, "EventTime Ext Format").
fn write_entry_head(out: &mut Vec<u8>, time: Time) {
    out.extend_from_slice(&[0x92, 0xd7, 0x00]);
    out.extend_from_slice(&time.seconds.to_be_bytes());
    out.extend_from_slice(&time.nanoseconds.to_be_bytes());
}

#[cfg(test)]
mod tests;
