//! What systemd said, as families. No bus here.

use crate::host::bus::systemd1::Unit;
use crate::metrics::exposition::{Kind, Page};
use std::collections::BTreeMap;

/// Name, help, and what a unit has of it.
type Gauge<'a> = (&'a str, &'a str, &'a dyn Fn(&UnitSeen) -> Option<f64>);

/// Of the states that a unit can be in, those that every unit shows.
const STATES: [&str; 5] = ["activating", "active", "deactivating", "failed", "inactive"];
const ACTIVE: &str = "active";
/// systemd's word for "no limit" and for "not counted".
const NONE: u64 = u64::MAX;

/// One look at systemd. What it did not tell is none.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    /// As it is: `257.13-1~deb13u1`
    pub version: Option<String>,
    /// `running`, `degraded`, …
    pub state: Option<String>,
    /// Empty on bare metal.
    pub virtualization: Option<String>,
    /// Units in each active state, all of them.
    pub states: BTreeMap<String, u64>,
    /// Those that were chosen.
    pub units: Vec<UnitSeen>,
}

/// Times are microseconds since 1970.
#[derive(Debug, Default, PartialEq)]
pub struct UnitSeen {
    pub name: String,
    pub state: String,
    /// Type of a service or a mount, else empty.
    pub kind: String,
    pub restarts: Option<u32>,
    pub tasks: Option<u64>,
    pub tasks_max: Option<u64>,
    /// 0 for a unit that is not active.
    pub started: Option<u64>,
    pub last_trigger: Option<u64>,
    pub socket: Socket,
}

/// Connections of a socket unit.
#[derive(Debug, Default, PartialEq)]
pub struct Socket {
    pub accepted: Option<u32>,
    pub connections: Option<u32>,
    pub refused: Option<u32>,
}

impl Seen {
    /// The summary of all units; the rest is still unknown.
    pub fn of(units: &[Unit]) -> Seen {
        let mut states: BTreeMap<String, u64> =
            STATES.iter().map(|state| ((*state).into(), 0)).collect();
        for unit in units {
            *states.entry(unit.active_state.clone()).or_default() += 1;
        }
        Seen {
            states,
            ..Seen::default()
        }
    }
}

impl UnitSeen {
    pub fn of(unit: &Unit) -> UnitSeen {
        UnitSeen {
            name: unit.name.clone(),
            state: unit.active_state.clone(),
            ..UnitSeen::default()
        }
    }

    pub fn is_active(&self) -> bool {
        self.state == ACTIVE
    }
}

/// Prints it all; help texts and types are node_exporter's.
pub fn write(page: &mut Page, seen: &Seen) {
    manager(page, seen);
    let mut family = page.family("node_systemd_unit_state", Kind::Gauge, "Systemd unit");
    for unit in &seen.units {
        for state in STATES {
            let labels = [
                ("name", unit.name.as_str()),
                ("state", state),
                ("type", &unit.kind),
            ];
            family.sample(&labels, unit.state == state);
        }
    }
    let seconds = |usec: u64| usec as f64 / 1e6;
    let counted = |number: u64| (number != NONE).then_some(number as f64);
    let gauges: [Gauge<'_>; 6] = [
        (
            "node_systemd_unit_start_time_seconds",
            "Start time of the unit since unix epoch in seconds.",
            &|unit| unit.started.map(seconds),
        ),
        (
            "node_systemd_unit_tasks_current",
            "Current number of tasks per Systemd unit",
            &|unit| unit.tasks.and_then(counted),
        ),
        (
            "node_systemd_unit_tasks_max",
            "Maximum number of tasks per Systemd unit",
            &|unit| unit.tasks_max.and_then(counted),
        ),
        (
            "node_systemd_timer_last_trigger_seconds",
            "Seconds since epoch of last trigger.",
            &|unit| unit.last_trigger.map(seconds),
        ),
        (
            "node_systemd_socket_current_connections",
            "Current number of socket connections",
            &|unit| unit.socket.connections.map(f64::from),
        ),
        // A counter by its name; node_exporter calls it a gauge.
        (
            "node_systemd_socket_refused_connections_total",
            "Total number of refused socket connections",
            &|unit| unit.socket.refused.map(f64::from),
        ),
    ];
    for (name, help, value) in gauges {
        per_unit(page, (name, Kind::Gauge, help), &seen.units, value);
    }
    let accepted = (
        "node_systemd_socket_accepted_connections_total",
        Kind::Counter,
        "Total number of accepted socket connections",
    );
    per_unit(page, accepted, &seen.units, &|unit| {
        unit.socket.accepted.map(f64::from)
    });
    let restarts = (
        "node_systemd_service_restart_total",
        Kind::Counter,
        "Service unit count of Restart triggers",
    );
    per_unit(page, restarts, &seen.units, &|unit| {
        unit.restarts.map(f64::from)
    });
}

fn per_unit(
    page: &mut Page,
    (name, kind, help): (&str, Kind, &str),
    units: &[UnitSeen],
    value: &dyn Fn(&UnitSeen) -> Option<f64>,
) {
    let mut family = page.family(name, kind, help);
    for unit in units {
        if let Some(value) = value(unit) {
            family.sample(&[("name", &unit.name)], value);
        }
    }
}

/// Of systemd as a whole.
fn manager(page: &mut Page, seen: &Seen) {
    let mut family = page.family(
        "node_systemd_units",
        Kind::Gauge,
        "Summary of systemd unit states",
    );
    for (state, count) in &seen.states {
        family.sample(&[("state", state)], *count);
    }
    if let Some(state) = &seen.state {
        page.family(
            "node_systemd_system_running",
            Kind::Gauge,
            "Whether the system is operational (see 'systemctl is-system-running')",
        )
        .bare(state == "running");
    }
    let text = seen.version.as_deref().unwrap_or_default();
    let (text, number) = match version(text) {
        Some(number) => (text, number),
        None => ("", 0.0),
    };
    page.family(
        "node_systemd_version",
        Kind::Gauge,
        "Detected systemd version",
    )
    .sample(&[("version", text)], number);
    let virtualization = match seen.virtualization.as_deref() {
        None => "unknown",
        Some("") => "none",
        Some(known) => known,
    };
    page.family(
        "node_systemd_virtualization_info",
        Kind::Gauge,
        "Detected virtualization technology",
    )
    .sample(&[("virtualization_type", virtualization)], 1u64);
}

/// The first number of three digits or more, with what follows its point.
fn version(text: &str) -> Option<f64> {
    let is_digit = |c: char| c.is_ascii_digit();
    let mut rest = text;
    while let Some(start) = rest.find(is_digit) {
        rest = &rest[start..];
        let length = rest.find(|c| !is_digit(c)).unwrap_or(rest.len());
        let (whole, after) = rest.split_at(length);
        if length < 3 {
            rest = after;
            continue;
        }
        let fraction = after.strip_prefix('.').unwrap_or_default();
        let end = fraction.find(|c| !is_digit(c)).unwrap_or(fraction.len());
        return match &fraction[..end] {
            "" => whole.parse().ok(),
            digits => format!("{whole}.{digits}").parse().ok(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Seen, Socket, Unit, UnitSeen, version, write};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{expect, parse};

    fn unit(name: &str, active_state: &str) -> Unit {
        Unit {
            name: name.into(),
            load_state: "loaded".into(),
            active_state: active_state.into(),
            path: "/x".into(),
        }
    }

    #[test]
    fn a_version_is_the_first_number_that_can_be_one() {
        for (text, number) in [
            ("257.13-1~deb13u1", Some(257.13)),
            ("v252", Some(252.0)),
            ("12 systemd 249.11-0ubuntu3.4", Some(249.11)),
            ("255.", Some(255.0)),
            ("25", None),
            ("", None),
        ] {
            assert_eq!(version(text), number, "{text}");
        }
    }

    #[test]
    fn every_unit_shows_five_states_and_one_of_them() {
        let units = [unit("a.service", "failed"), unit("b.socket", "active")];
        let mut seen = Seen::of(&units);
        seen.units = units.iter().map(UnitSeen::of).collect();
        seen.units[0].kind = "oneshot".into();
        let mut page = Page::default();
        write(&mut page, &seen);
        let pages = parse(&page);
        let family = "node_systemd_unit_state";
        assert_eq!(pages[family].series.len(), 10);
        let labels = |state| [("name", "a.service"), ("state", state), ("type", "oneshot")];
        expect(&pages, family, &labels("failed"), 1.0);
        expect(&pages, family, &labels("active"), 0.0);
        assert_eq!(pages[family].series.values().sum::<f64>(), 2.0);
        let units = "node_systemd_units";
        expect(&pages, units, &[("state", "failed")], 1.0);
        expect(&pages, units, &[("state", "inactive")], 0.0);
    }

    #[test]
    fn a_state_that_is_new_to_us_is_summed_and_is_none_of_the_five() {
        let units = [unit("a.service", "maintenance")];
        let mut seen = Seen::of(&units);
        seen.units = units.iter().map(UnitSeen::of).collect();
        let mut page = Page::default();
        write(&mut page, &seen);
        let pages = parse(&page);
        expect(
            &pages,
            "node_systemd_units",
            &[("state", "maintenance")],
            1.0,
        );
        let all = &pages["node_systemd_unit_state"].series;
        assert_eq!(all.values().sum::<f64>(), 0.0);
    }

    #[test]
    fn what_was_not_told_or_is_without_limit_has_no_series() {
        let mut seen = Seen {
            version: Some("257.9".into()),
            state: Some("degraded".into()),
            virtualization: Some(String::new()),
            ..Seen::default()
        };
        seen.units.push(UnitSeen {
            name: "a.service".into(),
            restarts: Some(3),
            tasks: Some(u64::MAX),
            tasks_max: Some(128),
            started: Some(1_500_000),
            ..UnitSeen::default()
        });
        seen.units.push(UnitSeen {
            name: "b.socket".into(),
            socket: Socket {
                accepted: Some(7),
                connections: Some(1),
                refused: None,
            },
            ..UnitSeen::default()
        });
        let mut page = Page::default();
        write(&mut page, &seen);
        let pages = parse(&page);
        let (a, b) = ([("name", "a.service")], [("name", "b.socket")]);
        expect(&pages, "node_systemd_service_restart_total", &a, 3.0);
        expect(&pages, "node_systemd_unit_tasks_max", &a, 128.0);
        expect(&pages, "node_systemd_unit_start_time_seconds", &a, 1.5);
        let accepted = "node_systemd_socket_accepted_connections_total";
        expect(&pages, accepted, &b, 7.0);
        assert_eq!(pages[accepted].kind, "counter");
        assert!(!pages.contains_key("node_systemd_unit_tasks_current"));
        assert!(!pages.contains_key("node_systemd_socket_refused_connections_total"));
        expect(&pages, "node_systemd_system_running", &[], 0.0);
        expect(
            &pages,
            "node_systemd_version",
            &[("version", "257.9")],
            257.9,
        );
        let bare = [("virtualization_type", "none")];
        expect(&pages, "node_systemd_virtualization_info", &bare, 1.0);
    }

    #[test]
    fn nothing_told_is_version_0_and_unknown_virtualization() {
        let mut page = Page::default();
        write(&mut page, &Seen::default());
        let pages = parse(&page);
        expect(&pages, "node_systemd_version", &[("version", "")], 0.0);
        let unknown = [("virtualization_type", "unknown")];
        expect(&pages, "node_systemd_virtualization_info", &unknown, 1.0);
        assert!(!pages.contains_key("node_systemd_system_running"));
    }
}
