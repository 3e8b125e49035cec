//! One frame: the entries of one tag as they lie in a segment file.
//!
//! Little-endian, 60 bytes of header, then tag, then payload:
//!
//! | at | bytes | what |
//! |---:|---:|---|
//! | 0 | 8 | mark, random per segment: a sender cannot forge a frame inside a record |
//! | 8 | 4 | CRC32C of bytes 12..60 |
//! | 12 | 4 | CRC32C of tag and payload |
//! | 16 | 4 | payload length |
//! | 20 | 4 | number of records |
//! | 24 | 2 | tag length |
//! | 26 | 2 | zero |
//! | 28 | 8 | number of the first record |
//! | 36 | 8 | time of the append, ms since 1970 |
//! | 44 | 16 | chunk id |
//!
//! The header has a checksum of its own, so damage in a payload costs that
//! frame only: its length is still known.

/// Unit: bytes.
pub(super) const HEADER: usize = 60;

/// Names a chunk for ever: random, equal in all its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkId(pub [u8; 16]);

impl ChunkId {
    pub(super) fn random() -> ChunkId {
        ChunkId(fastrand::u128(..).to_le_bytes())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub chunk: ChunkId,
    pub first_record: u64,
    pub time_ms: u64,
    pub n_records: u32,
    pub tag_len: u16,
    pub payload_len: u32,
    pub body_crc: u32,
}

impl Header {
    /// The whole frame, header included. Unit: bytes.
    pub fn frame_len(&self) -> u64 {
        HEADER as u64 + u64::from(self.tag_len) + u64::from(self.payload_len)
    }

    /// None: these bytes are no header of this segment, or damaged.
    pub fn decode(mark: u64, bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        if bytes[..8] != mark.to_le_bytes() || u32_at(bytes, 8) != crc32c::crc32c(&bytes[12..]) {
            return None;
        }
        let mut chunk = [0; 16];
        chunk.copy_from_slice(&bytes[44..60]);
        Some(Header {
            chunk: ChunkId(chunk),
            first_record: u64_at(bytes, 28),
            time_ms: u64_at(bytes, 36),
            n_records: u32_at(bytes, 20),
            tag_len: u16::from_le_bytes([bytes[24], bytes[25]]),
            payload_len: u32_at(bytes, 16),
            body_crc: u32_at(bytes, 12),
        })
    }

    fn encode(&self, mark: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&mark.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.n_records.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.tag_len.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.first_record.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.time_ms.to_le_bytes());
        bytes[44..60].copy_from_slice(&self.chunk.0);
        let crc = crc32c::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Lays frames one behind the other. Consecutive batches of one tag share a
/// frame up to [`SHARED`] bytes, so that single records cost little framing.
pub(super) struct Encoder<'a> {
    pub bytes: &'a mut Vec<u8>,
    pub mark: u64,
    pub chunk: ChunkId,
    pub time_ms: u64,
    pub next_record: u64,
    /// Where the frame being built starts.
    open: Option<(usize, Header)>,
}

const SHARED: usize = 256 << 10;

impl<'a> Encoder<'a> {
    pub fn new(bytes: &'a mut Vec<u8>, mark: u64, chunk: ChunkId, next_record: u64) -> Encoder<'a> {
        Encoder {
            bytes,
            mark,
            chunk,
            time_ms: super::ledger::now_ms(),
            next_record,
            open: None,
        }
    }

    /// A tag is cut at 65,535 bytes. A payload is at most 4 GiB: the caller sees to it.
    pub fn push(&mut self, tag: &[u8], entries: &[u8], n_records: u32) {
        let tag = &tag[..tag.len().min(u16::MAX.into())];
        let joined = match &mut self.open {
            Some((start, header))
                if header.payload_len as usize + entries.len() <= SHARED
                    && self.bytes[*start + HEADER..][..header.tag_len.into()] == *tag =>
            {
                header.n_records += n_records;
                header.payload_len += entries.len() as u32;
                true
            }
            _ => false,
        };
        if !joined {
            self.close();
            let header = Header {
                chunk: self.chunk,
                first_record: self.next_record,
                time_ms: self.time_ms,
                n_records,
                tag_len: tag.len() as u16,
                payload_len: entries.len() as u32,
                body_crc: 0,
            };
            self.open = Some((self.bytes.len(), header));
            self.bytes.extend_from_slice(&[0; HEADER]);
            self.bytes.extend_from_slice(tag);
        }
        self.bytes.extend_from_slice(entries);
        self.next_record += u64::from(n_records);
    }

    /// Ends the last frame. Returns the number of the next record.
    pub fn finish(mut self) -> u64 {
        self.close();
        self.next_record
    }

    fn close(&mut self) {
        if let Some((start, mut header)) = self.open.take() {
            header.body_crc = crc32c::crc32c(&self.bytes[start + HEADER..]);
            self.bytes[start..start + HEADER].copy_from_slice(&header.encode(self.mark));
        }
    }
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::{ChunkId, Encoder, HEADER, Header};

    #[test]
    fn header_comes_back_and_any_flipped_bit_is_seen() {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 7, ChunkId([3; 16]), 41);
        encoder.push(b"app", b"payload", 2);
        assert_eq!(encoder.finish(), 43);
        let header = Header::decode(7, &bytes).unwrap();
        assert_eq!((header.first_record, header.n_records), (41, 2));
        assert_eq!(header.frame_len(), bytes.len() as u64);
        assert_eq!(header.body_crc, crc32c::crc32c(&bytes[HEADER..]));
        for bit in 0..HEADER * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(7, &damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn neighbours_of_one_tag_share_a_frame() {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 7, ChunkId([3; 16]), 0);
        for tag in ["a", "a", "b", "a"] {
            encoder.push(tag.as_bytes(), b"xy", 1);
        }
        assert_eq!(encoder.finish(), 4);
        assert_eq!(bytes.len(), 3 * (HEADER + 1) + 8);
    }
}
