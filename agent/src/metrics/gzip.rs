//! Compressing pages: when the client takes it, and the compressor kept for it.

use flate2::{Compress, Compression, FlushCompress, Status};

/// A gzip compressor at level 1, kept because its tables are some 250 KiB.
pub struct Gzip {
    compress: Compress,
}

impl Gzip {
    pub fn new() -> Gzip {
        Gzip {
            compress: Compress::new_gzip(Compression::fast(), 15),
        }
    }

    /// `None` where the compressor refuses; the page then goes out plain.
    pub fn compress(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        self.compress.reset();
        let mut packed = Vec::with_capacity(plain.len() / 4 + 256);
        loop {
            let taken = usize::try_from(self.compress.total_in()).ok()?;
            let status = self
                .compress
                .compress_vec(plain.get(taken..)?, &mut packed, FlushCompress::Finish)
                .ok()?;
            match status {
                Status::StreamEnd => return Some(packed),
                Status::Ok | Status::BufError => packed.reserve(packed.capacity()),
            }
        }
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
