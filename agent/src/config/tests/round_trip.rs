//! What `effective` prints loads to equal Settings.

use super::read;
use crate::config::{Settings, effective};

/// Every key that this version takes, once.
pub const EVERYTHING: &str = include_str!("everything.toml");
/// The sample of the user's page without what later versions bring.
const SAMPLE: &str = include_str!("sample.toml");

fn returns(text: &str) -> Settings {
    let settings = read(&[text]).unwrap_or_else(|faults| panic!("{faults}"));
    let printed = effective::text(&settings);
    let again = read(&[&printed]).unwrap_or_else(|faults| panic!("{faults}\n{printed}"));
    assert_eq!(settings, again, "{printed}");
    settings
}

#[test]
fn the_defaults_return() {
    returns("");
}

#[test]
fn every_key_returns() {
    let settings = returns(EVERYTHING);
    let names: Vec<&str> = settings
        .containers
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    assert_eq!(names, ["web", "api", "side.car"]);
}

#[test]
fn the_users_sample_is_accepted() {
    let settings = returns(SAMPLE);
    assert_eq!(settings.containers.containers.len(), 3);
    let export = &settings.containers.containers[0];
    assert_eq!(export.spec.nano_cpus, Some(2_000_000_000));
    assert_eq!(export.spec.mem_limit, Some(6 << 30));
    let readiness = export.probes.readiness.as_ref();
    assert!(matches!(
        readiness.map(|probe| &probe.check),
        Some(crate::supervise::Check::Http { port: 8080, .. })
    ));
    assert_eq!(settings.logs.outputs.len(), 1);
    assert_eq!(settings.logs.enrich.len(), 5);
}

#[test]
fn odd_texts_return() {
    returns(
        r#"
[node]
"a.b" = "quote \" backslash \\ newline \n tab \t escape \u001B delete \u007F é"
[containers.web]
image = "web"
environment = { "A B" = " x ", "é" = "" }
"#,
    );
    returns(
        "[metrics]\nlisten = []\n[heartbeat]\nlisten = []\n[logs.inputs.docker]\nlisten = []\n",
    );
    returns("[logs.inputs.zz]\nlisten = ':1'\n[logs.inputs.docker]\nlisten = ':2'\n");
    returns("[logs.parse]\njson_field = ''\n[containers.web]\nimage = 'w'\ncommand = []\n");
    returns(
        "[containers.web]\nimage = 'w'\ncpus = 0.123456\nports = ['1-3:4-6', '[::1]::80/udp']\n",
    );
}
