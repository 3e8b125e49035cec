//! Contents in the few ways that a config can hold them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

/// No name and no time in it: equal bytes give equal bytes.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    // Writing into memory has no way to fail.
    written.unwrap_or_default()
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// RFC 2397, the shorter of its two forms.
pub fn data_url(bytes: &[u8]) -> String {
    let escaped = format!("data:,{}", escaped(bytes));
    let encoded = format!("data:;base64,{}", base64(bytes));
    if escaped.len() <= encoded.len() {
        escaped
    } else {
        encoded
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~!*();:@&=$,/'".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
