//! Our page over node_exporter's own end-to-end fixtures equals the page that
//! node_exporter prints over them: family, type, help, label sets, numbers.
//!
//! The fixtures are not part of this repository: they are looked for in
//! `node-exporter-fixtures` below $AGENT_SHARED_DIR, else below `../shared`
//! beside the workspace. Without them the test says so and passes.

use super::pages::{Family, Labels, Pages};
use super::{nobody, page_of, parse_text, roots_in};

use crate::metrics::{COLLECTORS, Filter, OPTIONAL, Options, Settings, Shares, make};
use std::path::{Path, PathBuf};

/// Not on the expected page: they ask the running kernel, or have no fixture.
const NOT_IN_FIXTURES: [&str; 7] = [
    "ethtool",
    "filesystem",
    "selinux",
    "systemd",
    "tcpstat",
    "timex",
    "uname",
];

/// Labels of `node_dmi_info` that only root can read, and that we never show.
const ROOT_ONLY: [&str; 4] = [
    "board_serial",
    "chassis_serial",
    "product_serial",
    "product_uuid",
];

/// Families whose numbers are the running host's, in the expected page as in ours.
fn is_live(family: &str) -> bool {
    (family.starts_with("node_network_receive_") || family.starts_with("node_network_transmit_"))
        && family.ends_with("_total")
        || [
            "node_textfile_mtime_seconds",
            "node_time_seconds",
            "node_time_zone_offset_seconds",
        ]
        .contains(&family)
}

fn is_ours(collector: &str) -> bool {
    COLLECTORS.contains(&collector) || OPTIONAL.contains(&collector)
}

/// Families of optional collectors of ours, which the table does not list.
fn is_optional(family: &str) -> bool {
    [
        "node_cgroups_",
        "node_interrupts_",
        "node_processes_",
        "node_softirqs_total",
        "node_softirqs_functions_",
    ]
    .iter()
    .any(|prefix| family.starts_with(prefix))
}

fn fixtures() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let shared = std::env::var_os("AGENT_SHARED_DIR")
        .map_or_else(|| workspace.join("../shared"), PathBuf::from);
    let fixtures = shared.join("node-exporter-fixtures");
    fixtures.join("e2e-output.txt").exists().then_some(fixtures)
}

#[test]
fn the_page_over_node_exporters_fixtures_is_node_exporters() {
    let Some(fixtures) = fixtures() else {
        eprintln!("skipped: no node-exporter-fixtures in $AGENT_SHARED_DIR or ../shared");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    unpack(&fixtures.join("fixtures.tar.gz"), dir.path());
    let ours = our_page(dir.path());
    let table = std::fs::read_to_string(fixtures.join("default-families.tsv")).unwrap();
    let all = std::fs::read_to_string(fixtures.join("e2e-output.txt")).unwrap();
    // The one label that holds a path is relative to where that test ran.
    let all = all.replace(
        "collector/fixtures/sys/",
        &format!("{}/sys/", dir.path().display()),
    );
    let all = parse_text(&all);
    let mut expected = of_our_collectors(&all, &table);
    for (name, family) in all
        .iter()
        .filter(|(name, _)| name.starts_with("testmetric"))
    {
        let mut family = family.clone(); // of the text files, whose path it names
        let there = dir.path().to_string_lossy();
        family.help = family.help.replace("collector/fixtures", &there);
        expected.insert(name.clone(), family);
    }

    let mut faults = Vec::new();
    let (mut families, mut series) = (0, 0);
    for (name, expected) in &expected {
        let Some(ours) = ours.get(name) else {
            faults.push(format!("{name}: missing"));
            continue;
        };
        families += 1;
        series += compare(name, expected, ours, &mut faults);
    }
    for name in ours.keys().filter(|name| !expected.contains_key(*name)) {
        faults.push(format!("{name}: not on node_exporter's page"));
    }
    eprintln!("compared {families} families, {series} series");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(families > 440, "only {families} families compared");
}

/// Returns how many series were compared.
fn compare(name: &str, expected: &Family, ours: &Family, faults: &mut Vec<String>) -> usize {
    if (&expected.kind, &expected.help) != (&ours.kind, &ours.help) {
        faults.push(format!(
            "{name}: {} {:?}, not {} {:?}",
            ours.kind, ours.help, expected.kind, expected.help
        ));
    }
    for (labels, value) in &expected.series {
        match ours.series.get(labels) {
            None => faults.push(format!("{name}{labels:?}: missing")),
            Some(found) if !is_live(name) && found != value => {
                faults.push(format!("{name}{labels:?}: {found}, not {value}"));
            }
            Some(_) => {}
        }
    }
    if !is_live(name) {
        for labels in ours.series.keys() {
            if !expected.series.contains_key(labels) {
                faults.push(format!("{name}{labels:?}: one too many"));
            }
        }
    }
    expected.series.len()
}

/// Those families of the expected page that the table gives to collectors of ours.
fn of_our_collectors(all: &Pages, table: &str) -> Pages {
    let collector_of = |family: &str| {
        table.lines().find_map(|line| {
            let mut columns = line.split('\t');
            (columns.next() == Some(family)).then(|| columns.nth(2).unwrap_or_default())
        })
    };
    let mut ours: Pages = all
        .iter()
        .filter(|(name, _)| collector_of(name).is_some_and(is_ours) || is_optional(name))
        .map(|(name, family)| (name.clone(), family.clone()))
        .collect();
    let of_ours = |labels: &Labels| is_ours(&labels["collector"]);
    let mut success = all["node_scrape_collector_success"].clone();
    success.series.retain(|labels, _| of_ours(labels));
    ours.insert("node_scrape_collector_success".into(), success);
    if let Some(dmi) = ours.get_mut("node_dmi_info") {
        dmi.series = std::mem::take(&mut dmi.series)
            .into_iter()
            .map(|(mut labels, value)| {
                labels.retain(|name, _| !ROOT_ONLY.contains(&name.as_str()));
                (labels, value)
            })
            .collect();
    }
    ours
}

fn our_page(fixtures: &Path) -> Pages {
    let only = |include: &str| Filter {
        include: Some(include.to_owned()),
        exclude: None,
    };
    // As the expected page was made.
    let settings = Settings {
        listen: Vec::new(),
        collectors: COLLECTORS.iter().map(|name| (*name).to_owned()).collect(),
        roots: roots_in(fixtures),
        options: Options {
            arp: Filter::excluding("nope"),
            arp_netlink: false,
            cpu_info: true,
            cpu_flags: Some("^(aes|avx.?|constant_tsc)$".into()),
            cpu_bugs: Some("^(cpu_meltdown|spectre_.*|mds)$".into()),
            hwmon_chips: only("(applesmc|asus_nb_wmi|coretemp|hwmon4|ieee80211|nct6779)"),
            netclass_ignored: "(dmz|int)".into(),
            netclass_ignores_invalid_speed: true,
            netdev: only("lo"),
            stat_softirq: true,
            textfiles: vec![fixtures.join("textfile/two_metric_files")],
            ..Options::default()
        },
    };
    let collectors = COLLECTORS
        .iter()
        .chain(OPTIONAL)
        .filter(|name| !NOT_IN_FIXTURES.contains(name))
        .map(|name| make(name, &settings, &Shares::default(), &nobody()).unwrap())
        .collect();
    let mut pages = page_of(collectors);
    let errors = pages
        .remove("promhttp_metric_handler_errors_total")
        .unwrap();
    assert!(errors.series.values().all(|count| *count == 0.0));
    for own in ["node_exporter_build_info", "process_", "promhttp_"] {
        pages.retain(|name, _| !name.starts_with(own));
    }
    pages.remove("node_scrape_collector_duration_seconds");
    pages
}

#[allow(clippy::disallowed_methods)] // a test may start tar
fn unpack(archive: &Path, into: &Path) {
    let status = std::process::Command::new("tar")
        .arg("-xzf")
        .arg(archive)
        .arg("-C")
        .arg(into)
        .status()
        .unwrap();
    assert!(status.success(), "tar: {status}");
}
