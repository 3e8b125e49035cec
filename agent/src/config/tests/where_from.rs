//! Which files are read, in which order, and what is said of those that cannot be.

use super::{read, surroundings};
use crate::config::load::{Loaded, Origin, load_from};
use crate::config::{Faults, Settings};
use std::fs;
use std::path::Path;

fn load(etc: &Path, origin: &Origin) -> Result<Loaded, Faults> {
    load_from(origin, etc, &surroundings())
}

fn product(settings: &Settings) -> Vec<(&str, &str)> {
    let node = settings.node.iter();
    node.map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[test]
fn without_any_file_the_defaults_hold() {
    let etc = tempfile::tempdir().unwrap();
    let loaded = load(etc.path(), &Origin::default()).unwrap();
    assert!(loaded.files.is_empty());
    assert_eq!(loaded.settings, read(&[]).unwrap());
    let none = load(&etc.path().join("none"), &Origin::default()).unwrap();
    assert_eq!(none.settings, loaded.settings);
    let listen: Vec<String> = loaded.settings.logs.inputs[0]
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    let socket = "unix:/run/user/1000/agent/forward.sock";
    assert_eq!(listen, ["127.0.0.1:24224", socket]);
    let buffer = &loaded.settings.logs.buffer.dir;
    assert_eq!(buffer, Path::new("/home/u/state/agent/buffer"));
}

#[test]
fn drop_ins_are_laid_over_in_name_order() {
    let etc = tempfile::tempdir().unwrap();
    let drop_ins = etc.path().join("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(
        etc.path().join("agent.toml"),
        "node = { a = '1', b = '1', c = '1' }",
    )
    .unwrap();
    fs::write(drop_ins.join("20.toml"), "[node]\nc = '20'\n").unwrap();
    fs::write(drop_ins.join("10.toml"), "[node]\nb = '10'\nc = '10'\n").unwrap();
    fs::write(drop_ins.join("30.toml.bak"), "not toml").unwrap();
    fs::write(drop_ins.join(".40.toml"), "not toml").unwrap();
    let loaded = load(etc.path(), &Origin::default()).unwrap();
    assert_eq!(
        product(&loaded.settings),
        [("a", "1"), ("b", "10"), ("c", "20")]
    );
    let names: Vec<_> = loaded
        .files
        .iter()
        .map(|f| f.file_name().unwrap())
        .collect();
    assert_eq!(names, ["agent.toml", "10.toml", "20.toml"]);
}

#[test]
fn tables_merge_and_lists_are_replaced() {
    let settings = read(&[
        "[containers.web]\nimage = 'web:1'\nports = ['80']\nenvironment = { A = '1' }\n",
        "[containers.web]\nimage = 'web:2'\nports = ['81', '82']\nenvironment.B = '2'\n",
    ])
    .unwrap();
    let spec = &settings.containers.containers[0].spec;
    assert_eq!(spec.image, "web:2");
    assert_eq!(spec.ports.len(), 2);
    assert_eq!(spec.environment.len(), 2);
}

#[test]
fn a_named_file_must_exist_and_the_rest_is_still_checked() {
    let etc = tempfile::tempdir().unwrap();
    let good = etc.path().join("good.toml");
    let binary = etc.path().join("binary.toml");
    let large = etc.path().join("large.toml");
    fs::write(&good, "[docker]\ntimeout = 5\n").unwrap();
    fs::write(&binary, b"[docker]\n# caf\xe9\n").unwrap();
    fs::write(&large, "#".repeat((1 << 20) + 1)).unwrap();
    let missing = etc.path().join("missing.toml");
    let files = vec![missing, good, binary, large, etc.path().into()];
    let origin = Origin {
        files: Some(files),
        state_dir: None,
    };
    let faults = load(etc.path(), &origin).unwrap_err();
    assert!(faults.is_unreadable());
    let directory = etc.path().display().to_string();
    let expected = [
        "/missing.toml: cannot be read: No such file or directory (os error 2)",
        "/good.toml:2:11: docker.timeout: expected a duration such as \"5s\", found integer 5",
        "/binary.toml:2:6: not UTF-8",
        "    save the file as UTF-8",
        "/large.toml: cannot be read: larger than 1 MiB",
        ": cannot be read: not a regular file",
        "5 faults",
    ];
    assert_eq!(
        faults.to_string().replace(&directory, ""),
        expected.join("\n")
    );
}

#[test]
fn the_command_lines_state_directory_wins() {
    let etc = tempfile::tempdir().unwrap();
    fs::write(
        etc.path().join("agent.toml"),
        "agent.state_dir = '/written'",
    )
    .unwrap();
    let asked = Origin {
        files: None,
        state_dir: Some("/asked".into()),
    };
    let dir = |origin| load(etc.path(), origin).unwrap().settings.agent.state_dir;
    assert_eq!(dir(&asked), Path::new("/asked"));
    assert_eq!(dir(&Origin::default()), Path::new("/written"));
}
