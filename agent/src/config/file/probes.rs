//! `[containers.NAME.probes]` as written.

use super::Located;
use crate::config::fault::quoted;
use crate::config::read::{Item, Wrong};
use crate::config::{defaults, values};
use crate::supervise::{Check, Probe, Probes};
use std::net::IpAddr;

const KINDS: &str = "http, tcp, exec, docker";
/// A startup allowance of 120 s in periods of 10 ms, with room.
const MOST_IN_A_ROW: i64 = 1_000_000;

/// The probes with their places.
#[derive(Debug, Default)]
pub struct ProbesFile {
    pub startup: Option<Located<Probe>>,
    pub readiness: Option<Located<Probe>>,
    pub liveness: Option<Located<Probe>>,
}

impl ProbesFile {
    pub fn each(&self) -> impl Iterator<Item = &Located<Probe>> {
        let all = [&self.startup, &self.readiness, &self.liveness];
        all.into_iter().flatten()
    }

    pub fn checked(self) -> Probes {
        let value = |probe: Option<Located<Probe>>| probe.map(|probe| probe.value);
        Probes {
            startup: value(self.startup),
            readiness: value(self.readiness),
            liveness: value(self.liveness),
        }
    }

    /// Something says whether it is ready.
    pub fn say_ready(&self) -> bool {
        self.startup.is_some() || self.readiness.is_some()
    }
}

pub fn probes(item: Item<'_>) -> ProbesFile {
    item.table(|table| ProbesFile {
        startup: probe(table.take("startup"), &defaults::STARTUP),
        readiness: probe(table.take("readiness"), &defaults::READINESS),
        liveness: probe(table.take("liveness"), &defaults::LIVENESS),
    })
}

fn probe(item: Item<'_>, default: &defaults::ProbeDefault) -> Option<Located<Probe>> {
    let is_table = item.is_table();
    let place = item.place();
    let path = item.path().to_string();
    let value = item.table(|table| {
        let (http, tcp) = (table.take("http"), table.take("tcp"));
        let (exec, docker) = (table.take("exec"), table.take("docker"));
        let kinds = [&http, &tcp, &exec, &docker];
        let named = kinds.iter().filter(|kind| kind.is_there()).count();
        if named > 1 {
            table.fault(&format!("asks in more than one way: take one of {KINDS}"));
        }
        if is_table && named == 0 {
            table.missing("http", "\":8080/heartbeat\", or tcp, exec or docker");
        }
        let http = http.parse("a target such as \":8080/heartbeat\"", http_check);
        let tcp = tcp.parse("a target such as \":5432\"", tcp_check);
        let exec_place = exec.place();
        let exec = exec.words();
        let has_no_program = |words: &Vec<String>| words.first().is_none_or(String::is_empty);
        if exec.as_ref().is_some_and(has_no_program) {
            let help = "write [\"/bin/check\", \"--quick\"]; the container needs no shell";
            table.fault_at(exec_place, "exec", "names no program", help);
        }
        let exec = exec.map(|command| Check::Exec { command });
        let docker = docker_check(&docker);
        let mut count = |key| {
            let number = table.take(key).integer(1, MOST_IN_A_ROW);
            number.and_then(|n| u32::try_from(n).ok())
        };
        let (failures, successes) = (count("failures"), count("successes"));
        let period = table.take("period").duration();
        let timeout = table.take("timeout").duration();
        let check = http.or(tcp).or(exec).or(docker)?;
        let period = period.unwrap_or_else(|| default.period(&check));
        let failures = failures.unwrap_or_else(|| default.failures(&check, period));
        Some(Probe {
            check,
            period,
            timeout: timeout.unwrap_or(default.timeout),
            failures,
            successes: successes.unwrap_or(defaults::PROBE_SUCCESSES),
        })
    });
    value.map(|value| Located { value, place, path })
}

fn http_check(text: &str) -> Result<Check, Wrong> {
    let (host, port, path) = values::http_target(text)?;
    here(&host)?;
    Ok(Check::Http { host, port, path })
}

fn tcp_check(text: &str) -> Result<Check, Wrong> {
    let help = "use \":5432\" or \"127.0.0.1:5432\"";
    if text.contains('/') {
        let text = format!("{} is more than an address and a port", quoted(text));
        return Err(Wrong::new(text).help(help));
    }
    let (host, port, _) = values::http_target(text).map_err(|wrong| wrong.help(help))?;
    here(&host)?;
    Ok(Check::Tcp { host, port })
}

/// A probe waits for no resolver, whose failure would be held against the container.
fn here(host: &str) -> Result<(), Wrong> {
    if host == "localhost" || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let text = format!("{} is a name, and probes look up none", quoted(host));
    Err(Wrong::new(text).help("use an IP address; without a host it is this host's loopback"))
}

fn docker_check(item: &Item<'_>) -> Option<Check> {
    let said = item.is_there().then(|| item.bool())??;
    if !said {
        item.wrong(Wrong::new("false asks nothing").help("leave it out"));
        return None;
    }
    Some(Check::Docker)
}
