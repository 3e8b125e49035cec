//! The real Ignition writes a root from what the agent renders; a shell runs what cloud-config has.

use super::forms::written;
use super::{HASH, IGNITION, example, rendered};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use tempfile::TempDir;
use tests::program::{command, output, stdout, workspace};
use tests::{file_server, yaml};

const PROGRAM: &str = "/usr/lib/dracut/modules.d/30ignition/ignition";
const PRESET: &str = "etc/systemd/system-preset/20-ignition.preset";
const BINARY: &[u8] = b"#!/bin/sh\necho agent\n";
const SECRET: &[u8] = b"0123-ab\n";

/// What stands at a path: mode and bytes, or where a link leads.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Directory(u32),
    File(u32, Vec<u8>),
    Link(PathBuf),
}

fn file(mode: u32, text: &str) -> Entry {
    Entry::File(mode, text.into())
}

fn walk(root: &Path) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            let metadata = path.symlink_metadata().unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let what = if metadata.is_symlink() {
                Entry::Link(fs::read_link(&path).unwrap())
            } else if metadata.is_dir() {
                todo.push(path.clone());
                Entry::Directory(mode)
            } else {
                Entry::File(mode, fs::read(&path).unwrap())
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, what);
        }
    }
    found
}

/// A root with nothing but users, and the outcome of ignition-apply.
pub struct Applied {
    directory: TempDir,
    outcome: Output,
}

impl Applied {
    /// Groups cannot be made outside of a real first boot: `--ignore-unsupported` is for them alone.
    pub fn of(config: &str) -> Applied {
        Applied::trusting(config, None)
    }

    /// The same, for a server whose certificate is in that file.
    fn trusting(config: &str, authority: Option<&Path>) -> Applied {
        let directory = TempDir::new().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        let program = directory.path().join("ignition-apply");
        symlink(PROGRAM, &program).unwrap();
        let path = directory.path().join("config.ign");
        fs::write(&path, config).unwrap();
        let mut apply = command(program);
        apply.arg("--ignore-unsupported").arg("--root").arg(root);
        apply.envs(authority.map(|path| ("SSL_CERT_FILE", path)));
        // It wants to know that it is not on a host.
        let outcome = output(apply.arg(path).env("container", "1"), IGNITION).unwrap();
        Applied { directory, outcome }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn said(&self) -> String {
        let said = [self.outcome.stdout.clone(), self.outcome.stderr.clone()].concat();
        String::from_utf8(said).unwrap()
    }

    pub fn well(self) -> Applied {
        assert!(self.outcome.status.success(), "{}", self.said());
        self
    }

    /// Without what was there before, and without directories that anything is in.
    fn tree(&self) -> BTreeMap<String, Entry> {
        let mut tree = walk(&self.root());
        // To systemd the lines are a set, and Ignition writes them in any order.
        if let Some(Entry::File(_, bytes)) = tree.get_mut(PRESET) {
            let mut lines: Vec<&str> = std::str::from_utf8(bytes).unwrap().lines().collect();
            lines.sort_unstable();
            *bytes = (lines.join("\n") + "\n").into_bytes();
        }
        tree.retain(|path, entry| {
            !matches!(entry, Entry::Directory(0o755)) && path != "etc/passwd" && path != "etc/group"
        });
        tree
    }
}

/// A server with binary and secret, and the options that name them.
pub fn served() -> Vec<String> {
    let directory = TempDir::new().unwrap();
    let sum = |bytes: &[u8]| {
        let path = directory.path().join("bytes");
        fs::write(&path, bytes).unwrap();
        let sum = stdout(command("sha512sum").arg(&path), "apt-get install coreutils").unwrap();
        sum[..128].to_owned()
    };
    let files = [("/agent", BINARY), ("/cid", SECRET)];
    let address = file_server::serve(
        files
            .map(|(path, bytes)| (path.to_owned(), bytes.to_vec()))
            .into(),
    )
    .unwrap();
    vec![
        example("export-service", "agent.toml")
            .display()
            .to_string(),
        format!("--binary-url=http://{address}/agent"),
        format!("--binary-sha512={}", sum(BINARY)),
        format!(
            "--secret=/etc/agent/secrets/falcon-cid=http://{address}/cid#sha512={}",
            sum(SECRET)
        ),
    ]
}

pub fn with(base: &[String], more: &[&str]) -> String {
    let base: Vec<&str> = base.iter().map(String::as_str).collect();
    rendered(&[&base, more].concat())
}

/// Services and sockets of `systemd/`, and what lies in their drop-in directories.
fn shipped() -> Vec<String> {
    let is_unit = |name: &str| name.ends_with(".service") || name.ends_with(".socket");
    let mut found = Vec::new();
    for path in walk(&workspace().join("systemd")).into_keys() {
        let of = path.split_once(".d/").map_or(path.as_str(), |(of, _)| of);
        if is_unit(of) && !path.ends_with(".d") {
            found.push(path);
        }
    }
    assert!(found.len() >= 4, "{found:?}");
    found
}

/// What `systemd/` says, without its comments.
fn unit(name: &str) -> String {
    let text = fs::read_to_string(workspace().join("systemd").join(name)).unwrap();
    significant(&text)
}

fn significant(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_real_ignition_writes_exactly_these_files() {
    let applied = Applied::of(&with(&served(), &[])).well();
    let mut tree = applied.tree();
    for name in shipped() {
        let entry = tree.remove(&format!("etc/systemd/system/{name}"));
        let Some(Entry::File(0o644, bytes)) = entry else {
            panic!("{name}: {entry:?}");
        };
        let written = significant(std::str::from_utf8(&bytes).unwrap());
        assert_eq!(written, unit(&name), "{name}");
    }
    let config = fs::read_to_string(example("export-service", "agent.toml")).unwrap();
    let mut expected = BTreeMap::from([
        (
            "opt/bin/agent".to_owned(),
            Entry::File(0o755, BINARY.into()),
        ),
        ("etc/agent/agent.toml".into(), file(0o644, &config)),
        ("etc/agent/secrets".into(), Entry::Directory(0o700)),
        (
            "etc/agent/secrets/falcon-cid".into(),
            Entry::File(0o600, SECRET.into()),
        ),
        (
            "etc/sysusers.d/agent.conf".into(),
            file(0o644, "g agent - -\n"),
        ),
        (
            "etc/systemd/logind.conf.d/10-agent.conf".into(),
            file(0o644, "[Login]\nInhibitDelayMaxSec=780\n"),
        ),
        (
            PRESET.into(),
            file(
                0o644,
                "enable agent-metrics.socket\nenable agent.service\nenable agent.socket\n",
            ),
        ),
    ]);
    for masked in [
        "campaigns",
        "fluentd",
        "node-exporter",
        "cadvisor",
        "falcon-sensor",
    ] {
        let path = format!("etc/systemd/system/{masked}.service");
        expected.insert(path, Entry::Link("/dev/null".into()));
    }
    assert_eq!(tree, expected);
}

#[test]
fn compressed_and_behind_a_pointer_the_host_is_the_same() {
    let base = served();
    let plain = Applied::of(&with(&base, &[])).well().tree();
    let compressed = with(&base, &["--compress"]);
    assert!(compressed.contains("\"compression\":\"gzip\""));
    assert!(compressed.len() < with(&base, &[]).len());
    assert_eq!(Applied::of(&compressed).well().tree(), plain);

    let directory = TempDir::new().unwrap();
    let whole = directory.path().join("whole.ign");
    let output = format!("--output={}", whole.display());
    // The config is on a server at the URL that the pointer names: that is known before its port.
    let config = with(&base, &[]);
    let files = BTreeMap::from([("/c.ign".to_owned(), config.clone().into_bytes())]);
    let address = file_server::serve(files).unwrap();
    let pointer = with(
        &base,
        &[&format!("--pointer=http://{address}/c.ign"), &output],
    );
    assert_eq!(fs::read_to_string(&whole).unwrap(), config);
    assert_eq!(Applied::of(&pointer).well().tree(), plain);

    // Another config at that URL is refused.
    let files = BTreeMap::from([("/c.ign".to_owned(), compressed.into_bytes())]);
    let address = file_server::serve(files).unwrap();
    let pointer = with(
        &base,
        &[&format!("--pointer=http://{address}/c.ign"), &output],
    );
    let refused = Applied::of(&pointer);
    assert!(!refused.outcome.status.success());
    assert_eq!(refused.tree(), BTreeMap::new());
}

#[test]
fn a_binary_of_another_hash_never_lands() {
    let mut base = served();
    base[2] = format!("--binary-sha512={HASH}");
    let refused = Applied::of(&with(&base, &[]));
    let said = refused.said();
    assert!(!refused.outcome.status.success());
    assert!(said.contains("hash"), "{said}");
    assert!(!refused.root().join("opt/bin/agent").exists());
}

/// A web server that speaks TLS; ends with the test.
struct TlsServer(Child);

impl TlsServer {
    /// Serves a directory, which gets `cert.pem`. Gives the port.
    fn start(directory: &Path) -> (TlsServer, u16) {
        let mut make = command("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]);
        make.args(["-nodes", "-days", "2", "-subj", "/CN=test"]);
        make.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
        make.args(["-keyout", "key.pem", "-out", "cert.pem"]);
        stdout(make.current_dir(directory), "apt-get install openssl").unwrap();
        let script = "import http.server as h, ssl\n\
            s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)\n\
            c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
            c.load_cert_chain('cert.pem', 'key.pem')\n\
            s.socket = c.wrap_socket(s.socket, server_side=True)\n\
            print(s.server_port, flush=True)\n\
            s.serve_forever()";
        let mut python = command("python3");
        python.args(["-c", script]).current_dir(directory);
        python.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = TlsServer(python.spawn().unwrap());
        let mut line = String::new();
        let told = server.0.stdout.take().unwrap();
        BufReader::new(told).read_line(&mut line).unwrap();
        (server, line.trim().parse().unwrap())
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn over_https_the_binary_comes_from_whom_the_host_trusts() {
    let directory = TempDir::new().unwrap();
    let binary = directory.path().join("agent");
    fs::write(&binary, BINARY).unwrap();
    let (_server, port) = TlsServer::start(directory.path());
    let config = rendered(&[
        example("sports-cards", "agent.toml").to_str().unwrap(),
        &format!("--binary-url=https://127.0.0.1:{port}/agent"),
        // The hash is taken of the file itself.
        &format!("--binary={}", binary.display()),
    ]);
    let authority = directory.path().join("cert.pem");
    let tree = Applied::trusting(&config, Some(&authority)).well().tree();
    assert_eq!(tree["opt/bin/agent"], Entry::File(0o755, BINARY.into()));
}

#[test]
fn an_extension_and_a_moved_socket_land_where_systemd_looks() {
    let config = example("sports-cards", "agent.toml");
    let base = served();
    let url = base[1].replace("--binary-url", "--sysext-url");
    let sum = base[2].replace("--binary-sha512", "--sysext-sha512");
    let text = rendered(&[config.to_str().unwrap(), &url, &sum, "--mask-legacy="]);
    let tree = Applied::of(&text).well().tree();
    assert_eq!(
        tree["etc/extensions/agent.raw"],
        Entry::Link("/opt/extensions/agent/agent.raw".into())
    );
    assert_eq!(
        tree["opt/extensions/agent/agent.raw"],
        Entry::File(0o644, BINARY.into())
    );
    assert_eq!(
        tree["etc/systemd/system/agent-metrics.socket.d/20-listen.conf"],
        file(
            0o644,
            "[Socket]\nListenStream=\nListenStream=127.0.0.1:9100\n"
        )
    );
    assert!(!tree.contains_key("etc/systemd/system/agent.service"));
    assert!(!tree.contains_key("opt/bin/agent"));
}

/// The script of cloud-config hosts, with its paths in a directory and systemd's tools left out.
#[test]
fn a_cloud_config_host_fetches_the_binary_once_and_checks_it() {
    let mut base = served();
    base.truncate(3);
    let script = |base: &[String]| {
        let cloud = yaml::parse(&with(base, &["--for=cloud-config"])).unwrap();
        let (mode, bytes) = written(&cloud, "/opt/bin/agent-install");
        assert_eq!(mode, 0o755);
        String::from_utf8(bytes).unwrap()
    };
    let directory = TempDir::new().unwrap();
    let agent = directory.path().join("agent");
    let log = directory.path().join("log");
    for tool in ["systemctl", "systemd-sysusers"] {
        let path = directory.path().join(tool);
        fs::write(
            &path,
            format!("#!/bin/sh\necho {tool} $* >>{}\n", log.display()),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = |text: &str| {
        let text = text.replace("/opt/bin/agent", agent.to_str().unwrap());
        let path = format!(
            "{}:{}",
            directory.path().display(),
            std::env::var("PATH").unwrap()
        );
        let mut bash = command("bash");
        output(
            bash.args(["-c", &text]).env("PATH", path),
            "apt-get install bash curl",
        )
        .unwrap()
    };
    let mut wrong = base.clone();
    wrong[2] = format!("--binary-sha512={HASH}");
    let refused = run(&script(&wrong));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("wrong sha512"));
    assert!(!refused.status.success());
    let names = || {
        walk(directory.path())
            .into_keys()
            .filter(|n| n.starts_with("agent"))
    };
    assert_eq!(names().count(), 0);

    let right = script(&base);
    assert!(run(&right).status.success());
    assert_eq!(fs::read(&agent).unwrap(), BINARY);
    assert_eq!(
        agent.metadata().unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert_eq!(names().count(), 2);

    // Upgraded since: the next boot leaves it alone.
    fs::write(&agent, "newer").unwrap();
    assert!(run(&right).status.success());
    assert_eq!(fs::read(&agent).unwrap(), b"newer");
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(
        said.matches("try-restart agent.service").count(),
        1,
        "{said}"
    );
    assert_eq!(
        said.matches("systemd-sysusers /etc/sysusers.d/agent.conf")
            .count(),
        3
    );
}
