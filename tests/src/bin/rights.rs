//! What a process under the agent's unit may do: tries it and writes one line each, `NAME ok` or
//! `NAME` and the error, into the file that it is given. Knows no rule: the test does.

// A probe may fail like the test that it is for; what it tries has no safe form.
#![allow(clippy::unwrap_used, unsafe_code)]

use rustix::net::{AddressFamily, SocketType, netlink, socket};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// A system call by number. `arguments` are numbers and pointers that outlive it.
fn call(number: libc::c_long, arguments: [usize; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: every call here is given constants and pointers to constants.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    match answer {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn at(text: &'static CStr) -> usize {
    text.as_ptr() as usize
}

fn says(path: &str, send: &[u8], expected: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(send)?;
    let mut answer = [0; 512];
    let n = stream.read(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[..n]).into_owned();
    match text.contains(expected) {
        true => Ok(()),
        false => Err(io::Error::other(text)),
    }
}

fn reads(path: impl AsRef<Path>) -> io::Result<()> {
    match fs::read(path)?.is_empty() {
        true => Err(io::Error::other("nothing in it")),
        false => Ok(()),
    }
}

fn statfs(path: &str) -> io::Result<()> {
    Ok(rustix::fs::statfs(path).map(drop)?)
}

fn opens(family: AddressFamily, kind: SocketType) -> io::Result<()> {
    Ok(socket(family, kind, None).map(drop)?)
}

/// None: `NETLINK_ROUTE`, which is 0.
fn netlink(protocol: Option<rustix::net::Protocol>) -> io::Result<()> {
    Ok(socket(AddressFamily::NETLINK, SocketType::RAW, protocol).map(drop)?)
}

/// `pid` is that of a process of another user.
fn main() {
    let mut arguments = std::env::args().skip(1);
    let (report, pid) = (arguments.next().unwrap(), arguments.next().unwrap());
    let pid: usize = pid.parse().unwrap();
    let proc = |name: &str| format!("/proc/{pid}/{name}");
    let credentials = std::env::var("CREDENTIALS_DIRECTORY").unwrap_or_default();
    let own = "/var/lib/agent/rights-probe";
    fs::write(own, "x").unwrap();
    let times = [0i64; 2];
    let limits = [1u64 << 20; 2];
    let zeroes = [0u64; 16];
    let pointer = |of: *const u8| of as usize;
    let times = pointer(times.as_ptr().cast());
    let limits = pointer(limits.as_ptr().cast());
    let zeroes = pointer(zeroes.as_ptr().cast());
    let write = |path: &str| {
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
    };

    let tried: Vec<(&str, io::Result<()>)> = vec![
        // What the agent lives on.
        (
            "docker",
            says("/run/docker.sock", b"GET /_ping HTTP/1.0\r\n\r\n", "200 OK"),
        ),
        (
            "bus",
            says(
                "/run/dbus/system_bus_socket",
                b"\0AUTH EXTERNAL 30\r\n",
                "OK ",
            ),
        ),
        ("state", write("/var/lib/agent/rights-state").map(drop)),
        (
            "runtime",
            UnixListener::bind("/run/agent/rights.sock").map(drop),
        ),
        ("listen", TcpListener::bind("0.0.0.0:0").map(drop)),
        ("send", UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("statfs-root", statfs("/")),
        ("statfs-home", statfs("/home/inner")),
        ("netlink-route", netlink(None)),
        ("netlink-sock-diag", netlink(Some(netlink::SOCK_DIAG))),
        ("proc-io", reads(proc("io"))),
        ("proc-smaps", reads(proc("smaps_rollup"))),
        ("proc-net", reads(proc("net/tcp"))),
        ("proc-fd", fs::read_link(proc("fd/0")).map(drop)),
        ("proc-root-mounts", reads("/proc/1/mountinfo")),
        ("proc-meminfo", reads("/proc/meminfo")),
        ("sys-net", fs::read_dir("/sys/class/net").map(drop)),
        ("cgroups", fs::read_dir("/sys/fs/cgroup").map(drop)),
        ("log-of-another", reads("/var/log/another/private.log")),
        ("credential", reads(format!("{credentials}/agent.word"))),
        ("random", File::open("/dev/urandom").map(drop)),
        ("cpus", std::thread::available_parallelism().map(drop)),
        ("kill-another", call(libc::SYS_kill, [pid, 0, 0, 0, 0, 0])),
        // What it must not have.
        (
            "mount",
            call(
                libc::SYS_mount,
                [at(c"none"), at(c"/tmp"), at(c"tmpfs"), 0, 0, 0],
            ),
        ),
        (
            "umount",
            call(libc::SYS_umount2, [at(c"/proc"), 0, 0, 0, 0, 0]),
        ),
        (
            "unshare",
            call(libc::SYS_unshare, [0x0002_0000, 0, 0, 0, 0, 0]),
        ),
        (
            "chroot",
            call(libc::SYS_chroot, [at(c"/tmp"), 0, 0, 0, 0, 0]),
        ),
        (
            "load-module",
            call(libc::SYS_init_module, [zeroes, 64, at(c""), 0, 0, 0]),
        ),
        ("write-etc", write("/etc/rights-probe").map(drop)),
        ("write-usr", write("/usr/rights-probe").map(drop)),
        ("write-home", write("/home/rights-probe").map(drop)),
        ("write-log", write("/var/log/another/private.log").map(drop)),
        (
            "write-sysctl",
            fs::write("/proc/sys/kernel/domainname", "x"),
        ),
        (
            "write-cgroup",
            fs::create_dir("/sys/fs/cgroup/rights-probe"),
        ),
        ("kernel-log", File::open("/dev/kmsg").map(drop)),
        ("memory-device", File::open("/dev/mem").map(drop)),
        (
            "device-node",
            call(
                libc::SYS_mknodat,
                [
                    libc::AT_FDCWD as usize,
                    at(c"/var/lib/agent/null"),
                    0o020_600,
                    0x103,
                    0,
                    0,
                ],
            ),
        ),
        (
            "set-uid-file",
            fs::set_permissions(own, fs::Permissions::from_mode(0o4755)),
        ),
        ("chown", chown(own, Some(65534), None)),
        ("raw-socket", opens(AddressFamily::INET, SocketType::RAW)),
        (
            "packet-socket",
            opens(AddressFamily::PACKET, SocketType::RAW),
        ),
        (
            "set-clock",
            call(libc::SYS_clock_settime, [0, times, 0, 0, 0, 0]),
        ),
        (
            "set-host-name",
            call(libc::SYS_sethostname, [at(c"x"), 1, 0, 0, 0, 0]),
        ),
        ("reboot", call(libc::SYS_reboot, [0, 0, 0, 0, 0, 0])),
        (
            "swap",
            call(libc::SYS_swapoff, [at(c"/none"), 0, 0, 0, 0, 0]),
        ),
        ("trace", call(libc::SYS_ptrace, [16, pid, 0, 0, 0, 0])),
        (
            "proc-memory",
            File::options().write(true).open(proc("mem")).map(drop),
        ),
        (
            "proc-memory-of-root",
            File::options().write(true).open("/proc/1/mem").map(drop),
        ),
        (
            "write-memory",
            call(libc::SYS_process_vm_writev, [pid, 0, 0, 0, 0, 0]),
        ),
        ("take-descriptor", {
            // One of ours stands in for a pidfd: the filter looks at the number alone.
            call(libc::SYS_pidfd_getfd, [0, 0, 0, 0, 0, 0])
        }),
        ("limits", call(libc::SYS_prlimit64, [0, 7, limits, 0, 0, 0])),
        (
            "priority",
            call(libc::SYS_setpriority, [0, 0, (-5isize) as usize, 0, 0, 0]),
        ),
        (
            "become-another",
            call(libc::SYS_setuid, [65534, 0, 0, 0, 0, 0]),
        ),
        ("bpf", call(libc::SYS_bpf, [0, zeroes, 64, 0, 0, 0])),
        (
            "perf",
            call(libc::SYS_perf_event_open, [zeroes, 0, 0, 0, 0, 0]),
        ),
        (
            "writable-code",
            call(libc::SYS_mmap, [0, 4096, 7, 0x22, usize::MAX, 0]),
        ),
    ];
    let mut lines = String::new();
    for (name, outcome) in &tried {
        let word = match outcome {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        lines.push_str(&format!("{name} {word}\n"));
    }
    fs::write(report, lines).unwrap();
}
