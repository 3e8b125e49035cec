//! The shipped binary needs nothing from the host it lands on, least of all its C library.
//!
//! It runs in two roots: one with nothing but the binary, one with a foreign
//! glibc and Flatcar's nsswitch.conf. In both it resolves a name by our own
//! name server (its metadata endpoint, asked at start) and serves node metrics.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::foreign_root;
use tests::name_server::NameServer;
use tests::program::{command, output, stdout, workspace};

const BINUTILS: &str = "apt-get install binutils";
const DOCKER: &str = "Docker must run (tests/run starts it)";
/// From start to the first answer, on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(60);
/// 128 + SIGFPE, as shells and Docker report it.
const KILLED_BY_SIGFPE: i32 = 136;
/// One name server on the bridge at a time.
static BRIDGE: Mutex<()> = Mutex::new(());

/// Calls getaddrinfo once, linked as the agent is.
const CONTROL: &str = r#"
#include <netdb.h>
#include <stdio.h>
int main(void) {
    struct addrinfo *found;
    printf("%d\n", getaddrinfo("metadata.static.test", "80", 0, &found));
    return 0;
}
"#;

/// What was built: the stripped binary and the same with its symbols.
fn built(variable: &str, default: &str) -> PathBuf {
    let path = match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => workspace().join(default),
    };
    let shown = path.display();
    assert!(
        path.is_file(),
        "{shown} is not there: run packaging/build, or set {variable}"
    );
    path
}

fn binary() -> PathBuf {
    built("AGENT_BIN", "dist/agent")
}

/// An image that goes away with the test.
struct Image(String);

impl Image {
    /// `FROM scratch` with the files of `root`.
    fn import(name: &str, root: &Path) -> Image {
        let name = format!("static-binary-{name}:{}", std::process::id());
        let archive = TempDir::new().unwrap();
        let tar = archive.path().join("root.tar");
        stdout(
            command("tar")
                .arg("-C")
                .arg(root)
                .arg("-cf")
                .arg(&tar)
                .arg("."),
            "",
        )
        .unwrap();
        stdout(command("docker").arg("import").arg(&tar).arg(&name), DOCKER).unwrap();
        Image(name)
    }

    /// Runs a program of it to its end.
    fn run(&self, program: &str) -> Output {
        let mut docker = command("docker");
        docker.args(["run", "--rm", &self.0, program]);
        output(&mut docker, DOCKER).unwrap()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = output(command("docker").args(["rmi", "--force", &self.0]), DOCKER);
    }
}

/// A container that goes away with the test.
struct Container(String);

impl Container {
    fn start(image: &Image, name_server: Ipv4Addr, config: &Path) -> Container {
        let dns = name_server.to_string();
        let mut create = command("docker");
        create.args(["create", "--dns", &dns, &image.0]);
        create.args([
            "/agent",
            "run",
            "--config",
            "/agent.toml",
            "--state-dir",
            "/state",
        ]);
        let container = Container(stdout(&mut create, DOCKER).unwrap().trim().to_owned());
        let inside = format!("{}:/agent.toml", container.0);
        stdout(command("docker").arg("cp").arg(config).arg(inside), DOCKER).unwrap();
        stdout(command("docker").args(["start", &container.0]), DOCKER).unwrap();
        container
    }

    fn address(&self) -> Ipv4Addr {
        let format = "{{.NetworkSettings.IPAddress}}";
        let mut inspect = command("docker");
        inspect.args(["inspect", "--format", format, &self.0]);
        let address = stdout(&mut inspect, DOCKER).unwrap();
        let told = address.trim().parse();
        told.unwrap_or_else(|_| panic!("the container ended:\n{}", self.log()))
    }

    fn log(&self) -> String {
        let logs = output(command("docker").args(["logs", &self.0]), DOCKER).unwrap();
        String::from_utf8_lossy(&[logs.stdout, logs.stderr].concat()).into_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = output(command("docker").args(["rm", "--force", &self.0]), DOCKER);
    }
}

/// The host's address on Docker's default bridge.
fn bridge() -> Ipv4Addr {
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let mut inspect = command("docker");
    inspect.args(["network", "inspect", "bridge", "--format", format]);
    stdout(&mut inspect, DOCKER)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// The first line that somebody says to the listener.
fn first_line(listener: &TcpListener, container: &Container) -> String {
    listener.set_nonblocking(true).unwrap();
    let started = Instant::now();
    let stream = loop {
        if let Ok((stream, _)) = listener.accept() {
            break stream;
        }
        let late = started.elapsed() > PATIENCE;
        assert!(!late, "the name was not resolved:\n{}", container.log());
        std::thread::sleep(Duration::from_millis(50));
    };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream).lines().next().unwrap().unwrap()
}

/// The body of `GET /metrics`, waited for.
fn scrape(container: &Container) -> String {
    let started = Instant::now();
    loop {
        let address = SocketAddr::from((container.address(), 9100));
        match get(address, "/metrics") {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => return answer,
            _ if started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
            answer => panic!("no metrics: {answer:?}\n{}", container.log()),
        }
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The binary as the only program of `image`: it asks our name server for its
/// metadata endpoint, connects there, and serves node metrics on 9100.
fn resolves_and_serves(image: &Image) {
    let _alone = BRIDGE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let bridge = bridge();
    let _name_server = NameServer::start(bridge, bridge).unwrap();
    let metadata = TcpListener::bind((bridge, 0)).unwrap();
    let port = metadata.local_addr().unwrap().port();
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("agent.toml");
    let text = format!("[cloud]\nendpoint = \"http://metadata.static.test:{port}\"\n");
    fs::write(&config, text).unwrap();

    let container = Container::start(image, bridge, &config);
    let asked = first_line(&metadata, &container);
    assert_eq!(asked, "PUT /latest/api/token HTTP/1.1");
    let metrics = scrape(&container);
    assert!(
        metrics.contains("\nnode_memory_MemTotal_bytes "),
        "{metrics}"
    );
}

#[test]
fn the_binary_is_static_pie() {
    let mut readelf = command("readelf");
    readelf.args(["--wide", "--file-header", "--program-headers", "--dynamic"]);
    let headers = stdout(readelf.arg(binary()), BINUTILS).unwrap();
    let field = |name: &str| {
        headers
            .lines()
            .find(|line| line.trim_start().starts_with(name))
    };
    assert!(field("Type:").unwrap().contains("DYN"), "{headers}");
    assert!(headers.contains("PIE"), "{headers}");
    assert!(field("INTERP").is_none(), "{headers}");
    assert!(!headers.contains("(NEEDED)"), "{headers}");
}

#[test]
fn no_name_service_switch_is_linked() {
    let unstripped = built("AGENT_UNSTRIPPED", "dist/agent.unstripped");
    let symbols = stdout(command("nm").arg(unstripped), BINUTILS).unwrap();
    let names: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert!(names.contains(&"main"), "no symbols: is it stripped?");
    let nss = ["nss_", "gaih_inet", "getpwnam", "gethostby"];
    let reaches = |name: &str| {
        let name = name.trim_start_matches('_');
        nss.iter().any(|prefix| name.starts_with(prefix))
    };
    let reached: Vec<&&str> = names.iter().filter(|name| reaches(name)).collect();
    assert!(reached.is_empty(), "{reached:?}");
}

#[test]
fn with_nothing_around_it_the_agent_resolves_and_serves() {
    let root = TempDir::new().unwrap();
    fs::copy(binary(), root.path().join("agent")).unwrap();
    resolves_and_serves(&Image::import("scratch", root.path()));
}

#[test]
fn beside_a_foreign_glibc_the_agent_resolves_and_serves() {
    let root = TempDir::new().unwrap();
    let source = foreign_root::directory().unwrap().join(".");
    stdout(command("cp").arg("-a").arg(source).arg(root.path()), "").unwrap();
    fs::copy(binary(), root.path().join("agent")).unwrap();
    let source = root.path().join("control.c");
    fs::write(&source, CONTROL).unwrap();
    let mut gcc = command("gcc");
    gcc.args(["-static", "-w", "-o"])
        .arg(root.path().join("control"));
    stdout(gcc.arg(&source), "apt-get install gcc libc6-dev").unwrap();
    let image = Image::import("foreign", root.path());

    // Without this the root would prove nothing.
    let control = image.run("/control");
    let code = control.status.code();
    assert_eq!(
        code,
        Some(KILLED_BY_SIGFPE),
        "getaddrinfo is harmless here: {control:?}"
    );
    resolves_and_serves(&image);
}
