//! The real Ignition, run over a directory: what it would write on a host's first boot.
//!
//! Debian's package has one program for all of Ignition's names; called `ignition-apply` it does the
//! files stage alone. It fetches what the config names by http itself and checks its hash.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use crate::program::{command, output, stdout};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/lib/dracut/modules.d/30ignition/ignition";
const HINT: &str = "apt-get install ignition (tests/run does)";

/// What that config makes of an empty root.
pub fn apply(config: &str) -> TempDir {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::write(at("config.ign"), config).unwrap();
    // It says what it does not know, and goes on.
    let mut validate = command("ignition-validate");
    let said = output(validate.arg(at("config.ign")), HINT).unwrap();
    let said = [said.stdout, said.stderr].concat();
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));

    let root = TempDir::new().unwrap();
    let etc = root.path().join("etc");
    fs::create_dir(&etc).unwrap();
    // It looks up owners there.
    fs::write(etc.join("passwd"), "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    fs::write(etc.join("group"), "root:x:0:\n").unwrap();
    symlink(PROGRAM, at("ignition-apply")).unwrap();
    let mut apply = command(at("ignition-apply"));
    apply.arg("--root").arg(root.path()).arg(at("config.ign"));
    // It runs inside of containers only, where it can do little harm.
    stdout(apply.env("container", "1"), HINT).unwrap();
    for name in ["passwd", "group"] {
        fs::remove_file(etc.join(name)).unwrap();
    }
    root
}

/// `sha512-…`, as Ignition's `verification.hash` has it.
pub fn hash(file: &Path) -> String {
    let sum = stdout(command("sha512sum").arg(file), "coreutils").unwrap();
    format!("sha512-{}", sum.split(' ').next().unwrap())
}

/// Serves one file over http on loopback, whatever is asked for, until the test ends.
pub fn serve(file: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = fs::metadata(&file).unwrap().len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            // Who hangs up gets nothing.
            let _ = stream
                .read(&mut request)
                .and_then(|_| stream.write_all(head.as_bytes()))
                .and_then(|()| std::io::copy(&mut fs::File::open(&file)?, &mut stream));
        }
    });
    address
}
