//! The web configuration of exporters: curl before us and before node_exporter with the same file.

use crate::page::{Beside, installed};
use rustix::process::Signal;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use tests::agent::{Place, free_port};
use tests::program::{command, output, stdout};
use tests::{http, wait};

/// bcrypt, cost 10, of "fakepassword".
pub const HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// Makes `NAME.crt` and `NAME.key`, signed by `ca` or by itself.
pub fn certificate(place: &Place, name: &str, ca: Option<&str>) {
    let file = |what: &str| place.path(what).display().to_string();
    let (key, crt) = (format!("{name}.key"), format!("{name}.crt"));
    let mut openssl = command("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt"]);
    openssl.args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    openssl.args(["-subj", &format!("/CN={name}")]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    openssl.args(["-keyout", &file(&key), "-out", &file(&crt)]);
    if let Some(ca) = ca {
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args(["-CA", &file(&format!("{ca}.crt"))]);
        openssl.args(["-CAkey", &file(&format!("{ca}.key"))]);
    }
    stdout(&mut openssl, "apt-get install openssl").unwrap();
}

/// What curl says: status code (000 where there was no answer), head and body.
struct Answer {
    code: String,
    head: String,
    body: String,
}

fn curl(arguments: &[&str], url: &str) -> Answer {
    let mut curl = command("curl");
    curl.args([
        "--silent",
        "--globoff",
        "--http1.1",
        "--max-time",
        "20",
        "--include",
    ]);
    curl.args(["--write-out", "\n%{http_code}"])
        .args(arguments)
        .arg(url);
    let output = output(&mut curl, "apt-get install curl").unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let (rest, code) = text.rsplit_once('\n').unwrap();
    let (head, body) = rest.split_once("\n\n").unwrap_or((rest, ""));
    Answer {
        code: code.to_owned(),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

/// An agent's config: `[metrics]` is the place's own table, so the key goes below its head.
fn configure(place: &Place, keys: &str) {
    place.write("");
    let text = fs::read_to_string(place.config()).unwrap();
    let text = text.replace("[metrics]\n", &format!("[metrics]\n{keys}\n"));
    fs::write(place.config(), text).unwrap();
}

/// Writes the web configuration and a config that names it.
pub fn with_web(place: &Place, web: &str) {
    let path = place.path("web.yml");
    fs::write(&path, web).unwrap();
    configure(
        place,
        &format!("web_config = {:?}", path.display().to_string()),
    );
}

fn node_exporter(web: &Path) -> (Beside, SocketAddr) {
    let program = installed("prometheus-node-exporter", "prometheus-node-exporter");
    let address = free_port();
    let listen = format!("--web.listen-address={address}");
    let config = format!("--web.config.file={}", web.display());
    let beside = Beside::start(&program, &[&listen, &config]);
    wait::until("node_exporter listens", || {
        std::net::TcpStream::connect(address).ok()
    });
    (beside, address)
}

#[test]
fn tls_and_logins_answer_as_node_exporter_does_with_the_same_file() {
    let place = Place::new();
    certificate(&place, "web", None);
    with_web(
        &place,
        &format!(
            "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n  min_version: TLS12\n\
             basic_auth_users:\n  alice: {HASH}\n\
             http_server_config:\n  headers:\n    X-Frame-Options: deny\n"
        ),
    );
    let mut agent = place.spawn();
    agent.wait_ready();
    let (_twin, twin) = node_exporter(&place.path("web.yml"));
    let ca = place.path("web.crt").display().to_string();
    let good = ["--cacert", &ca, "--user", "alice:fakepassword"];
    let cases: [(&str, &[&str], &str, &str); 11] = [
        ("https", &["--cacert", &ca], "/metrics", "401"),
        ("https", &["--cacert", &ca], "/nowhere", "401"),
        (
            "https",
            &["--cacert", &ca, "--user", "alice:wrong"],
            "/metrics",
            "401",
        ),
        (
            "https",
            &["--cacert", &ca, "--user", "bob:fakepassword"],
            "/metrics",
            "401",
        ),
        ("https", &good, "/metrics", "200"),
        ("https", &good, "/", "200"),
        ("https", &good, "/metrics?collect[]=nowhere", "400"),
        ("https", &good, "/metrics?collect[]=wifi", "400"),
        (
            "https",
            &[&good[..], &["-X", "POST"]].concat(),
            "/metrics",
            "200",
        ),
        ("http", &["--user", "alice:fakepassword"], "/metrics", "400"),
        // curl does not know the certificate's signer, so there is no answer.
        ("https", &[], "/metrics", "000"),
    ];
    for (scheme, arguments, path, code) in cases {
        let ask = |address: SocketAddr| curl(arguments, &format!("{scheme}://{address}{path}"));
        let (ours, theirs) = (ask(place.metrics), ask(twin));
        assert_eq!(ours.code, theirs.code, "{scheme} {arguments:?} {path}");
        assert_eq!(ours.code, code, "{scheme} {arguments:?} {path}");
        if code.starts_with('4') {
            assert_eq!(ours.body.trim_end(), theirs.body.trim_end(), "{path}");
        }
        for name in ["www-authenticate: ", "x-frame-options: "] {
            let of = |head: &str| {
                head.lines()
                    .find(|l| l.starts_with(name))
                    .map(str::to_owned)
            };
            assert_eq!(of(&ours.head), of(&theirs.head), "{path}");
        }
    }
    // What Prometheus itself asks for first.
    let url = format!("https://{}/metrics", place.metrics);
    let newest = curl(&[&good[..], &["--http2", "--tlsv1.3"]].concat(), &url);
    assert_eq!(newest.code, "200");
    let old = curl(&[&good[..], &["--tls-max", "1.1"]].concat(), &url);
    assert_eq!(old.code, "000");
    // Only this listener is behind TLS.
    assert_eq!(
        http::get(place.heartbeat, "/livez", &[]).unwrap().status,
        200
    );
}

#[test]
fn a_certificate_is_rotated_without_a_restart_and_a_broken_one_serves_nobody() {
    let place = Place::new();
    for name in ["one", "two"] {
        certificate(&place, name, None);
    }
    let install = |name: &str| {
        for kind in ["crt", "key"] {
            let from = place.path(&format!("{name}.{kind}"));
            fs::copy(from, place.path(&format!("web.{kind}"))).unwrap();
        }
    };
    install("one");
    with_web(
        &place,
        "tls_server_config: {cert_file: web.crt, key_file: web.key}\n",
    );
    let mut agent = place.spawn();
    agent.wait_ready();
    let code = |trusted: &str| {
        let ca = place.path(&format!("{trusted}.crt")).display().to_string();
        curl(&["--cacert", &ca], &format!("https://{}/", place.metrics)).code
    };
    assert_eq!((code("one").as_str(), code("two").as_str()), ("200", "000"));
    install("two");
    assert_eq!((code("one").as_str(), code("two").as_str()), ("000", "200"));
    fs::write(place.path("web.crt"), "no certificate\n").unwrap();
    assert_eq!((code("one").as_str(), code("two").as_str()), ("000", "000"));
    let said = agent.stderr();
    assert!(
        said.contains("serves nobody until this is mended"),
        "{said}"
    );
    assert!(said.contains("no PEM certificate in cert_file"), "{said}");
    // Certificate and key of different pairs.
    fs::copy(place.path("one.crt"), place.path("web.crt")).unwrap();
    assert_eq!(code("one"), "000");
    install("one");
    assert_eq!(code("one"), "200");
    // TLS does not go away by an edit.
    fs::write(place.path("web.yml"), "").unwrap();
    assert_eq!(code("one"), "000");
    assert_eq!(
        curl(&[], &format!("http://{}/metrics", place.metrics)).code,
        "000"
    );
    let said = agent.stderr();
    assert!(
        said.contains("restart the agent to serve without TLS"),
        "{said}"
    );
    assert_eq!(
        http::get(place.heartbeat, "/livez", &[]).unwrap().status,
        200
    );
}

#[test]
fn client_certificates_are_asked_for_and_verified_as_the_file_says() {
    let place = Place::new();
    certificate(&place, "ca", None);
    certificate(&place, "web", None);
    certificate(&place, "client", Some("ca"));
    certificate(&place, "stranger", None);
    let write = |kind: &str, ca: &str| {
        let text = format!(
            "tls_server_config: {{cert_file: web.crt, key_file: web.key, \
             client_auth_type: {kind}{ca}}}\n"
        );
        fs::write(place.path("web.yml"), text).unwrap();
    };
    with_web(&place, "");
    write("NoClientCert", "");
    let mut agent = place.spawn();
    agent.wait_ready();
    let file = |name: &str| place.path(name).display().to_string();
    let code = |client: Option<&str>| {
        let mut arguments = vec!["--cacert".to_owned(), file("web.crt")];
        if let Some(client) = client {
            arguments.extend(["--cert".into(), file(&format!("{client}.crt"))]);
            arguments.extend(["--key".into(), file(&format!("{client}.key"))]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        curl(&arguments, &format!("https://{}/", place.metrics)).code
    };
    let ca = ", client_ca_file: ca.crt";
    for (kind, ca, none, client, stranger) in [
        ("NoClientCert", "", "200", "200", "200"),
        ("RequestClientCert", "", "200", "200", "200"),
        ("RequireAnyClientCert", "", "000", "200", "200"),
        ("VerifyClientCertIfGiven", ca, "200", "200", "000"),
        ("RequireAndVerifyClientCert", ca, "000", "200", "000"),
    ] {
        write(kind, ca);
        let found = [code(None), code(Some("client")), code(Some("stranger"))];
        assert_eq!(found, [none, client, stranger], "{kind}");
    }
}

#[test]
fn a_broken_web_configuration_is_told_and_costs_no_other_room() {
    let place = Place::new();
    with_web(&place, "basic_auth_users: {alice: secret}\n");
    let config = place.config().display().to_string();
    let check = place.cli(&["check", &config]);
    assert_eq!(check.status.code(), Some(1));
    let told = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(
        told.contains("web.yml, line 1: the password of \"alice\" is no bcrypt hash"),
        "{told}"
    );
    assert!(!told.contains("secret"), "{told}");
    let mut agent = place.spawn();
    agent.wait_ready();
    assert!(agent.stderr().contains("is no bcrypt hash"));
    assert_eq!(
        http::get(place.heartbeat, "/livez", &[]).unwrap().status,
        200
    );
    assert_eq!(
        curl(&[], &format!("http://{}/metrics", place.metrics)).code,
        "000"
    );
    fs::write(place.path("web.yml"), "").unwrap();
    assert_eq!(
        http::get(place.metrics, "/metrics", &[]).unwrap().status,
        200
    );
    agent.signal(Signal::TERM);
}

/// Flags of node_exporter that carry no wish about the page: help, logs, Go's runtime.
const NO_WISH: [&str; 6] = [
    "--help",
    "--help-long",
    "--help-man",
    "--version",
    "--log.level",
    "--log.format",
];

#[test]
fn every_flag_of_node_exporter_is_in_the_table() {
    let program = installed("prometheus-node-exporter", "prometheus-node-exporter");
    let help = output(command(program).arg("--help"), "").unwrap();
    let help = [help.stdout, help.stderr].concat();
    let help = String::from_utf8_lossy(&help).into_owned();
    let page = fs::read_to_string(tests::program::workspace().join("docs/metrics.md")).unwrap();
    let mut n_flags = 0;
    let mut missing = Vec::new();
    for line in help.lines() {
        let Some(flag) = line.trim_start().strip_prefix("--") else {
            continue;
        };
        let flag = flag.strip_prefix("[no-]").unwrap_or(flag);
        let end = flag.find(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c));
        let flag = format!("--{}", &flag[..end.unwrap_or(flag.len())]);
        let is_switch = flag.starts_with("--collector.") && flag.matches('.').count() == 1;
        let is_off = flag == "--collector.disable-defaults";
        if NO_WISH.contains(&flag.as_str()) || is_switch && !is_off {
            continue; // one row, `--collector.NAME`, stands for all switches
        }
        n_flags += 1;
        if !page.contains(&format!("`{flag}`")) {
            missing.push(flag);
        }
    }
    assert!(n_flags > 30, "only {n_flags} flags in the help");
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:#?}");
}
