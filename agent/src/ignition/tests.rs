use super::plan::{Contents, File, Host, PlanError, Program, Remote, Sha512, Socket, State};
use super::{butane, cloud_config, ignition, plan, pointer, units};
use std::fs;
use std::path::Path;
use std::time::Duration;

fn remote(url: &str) -> Remote {
    Remote {
        url: url.into(),
        sha512: Sha512::of(b"agent"),
    }
}

fn socket(name: &'static str, listen: &[&str]) -> Socket {
    Socket {
        name,
        listen: listen.iter().map(|&address| address.into()).collect(),
    }
}

fn inline(path: &str, mode: u32, text: &str) -> File {
    File {
        path: path.into(),
        mode,
        contents: Contents::Inline(text.into()),
    }
}

/// As a config without a word about listeners has it.
fn host() -> Host {
    Host {
        program: Program::Binary(remote("https://example.org/agent")),
        files: vec![inline("/etc/agent/agent.toml", 0o644, "[node]\na = 1\n")],
        masks: vec!["fluentd.service".into()],
        sockets: vec![
            socket("forward", &["127.0.0.1:24224", "/run/agent/forward.sock"]),
            socket("metrics", &["0.0.0.0:9100"]),
        ],
        drain: Duration::from_secs(700),
    }
}

fn with(change: impl FnOnce(&mut Host)) -> Host {
    let mut host = host();
    change(&mut host);
    host
}

#[test]
fn every_unit_file_of_systemd_is_taken() {
    let systemd = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    let text = ignition(&plan(&host()).unwrap(), false);
    let mut todo = vec![systemd.clone()];
    let mut n_files = 0;
    while let Some(directory) = todo.pop() {
        for path in fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()) {
            let inside = path.strip_prefix(&systemd).unwrap().to_str().unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            // For those who choose it, by `--file`.
            if path.is_dir() && inside != "optional" {
                todo.push(path);
            } else if path.is_file() && !name.ends_with(".md") {
                let is_taken = match inside {
                    "agent.sysusers.conf" => text.contains("/etc/sysusers.d/agent.conf"),
                    _ if inside.starts_with("logind.conf.d/") => text.contains(inside),
                    _ => text.contains(&format!("\"name\":\"{name}\"")),
                };
                assert!(is_taken, "{inside}: add it to ignition/units.rs");
                n_files += 1;
            }
        }
    }
    assert!(n_files >= 5);
}

#[test]
fn only_comments_of_units_are_left_out() {
    let bare = units::bare("\n# why\n[Unit]\n  ; so\nA=b # c\n\n\n[Service]\nC=\n\n");
    assert_eq!(bare, "[Unit]\nA=b # c\n\n[Service]\nC=\n");
}

#[test]
fn sockets_follow_the_config() {
    let unit = |host: &Host, name: &str| {
        let plan = plan(host).unwrap();
        plan.units.into_iter().find(|unit| unit.name == name)
    };
    let drop_ins = |host: &Host| {
        let found = unit(host, "agent-metrics.socket").unwrap();
        let texts = found.drop_ins.into_iter().map(|d| d.contents);
        (found.state, texts.collect::<Vec<_>>())
    };
    assert_eq!(drop_ins(&host()), (State::Enabled, vec![]));
    let moved =
        with(|host| host.sockets[1].listen = vec!["127.0.0.1:9200".into(), "[::1]:1".into()]);
    let text = "[Socket]\nListenStream=\nListenStream=127.0.0.1:9200\nListenStream=[::1]:1\n";
    assert_eq!(drop_ins(&moved), (State::Enabled, vec![text.into()]));
    let off = with(|host| host.sockets[1].listen.clear());
    assert_eq!(drop_ins(&off), (State::Masked, vec![]));
    let sysext = |mut host: Host| {
        host.program = Program::Sysext(remote("s3://b/agent-0.1.0-x86-64.raw"));
        host
    };
    assert_eq!(unit(&sysext(host()), "agent-metrics.socket"), None);
    assert_eq!(drop_ins(&sysext(moved)), (State::AsIs, vec![text.into()]));
    assert_eq!(drop_ins(&sysext(off)), (State::Masked, vec![]));
}

#[test]
fn an_extension_is_linked_under_its_own_name() {
    let of = |url: &str| {
        let plan = plan(&with(|host| host.program = Program::Sysext(remote(url)))).unwrap();
        plan.links
    };
    let link = |target: &str| {
        vec![(
            "/etc/extensions/agent.raw".to_owned(),
            format!("/opt/extensions/agent/{target}"),
        )]
    };
    assert_eq!(
        of("https://a/b/agent-1-x86-64.raw?v=2"),
        link("agent-1-x86-64.raw")
    );
    assert_eq!(of("https://a/b/"), link("agent.raw"));
}

#[test]
fn logind_waits_longer_than_the_longest_drain() {
    let text = |seconds| {
        let plan = plan(&with(|host| host.drain = Duration::from_secs(seconds))).unwrap();
        let file = plan.files.into_iter().find(|f| f.path.contains("logind"));
        match file.unwrap().contents {
            Contents::Inline(bytes) => String::from_utf8(bytes).unwrap(),
            Contents::Remote(_) => panic!(),
        }
    };
    assert_eq!(text(700), "[Login]\nInhibitDelayMaxSec=720\n");
    assert_eq!(text(3), "[Login]\nInhibitDelayMaxSec=120\n");
}

#[test]
fn what_no_host_could_take_is_refused() {
    let refused = |change: fn(&mut Host)| plan(&with(change)).unwrap_err();
    let path = |path: &str| PlanError::Path(path.into());
    for wrong in ["agent.toml", "/etc/", "/a//b", "/a/../b", "/", ""] {
        let host = with(|host| host.files[0].path = wrong.into());
        assert_eq!(plan(&host), Err(path(wrong)));
    }
    assert_eq!(
        refused(|host| host.files.push(inline("/opt/bin/agent", 0o755, ""))),
        PlanError::Twice("/opt/bin/agent".into())
    );
    assert_eq!(
        refused(|host| host.masks = vec!["fluentd".into()]),
        PlanError::Unit("fluentd".into())
    );
    assert_eq!(
        refused(|host| host.masks = vec!["agent.service".into()]),
        PlanError::Twice("agent.service".into())
    );
    for url in ["ftp://a/b", "https://", "https://a/'b", "/a", "s3:///key"] {
        let host = with(|host| host.program = Program::Binary(remote(url)));
        assert_eq!(plan(&host), Err(PlanError::Url(url.into())));
    }
    assert_eq!(Sha512::parse("sha512-12"), None);
    assert!(Sha512::parse(&format!("sha512-{}", "aB".repeat(64))).is_some());
}

#[test]
fn secrets_lie_in_directories_of_their_own() {
    let secret = inline("/etc/agent/secrets/token", 0o600, "x");
    let plan = plan(&with(|host| host.files.push(secret))).unwrap();
    assert_eq!(plan.directories, ["/etc/agent/secrets"]);
    assert!(butane(&plan).contains("    - path: /etc/agent/secrets\n      mode: 0700\n"));
}

#[test]
fn equal_hosts_give_equal_bytes() {
    let (a, b) = (plan(&host()).unwrap(), plan(&host()).unwrap());
    assert_eq!(ignition(&a, true), ignition(&b, true));
    assert_eq!(butane(&a), butane(&b));
    assert_eq!(cloud_config(&a, true), cloud_config(&b, true));
}

#[test]
fn a_pointer_names_the_config_by_its_hash() {
    let text = pointer("s3://b/c.ign", "{}\n");
    let hash = Sha512::of(b"{}\n");
    assert_eq!(
        text,
        format!(
            "{{\"ignition\":{{\"version\":\"3.3.0\",\"config\":{{\"replace\":{{\"source\":\
             \"s3://b/c.ign\",\"verification\":{{\"hash\":\"sha512-{hash}\"}}}}}}}}}}\n"
        )
    );
}

#[test]
fn cloud_config_refuses_what_it_cannot_fetch() {
    let of = |program| cloud_config(&plan(&with(|host| host.program = program)).unwrap(), false);
    assert!(of(Program::Binary(remote("s3://b/agent"))).is_err());
    assert!(of(Program::Sysext(remote("https://b/agent.raw"))).is_err());
    assert!(of(Program::Preinstalled).is_ok());
}

#[test]
fn addresses_that_cloudinit_would_replace_are_not_in_sight() {
    let host = with(|host| {
        host.files[0] = inline("/etc/agent/agent.toml", 0o644, "a = '$private_ipv4'\n");
    });
    let text = cloud_config(&plan(&host).unwrap(), false).unwrap();
    assert!(!text.contains("$private_ipv4"), "{text}");
}
