//! ioctl(2) SIOCETHTOOL, netdevice(7) and the kernel's linux/ethtool.h: a
//! `struct ifreq` names the interface and points to a buffer that begins with
//! the number of the question. Integers are in host order.

use super::{Answers, Driver, Port};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GSET: u32 = 0x1;
const ETHTOOL_GDRVINFO: u32 = 0x3;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETH_SS_STATS: u32 = 1;
/// struct ethtool_cmd, and what of it we read.
const CMD: usize = 44;
const SUPPORTED_AT: usize = 4;
const ADVERTISED_AT: usize = 8;
const AUTONEG_AT: usize = 18;
/// struct ethtool_drvinfo: the number of the question, five texts, and the number of statistics.
const DRVINFO: usize = 196;
const DRIVER_AT: usize = 4;
const VERSION_AT: usize = 36;
const FIRMWARE_AT: usize = 68;
const BUS_AT: usize = 100;
const ROM_AT: usize = 132;
const N_STATS_AT: usize = 180;
/// Octets of a text of either.
const TEXT: usize = 32;
/// Heads of struct ethtool_gstrings and struct ethtool_stats.
const STRINGS_HEAD: usize = 12;
const STATS_HEAD: usize = 8;
/// More statistics than any driver has; who says more is not asked for them.
const MOST_STATS: usize = 16 << 10;
/// The kernel writes as many as there are when it is asked, not as many as we say: queues may
/// have been added since. What is not written costs no memory.
const SPARE: usize = 2;

/// A socket to ask with; any kind will do.
pub fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    Ok(socket)
}

/// All that the driver of this interface answers.
pub fn ask(socket: &OwnedFd, device: &str) -> Answers {
    let mut answers = Answers::default();
    let mut command = vec![0; CMD];
    if question(socket, device, ETHTOOL_GSET, &mut command).is_ok() {
        answers.port = Some(Port {
            supported: u32_at(&command, SUPPORTED_AT),
            advertised: u32_at(&command, ADVERTISED_AT),
            autonegotiates: command[AUTONEG_AT] != 0,
        });
    }
    let mut info = vec![0; DRVINFO];
    if question(socket, device, ETHTOOL_GDRVINFO, &mut info).is_ok() {
        answers.statistics = statistics(socket, device, u32_at(&info, N_STATS_AT) as usize);
        answers.driver = Some(Driver {
            name: text_at(&info, DRIVER_AT),
            version: text_at(&info, VERSION_AT),
            firmware: text_at(&info, FIRMWARE_AT),
            bus: text_at(&info, BUS_AT),
            rom: text_at(&info, ROM_AT),
        });
    }
    answers
}

/// Empty where the driver has none, or their number changed between the questions.
fn statistics(socket: &OwnedFd, device: &str, count: usize) -> Vec<(String, u64)> {
    if count == 0 || count > MOST_STATS {
        return Vec::new();
    }
    let length = (count as u32).to_ne_bytes();
    let mut names = vec![0; STRINGS_HEAD + TEXT * MOST_STATS * SPARE];
    names[4..8].copy_from_slice(&ETH_SS_STATS.to_ne_bytes());
    names[8..12].copy_from_slice(&length);
    let mut values = vec![0; STATS_HEAD + size_of::<u64>() * MOST_STATS * SPARE];
    values[4..8].copy_from_slice(&length);
    let asked = question(socket, device, ETHTOOL_GSTRINGS, &mut names)
        .and_then(|()| question(socket, device, ETHTOOL_GSTATS, &mut values));
    if asked.is_err() || u32_at(&names, 8) as usize != count || u32_at(&values, 4) as usize != count
    {
        return Vec::new();
    }
    let values = values[STATS_HEAD..].as_chunks::<{ size_of::<u64>() }>().0;
    (0..count)
        .map(|at| text_at(&names, STRINGS_HEAD + at * TEXT))
        .zip(values.iter().map(|value| u64::from_ne_bytes(*value)))
        .collect()
}

/// Asks with `buffer`, which has to have room for all that the kernel may answer to `number`.
fn question(socket: &OwnedFd, device: &str, number: u32, buffer: &mut [u8]) -> io::Result<()> {
    #![allow(unsafe_code)]
    // SAFETY: a C struct of integers, octets and a pointer, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    buffer[..4].copy_from_slice(&number.to_ne_bytes());
    request.ifr_ifru.ifru_data = buffer.as_mut_ptr().cast();
    // SAFETY: the request lives beyond the call and points to `buffer`, which does too and is as
    // long as the fixed struct of this question, or as `MOST_STATS * SPARE` statistics; the kernel
    // keeps no reference.
    match unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// Up to the terminating zero, if there is one.
fn text_at(bytes: &[u8], at: usize) -> String {
    let text = bytes.get(at..at + TEXT).unwrap_or_default();
    let end = text.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&text[..end.unwrap_or(TEXT.min(text.len()))]).into_owned()
}
