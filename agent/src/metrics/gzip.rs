//! Compressing pages: when the client takes it, and the compressor kept for it.

use flate2::{Compress, Compression, FlushCompress, Status};

/// Bytes that are gathered before the compressor is called.
const LUMP: usize = 64 << 10;

/// A gzip compressor at level 1, kept because its tables are some 250 KiB.
pub struct Gzip {
    compress: Compress,
    lump: Vec<u8>,
    packed: Vec<u8>,
    refused: bool,
}

impl Gzip {
    pub fn new() -> Gzip {
        Gzip {
            compress: Compress::new_gzip(Compression::fast(), 15),
            lump: Vec::new(),
            packed: Vec::new(),
            refused: false,
        }
    }

    /// `None` where the compressor refuses; the page then goes out plain.
    pub fn compress(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        self.push(plain);
        self.finish()
    }

    /// The next piece of a page.
    pub fn push(&mut self, piece: &[u8]) {
        for part in piece.chunks(LUMP) {
            if self.lump.len() + part.len() > LUMP {
                self.pack(FlushCompress::None);
            }
            self.lump.extend_from_slice(part);
        }
    }

    /// The whole page, packed. `None` where the compressor refuses.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        self.pack(FlushCompress::Finish);
        self.compress.reset();
        let refused = std::mem::take(&mut self.refused);
        let packed = std::mem::take(&mut self.packed);
        (!refused).then_some(packed)
    }

    fn pack(&mut self, flush: FlushCompress) {
        let before = self.compress.total_in();
        while !self.refused {
            if self.packed.capacity() - self.packed.len() < LUMP / 4 {
                self.packed.reserve(self.packed.len().max(LUMP / 4));
            }
            let taken = usize::try_from(self.compress.total_in() - before).unwrap_or(LUMP);
            let rest = self.lump.get(taken..).unwrap_or_default();
            let status = self.compress.compress_vec(rest, &mut self.packed, flush);
            let all = self.compress.total_in() - before == self.lump.len() as u64;
            match (status, flush) {
                (Ok(Status::StreamEnd), _) => break,
                // Without a flush the compressor may keep what it took.
                (Ok(_), FlushCompress::None) if all => break,
                (Ok(_), _) => {}
                (Err(_), _) => self.refused = true,
            }
        }
        self.lump.clear();
    }
}

/// Whether an Accept-Encoding value takes gzip, RFC 9110 section 12.5.3.
pub fn is_accepted(accept_encoding: &str) -> bool {
    let mut any = false;
    for item in accept_encoding.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let weight = parts
            .find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")))
            .map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0));
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            return weight > 0.0;
        }
        any |= coding == "*" && weight > 0.0;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::{Gzip, is_accepted};
    use std::io::Read;

    #[test]
    fn each_page_of_a_kept_compressor_unpacks_by_itself() {
        let mut gzip = Gzip::new();
        let long: String = (0u64..40_000)
            .map(|n| format!("{} ", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        for page in [&long, "", "short", &long] {
            let packed = gzip.compress(page.as_bytes()).unwrap();
            let mut unpacked = String::new();
            flate2::read::GzDecoder::new(&packed[..])
                .read_to_string(&mut unpacked)
                .unwrap();
            assert_eq!(unpacked.len(), page.len());
            assert!(unpacked == *page);
        }
    }

    #[test]
    fn gzip_is_sent_only_where_it_is_accepted() {
        for (header, accepted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("", false),
            ("gzip;q=nonsense", false),
        ] {
            assert_eq!(is_accepted(header), accepted, "{header}");
        }
    }
}
