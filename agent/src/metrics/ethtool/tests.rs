use super::{Answers, Driver, Ethtool, Port, family, ioctl, sanitized, write};
use crate::metrics::collector::Collector;
use crate::metrics::exposition::Page;
use crate::metrics::options::{Filter, Options};
use crate::metrics::pattern::Pattern;
use crate::metrics::rtnetlink::SharedLinks;
use crate::metrics::tests::{Pages, expect, parse};

fn page(device: &str, answers: &Answers, wanted: &str) -> Pages {
    let mut page = Page::default();
    write(&mut page, device, answers, &mut Pattern::new(wanted));
    assert_eq!(page.duplicates(), 0);
    parse(&page)
}

fn statistics(all: &[(&str, u64)]) -> Vec<(String, u64)> {
    all.iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
}

#[test]
fn names_of_statistics_become_node_exporters() {
    for (name, expected) in [
        ("port.rx_errors", "node_ethtool_port_received_errors"),
        ("rx_errors", "node_ethtool_received_errors"),
        ("Queue[0] AllocFails", "node_ethtool_queue_0_allocfails"),
        (
            "Tx LPI entry count",
            "node_ethtool_transmitted_lpi_entry_count",
        ),
        (
            "port.VF_admin_queue_requests",
            "node_ethtool_port_vf_admin_queue_requests",
        ),
        ("[3]: tx_bytes", "node_ethtool_3_transmitted_bytes"),
        ("     err", "node_ethtool_err"),
        (
            "bw_in_allowance_exceeded",
            "node_ethtool_bw_in_allowance_exceeded",
        ),
        ("queue_0_tx_cnt", "node_ethtool_queue_0_transmitted_cnt"),
        ("ena_admin_q_aborted", "node_ethtool_ena_admin_q_aborted"),
        ("rxtx", "node_ethtool_rxtx"),
        ("rx_rx_tx", "node_ethtool_received_rx_transmitted"),
    ] {
        assert_eq!(family(&sanitized(name)), expected, "{name}");
    }
}

/// What ENA's driver says on an instance, cut down.
#[test]
fn allowances_that_an_instance_exceeded_are_on_the_page() {
    let answers = Answers {
        driver: Some(Driver {
            name: "ena".into(),
            version: "6.12.1".into(),
            bus: "0000:00:05.0".into(),
            ..Driver::default()
        }),
        port: None,
        statistics: statistics(&[
            ("total_resets", 0),
            ("bw_in_allowance_exceeded", 12),
            ("bw_out_allowance_exceeded", 3),
            ("pps_allowance_exceeded", 0),
            ("conntrack_allowance_exceeded", 1),
            ("linklocal_allowance_exceeded", 0),
            ("conntrack_allowance_available", 136_812),
            ("queue_0_tx_cnt", 99),
            ("rx_bytes", 5),
        ]),
    };
    let all = page("ens5", &answers, ".*");
    let device = [("device", "ens5")];
    for (name, value) in [
        ("bw_in_allowance_exceeded", 12.0),
        ("conntrack_allowance_available", 136_812.0),
        ("queue_0_transmitted_cnt", 99.0),
        ("received_bytes_total", 5.0),
    ] {
        expect(&all, &format!("node_ethtool_{name}"), &device, value);
    }
    let family = &all["node_ethtool_pps_allowance_exceeded"];
    assert_eq!(family.kind, "untyped");
    assert_eq!(family.help, "Network interface pps_allowance_exceeded");
    let info = [
        ("bus_info", "0000:00:05.0"),
        ("device", "ens5"),
        ("driver", "ena"),
        ("expansion_rom_version", ""),
        ("firmware_version", ""),
        ("version", "6.12.1"),
    ];
    expect(&all, "node_ethtool_info", &info, 1.0);
    let chosen = page("ens5", &answers, "_allowance_exceeded$");
    assert_eq!(chosen.len(), 1 + 5);
}

#[test]
fn names_that_become_one_are_left_out_together() {
    let answers = Answers {
        statistics: statistics(&[
            ("duplicate metric", 1),
            ("duplicate_metric", 2),
            ("Duplicate metric", 3),
            ("align_errors", 4),
        ]),
        ..Answers::default()
    };
    let all = page("eth0", &answers, ".*");
    assert_eq!(
        all.keys().collect::<Vec<_>>(),
        ["node_ethtool_align_errors"]
    );
}

#[test]
fn ports_tell_speeds_and_what_they_negotiate() {
    // 10, 100, 1000 and 10000 Mbit/s, TP and MII, pause and autonegotiation.
    let answers = Answers {
        port: Some(Port {
            supported: 0x32ef & !0x10,
            advertised: 0x206f & !0x10,
            autonegotiates: true,
        }),
        ..Answers::default()
    };
    let all = page("eth0", &answers, ".*");
    let device = ("device", "eth0");
    for (duplex, mode, value) in [
        ("full", "10000baseT", 1.25e9),
        ("full", "1000baseT", 1.25e8),
        ("half", "10baseT", 1.25e6),
    ] {
        let labels = [device, ("duplex", duplex), ("mode", mode)];
        expect(&all, "node_network_supported_speed_bytes", &labels, value);
    }
    let speeds = |name: &str| {
        all[&format!("node_network_{name}_speed_bytes")]
            .series
            .len()
    };
    assert_eq!((speeds("supported"), speeds("advertised")), (6, 5));
    for kind in ["TP", "MII"] {
        let labels = [device, ("type", kind)];
        expect(&all, "node_network_supported_port_info", &labels, 1.0);
    }
    for (name, value) in [
        ("autonegotiate", 1.0),
        ("autonegotiate_supported", 1.0),
        ("autonegotiate_advertised", 1.0),
        ("pause_supported", 1.0),
        ("pause_advertised", 1.0),
        ("asymmetricpause_supported", 0.0),
        ("asymmetricpause_advertised", 0.0),
    ] {
        expect(&all, &format!("node_network_{name}"), &[device], value);
    }
}

#[test]
fn the_running_kernel_answers_for_lo_and_not_for_what_is_not_there() {
    let socket = ioctl::open().unwrap();
    for name in ["no-such-device", "", "a-name-that-is-far-too-long"] {
        assert_eq!(ioctl::ask(&socket, name), Answers::default(), "{name}");
    }
    let options = Options {
        ethtool: Filter {
            include: Some("^lo$".into()),
            exclude: None,
        },
        ..Options::default()
    };
    let mut page = Page::default();
    Ethtool::new(&options, SharedLinks::new())
        .update(&mut page)
        .unwrap();
    let pages = parse(&page);
    assert!(
        pages
            .values()
            .flat_map(|family| family.series.keys())
            .all(|labels| labels["device"] == "lo")
    );
}
