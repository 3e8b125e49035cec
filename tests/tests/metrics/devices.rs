//! Devices that are made for the test, as Debian's node_exporter shows them and as we do.

use crate::page::{Beside, installed};
use std::collections::BTreeMap;
use std::fs;
use tests::agent::{Place, free_port};
use tests::own::{in_own_network, in_own_processes};
use tests::program::{command, stdout};
use tests::{http, wait};

const HINT: &str = "tests/run installs what is needed";

fn run(line: &str) -> String {
    stdout(command("sh").args(["-ec", line]), HINT).unwrap()
}

/// Value by series, labels sorted, of the lines that are wanted.
fn samples(page: &str, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let lines = page
        .lines()
        .filter(|line| !line.starts_with('#') && wanted(line));
    let samples = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
        labels.sort_unstable();
        let number: f64 = value.parse().unwrap();
        (
            format!("{name}{{{}}}", labels.join(",")),
            number.to_string(),
        )
    });
    samples.collect()
}

/// HELP and TYPE of the families that are wanted.
fn headers(page: &str, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
    let lines = page.lines().filter(|line| line.starts_with("# "));
    let mut headers: Vec<&str> = lines
        .filter(|line| wanted(line.splitn(3, ' ').nth(2).unwrap_or_default()))
        .collect();
    headers.sort_unstable();
    headers
}

/// node_exporter with these collectors, and where it answers.
fn beside(collectors: &[&str]) -> (Beside, std::net::SocketAddr) {
    let program = installed("prometheus-node-exporter", "prometheus-node-exporter");
    let address = free_port();
    let mut arguments = vec![
        format!("--web.listen-address={address}"),
        "--collector.disable-defaults".into(),
    ];
    arguments.extend(collectors.iter().map(|name| format!("--collector.{name}")));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let started = Beside::start(&program, &arguments);
    wait::until("node_exporter answers", || {
        let reply = http::get(address, "/metrics", &[]).ok()?;
        (reply.status == 200).then_some(())
    });
    (started, address)
}

fn get(address: std::net::SocketAddr) -> String {
    http::get(address, "/metrics", &[]).unwrap().text()
}

#[test]
fn links_that_the_test_makes_are_shown_as_node_exporter_shows_them() {
    if !in_own_network("devices::links_that_the_test_makes_are_shown_as_node_exporter_shows_them") {
        return;
    }
    run("mount -t sysfs sysfs /sys
         ip link add e0 type veth peer name e1
         ip link add quiet type veth peer name other
         ip link set quiet addrgenmode none
         ip link set other addrgenmode none
         ip link set other up
         ip addr add 192.0.2.1/24 dev quiet
         ip link set quiet up
         ip neigh add 192.0.2.2 lladdr 02:00:5e:00:00:02 dev quiet nud permanent
         ip neigh add 192.0.2.3 lladdr 02:00:5e:00:00:03 dev quiet nud stale
         ip neigh add 192.0.2.4 lladdr 02:00:5e:00:00:04 dev quiet nud noarp");
    let place = Place::new();
    let _agent = place.start(
        "[metrics.collectors]\ninclude = [\"arp\", \"ethtool\", \"netclass\", \"tcpstat\"]\n",
    );
    let (_twin, address) = beside(&["arp", "ethtool", "netclass", "tcpstat"]);
    let (ours, theirs) = (get(place.metrics), get(address));
    // Debian's node_exporter has no `adminstate` yet.
    let wanted = |line: &str| {
        let is_link = line.starts_with("node_network_") && !line.starts_with("node_network_info{");
        is_link || line.starts_with("node_ethtool_") || line.starts_with("node_arp_")
    };
    let shown = samples(&ours, wanted);
    assert_eq!(shown, samples(&theirs, wanted));
    assert_eq!(headers(&ours, wanted), headers(&theirs, wanted));
    assert_eq!(shown["node_arp_entries{device=\"quiet\"}"], "2");
    let peer = run("cat /sys/class/net/e1/ifindex");
    assert_eq!(
        shown["node_ethtool_peer_ifindex{device=\"e0\"}"],
        peer.trim()
    );
    assert_eq!(shown["node_network_autonegotiate{device=\"e0\"}"], "0");
    assert!(ours.contains("driver=\"veth\""));

    // Connections come and go with each question.
    let tcp = |line: &str| {
        let listens = line.contains("\"listen\"") || line.contains("\"tx_queued_bytes\"");
        line.starts_with("node_tcp_") && listens
    };
    wait::until("both count the same sockets that listen", || {
        let (ours, theirs) = (
            samples(&get(place.metrics), tcp),
            samples(&get(address), tcp),
        );
        (ours.len() == 2 && ours == theirs).then_some(())
    });
}

#[test]
fn devices_of_a_btrfs_tell_their_errors_and_what_is_unused() {
    if !fs::read_to_string("/proc/filesystems")
        .unwrap()
        .contains("\tbtrfs\n")
    {
        println!("skipped: this kernel has no btrfs (modprobe btrfs?)");
        return;
    }
    if !in_own_processes("devices::devices_of_a_btrfs_tell_their_errors_and_what_is_unused") {
        return;
    }
    let place = Place::new();
    let directory = place.path("disks").display().to_string();
    run(&format!(
        "mkdir -p {directory}/mnt; cd {directory}; truncate -s 160M a b
         a=$(losetup -f --show a); b=$(losetup -f --show b)
         trap 'losetup -d $a $b' EXIT  # freed with the mount
         mkfs.btrfs -q -L devices -U 5c4f2c39-6f0c-4d8d-9a61-2a7f3f2f9d01 -d raid1 -m raid1 $a $b
         mount $a mnt; dd if=/dev/zero of=mnt/file bs=1M count=8 status=none; sync -f mnt"
    ));
    let _agent = place.start("[metrics.collectors]\ninclude = [\"btrfs\"]\n");
    let (twin, address) = beside(&["btrfs"]);
    let ours_only = |line: &str| line.contains("5c4f2c39-6f0c-4d8d-9a61-2a7f3f2f9d01");
    // A commit may fall between the two pages.
    let shown = wait::until("both show the same", || {
        let known = |line: &str| ours_only(line) && !line.contains("commit");
        let (ours, theirs) = (
            samples(&get(place.metrics), known),
            samples(&get(address), known),
        );
        (ours == theirs).then_some(ours)
    });
    let count = |name: &str| shown.keys().filter(|key| key.starts_with(name)).count();
    assert_eq!(count("node_btrfs_device_errors_total{"), 10);
    assert_eq!(count("node_btrfs_device_unused_bytes{"), 2);
    let size = 160.0 * 1024.0 * 1024.0;
    let sizes = shown
        .iter()
        .filter(|(key, _)| key.starts_with("node_btrfs_device_size_bytes{"));
    let sizes: Vec<f64> = sizes.map(|(_, value)| value.parse().unwrap()).collect();
    assert_eq!(sizes, [size, size]);
    // Who shows a file system does not hold it.
    drop(twin);
    run(&format!("umount {directory}/mnt"));
}
