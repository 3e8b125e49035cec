//! Names of block devices, from /sys/dev/block/MAJOR:MINOR, remembered.

use std::collections::HashMap;
use std::path::PathBuf;

/// More devices than a host has; then the memory starts anew.
const REMEMBERED: usize = 1024;

#[derive(Debug)]
pub struct Devices {
    directory: PathBuf,
    names: HashMap<String, String>,
}

impl Devices {
    /// `sys` is where /sys is.
    pub fn new(sys: &std::path::Path) -> Devices {
        Devices {
            directory: sys.join("dev/block"),
            names: HashMap::new(),
        }
    }

    /// `/dev/nvme0n1` of `259:0`; the numbers themselves where nobody knows the name.
    pub fn name(&mut self, number: &str) -> String {
        if let Some(name) = self.names.get(number) {
            return name.clone();
        }
        // The link ends with the device's directory: ../../devices/…/nvme0n1
        let link = std::fs::read_link(self.directory.join(number)).ok();
        let Some(name) = link.as_deref().and_then(|link| link.file_name()) else {
            return number.into();
        };
        let name = format!("/dev/{}", name.to_string_lossy().replace('!', "/"));
        if self.names.len() >= REMEMBERED {
            self.names.clear();
        }
        self.names.insert(number.into(), name.clone());
        name
    }
}
