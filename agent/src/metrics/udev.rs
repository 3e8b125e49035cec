//! Properties that udev keeps of a block device: `bMAJOR:MINOR` below
//! /run/udev/data, lines `E:KEY=VALUE`.
//!
//! udev replaces these files by rename, so they are opened anew each time.

use std::path::Path;

/// Empty where udev knows nothing of the device.
#[derive(Default)]
pub struct Properties {
    text: String,
}

impl Properties {
    pub fn of_block_device(data: &Path, major: &str, minor: &str) -> Properties {
        let text = std::fs::read(data.join(format!("b{major}:{minor}")))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        Properties { text }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            line.strip_prefix("E:")?
                .strip_prefix(key)?
                .strip_prefix('=')
        })
    }

    /// As a label: absent is empty.
    pub fn label(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// The first of `keys` that is set and not empty.
    pub fn first(&self, keys: &[&str]) -> &str {
        keys.iter()
            .map(|key| self.label(key))
            .find(|value| !value.is_empty())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Properties;

    #[test]
    fn keys_are_whole_words_and_missing_ones_are_empty() {
        let dir = tempfile::tempdir().unwrap();
        let text = "S:disk/by-id/x\nE:ID_SERIAL_SHORT=abc=d\nE:ID_WWN=\nG:systemd\n";
        std::fs::write(dir.path().join("b8:0"), text).unwrap();
        let known = Properties::of_block_device(dir.path(), "8", "0");
        assert_eq!(known.get("ID_SERIAL"), None);
        assert_eq!(known.label("ID_SERIAL_SHORT"), "abc=d");
        assert_eq!(known.first(&["ID_WWN", "ID_SERIAL_SHORT"]), "abc=d");
        let unknown = Properties::of_block_device(dir.path(), "8", "1");
        assert_eq!(unknown.label("ID_SERIAL_SHORT"), "");
    }
}
