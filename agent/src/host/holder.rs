//! Who holds an address that we could not have, as far as /proc tells.
//!
//! The socket's inode stands in `net/tcp`, `net/tcp6` or `net/unix`, its owner
//! is the process with a descriptor `socket:[inode]`. Other users' descriptors
//! can be read only with CAP_SYS_PTRACE; then the holder stays unknown.

use crate::listener::Address;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The state of a listening socket in `net/tcp`, `TCP_LISTEN`.
const LISTEN: &str = "0A";
/// The flag of a listening socket in `net/unix`, `__SO_ACCEPTCON`.
const ACCEPTING: &str = "00010000";

/// "node_exporter, pid 812", or nothing. `proc` is where procfs is mounted.
pub fn of(address: &Address, proc: &Path) -> Option<String> {
    let inodes = match address {
        Address::Tcp(tcp) => tcp_inodes(*tcp, proc),
        Address::Unix(path) => unix_inodes(path, proc),
    };
    inodes.iter().find_map(|inode| owner(inode, proc))
}

/// Listeners whose address overlaps with `wanted`.
fn tcp_inodes(wanted: SocketAddr, proc: &Path) -> Vec<String> {
    let mut inodes = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        let text = fs::read_to_string(proc.join(table)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = fields[..] else {
                continue;
            };
            if socket_address(local).is_some_and(|held| overlaps(held, wanted)) {
                inodes.push(inode.to_owned());
            }
        }
    }
    inodes
}

/// Equal ports, and equal addresses unless one of them is the wildcard.
fn overlaps(held: SocketAddr, wanted: SocketAddr) -> bool {
    let (a, b) = (held.ip().to_canonical(), wanted.ip().to_canonical());
    held.port() == wanted.port() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// `0100007F:238C`: words of 32 bits in the host's byte order, then the port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::with_capacity(16);
    for start in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(start..start + 8)?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    let ip = if let Ok(v4) = <[u8; 4]>::try_from(&octets[..]) {
        IpAddr::V4(Ipv4Addr::from(v4))
    } else {
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&octets[..]).ok()?))
    };
    Some(SocketAddr::new(ip, port))
}

fn unix_inodes(wanted: &Path, proc: &Path) -> Vec<String> {
    let text = fs::read_to_string(proc.join("net/unix")).unwrap_or_default();
    let listening = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let flags = fields.nth(3)?;
        let inode = fields.nth(2)?;
        let path = fields.next()?;
        (flags == ACCEPTING && Path::new(path) == wanted).then(|| inode.to_owned())
    });
    listening.collect()
}

/// The lowest process with that socket among its descriptors.
fn owner(inode: &str, proc: &Path) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let mut pids: Vec<u32> = fs::read_dir(proc)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter().find_map(|pid| {
        let process = proc.join(pid.to_string());
        fs::read_dir(process.join("fd"))
            .ok()?
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .find(|target| target.as_os_str() == wanted.as_str())?;
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        Some(format!("{}, pid {pid}", name.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::{of, overlaps, socket_address};
    use crate::listener::Address;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use tempfile::TempDir;

    #[test]
    fn a_listener_is_found_by_pid() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("held.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let _unix = UnixListener::bind(&path).unwrap();
        let pid = format!(", pid {}", std::process::id());
        let wildcard = format!("0.0.0.0:{}", tcp.local_addr().unwrap().port());
        for address in [
            Address::Tcp(tcp.local_addr().unwrap()),
            Address::Tcp(wildcard.parse().unwrap()),
            Address::Unix(path),
        ] {
            let holder = of(&address, Path::new("/proc")).unwrap();
            assert!(holder.ends_with(&pid), "{address}: {holder}");
        }
    }

    #[test]
    fn without_proc_the_holder_is_unknown() {
        let dir = TempDir::new().unwrap();
        let address = Address::Tcp("127.0.0.1:1".parse().unwrap());
        assert_eq!(of(&address, dir.path()), None);
    }

    #[test]
    fn addresses_overlap_by_wildcard_and_mapping() {
        let check =
            |held: &str, wanted: &str| overlaps(held.parse().unwrap(), wanted.parse().unwrap());
        assert!(check("0.0.0.0:9100", "127.0.0.1:9100"));
        assert!(check("[::]:9100", "127.0.0.1:9100"));
        assert!(check("[::ffff:127.0.0.1]:9100", "127.0.0.1:9100"));
        assert!(!check("127.0.0.2:9100", "127.0.0.1:9100"));
        assert!(!check("127.0.0.1:9101", "127.0.0.1:9100"));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn kernel_addresses_are_words_in_host_order() {
        let v4 = socket_address("0100007F:238C").unwrap();
        assert_eq!(v4.to_string(), "127.0.0.1:9100");
        let v6 = socket_address("00000000000000000000000001000000:0050").unwrap();
        assert_eq!(v6.to_string(), "[::1]:80");
        assert_eq!(socket_address("01:238C"), None);
        assert_eq!(socket_address("nonsense"), None);
    }
}
