//! The one netlink question that we ask: RTM_GETLINK for all links, with their
//! 64-bit counters. One dump answers for every interface at once, where /sys
//! takes thirty files for each.
//!
//! Wire format: rtnetlink(7), netlink(7), linux/if_link.h; all integers are in
//! host order. It shows the links of this process' network namespace.

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
/// NLM_F_REQUEST | NLM_F_DUMP
const DUMP: u16 = 0x1 | 0x300;
/// A link came or went during the dump: what we have may be incomplete.
const NLM_F_DUMP_INTR: u16 = 0x10;
const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKMODE: u16 = 17;
const IFLA_IFALIAS: u16 = 20;
const IFLA_STATS64: u16 = 23;
const IFLA_GROUP: u16 = 27;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_PROMISCUITY: u16 = 30;
const IFLA_CARRIER: u16 = 33;
const IFLA_CARRIER_CHANGES: u16 = 35;
const IFLA_CARRIER_UP_COUNT: u16 = 47;
const IFLA_CARRIER_DOWN_COUNT: u16 = 48;
const IFLA_ALLMULTI: u16 = 61;
/// RTEXT_FILTER_SKIP_STATS: no IPv6 counters per link, which are summed over all
/// CPUs and which nobody here reads. IFLA_STATS64 comes all the same.
const SKIP_FAMILY_STATS: u32 = 1 << 3;
/// struct nlmsghdr and struct ifinfomsg.
const HEADER: usize = 16;
const IFINFO: usize = 16;
/// One attribute that holds a u32.
const MASK: usize = 8;
const REQUEST: usize = HEADER + IFINFO + MASK;
/// The kernel fills at most this much per answer to a dump.
const ANSWER: usize = 32 << 10;
/// The kernel answers at once; a socket that does not is broken.
const PATIENCE: Duration = Duration::from_secs(1);
/// Dumps that links disturb are asked again this often.
const TRIES: u32 = 3;
/// Fields of struct rtnl_link_stats64 up to rx_nohandler (Linux 4.6).
pub const N_STATS: usize = 24;

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// The interface's number; a new interface gets a new one.
    pub index: u32,
    /// ARPHRD_*.
    pub kind: u16,
    /// IFF_*, netdevice(7).
    pub flags: u32,
    /// Octets in hexadecimal, separated by colons; empty where the kind has none.
    pub address: String,
    pub broadcast: String,
    pub alias: String,
    /// Octets.
    pub mtu: u32,
    /// The interface below, 0 where it is in another namespace; the own number without one.
    pub lower: u32,
    /// Packets.
    pub queue_length: u32,
    /// IF_OPER_*, RFC 2863.
    pub operstate: u8,
    pub link_mode: u8,
    pub group: u32,
    /// How many asked for promiscuous mode, and to hear all multicast.
    pub promiscuity: u32,
    pub all_multicast: u32,
    pub carrier: u8,
    pub carrier_changes: u32,
    pub carrier_ups: u32,
    pub carrier_downs: u32,
    /// struct rtnl_link_stats64 in its order; fields that the kernel lacks are 0.
    pub stats: [u64; N_STATS],
}

/// The last dump, for all collectors that need one: the kernel is asked once a page.
#[derive(Clone)]
pub struct SharedLinks(Arc<Mutex<Shared>>);

struct Shared {
    links: Links,
    /// When it was asked for.
    last: Option<(Instant, Arc<Vec<Link>>)>,
}

impl Default for SharedLinks {
    fn default() -> SharedLinks {
        SharedLinks::new()
    }
}

impl SharedLinks {
    /// Opens nothing yet.
    pub fn new() -> SharedLinks {
        SharedLinks(Arc::new(Mutex::new(Shared {
            links: Links::new(),
            last: None,
        })))
    }

    /// All links as the kernel had them at `begun` or later. An error where the kernel
    /// holds another collector's dump.
    pub fn since(&self, begun: Instant) -> io::Result<Arc<Vec<Link>>> {
        let mut shared = match self.0.try_lock() {
            Ok(shared) => shared,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
        };
        if let Some((asked, links)) = &shared.last
            && *asked >= begun
        {
            return Ok(links.clone());
        }
        let asked = Instant::now();
        shared.last = None;
        let links = Arc::new(shared.links.dump()?);
        shared.last = Some((asked, links.clone()));
        Ok(links)
    }
}

/// A route netlink socket, kept between dumps.
struct Links {
    socket: Option<OwnedFd>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Links {
    /// Opens nothing yet.
    fn new() -> Links {
        Links {
            socket: None,
            sequence: 0,
            buffer: Vec::new(),
        }
    }

    /// All links as the kernel has them now.
    fn dump(&mut self) -> io::Result<Vec<Link>> {
        let mut result = self.ask();
        for _ in 1..TRIES {
            match &result {
                Ok((_, true)) | Err(_) => {
                    // A new socket forgets what is left of the old dump.
                    self.socket = None;
                    result = self.ask();
                }
                Ok((_, false)) => break,
            }
        }
        if result.is_err() {
            self.socket = None;
        }
        result.map(|(links, _)| links)
    }

    /// The links, and whether the dump was disturbed.
    fn ask(&mut self) -> io::Result<(Vec<Link>, bool)> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open()?,
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.buffer.resize(ANSWER, 0);
        send(&socket, &request(self.sequence), SendFlags::empty())?;
        let mut links = Vec::new();
        let mut disturbed = false;
        loop {
            let (_, length) = recv(&socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC)?;
            let answer = self
                .buffer
                .get(..length)
                .ok_or_else(|| invalid("netlink answer longer than its buffer"))?;
            match read_answer(answer, self.sequence, &mut links, &mut disturbed)? {
                More::Yes => {}
                More::No => {
                    self.socket = Some(socket);
                    return Ok((links, disturbed));
                }
            }
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    // Protocol 0 of this family is NETLINK_ROUTE.
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

fn request(sequence: u32) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    request[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    request[8..12].copy_from_slice(&sequence.to_ne_bytes());
    let mask = &mut request[HEADER + IFINFO..];
    mask[0..2].copy_from_slice(&(MASK as u16).to_ne_bytes());
    mask[2..4].copy_from_slice(&IFLA_EXT_MASK.to_ne_bytes());
    mask[4..8].copy_from_slice(&SKIP_FAMILY_STATS.to_ne_bytes());
    request
}

enum More {
    Yes,
    No,
}

/// Takes the messages of one datagram.
fn read_answer(
    answer: &[u8],
    sequence: u32,
    links: &mut Vec<Link>,
    disturbed: &mut bool,
) -> io::Result<More> {
    let mut rest = answer;
    while !rest.is_empty() {
        let length = u32_at(rest, 0)? as usize;
        let message = rest
            .get(..length)
            .filter(|message| message.len() >= HEADER)
            .ok_or_else(|| invalid("netlink message shorter or longer than it says"))?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        if u32_at(message, 8)? != sequence {
            continue; // left over from a dump that we gave up
        }
        *disturbed |= u16_at(message, 6)? & NLM_F_DUMP_INTR != 0;
        match u16_at(message, 4)? {
            NLMSG_DONE => return Ok(More::No),
            NLMSG_ERROR => {
                let errno = u32_at(message, HEADER)?.cast_signed().wrapping_neg();
                return Err(io::Error::from_raw_os_error(errno));
            }
            RTM_NEWLINK => links.extend(read_link(&message[HEADER..])?),
            _ => {}
        }
    }
    Ok(More::Yes)
}

/// `None` for a link that came without name or counters.
fn read_link(body: &[u8]) -> io::Result<Option<Link>> {
    let mut rest = body
        .get(IFINFO..)
        .ok_or_else(|| invalid("link message without ifinfomsg"))?;
    let index = u32_at(body, 4)?;
    let mut link = Link {
        kind: u16_at(body, 2)?,
        index,
        lower: index,
        flags: u32_at(body, 8)?,
        ..Link::default()
    };
    let (mut named, mut counted) = (false, false);
    while rest.len() >= 4 {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest
            .get(4..length)
            .ok_or_else(|| invalid("link attribute shorter or longer than it says"))?;
        match u16_at(rest, 2)? {
            IFLA_ADDRESS => link.address = octets(value),
            IFLA_BROADCAST => link.broadcast = octets(value),
            IFLA_IFNAME => {
                link.name = text(value);
                named = true;
            }
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_LINK => link.lower = u32_at(value, 0)?,
            IFLA_TXQLEN => link.queue_length = u32_at(value, 0)?,
            IFLA_OPERSTATE => link.operstate = value.first().copied().unwrap_or_default(),
            IFLA_LINKMODE => link.link_mode = value.first().copied().unwrap_or_default(),
            IFLA_IFALIAS => link.alias = text(value),
            IFLA_STATS64 => {
                for (field, bytes) in link.stats.iter_mut().zip(value.as_chunks::<8>().0) {
                    *field = u64::from_ne_bytes(*bytes);
                }
                counted = true;
            }
            IFLA_GROUP => link.group = u32_at(value, 0)?,
            IFLA_PROMISCUITY => link.promiscuity = u32_at(value, 0)?,
            IFLA_CARRIER => link.carrier = value.first().copied().unwrap_or_default(),
            IFLA_CARRIER_CHANGES => link.carrier_changes = u32_at(value, 0)?,
            IFLA_CARRIER_UP_COUNT => link.carrier_ups = u32_at(value, 0)?,
            IFLA_CARRIER_DOWN_COUNT => link.carrier_downs = u32_at(value, 0)?,
            IFLA_ALLMULTI => link.all_multicast = u32_at(value, 0)?,
            _ => {}
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    Ok((named && counted).then_some(link))
}

/// Up to the terminating zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into_owned()
}

fn octets(value: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let mut text = String::with_capacity(3 * value.len());
    for (at, octet) in value.iter().enumerate() {
        if at > 0 {
            text.push(':');
        }
        text.push(DIGITS[usize::from(octet >> 4)]);
        text.push(DIGITS[usize::from(octet & 15)]);
    }
    text
}

/// NLMSG_ALIGN, RTA_ALIGN.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    bytes
        .get(at..)
        .and_then(|bytes| bytes.first_chunk())
        .map(|bytes| u16::from_ne_bytes(*bytes))
        .ok_or_else(|| invalid("netlink message ends early"))
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    bytes
        .get(at..)
        .and_then(|bytes| bytes.first_chunk())
        .map(|bytes| u32::from_ne_bytes(*bytes))
        .ok_or_else(|| invalid("netlink message ends early"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::{
        ANSWER, HEADER, IFINFO, IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_STATS64, Link, More,
        N_STATS, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, RTM_NEWLINK, SharedLinks, read_answer,
    };
    use proptest::prelude::{any, proptest};
    use std::sync::Arc;
    use std::time::Instant;

    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut attribute = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        attribute.extend(kind.to_ne_bytes());
        attribute.extend(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    #[test]
    fn a_datagram_gives_links_of_this_dump_only() {
        let mut body = vec![0; IFINFO];
        body.extend(attribute(IFLA_IFNAME, b"eth0\0"));
        body.extend(attribute(IFLA_ADDRESS, &[2, 0, 0x5e, 0, 0, 1]));
        body.extend(attribute(IFLA_MTU, &9001u32.to_ne_bytes()));
        let stats: Vec<u8> = (1..=23u64).flat_map(u64::to_ne_bytes).collect();
        body.extend(attribute(IFLA_STATS64, &stats));
        let mut answer = message(RTM_NEWLINK, 0, 6, &body);
        answer.extend(message(RTM_NEWLINK, NLM_F_DUMP_INTR, 7, &body));
        answer.extend(message(NLMSG_DONE, 0, 7, &[0; 4]));
        let mut links = Vec::new();
        let mut disturbed = false;
        let more = read_answer(&answer, 7, &mut links, &mut disturbed).unwrap();
        assert!(matches!(more, More::No) && disturbed);
        let expected: Vec<u64> = (1..=23).chain([0]).collect();
        let link = Link {
            name: "eth0".into(),
            stats: <[u64; N_STATS]>::try_from(expected).unwrap(),
            address: "02:00:5e:00:00:01".into(),
            mtu: 9001,
            ..Link::default()
        };
        assert_eq!(links, [link]);
    }

    #[test]
    fn a_dump_of_ten_thousand_links_is_whole() {
        let mut answers = vec![Vec::new()];
        for n in 0..10_000u32 {
            let mut body = vec![0; IFINFO];
            body[4..8].copy_from_slice(&n.to_ne_bytes());
            body.extend(attribute(IFLA_IFNAME, format!("veth{n}\0").as_bytes()));
            body.extend(attribute(IFLA_STATS64, &[0xff; 8 * N_STATS]));
            let one = message(RTM_NEWLINK, 0, 1, &body);
            if answers
                .last()
                .is_none_or(|last| last.len() + one.len() > ANSWER)
            {
                answers.push(Vec::new());
            }
            answers.last_mut().unwrap().extend(one);
        }
        answers.push(message(NLMSG_DONE, 0, 1, &[0; 4]));
        let mut links = Vec::new();
        let (mut disturbed, mut ends) = (false, Vec::new());
        for answer in &answers {
            let more = read_answer(answer, 1, &mut links, &mut disturbed).unwrap();
            ends.push(matches!(more, More::No));
        }
        assert_eq!(ends.iter().position(|end| *end), Some(answers.len() - 1));
        assert!(answers.len() > 50 && !disturbed);
        let all = links.iter().enumerate();
        assert!(all.clone().all(|(n, link)| link.index as usize == n));
        assert_eq!(all.count(), 10_000);
    }

    #[test]
    fn the_kernels_refusal_is_the_error() {
        let answer = message(NLMSG_ERROR, 0, 1, &(-1i32).to_ne_bytes());
        let result = read_answer(&answer, 1, &mut Vec::new(), &mut false);
        assert_eq!(result.err().and_then(|e| e.raw_os_error()), Some(1));
    }

    #[test]
    fn the_running_kernel_tells_of_lo_once_a_page() {
        let links = SharedLinks::new();
        let begun = Instant::now();
        let all = links.since(begun).unwrap();
        assert_eq!(all.iter().filter(|link| link.name == "lo").count(), 1);
        assert!(Arc::ptr_eq(&all, &links.since(begun).unwrap()));
        assert!(!Arc::ptr_eq(&all, &links.since(Instant::now()).unwrap()));
    }

    #[test]
    fn a_dump_that_the_kernel_holds_is_not_waited_for_by_others() {
        let links = SharedLinks::new();
        let held = links.0.lock().unwrap();
        let error = links.since(Instant::now()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        drop(held);
        assert!(links.since(Instant::now()).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_links_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = read_answer(&bytes, 0, &mut Vec::new(), &mut false);
        }
    }
}
