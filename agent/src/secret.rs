//! A value that must not be seen: keys, passwords, tokens.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;

/// Longest secret that is read from a file. Unit: bytes.
const LONGEST: u64 = 64 << 10;

/// A secret string. `Debug` prints `***`; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Secret {
        Secret(value)
    }

    /// The value itself. Every caller is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret lies; the config never holds one itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    /// By the name that systemd's `LoadCredential=` gave it.
    Credential(String),
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the secret in {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the secret in {path} is empty, longer than 64 KiB or no text")]
    Text { path: PathBuf },
    #[error("no credential {0:?}: systemd has given this process no credentials directory")]
    NoCredentials(String),
}

impl Source {
    /// The secret as it is now, without the line's end. `credentials` is what
    /// `$CREDENTIALS_DIRECTORY` says.
    pub async fn read(&self, credentials: Option<&Path>) -> Result<Secret, ReadError> {
        let path = match (self, credentials) {
            (Source::File(path), _) => path.clone(),
            (Source::Credential(name), Some(directory)) => directory.join(name),
            (Source::Credential(name), None) => {
                return Err(ReadError::NoCredentials(name.clone()));
            }
        };
        let mut text = Vec::new();
        let read = async {
            let file = tokio::fs::File::open(&path).await?;
            file.take(LONGEST + 1).read_to_end(&mut text).await
        };
        if let Err(source) = read.await {
            return Err(ReadError::Read { path, source });
        }
        let text = match String::from_utf8(text) {
            Ok(text) if text.len() as u64 <= LONGEST => text,
            Ok(_) | Err(_) => return Err(ReadError::Text { path }),
        };
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(ReadError::Text { path }),
            text => Ok(Secret::new(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, Source};

    #[test]
    fn debug_never_shows_the_value() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "***");
    }

    #[tokio::test]
    async fn a_secret_is_read_without_its_lines_end_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("word");
        std::fs::write(&path, " pass word \r\n").unwrap();
        let credential = Source::Credential("word".into());
        for source in [Source::File(path.clone()), credential.clone()] {
            let secret = source.read(Some(dir.path())).await.unwrap();
            assert_eq!(secret.expose(), " pass word ");
        }
        assert!(credential.read(None).await.is_err());
        std::fs::write(&path, "\n").unwrap();
        assert!(Source::File(path).read(None).await.is_err());
    }
}
