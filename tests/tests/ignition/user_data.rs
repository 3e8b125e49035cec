//! What fits into user-data, what is said of what does not, and what else is refused.

use super::{HASH, HOSTS, example, render, rendered};
use std::fs;
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

/// EC2's limit, before base64. Unit: bytes.
const LIMIT: usize = 16_384;

#[test]
fn every_kind_of_host_fits_into_user_data() {
    for host in HOSTS {
        let plain = fs::metadata(example(host, "host.ign")).unwrap().len();
        let config = example(host, "agent.toml");
        let base = [config.to_str().unwrap(), "--preinstalled"];
        let compressed = rendered(&[&base[..], &["--compress"]].concat()).len();
        println!("{host}: {plain} bytes; without its program, compressed: {compressed}");
        assert!(plain < LIMIT as u64 / 2, "{host}: {plain}");
        assert!(compressed < LIMIT / 2, "{host}: {compressed}");
    }
    let cloud = fs::metadata(example(HOSTS[0], "cloud-config.yaml")).unwrap();
    println!("cloud-config: {} bytes", cloud.len());
    assert!(cloud.len() < LIMIT as u64 / 2);
}

/// A config with so many containers.
fn large(directory: &Path, n: usize) -> String {
    let mut text = String::new();
    for i in 0..n {
        text.push_str(&format!(
            "[containers.worker-{i}]\nimage = \"registry.example/team/worker:{i}\"\n\
             environment = {{ QUEUE = \"queue-{i}\", SEED = \"{}\" }}\n",
            // So that it does not compress away.
            (0..4)
                .map(|k| format!(
                    "{:016x}",
                    (i + 7 * k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ))
                .collect::<String>()
        ));
    }
    let path = directory.join("agent.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn what_is_too_large_is_refused_with_a_way_out() {
    let directory = TempDir::new().unwrap();
    let config = large(directory.path(), 70);
    let base = [config.as_str(), "--preinstalled"];
    let refused = render(&base);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty());
    let text = said(&refused);
    for part in [
        "the cloud takes 16384",
        "--compress makes it",
        "--pointer URL --output FILE",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // The first way.
    let compressed = rendered(&[&base[..], &["--compress"]].concat());
    assert!(compressed.len() <= LIMIT, "{}", compressed.len());
    assert!(
        text.contains(&format!("--compress makes it {};", compressed.len())),
        "{text}"
    );
    // The other one, for any size.
    let config = large(directory.path(), 900);
    let base = [config.as_str(), "--preinstalled"];
    let text = said(&render(&[&base[..], &["--compress"]].concat()));
    assert!(
        !text.contains("--compress makes") && text.contains("--pointer"),
        "{text}"
    );
    assert!(said(&render(&base)).contains("which is still too large"));
    let whole = directory.path().join("whole.ign");
    let pointer = [
        "--pointer",
        "s3://b/c.ign",
        "--output",
        whole.to_str().unwrap(),
    ];
    let pointer = rendered(&[&base[..], &pointer].concat());
    assert!(pointer.len() < 300, "{pointer}");
    assert!(fs::metadata(&whole).unwrap().len() > LIMIT as u64);
    // Elsewhere than on EC2.
    let unlimited = rendered(&[&base[..], &["--limit", "0"]].concat());
    assert_eq!(unlimited, fs::read_to_string(&whole).unwrap());
    let cloud = ["--for", "cloud-config"];
    assert_eq!(render(&[&base[..], &cloud].concat()).status.code(), Some(1));
}

#[test]
fn what_cannot_be_rendered_is_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let faulty = directory.path().join("faulty.toml");
    fs::write(&faulty, "[container.web]\n").unwrap();
    let faulty = faulty.to_str().unwrap();
    let good = example(HOSTS[0], "agent.toml");
    let good = good.to_str().unwrap();
    let url = "--binary-url=s3://b/agent";
    let hash = format!("--binary-sha512={HASH}");
    let rows: [(&[&str], i32, &str); 11] = [
        (&[faulty, "--preinstalled"], 1, "container: unknown key"),
        (&["/nowhere.toml", "--preinstalled"], 2, "/nowhere.toml"),
        (&[good], 2, "--binary-url <URL>"),
        (&[good, url], 1, "needs its sha512: give --binary-sha512"),
        (&[good, url, "--binary-sha512=12"], 2, "128 hex digits"),
        (&[good, url, "--binary=/nowhere"], 2, "cannot read /nowhere"),
        (
            &[good, url, &hash, "--for=cloud-config"],
            1,
            "cannot fetch s3://b/agent",
        ),
        (
            &[good, "--binary-url=ftp://a/b", &hash],
            1,
            "nothing that a host can fetch",
        ),
        (
            &[good, "--preinstalled", "--file=/a=s3://b"],
            2,
            "#sha512=HEX",
        ),
        (
            &[good, "--preinstalled", "--mask-legacy=x"],
            1,
            "no name of a unit",
        ),
        (
            &[good, "--preinstalled", "--for=butane", "--compress"],
            1,
            "compresses by itself",
        ),
    ];
    for (arguments, code, part) in rows {
        let refused = render(arguments);
        let text = said(&refused);
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: {text}");
        assert!(refused.stdout.is_empty());
    }
}

#[test]
fn files_that_the_config_needs_and_secrets_in_sight_are_pointed_out() {
    let config = example("marketplace", "agent.toml");
    let config = config.to_str().unwrap();
    let bare = render(&[config, "--preinstalled"]);
    assert!(bare.status.success());
    let text = said(&bare);
    for path in ["backend.env", "secrets/database-url", "secrets/registry"] {
        assert!(
            text.contains(&format!("the config reads /etc/agent/{path}")),
            "{text}"
        );
    }
    let directory = TempDir::new().unwrap();
    let secret = directory.path().join("password");
    fs::write(&secret, "hunter2").unwrap();
    let placed = format!("--secret=/etc/agent/secrets/registry={}", secret.display());
    let text = said(&render(&[config, "--preinstalled", &placed]));
    assert!(
        text.contains("warning: /etc/agent/secrets/registry is in the user-data"),
        "{text}"
    );
    assert!(!text.contains("reads /etc/agent/secrets/registry") && !text.contains("hunter2"));
}

#[test]
fn further_files_become_drop_ins() {
    let directory = TempDir::new().unwrap();
    let second = directory.path().join("20-site.toml");
    fs::write(&second, "[node]\nsite = \"b\"\n").unwrap();
    let config = example(HOSTS[0], "agent.toml");
    let files = [
        config.to_str().unwrap(),
        second.to_str().unwrap(),
        "--preinstalled",
    ];
    let text = rendered(&[&files[..], &["--for", "butane"]].concat());
    assert!(text.contains("- path: /etc/agent/agent.toml\n"));
    assert!(text.contains("- path: /etc/agent/conf.d/20-site.toml\n"));
}
