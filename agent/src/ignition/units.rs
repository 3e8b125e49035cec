//! The unit files of `systemd/`, as they go to a host.

use super::plan::{DropIn, Socket, State, Unit};

const SERVICE: &str = include_str!("../../../systemd/agent.service");
/// Service or socket, name and text.
const UNITS: [(&str, &str); 3] = [
    ("agent.service", SERVICE),
    (
        "agent.socket",
        include_str!("../../../systemd/agent.socket"),
    ),
    (
        "agent-metrics.socket",
        include_str!("../../../systemd/agent-metrics.socket"),
    ),
];
/// Unit, name, text.
const DROP_INS: [(&str, &str, &str); 2] = [
    (
        "agent.service",
        "10-notify-reload.conf",
        include_str!("../../../systemd/agent.service.d/10-notify-reload.conf"),
    ),
    (
        "agent.service",
        "20-restart-steps.conf",
        include_str!("../../../systemd/agent.service.d/20-restart-steps.conf"),
    ),
];
pub const SYSUSERS: &str = include_str!("../../../systemd/agent.sysusers.conf");
/// Of the drop-in that moves a socket to where the config listens.
const LISTEN: &str = "20-listen.conf";

/// The units of the agent. In a system extension they are there already, and
/// started by it; then only what differs from them is said.
pub fn units(sockets: &[Socket], is_sysext: bool) -> Vec<Unit> {
    let units = UNITS
        .iter()
        .map(|(name, text)| unit(name, text, sockets, is_sysext));
    units
        .filter(|unit| !is_sysext || unit.state == State::Masked || !unit.drop_ins.is_empty())
        .collect()
}

fn unit(name: &str, text: &str, sockets: &[Socket], is_sysext: bool) -> Unit {
    let mut drop_ins: Vec<DropIn> = DROP_INS
        .iter()
        .filter(|(unit, ..)| *unit == name && !is_sysext)
        .map(|(_, name, text)| DropIn {
            name: (*name).into(),
            contents: bare(text),
        })
        .collect();
    let mut state = if is_sysext {
        State::AsIs
    } else {
        State::Enabled
    };
    if let Some(descriptor) = values(text, "FileDescriptorName").next() {
        let wanted = sockets.iter().find(|socket| socket.name == descriptor);
        match wanted.map(|socket| socket.listen.as_slice()) {
            // Not just left out: the service wants it.
            None | Some([]) => {
                return Unit {
                    name: name.into(),
                    state: State::Masked,
                    contents: None,
                    drop_ins: Vec::new(),
                };
            }
            Some(listen) if is_as_written(text, listen) => (),
            Some(listen) => drop_ins.push(moved(listen)),
        }
    }
    if is_sysext && drop_ins.is_empty() {
        state = State::AsIs;
    }
    Unit {
        name: name.into(),
        state,
        contents: (!is_sysext).then(|| bare(text)),
        drop_ins,
    }
}

/// Whether the unit listens there without being told to. A bare port is all addresses.
fn is_as_written(text: &str, wanted: &[String]) -> bool {
    let sorted = |addresses: Vec<String>| {
        let mut addresses = addresses;
        addresses.sort();
        addresses
    };
    let all = |value: &str| match value.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("0.0.0.0:{value}"),
        false => value.to_owned(),
    };
    let written = values(text, "ListenStream").map(all).collect();
    sorted(written) == sorted(wanted.to_vec())
}

fn moved(listen: &[String]) -> DropIn {
    let mut contents = String::from("[Socket]\nListenStream=\n");
    for address in listen {
        contents.push_str(&format!("ListenStream={address}\n"));
    }
    DropIn {
        name: LISTEN.into(),
        contents,
    }
}

fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Without comments: user-data is small, and the reasons stay in `systemd/`.
pub fn bare(text: &str) -> String {
    let mut bare = String::new();
    for line in text.lines() {
        let is_comment = line.trim_start().starts_with(['#', ';']);
        let is_second_gap = line.is_empty() && (bare.is_empty() || bare.ends_with("\n\n"));
        if !is_comment && !is_second_gap {
            bare.push_str(line);
            bare.push('\n');
        }
    }
    let end = bare.trim_end().len();
    bare.truncate(end);
    bare.push('\n');
    bare
}
