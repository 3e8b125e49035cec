//! A netlink dump: one question, all answers, over a socket that is kept.
//!
//! Wire format: netlink(7); all integers are in host order. It shows what this
//! process' network namespace holds.

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send,
    socket_with,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_DUMP
const DUMP: u16 = 0x1 | 0x300;
/// Something came or went during the dump: what we have may be incomplete.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// struct nlmsghdr.
const HEADER: usize = 16;
/// The kernel fills at most this much per answer to a dump.
const ANSWER: usize = 32 << 10;
/// The kernel answers at once; a socket that does not is broken.
const PATIENCE: Duration = Duration::from_secs(1);
/// Dumps that changes disturb are asked again this often.
const TRIES: u32 = 3;

/// One protocol's socket, opened when first asked.
pub struct Netlink {
    protocol: Option<Protocol>,
    socket: Option<OwnedFd>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// NETLINK_ROUTE: links, addresses, neighbours.
    pub fn route() -> Netlink {
        Netlink::of(None)
    }

    /// NETLINK_SOCK_DIAG: sockets.
    pub fn sockets() -> Netlink {
        Netlink::of(Some(SOCK_DIAG))
    }

    fn of(protocol: Option<Protocol>) -> Netlink {
        Netlink {
            protocol,
            socket: None,
            sequence: 0,
            buffer: Vec::new(),
        }
    }

    /// What `take` made of the answers, as the kernel has them now. It gets each message's
    /// type and body.
    pub fn dump<T: Default>(
        &mut self,
        kind: u16,
        question: &[u8],
        take: impl Fn(&mut T, u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<T> {
        let mut result = self.ask(kind, question, &take);
        for _ in 1..TRIES {
            match &result {
                Ok((_, true)) | Err(_) => {
                    // A new socket forgets what is left of the old dump.
                    self.socket = None;
                    result = self.ask(kind, question, &take);
                }
                Ok((_, false)) => break,
            }
        }
        if result.is_err() {
            self.socket = None;
        }
        result.map(|(all, _)| all)
    }

    /// The answers, and whether the dump was disturbed.
    fn ask<T: Default>(
        &mut self,
        kind: u16,
        question: &[u8],
        take: &impl Fn(&mut T, u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<(T, bool)> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open(self.protocol)?,
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.buffer.resize(ANSWER, 0);
        let request = request(kind, self.sequence, question);
        send(&socket, &request, SendFlags::empty())?;
        let mut all = T::default();
        let mut disturbed = false;
        loop {
            let (_, length) = recv(&socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC)?;
            let answer = self
                .buffer
                .get(..length)
                .ok_or_else(|| invalid("netlink answer longer than its buffer"))?;
            let mut take = |kind, body: &[u8]| take(&mut all, kind, body);
            if read_answer(answer, self.sequence, &mut disturbed, &mut take)? {
                self.socket = Some(socket);
                return Ok((all, disturbed));
            }
        }
    }

    /// The name of an interface; `None` where it has gone.
    pub fn interface(&self, index: u32) -> Option<String> {
        netdevice::index_to_name(self.socket.as_ref()?, index).ok()
    }
}

fn open(protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

fn request(kind: u16, sequence: u32, question: &[u8]) -> Vec<u8> {
    let length = (HEADER + question.len()) as u32;
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend(sequence.to_ne_bytes());
    request.extend([0; 4]);
    request.extend(question);
    request
}

/// Takes the messages of one datagram; true where the dump ends in it.
fn read_answer(
    answer: &[u8],
    sequence: u32,
    disturbed: &mut bool,
    take: &mut dyn FnMut(u16, &[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    let mut rest = answer;
    while !rest.is_empty() {
        let length = u32_at(rest, 0)? as usize;
        let message = rest
            .get(..length)
            .filter(|message| message.len() >= HEADER)
            .ok_or_else(|| invalid("netlink message shorter or longer than it says"))?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if u32_at(message, 8)? != sequence {
            continue; // left over from a dump that we gave up
        }
        *disturbed |= u16_at(message, 6)? & NLM_F_DUMP_INTR != 0;
        match u16_at(message, 4)? {
            // Both may carry an error, the former where the dump broke off.
            kind @ (NLMSG_DONE | NLMSG_ERROR) => {
                let errno = u32_at(message, HEADER).unwrap_or_default();
                return match errno.cast_signed().wrapping_neg() {
                    0 if kind == NLMSG_DONE => Ok(true),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                };
            }
            kind => take(kind, &message[HEADER..])?,
        }
    }
    Ok(false)
}

pub fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    let bytes = bytes.ok_or_else(|| invalid("netlink message ends early"))?;
    Ok(u16::from_ne_bytes(*bytes))
}

pub fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    let bytes = bytes.ok_or_else(|| invalid("netlink message ends early"))?;
    Ok(u32::from_ne_bytes(*bytes))
}

pub fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::{DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, read_answer, request};
    use proptest::prelude::{any, proptest};

    /// As the kernel's, with these flags.
    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut message = request(kind, sequence, body);
        message[6..8].copy_from_slice(&(flags & !DUMP).to_ne_bytes());
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[test]
    fn a_datagram_gives_the_messages_of_this_dump_only() {
        let mut answer = message(28, 0, 6, b"old");
        answer.extend(message(28, NLM_F_DUMP_INTR, 7, b"first"));
        answer.extend(message(29, 0, 7, b""));
        let mut taken = Vec::new();
        let mut disturbed = false;
        let mut take = |kind, body: &[u8]| {
            taken.push((kind, body.to_vec()));
            Ok(())
        };
        assert!(!read_answer(&answer, 7, &mut disturbed, &mut take).unwrap());
        let done = message(NLMSG_DONE, 0, 7, &[0; 4]);
        assert!(read_answer(&done, 7, &mut disturbed, &mut take).unwrap());
        assert!(disturbed);
        assert_eq!(taken, [(28, b"first".to_vec()), (29, Vec::new())]);
    }

    #[test]
    fn the_kernels_refusal_is_the_error() {
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let answer = message(kind, 0, 1, &(-1i32).to_ne_bytes());
            let result = read_answer(&answer, 1, &mut false, &mut |_, _| Ok(()));
            assert_eq!(result.err().and_then(|e| e.raw_os_error()), Some(1));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_messages_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = read_answer(&bytes, 0, &mut false, &mut |_, _| Ok(()));
        }
    }
}
