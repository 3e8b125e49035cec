//! The written form: which keys each section has and how each is read.
//!
//! Keys are read straight into the rooms' own types where nothing beyond the
//! key matters; what other sections decide (directories, ports, dependencies)
//! keeps its place and waits for `validate`.

mod containers;
mod images;
mod jobs;
mod logs;
mod metrics;
mod probes;

pub use containers::{
    APPLIES, CONDITIONS, ContainerFile, ENV_FORMATS, MASK, ORDERS, PROPAGATIONS, PULL_POLICIES,
    TAKEOVERS,
};
pub use jobs::{JobFile, OVERLAPS};
pub use logs::{InputFile, LogsFile, WHEN_FULL};

use crate::config::defaults;
use crate::config::document::Entry;
use crate::config::fault::{Place, quoted};
use crate::config::read::{self, Item, Report, Table, Wrong, suggest};
use crate::config::values;
use crate::host::roots::Roots;
use crate::listener::Address;
use crate::metrics::{COLLECTORS, OPTIONAL, Options, why_left_out};
use crate::supervise::{housekeeping, pull};
use crate::{cloud, docker, machine, telemetry};
use std::path::PathBuf;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

pub const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];
pub const FORMS: [(&str, telemetry::Form); 2] = [
    ("plain", telemetry::Form::Plain),
    ("json", telemetry::Form::Json),
];

/// A value that other sections are checked against, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    pub value: T,
    pub place: Place,
    /// `containers.web.ports`
    pub path: String,
}

impl<T> Located<T> {
    pub fn of(item: &Item<'_>, value: T) -> Located<T> {
        Located {
            value,
            place: item.place(),
            path: item.path().into(),
        }
    }
}

/// All sections as written. None where the default depends on the host.
#[derive(Debug)]
pub struct File {
    pub agent: AgentFile,
    pub node: Vec<(String, String)>,
    pub cloud: cloud::Settings,
    pub docker: docker::Settings,
    pub machine: machine::Settings,
    pub images: (pull::Settings, housekeeping::Settings),
    pub containers: Vec<ContainerFile>,
    pub jobs: Vec<JobFile>,
    pub metrics_listen: Option<Vec<Located<Address>>>,
    pub collectors: Vec<String>,
    pub roots: Roots,
    pub container_metrics: ContainerMetricsFile,
    pub metrics: Options,
    pub heartbeat: Option<Vec<Located<Address>>>,
    pub logs: LogsFile,
}

/// `[metrics.containers]`
#[derive(Debug, Default)]
pub struct ContainerMetricsFile {
    /// None: off.
    pub listen: Option<Vec<Located<Address>>>,
    pub labels: bool,
}

#[derive(Debug)]
pub struct AgentFile {
    pub state_dir: Option<PathBuf>,
    pub control: Option<PathBuf>,
    pub stop_timeout: Duration,
    pub telemetry: telemetry::Settings,
}

/// Reads a whole tree; faults go to `report`.
pub fn read(entries: &[Entry], report: &Report) -> File {
    read::root(entries, report, |root| {
        let (collectors, roots, metrics, metrics_listen, container_metrics) =
            root.take("metrics").table(metrics_section);
        let (docker, machine) = root.take("docker").table(docker);
        File {
            agent: root.take("agent").table(agent),
            node: node(root.take("node")),
            cloud: root.take("cloud").table(cloud),
            docker,
            machine,
            images: root.take("images").table(images::images),
            containers: root.take("containers").named(containers::container),
            jobs: root.take("jobs").named(jobs::job),
            metrics_listen,
            collectors,
            roots,
            container_metrics,
            metrics,
            heartbeat: root.take("heartbeat").table(|t| listen(t.take("listen"))),
            logs: root.take("logs").table(logs::logs),
        }
    })
}

fn agent(table: &mut Table<'_>) -> AgentFile {
    let default = telemetry::Settings::default();
    AgentFile {
        state_dir: table.take("state_dir").path_buf(),
        control: table.take("control").socket_path(),
        stop_timeout: table
            .take("stop_timeout")
            .duration()
            .unwrap_or(defaults::STOP_TIMEOUT),
        telemetry: table.take("log").table(|table| telemetry::Settings {
            level: table
                .take("level")
                .choice(&LEVELS, &[])
                .unwrap_or(default.level),
            form: table
                .take("format")
                .choice(&FORMS, &[])
                .unwrap_or(default.form),
        }),
    }
}

fn node(section: Item<'_>) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    for (name, item) in section.pairs() {
        if name.is_empty() || name.contains(['{', '}']) {
            let text = format!("{} cannot be the name of a fact", quoted(&name));
            item.wrong(Wrong::new(text));
        }
        if let Some(value) = item.plain() {
            facts.push((name, value));
        }
    }
    facts
}

fn cloud(table: &mut Table<'_>) -> cloud::Settings {
    let endpoint = table.take("endpoint");
    cloud::Settings {
        imds: table
            .take("imds")
            .bool()
            .unwrap_or(cloud::Settings::default().imds),
        endpoint: endpoint.parse("a URL such as \"http://127.0.0.1:1338\"", |text| {
            let authority = text.strip_prefix("http://").unwrap_or_default();
            if authority.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
                let text = format!("{} is no http:// URL", quoted(text));
                return Err(Wrong::new(text));
            }
            Ok(text.to_string())
        }),
    }
}

fn docker(table: &mut Table<'_>) -> (docker::Settings, machine::Settings) {
    let default = docker::Settings::default();
    let docker = docker::Settings {
        socket: table.take("socket").socket_path().unwrap_or(default.socket),
        timeout: table.take("timeout").duration().unwrap_or(default.timeout),
    };
    let default = machine::Settings::default();
    let revive = table.take("revive").bool().unwrap_or(default.revive);
    (docker, machine::Settings { revive })
}

type MetricsFile = (
    Vec<String>,
    Roots,
    Options,
    Option<Vec<Located<Address>>>,
    ContainerMetricsFile,
);

fn metrics_section(table: &mut Table<'_>) -> MetricsFile {
    let default = Roots::default();
    let collectors = table
        .take("collectors")
        .table(|table| collectors(table, COLLECTORS, OPTIONAL));
    let roots = table.take("paths").table(|table| Roots {
        proc: table.take("procfs").path_buf().unwrap_or(default.proc),
        sys: table.take("sysfs").path_buf().unwrap_or(default.sys),
        rootfs: table.take("rootfs").path_buf().unwrap_or(default.rootfs),
        udev: table.take("udev").path_buf().unwrap_or(default.udev),
    });
    let containers = table
        .take("containers")
        .table(|table| ContainerMetricsFile {
            listen: listen(table.take("listen")),
            labels: table.take("labels").bool().unwrap_or_default(),
        });
    let options = metrics::options(table);
    let listen = listen(table.take("listen"));
    (collectors, roots, options, listen, containers)
}

/// In `metrics.collectors.include`: all collectors that are on by default.
const DEFAULT: &str = "default";

/// The collectors that are on: those by default in the order of the page, then the optional
/// ones, which have to be included; [`DEFAULT`] among the included stands for the former.
fn collectors(table: &mut Table<'_>, default: &[&str], optional: &[&str]) -> Vec<String> {
    let known = [default, optional].concat();
    let check = |text: &str| match text == DEFAULT || known.contains(&text) {
        true => Ok(()),
        false => {
            let help = match why_left_out(text) {
                Some(reason) => format!("node_exporter has it, the agent does not: {reason}"),
                None => suggest(text, &mut known.iter().copied(), "collectors"),
            };
            Err(Wrong::new(format!("unknown collector {}", quoted(text))).help(help))
        }
    };
    let include = table.take("include");
    let written = include.is_there();
    let include = include.strings(check);
    let all = !written || include.iter().any(|name| name == DEFAULT);
    let exclude = table.take("exclude").strings(check);
    known
        .iter()
        .map(|name| name.to_string())
        .filter(|name| include.contains(name) || (all && default.contains(&name.as_str())))
        .filter(|name| !exclude.contains(name))
        .collect()
}

/// Addresses to listen on; an empty list switches the listener off.
fn listen(item: Item<'_>) -> Option<Vec<Located<Address>>> {
    let items = item.list()?;
    let read = |item: &Item<'_>| {
        let address = item.parse("an address such as \"127.0.0.1:9100\"", values::address)?;
        Some(Located::of(item, address))
    };
    Some(items.iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::collectors;
    use crate::config::document;
    use crate::config::read::{self, Report};

    fn chosen(text: &str) -> (Vec<String>, Vec<String>) {
        let (entries, _) = document::parse(0, text);
        let report = Report::default();
        let known = ["cpu", "meminfo", "loadavg"];
        let names = read::root(&entries, &report, |root| {
            collectors(root, &known, &["processes"])
        });
        let faults = report.faults().into_iter();
        (
            names,
            faults
                .map(|f| f.text + " / " + &f.help.unwrap_or_default())
                .collect(),
        )
    }

    #[test]
    fn collectors_keep_page_order_and_know_their_names() {
        assert_eq!(chosen("").0, ["cpu", "meminfo", "loadavg"]);
        assert_eq!(chosen("include = ['loadavg', 'cpu']").0, ["cpu", "loadavg"]);
        assert_eq!(chosen("include = []").0, [""; 0]);
        assert_eq!(chosen("exclude = 'cpu'").0, ["meminfo", "loadavg"]);
        assert_eq!(
            chosen("include = ['processes', 'default']\nexclude = 'cpu'").0,
            ["meminfo", "loadavg", "processes"]
        );
        assert_eq!(
            chosen("include = ['memnfo', 'gpu', 'zfs']").1,
            [
                "include: unknown collector \"memnfo\" / did you mean \"meminfo\"?",
                "include: unknown collector \"gpu\" / did you mean \"cpu\"?",
                "include: unknown collector \"zfs\" / node_exporter has it, the agent does not: \
                 no such file system in Flatcar's kernel",
            ]
        );
    }
}
