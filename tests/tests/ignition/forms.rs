//! The examples are what the agent renders, and say the same in each language.

use super::{HASH, HOSTS, IGNITION, example, list, parsed, rendered};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::Path;
use tempfile::TempDir;
use tests::agent::binary;
use tests::program::{command, output, stdout, workspace};
use tests::yaml;

#[test]
fn examples_are_what_the_agent_renders() {
    let again = TempDir::new().unwrap();
    let mut render = command(workspace().join("ignition/render"));
    stdout(render.arg(again.path()).env("AGENT_BIN", binary()), "").unwrap();
    let mut n_files = 0;
    for host in HOSTS {
        for entry in fs::read_dir(again.path().join(host)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let now = fs::read_to_string(entry.path()).unwrap();
            let committed = fs::read_to_string(example(host, &name)).unwrap();
            assert!(now == committed, "{host}/{name}: run ignition/render");
            n_files += 1;
        }
    }
    assert_eq!(n_files, 2 * HOSTS.len() + 1);
}

/// All that ignition-validate says; of unknown keys it only warns, with exit code 0.
fn findings(config: &Path) -> String {
    let validate = output(command("ignition-validate").arg(config), IGNITION).unwrap();
    let said = [validate.stdout, validate.stderr].concat();
    let mut said = String::from_utf8(said).unwrap();
    if !validate.status.success() {
        said.push_str(&validate.status.to_string());
    }
    said
}

#[test]
fn ignition_validate_has_nothing_to_say() {
    let directory = TempDir::new().unwrap();
    for host in HOSTS {
        assert_eq!(findings(&example(host, "host.ign")), "", "{host}");
        let config = example(host, "agent.toml");
        let common = [config.to_str().unwrap(), "--preinstalled"];
        let compressed = directory.path().join("compressed.ign");
        let text = rendered(&[&common[..], &["--compress"]].concat());
        fs::write(&compressed, text).unwrap();
        assert_eq!(findings(&compressed), "", "{host}, compressed");
        let whole = directory.path().join("whole.ign");
        let pointer = [
            "--pointer",
            "s3://b/c.ign",
            "--output",
            whole.to_str().unwrap(),
        ];
        let text = rendered(&[&common[..], &pointer].concat());
        let path = directory.path().join("pointer.ign");
        fs::write(&path, text).unwrap();
        assert_eq!(findings(&path), "", "{host}, pointer");
    }
    // It would say something.
    let wrong = directory.path().join("wrong.ign");
    let mut config = parsed(&example(HOSTS[0], "host.ign"));
    config["systemd"]["units"][0]["enable"] = json!(true);
    fs::write(&wrong, config.to_string()).unwrap();
    assert!(findings(&wrong).contains("enable"));
}

/// What Butane makes of its file (its documentation, "Flatcar Specification v1.0.0"): the same keys
/// but for `inline`, which becomes a data URL.
#[test]
fn butane_says_the_same_field_by_field() {
    for host in HOSTS {
        let text = fs::read_to_string(example(host, "host.bu")).unwrap();
        let mut butane = yaml::parse(&text).unwrap();
        let butane = butane.as_object_mut().unwrap();
        assert_eq!(butane.remove("variant"), Some(json!("flatcar")));
        assert_eq!(butane.remove("version"), Some(json!("1.0.0")));
        let mut ignition = parsed(&example(host, "host.ign"));
        let ignition = ignition.as_object_mut().unwrap();
        assert_eq!(
            ignition.remove("ignition"),
            Some(json!({"version": "3.3.0"}))
        );
        for file in ignition["storage"]["files"].as_array_mut().unwrap() {
            let contents = file["contents"].as_object_mut().unwrap();
            let source = contents["source"].as_str().unwrap().to_owned();
            if source.starts_with("data:") {
                let bytes = decoded(&source, false);
                contents.remove("source");
                contents.insert("inline".into(), String::from_utf8(bytes).unwrap().into());
            }
        }
        assert_eq!(
            Value::from(butane.clone()),
            Value::from(ignition.clone()),
            "{host}"
        );
    }
}

/// The bytes behind a data URL (RFC 2397), by other programs than the one that wrote it.
pub fn decoded(url: &str, is_gzip: bool) -> Vec<u8> {
    let python =
        "import sys,urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1]).read())";
    let decode = output(
        command("python3").args(["-c", python, url]),
        "apt-get install python3",
    );
    let decode = decode.unwrap();
    assert!(decode.status.success(), "{url}");
    if !is_gzip {
        return decode.stdout;
    }
    let mut bytes = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(decode.stdout.as_slice());
    decoder.read_to_end(&mut bytes).unwrap();
    bytes
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// coreos-cloudinit ignores what it does not know, so each key is held to its documentation.
#[test]
fn cloud_config_has_the_same_files_and_known_keys_only() {
    let config = example("export-service", "agent.toml");
    let base = [
        config.to_str().unwrap(),
        "--binary-url",
        "https://artifacts.example/agent",
        "--binary-sha512",
        HASH,
    ];
    let ignition: Value = serde_json::from_str(&rendered(&base)).unwrap();
    for compress in [false, true] {
        let mut arguments = [&base[..], &["--for", "cloud-config"]].concat();
        arguments.extend(compress.then_some("--compress"));
        let text = rendered(&arguments);
        assert!(text.starts_with("#cloud-config\n"));
        let cloud = yaml::parse(&text).unwrap();
        assert_eq!(keys(&cloud), ["coreos", "write_files"]);
        for file in list(&ignition["storage"], "files") {
            let source = file["contents"]["source"].as_str().unwrap();
            if source.starts_with("data:") {
                let there = written(&cloud, file["path"].as_str().unwrap());
                assert_eq!(
                    there,
                    (file["mode"].as_u64().unwrap(), decoded(source, false))
                );
            }
        }
        let units = list(&cloud["coreos"], "units");
        for unit in list(&ignition["systemd"], "units") {
            let there = units.iter().find(|u| u["name"] == unit["name"]).unwrap();
            assert_eq!(there["content"], unit["contents"], "{there}");
            assert_eq!(there["enable"], unit["enabled"], "{there}");
            assert_eq!(there["mask"], unit["mask"], "{there}");
            for (ours, theirs) in list(unit, "dropins").iter().zip(list(there, "drop-ins")) {
                assert_eq!(ours["name"], theirs["name"]);
                assert_eq!(ours["contents"], theirs["content"]);
            }
            assert_eq!(list(unit, "dropins").len(), list(there, "drop-ins").len());
        }
        let known = ["name", "command", "enable", "mask", "content", "drop-ins"];
        for unit in units {
            assert!(keys(unit).iter().all(|key| known.contains(key)), "{unit}");
            let command = unit["command"].as_str().unwrap();
            assert!(["start", "stop", "restart"].contains(&command));
        }
    }
}

/// Mode and bytes of a file of `write_files`.
pub fn written(cloud: &Value, path: &str) -> (u64, Vec<u8>) {
    let files = list(cloud, "write_files");
    let file = files.iter().find(|f| f["path"] == path).unwrap();
    let known = ["path", "permissions", "owner", "encoding", "content"];
    assert!(keys(file).iter().all(|key| known.contains(key)), "{file}");
    assert_eq!(file["owner"], "root:root");
    let mode = u64::from_str_radix(file["permissions"].as_str().unwrap(), 8).unwrap();
    let content = file["content"].as_str().unwrap();
    let bytes = match file["encoding"].as_str() {
        None => content.as_bytes().to_vec(),
        Some(encoding) => {
            assert!(["base64", "gzip+base64"].contains(&encoding));
            let url = format!("data:;base64,{content}");
            decoded(&url, encoding == "gzip+base64")
        }
    };
    (mode, bytes)
}
