//! What is in the packages, read by the programs that such packages are for.

use super::{COMMIT, HINT, bundle, made, pack, sha256};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;
use tests::agent::binary;
use tests::program::{command, output, stdout, workspace};

#[test]
fn packed_again_every_form_has_the_same_bytes() {
    let again = TempDir::new().unwrap();
    pack(again.path(), &[]);
    for name in ["SHA256SUMS", "SHA512SUMS"] {
        let sums = fs::read_to_string(bundle().join(name)).unwrap();
        assert_eq!(sums.lines().count(), 7, "{sums}");
        assert_eq!(fs::read_to_string(again.path().join(name)).unwrap(), sums);
        let program = name.to_lowercase().replace("sums", "sum");
        let mut check = command(program);
        check
            .args(["--check", "--quiet", name])
            .current_dir(bundle());
        assert_eq!(stdout(&mut check, HINT).unwrap(), "");
    }
}

#[test]
fn the_tarball_is_sorted_and_everything_is_roots() {
    let mut list = command("tar");
    list.args(["--list", "--verbose", "--full-time", "--utc", "--file"]);
    let list = stdout(list.arg(made(".tar.gz")), HINT).unwrap();
    let mut names = Vec::new();
    for line in list.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(fields[1], "root/root", "{line}");
        assert_eq!(fields[3..5], ["2023-11-14", "22:13:20"], "{line}");
        assert!(
            ["-rw-r--r--", "-rwxr-xr-x", "drwxr-xr-x"].contains(&fields[0]),
            "{line}"
        );
        names.push(fields[5].trim_end_matches('/').to_owned());
    }
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    let inside = names.iter().map(|name| name.split_once('/').unwrap().1);
    let inside: Vec<&str> = inside.collect();
    for name in [
        "agent",
        "systemd/agent.service",
        "licences.txt",
        "sbom.cdx.json",
        "ignition/README.md",
    ] {
        assert!(inside.contains(&name), "{name}: {inside:?}");
    }
}

/// All files of a directory, with mode and bytes.
fn files(root: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for path in directory
            .read_dir()
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
        {
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, (mode, fs::read(path).unwrap()));
        }
    }
    found
}

/// The units of `systemd/`, with the binary where packages have it.
fn units_are_ours(files: &BTreeMap<String, (u32, Vec<u8>)>) {
    let mut n_units = 0;
    for entry in workspace().join("systemd").read_dir().unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !name.ends_with(".service") && !name.ends_with(".socket") {
            continue;
        }
        let (mode, packed) = &files[&format!("usr/lib/systemd/system/{name}")];
        let ours = fs::read_to_string(entry.path()).unwrap();
        let ours = ours.replace("/opt/bin/agent", "/usr/bin/agent");
        assert_eq!(
            (*mode, String::from_utf8_lossy(packed)),
            (0o644, ours.into()),
            "{name}"
        );
        n_units += 1;
    }
    assert!(n_units >= 3);
    let binary = fs::read(binary()).unwrap();
    assert!(files["usr/bin/agent"] == (0o755, binary), "another binary");
}

/// systemd-sysext(8) and Flatcar's documentation of it.
#[test]
fn the_extension_is_one_for_flatcar_and_has_nothing_but_usr() {
    let directory = TempDir::new().unwrap();
    let root = directory.path().join("root");
    let mut unpack = command("unsquashfs");
    unpack.args(["-no-progress", "-quiet", "-dest"]).arg(&root);
    stdout(unpack.arg(made(".raw")), HINT).unwrap();
    let files = files(&root);
    assert!(
        files.keys().all(|path| path.starts_with("usr/")),
        "{:?}",
        files.keys()
    );
    let text = |path: &str| String::from_utf8(files[path].1.clone()).unwrap();
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x86-64"
    };
    assert_eq!(
        text("usr/lib/extension-release.d/extension-release.agent"),
        format!("ID=flatcar\nSYSEXT_LEVEL=1.0\nARCHITECTURE={architecture}\n")
    );
    assert!(
        made(".raw")
            .display()
            .to_string()
            .ends_with(&format!("-{architecture}.raw"))
    );
    assert_eq!(
        text("usr/lib/systemd/system/multi-user.target.d/10-agent.conf"),
        "[Unit]\nUpholds=agent.service\n"
    );
    assert!(text("usr/lib/sysusers.d/agent.conf").contains("\ng agent "));
    assert!(files.contains_key("usr/lib/systemd/system/agent.service.d/10-notify-reload.conf"));
    units_are_ours(&files);
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The OCI image layout: every descriptor leads to a blob of that digest and size.
#[test]
fn the_image_is_an_oci_layout_with_one_layer() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    let mut unpack = command("tar");
    unpack.arg("-C").arg(root).arg("-xf").arg(made(".oci.tar"));
    stdout(&mut unpack, HINT).unwrap();
    assert_eq!(
        json(&root.join("oci-layout"))["imageLayoutVersion"],
        "1.0.0"
    );
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        let path = root.join("blobs").join(digest.replace(':', "/"));
        let bytes = fs::read(&path).unwrap();
        assert_eq!(format!("sha256:{}", sha256(&bytes)), digest);
        assert_eq!(descriptor["size"], bytes.len());
        path
    };
    let index = json(&root.join("index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let manifest = json(&blob(&index["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    let layer = blob(&manifest["layers"][0]);
    let diff = format!("sha256:{}", sha256(&fs::read(&layer).unwrap()));
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([diff]));
    assert_eq!(
        config["config"]["Entrypoint"],
        serde_json::json!(["/agent"])
    );
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    let labels = &config["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.revision"], COMMIT);
    let names = stdout(command("tar").arg("-tf").arg(&layer), HINT).unwrap();
    let files: Vec<&str> = names.lines().filter(|name| !name.ends_with('/')).collect();
    assert_eq!(files, ["agent", "usr/share/agent/licences.txt"]);
}

#[test]
fn the_package_is_what_debian_expects() {
    let package = made(".deb");
    let directory = TempDir::new().unwrap();
    let mut unpack = command("dpkg-deb");
    unpack
        .arg("--raw-extract")
        .arg(&package)
        .arg(directory.path());
    stdout(&mut unpack, HINT).unwrap();
    let files = files(directory.path());
    units_are_ours(&files);
    let conffiles = String::from_utf8(files["DEBIAN/conffiles"].1.clone()).unwrap();
    let etc: Vec<&String> = files
        .keys()
        .filter(|path| path.starts_with("etc/"))
        .collect();
    assert_eq!(conffiles, "/etc/agent/agent.toml\n");
    assert_eq!(etc, ["etc/agent/agent.toml"]);
    // systemd of the oldest Debian does not know its type.
    assert!(
        !files
            .keys()
            .any(|path| path.starts_with("usr/lib/systemd/system/agent.service.d"))
    );
    let mut lintian = command("lintian");
    let lintian = output(lintian.arg("--allow-root").arg(&package), HINT).unwrap();
    let said = String::from_utf8_lossy(&lintian.stdout);
    let faults: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("N:"))
        .collect();
    assert_eq!(
        faults,
        [""; 0],
        "{}",
        String::from_utf8_lossy(&lintian.stderr)
    );
}
