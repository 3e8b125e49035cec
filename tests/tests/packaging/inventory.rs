//! The bill of materials against Cargo.lock, licences against the list of those that are allowed,
//! the commit against the sources.

use super::{COMMIT, HINT, made};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use tests::program::{command, output, stdout, workspace};

fn bill() -> Value {
    serde_json::from_slice(&fs::read(made(".cdx.json")).unwrap()).unwrap()
}

/// The fields that specification 1.5 requires, and those that readers of it look for.
#[test]
fn the_bill_of_materials_is_cyclonedx() {
    let bill = bill();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["specVersion"], "1.5");
    assert_eq!(bill["version"], 1);
    let serial = bill["serialNumber"].as_str().unwrap();
    let uuid = serial.strip_prefix("urn:uuid:").unwrap();
    let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert_eq!(bill["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(bill["metadata"]["component"]["name"], "agent");
    let mut references = BTreeSet::new();
    let components = bill["components"].as_array().unwrap();
    for component in components.iter().chain([&bill["metadata"]["component"]]) {
        for key in ["type", "name", "version", "purl", "bom-ref"] {
            assert!(component[key].is_string(), "{key}: {component}");
        }
        assert!(
            component["licenses"][0]["expression"].is_string(),
            "{component}"
        );
        assert!(
            references.insert(component["bom-ref"].as_str().unwrap()),
            "{component}"
        );
    }
    for edge in bill["dependencies"].as_array().unwrap() {
        assert!(references.contains(edge["ref"].as_str().unwrap()), "{edge}");
        for reference in edge["dependsOn"].as_array().unwrap() {
            assert!(references.contains(reference.as_str().unwrap()), "{edge}");
        }
    }
}

/// Name, version and checksum of each package of Cargo.lock.
fn locked() -> BTreeMap<(String, String), Option<String>> {
    let text = fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    let mut locked = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let start = format!("{key} = \"");
            let line = package.lines().find_map(|line| line.strip_prefix(&start));
            line.map(|rest| rest.trim_end_matches('"').to_owned())
        };
        let of = (value("name").unwrap(), value("version").unwrap());
        locked.insert(of, value("checksum"));
    }
    locked
}

#[test]
fn it_lists_what_cargo_links_and_nothing_else() {
    let locked = locked();
    let bill = bill();
    let (mut listed, mut linked) = (BTreeSet::new(), BTreeSet::new());
    let mut runtime = Vec::new();
    for component in bill["components"].as_array().unwrap() {
        let text = |key: &str| component[key].as_str().unwrap().to_owned();
        let of = (text("name"), text("version"));
        if text("purl").starts_with("pkg:generic/") {
            runtime.push(of.0);
            continue;
        }
        let sum = component["hashes"][0]["content"]
            .as_str()
            .map(str::to_owned);
        assert_eq!(locked.get(&of), Some(&sum), "{of:?}");
        if text("scope") == "required" {
            linked.insert(of.clone());
        }
        listed.insert(of);
    }
    // What agent/Cargo.toml asks for is linked, but for macros; what only tests want is not there.
    let manifest = fs::read_to_string(workspace().join("agent/Cargo.toml")).unwrap();
    let section = |name: &str| -> Vec<String> {
        let start = format!("\n[{name}]\n");
        let text = manifest.split_once(&start).unwrap().1;
        let lines = text.split("\n[").next().unwrap().lines();
        let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let has = |set: &BTreeSet<(String, String)>, name: &str| set.iter().any(|(n, _)| n == name);
    let wanted = section("dependencies");
    assert!(wanted.len() > 20, "{wanted:?}");
    for name in &wanted {
        assert!(has(&linked, name), "{name} is not listed as linked");
    }
    for name in section("dev-dependencies") {
        assert!(
            wanted.contains(&name) || !has(&listed, &name),
            "{name} is for tests"
        );
    }
    assert!(linked.is_subset(&listed));
    for name in ["serde_derive", "thiserror-impl"] {
        assert!(
            has(&listed, name) && !has(&linked, name),
            "{name} only builds"
        );
    }
    // Nobody is listed whom nobody needs.
    let edges = bill["dependencies"].as_array().unwrap();
    let needed: BTreeSet<&str> = edges
        .iter()
        .flat_map(|edge| edge["dependsOn"].as_array().unwrap())
        .filter_map(Value::as_str)
        .collect();
    for (name, version) in &listed {
        let purl = format!("pkg:cargo/{name}@{version}");
        assert!(needed.contains(purl.as_str()), "{purl} is needed by nobody");
    }
    assert!(
        runtime.contains(&"rust-std".to_owned()) && runtime.len() >= 2,
        "{runtime:?}"
    );
}

#[test]
fn every_crate_is_in_the_list_of_licences() {
    let text = fs::read_to_string(made(".licences.txt")).unwrap();
    for component in bill()["components"].as_array().unwrap() {
        if component["scope"] == "required" {
            let [name, version] = ["name", "version"].map(|key| component[key].as_str().unwrap());
            let line = format!("\n{name} {version} | ");
            assert!(text.contains(&line), "{name} {version}");
        }
    }
    assert!(text.contains("\nglibc ") || text.contains("\nmusl "));
    assert!(text.contains("Permission is hereby granted, free of charge"));
}

/// A crate of another licence ends `packaging/inventory`, and with it the packing.
#[test]
fn a_licence_outside_the_list_does_not_pass() {
    let script = workspace().join("packaging/inventory");
    let judge = "import importlib.machinery as m, importlib.util as u, sys\n\
                 sys.dont_write_bytecode = True\n\
                 l = m.SourceFileLoader('inventory', sys.argv[1])\n\
                 i = u.module_from_spec(u.spec_from_loader('inventory', l))\n\
                 l.exec_module(i)\n\
                 print(*(int(i.is_allowed(i.expression(t))) for t in sys.argv[2:]))";
    let rows = [
        ("MIT", 1),
        ("MIT/Apache-2.0", 1),
        ("GPL-3.0-only OR MIT", 1),
        ("(MIT OR GPL-3.0-only) AND Unicode-3.0", 1),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", 1),
        ("GPL-3.0-only", 0),
        ("MIT AND GPL-3.0-only", 0),
        ("MPL-2.0", 0),
        ("Apache-2.0 WITH Other-exception", 0),
        ("", 0),
        ("MIT OR", 0),
        ("MIT MIT", 0),
    ];
    let mut python = command("python3");
    python
        .args(["-c", judge])
        .arg(&script)
        .args(rows.map(|row| row.0));
    let verdicts = rows.map(|row| row.1.to_string()).join(" ");
    assert_eq!(stdout(&mut python, HINT).unwrap().trim(), verdicts);

    // And for real: with Apache-2.0 off the list.
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("packaging")).unwrap();
    for name in ["Cargo.toml", "Cargo.lock", "agent", "tests"] {
        std::os::unix::fs::symlink(workspace().join(name), root.join(name)).unwrap();
    }
    let text = fs::read_to_string(&script).unwrap();
    let stricter = text.replace("    \"Apache-2.0\",\n", "");
    assert_ne!(text, stricter);
    let path = root.join("packaging/inventory");
    fs::write(&path, stricter).unwrap();
    let mut python = command("python3");
    let refused = output(python.arg(path).arg("licences"), HINT).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("not among the licences that are allowed: aws-config "),
        "{said}"
    );
}

/// What the build script says for sources in `root`.
fn commit_of(script: &Path, root: &Path, profile: &str, told: Option<&str>) -> String {
    let mut build = command(script);
    build.env_clear();
    build.env("CARGO_MANIFEST_DIR", root.join("agent"));
    build
        .env("PROFILE", profile)
        .env("TARGET", "x86_64-unknown-linux-gnu");
    build.envs(told.map(|commit| ("AGENT_COMMIT", commit)));
    let text = stdout(&mut build, HINT).unwrap();
    let start = "cargo::rustc-env=AGENT_COMMIT=";
    let line = text.lines().find_map(|line| line.strip_prefix(start));
    line.unwrap().to_owned()
}

#[test]
fn the_commit_is_known_in_a_checkout_and_in_a_tarball() {
    let directory = TempDir::new().unwrap();
    let script = directory.path().join("build-script");
    let mut rustc = command("rustc");
    rustc.args(["--edition", "2024", "-o"]).arg(&script);
    stdout(rustc.arg(workspace().join("agent/build.rs")), HINT).unwrap();
    let write = |path: &str, text: &str| {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let line = format!("{COMMIT}\n");
    write("tarball/COMMIT", &format!("{COMMIT} 1700000000\n"));
    // As it is in a checkout, where git has not filled it in.
    let form = "$Format:%H %ct$\n";
    write("detached/COMMIT", form);
    write("detached/.git/HEAD", &line);
    write("branch/.git/HEAD", "ref: refs/heads/main\n");
    write("branch/.git/refs/heads/main", &line);
    write("packed/.git/HEAD", "ref: refs/heads/main\n");
    write(
        "packed/.git/packed-refs",
        &format!("# pack-refs\n{COMMIT} refs/heads/main\n"),
    );
    let git = directory.path().join("branch/.git");
    write(
        "linked/.git",
        &format!("gitdir: {}/worktrees/linked\n", git.display()),
    );
    write(
        "branch/.git/worktrees/linked/HEAD",
        "ref: refs/heads/other\n",
    );
    write("branch/.git/worktrees/linked/commondir", "../..\n");
    write("branch/.git/refs/heads/other", &line);
    write("none/README", "");
    write("nonsense/COMMIT", form);
    let of = |name: &str, profile: &str, told: Option<&str>| {
        let root = directory.path().join(name);
        fs::create_dir_all(root.join("agent")).unwrap();
        commit_of(&script, &root, profile, told)
    };
    for name in ["tarball", "detached", "branch", "packed", "linked"] {
        assert_eq!(of(name, "release", None), COMMIT, "{name}");
        // Else every commit would build everything again.
        assert_eq!(of(name, "debug", None), "unknown", "{name}");
    }
    for name in ["none", "nonsense"] {
        assert_eq!(of(name, "release", None), "unknown", "{name}");
    }
    let dirty = format!("{COMMIT}-dirty");
    assert_eq!(of("none", "debug", Some(&dirty)), dirty);
    assert_eq!(of("none", "debug", Some("main; rm")), "unknown");
}
