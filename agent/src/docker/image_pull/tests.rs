//! Lines as Docker writes them.

use super::{Detail, Layers, Login, take_line};
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use bytes::BytesMut;

fn bytes(current: i64, total: i64) -> Detail {
    Detail {
        current: Some(current),
        total: Some(total),
    }
}

#[test]
fn percent_never_goes_down_when_a_layer_turns_out_large_or_starts_again() {
    let mut layers = Layers::default();
    let none = Detail::default();
    layers.note("a", "Pulling fs layer", &none);
    layers.note("b", "Pulling fs layer", &none);
    assert_eq!(layers.progress().percent, None);
    let mut shown = Vec::new();
    for (id, status, detail) in [
        ("a", "Downloading", bytes(50, 100)),
        ("a", "Download complete", none),
        ("b", "Downloading", bytes(10, 1000)),
        ("b", "Downloading", bytes(600, 1000)),
        ("b", "Retrying in 5 seconds", Detail::default()),
        ("b", "Downloading", bytes(1, 1000)),
        ("b", "Downloading", bytes(1000, 1000)),
    ] {
        layers.note(id, status, &detail);
        shown.push(layers.progress().percent.unwrap());
    }
    assert_eq!(shown, [25, 50, 50, 63, 63, 63, 99]);
    let progress = layers.progress();
    assert_eq!((progress.done, progress.total), (1100, 1100));
    // Both tries came over the network.
    assert_eq!(layers.received, 100 + 600 + 1000);
}

#[test]
fn only_bytes_and_steps_are_signs_of_life() {
    let mut layers = Layers::default();
    assert!(layers.note("1.2", "Pulling from team/app", &Detail::default()));
    assert!(layers.note("a", "Pulling fs layer", &Detail::default()));
    assert!(layers.note("a", "Downloading", &bytes(5, 10)));
    assert!(!layers.note("a", "Downloading", &bytes(5, 10)));
    assert!(!layers.note("a", "Retrying in 3 seconds", &Detail::default()));
    assert!(!layers.note("a", "Retrying in 2 seconds", &Detail::default()));
    assert!(!layers.note("a", "Waiting", &Detail::default()));
    assert!(!layers.all_here());
    assert!(layers.note("a", "Download complete", &Detail::default()));
    assert!(layers.all_here(), "what is left asks nothing of a registry");
}

#[test]
fn layers_that_were_here_count_for_nothing() {
    let mut layers = Layers::default();
    layers.note("a", "Already exists", &Detail::default());
    layers.note("b", "Downloading", &bytes(1, 4));
    let progress = layers.progress();
    assert_eq!((progress.percent, progress.total), (Some(25), 4));
    for n in 0..2000 {
        layers.note(&n.to_string(), "Downloading", &bytes(1, 4));
    }
    assert_eq!(layers.known.len(), super::LAYER_LIMIT);
}

#[test]
fn lines_are_cut_where_they_end_however_they_arrive() {
    let mut unread = BytesMut::from("{\"a\":1}\r\n{\"b\"");
    assert_eq!(take_line(&mut unread).unwrap(), "{\"a\":1}\r");
    assert_eq!(take_line(&mut unread), None);
    unread.extend_from_slice(b":2}\n");
    assert_eq!(take_line(&mut unread).unwrap(), "{\"b\":2}");
}

#[test]
fn the_login_is_written_in_the_alphabet_that_docker_reads() {
    for password in ["a?>~b", "?a>b~", "~~??>>", "\"\\\u{fc}"] {
        let login = Login {
            username: "u".into(),
            password: Secret::new(password.into()),
            identity_token: None,
        };
        let header = login.header("docker.io");
        assert!(!header.contains(['+', '/']), "{header}");
        let read: serde_json::Value =
            serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap();
        assert_eq!(read["password"], password);
        assert_eq!(read["serveraddress"], "https://index.docker.io/v1/");
        assert!(!format!("{login:?}").contains(password));
    }
}
