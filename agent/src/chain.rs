//! An error and its causes on one line.

use std::error::Error;
use std::fmt;

/// Prints an error and every `source` behind it, joined by `: `.
///
/// Error texts in this house name the attempt and its object and leave the
/// cause to `source`, so the chain is printed once, here.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Chain;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open segment {0}")]
    struct Open(u32, #[source] io::Error);

    #[test]
    fn chain_prints_every_cause_once() {
        let error = Open(7, io::Error::other("disk on fire"));
        assert_eq!(
            Chain(&error).to_string(),
            "cannot open segment 7: disk on fire"
        );
    }
}
