use super::{EnvFile, EnvFormat, Logging, Port, Protocol, Spec, hash};
use std::collections::BTreeMap;

fn port(container_port: u16) -> Port {
    Port {
        host_ip: String::new(),
        host_port: Some(container_port),
        host_range: None,
        container_port,
        protocol: Protocol::Tcp,
    }
}

fn spec() -> Spec {
    Spec {
        image: "app:1".into(),
        ports: vec![port(8080), port(9090)],
        environment: BTreeMap::from([("A".into(), "1".into())]),
        logging: Logging::Agent { tag: "app".into() },
        ..Spec::default()
    }
}

#[test]
fn hash_stays_what_it_was_across_releases() {
    // Another value here replaces every running container of every host.
    assert_eq!(
        spec().hash(Some("unix:///run/agent/forward.sock")),
        "v1:7807884e6c0ad224d5ce878c5804e78232b253c33b71ec0b63c453e2335cd50d"
    );
}

#[test]
fn hash_does_not_see_the_order_of_what_has_none() {
    let mut turned = spec();
    turned.ports.reverse();
    assert_eq!(turned.hash(None), spec().hash(None));
}

#[test]
fn hash_sees_every_change_that_docker_would() {
    let base = spec();
    let mut seen = vec![base.hash(Some("unix:///a"))];
    let edits: [fn(&mut Spec); 14] = [
        |s| s.image = "app:2".into(),
        |s| s.command = Some(vec!["a b".into()]),
        |s| s.command = Some(vec!["a".into(), "b".into()]),
        |s| s.entrypoint = Some(vec![]),
        |s| s.environment = BTreeMap::from([("A".into(), "2".into())]),
        |s| s.labels = BTreeMap::from([("A".into(), "1".into())]),
        |s| s.ports[0].host_port = None,
        |s| s.ports[0].protocol = Protocol::Udp,
        |s| s.privileged = true,
        |s| s.init = Some(false),
        |s| s.mem_limit = Some(1 << 30),
        |s| s.pid = Some("host".into()),
        |s| s.ipc = Some("host".into()),
        |s| {
            s.logging = Logging::Agent {
                tag: "other".into(),
            }
        },
    ];
    for edit in edits {
        let mut changed = base.clone();
        edit(&mut changed);
        seen.push(changed.hash(Some("unix:///a")));
    }
    seen.push(base.hash(Some("unix:///b")));
    let n = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), n);
}

#[test]
fn log_address_is_nothing_to_a_container_that_logs_elsewhere() {
    let mut quiet = spec();
    quiet.logging = Logging::Default;
    assert_eq!(quiet.hash(Some("unix:///a")), quiet.hash(None));
}

#[test]
fn content_of_files_counts_once_it_is_known() {
    let mut spec = spec();
    spec.env_files = vec![EnvFile {
        path: "/etc/app.env".into(),
        required: true,
        format: EnvFormat::Compose,
    }];
    let unread = spec.hash(None);
    let (one, two) = (
        hash::with_content(&unread, Some("11")),
        hash::with_content(&unread, Some("22")),
    );
    assert!(hash::same(&unread, &one) && hash::same(&one, &unread));
    assert!(!hash::same(&one, &two));
    assert!(hash::same_spec(&one, &two));
    spec.image = "app:2".into();
    assert!(!hash::same(&spec.hash(None), &one));
    // no file, no second part
    let plain = super::tests::spec().hash(None);
    assert!(!plain.contains('+'));
    assert_eq!(hash::with_content(&plain, Some("11")), plain);
}
