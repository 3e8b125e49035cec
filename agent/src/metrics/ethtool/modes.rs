//! What a port supports and advertises: the bits of linux/ethtool.h's
//! ethtool_link_mode_bit_indices, as far as the word has them that
//! node_exporter asks for.

use super::Port;
use crate::metrics::exposition::{Kind, Page};

const AUTONEGOTIATE: u32 = 6;
const PAUSE: u32 = 13;
const ASYMMETRIC_PAUSE: u32 = 14;
const PORTS: [(u32, &str); 6] = [
    (7, "TP"),
    (8, "AUI"),
    (9, "MII"),
    (10, "FIBRE"),
    (11, "BNC"),
    (16, "Backplane"),
];
/// Octets per second of 1 Mbit/s.
const MEGABIT: f64 = 1_000_000.0 / 8.0;

/// Bit, Mbit/s, duplex, kind of cable.
#[rustfmt::skip] // a table reads better in its columns
const SPEEDS: [(u32, u32, &str, &str); 23] = [
    (0, 10, "half", "T"),
    (1, 10, "full", "T"),
    (2, 100, "half", "T"),
    (3, 100, "full", "T"),
    (4, 1000, "half", "T"),
    (5, 1000, "full", "T"),
    (12, 10_000, "full", "T"),
    (15, 2500, "full", "T"),
    (17, 1000, "full", "KX"),
    (18, 10_000, "full", "KX4"),
    (19, 10_000, "full", "KR"),
    (20, 10_000, "full", "R_FEC"),
    (21, 20_000, "full", "MLD2"),
    (22, 20_000, "full", "KR2"),
    (23, 40_000, "full", "KR4"),
    (24, 40_000, "full", "CR4"),
    (25, 40_000, "full", "SR4"),
    (26, 40_000, "full", "LR4"),
    (27, 56_000, "full", "KR4"),
    (28, 56_000, "full", "CR4"),
    (29, 56_000, "full", "SR4"),
    (30, 56_000, "full", "LR4"),
    (31, 25_000, "full", "CR"),
];

fn has(modes: u32, bit: u32) -> bool {
    modes >> bit & 1 == 1
}

pub fn write(page: &mut Page, device: &str, port: &Port) {
    write_capabilities(
        page,
        device,
        "supported",
        port.supported,
        [
            "Combination of speeds and features supported by network device",
            "If this port device supports autonegotiate",
            "If this port device supports pause frames",
            "If this port device supports asymmetric pause frames",
        ],
    );
    let mut family = page.family(
        "node_network_supported_port_info",
        Kind::Gauge,
        "Type of ports or PHYs supported by network device",
    );
    for (bit, kind) in PORTS {
        if has(port.supported, bit) {
            family.sample(&[("device", device), ("type", kind)], 1u64);
        }
    }
    write_capabilities(
        page,
        device,
        "advertised",
        port.advertised,
        [
            "Combination of speeds and features offered by network device",
            "If this port device offers autonegotiate",
            "If this port device offers pause capability",
            "If this port device offers asymmetric pause capability",
        ],
    );
    page.family(
        "node_network_autonegotiate",
        Kind::Gauge,
        "If this port is using autonegotiate",
    )
    .sample(&[("device", device)], port.autonegotiates);
}

fn write_capabilities(page: &mut Page, device: &str, what: &str, modes: u32, helps: [&str; 4]) {
    let name = format!("node_network_{what}_speed_bytes");
    let mut family = page.family(&name, Kind::Gauge, helps[0]);
    for (bit, speed, duplex, cable) in SPEEDS {
        if has(modes, bit) {
            let mode = format!("{speed}base{cable}");
            let labels = [("device", device), ("duplex", duplex), ("mode", &mode)];
            family.sample(&labels, f64::from(speed) * MEGABIT);
        }
    }
    let capabilities = [
        ("autonegotiate", AUTONEGOTIATE),
        ("pause", PAUSE),
        ("asymmetricpause", ASYMMETRIC_PAUSE),
    ];
    for ((capability, bit), help) in capabilities.into_iter().zip(&helps[1..]) {
        let name = format!("node_network_{capability}_{what}");
        page.family(&name, Kind::Gauge, help)
            .sample(&[("device", device)], has(modes, bit));
    }
}
