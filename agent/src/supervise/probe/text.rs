//! Text from inside a container, made fit for a verdict.

/// Most that is kept of what a command prints, its end, and of the text that
/// it becomes. Unit: bytes.
pub const KEPT: usize = 4 << 10;

/// The end of an output of any length.
#[derive(Debug, Default)]
pub struct Tail {
    kept: Vec<u8>,
}

impl Tail {
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(KEPT)..];
        let surplus = (self.kept.len() + bytes.len()).saturating_sub(KEPT);
        self.kept.drain(..surplus);
        self.kept.extend_from_slice(bytes);
    }

    pub fn text(&self) -> String {
        escaped(&self.kept)
    }
}

/// One line of printable text, at most [`KEPT`] bytes, the end of it if it is longer.
pub fn escaped(bytes: &[u8]) -> String {
    let bytes = &bytes[bytes.len().saturating_sub(KEPT)..];
    let text = String::from_utf8_lossy(bytes);
    let mut safe = String::with_capacity(text.len());
    for c in text.trim().chars() {
        // Bidirectional controls turn the rest of a terminal's line round.
        let turns = matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    let mut start = safe.len().saturating_sub(KEPT);
    while !safe.is_char_boundary(start) {
        start += 1;
    }
    safe.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Tail, escaped};

    #[test]
    fn the_end_of_an_endless_output_is_kept_and_nothing_else() {
        let mut tail = Tail::default();
        for n in 0..100_000 {
            tail.push(format!("line {n}\n").as_bytes());
            assert!(tail.kept.len() <= KEPT && tail.kept.capacity() <= 4 * KEPT);
        }
        tail.push(&vec![b'x'; 1 << 20]);
        assert_eq!(tail.text(), "x".repeat(KEPT));
        tail.push(b" the end\n");
        assert!(tail.text().ends_with("xx the end"));
    }

    #[test]
    fn whatever_is_printed_becomes_one_safe_line() {
        assert_eq!(escaped(b"\n a\tb\r\nc \n"), "a\\tb\\r\\nc");
        assert_eq!(
            escaped(b"caf\xe9 \x1b[31m\xff"),
            "caf\u{fffd} \\u{1b}[31m\u{fffd}"
        );
        assert_eq!(escaped("é\u{202e}".as_bytes()), "é\\u{202e}");
        for bytes in [vec![0x1b; 9000], vec![0xff; 9000], "é".repeat(5000).into()] {
            let text = escaped(&bytes);
            assert!(
                text.len() <= KEPT && text.len() > KEPT - 8,
                "{}",
                text.len()
            );
        }
    }
}
