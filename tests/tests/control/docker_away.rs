//! Docker absent or hung: everything else goes on, and quickly.

use crate::place::{WEB, code, hung_docker, text};
use std::time::{Duration, Instant};
use tests::agent::Place;
use tests::forward::{Client, Mode, frame, numbered};
use tests::{http, wait};

/// Everything that does not need Docker, each within a second.
fn goes_on(place: &Place, id: u64) {
    let quick = |what: &str, run: &mut dyn FnMut()| {
        let started = Instant::now();
        run();
        let took = started.elapsed();
        assert!(took < Duration::from_secs(1), "{what} took {took:?}");
    };
    quick("status", &mut || {
        let status = place.cli(&["status"]);
        assert_eq!(code(&status), 1, "{}", text(&status));
        assert!(text(&status).contains("web"), "{}", text(&status));
    });
    quick("metrics", &mut || {
        let page = http::get(place.metrics, "/metrics", &[]).unwrap();
        assert_eq!(page.status, 200);
        assert!(page.text().contains("\nnode_load1 "));
    });
    quick("heartbeat", &mut || {
        let beat = http::get(place.heartbeat, "/heartbeat", &[]).unwrap();
        assert_eq!(beat.status, 503, "{}", beat.text());
    });
    quick("livez", &mut || {
        let live = http::get(place.heartbeat, "/livez", &[]).unwrap();
        assert_eq!(live.status, 200, "{}", live.text());
    });
    quick("forward", &mut || {
        let mut client = Client::tcp(place.forward);
        let bytes = frame(Mode::Message, "t", &[numbered(id)], Some("c"));
        client.send(&bytes).unwrap();
        assert_eq!(client.ack().as_deref(), Some("c"));
    });
}

#[test]
fn without_docker_all_else_goes_on() {
    let place = Place::new();
    let agent = place.start(WEB);
    goes_on(&place, 1);
    wait::until("status tells that Docker is away", || {
        (agent.status()["docker"]["reachable"] == false).then_some(())
    });
    goes_on(&place, 2);
    // A reload does not wait for it either.
    let asked = Instant::now();
    place.write(&WEB.replace("web:1", "web:2"));
    let reload = place.cli(&["reload"]);
    assert_eq!(code(&reload), 0, "{}", text(&reload));
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(agent.container("web")["image"], "web:2");
    let asked = Instant::now();
    assert_eq!(agent.stop().code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn with_docker_hung_all_else_goes_on_and_a_stop_is_short() {
    let mut place = Place::new();
    place.docker_socket = place.path("hung.sock");
    let kept = hung_docker(&place.docker_socket);
    let agent = place.start(WEB);
    wait::until("Docker was asked", || {
        (!kept.lock().unwrap().is_empty()).then_some(())
    });
    goes_on(&place, 1);
    wait::until_within(Duration::from_secs(20), "the call is given up", || {
        (agent.status()["docker"]["reachable"] == false).then_some(())
    });
    goes_on(&place, 2);
    // Commands while it hangs: the reload and the reporters do not wait for Docker.
    let asked = Instant::now();
    place.write(&WEB.replace("web:1", "web:2"));
    let reload = place.cli(&["reload"]);
    assert_eq!(code(&reload), 0, "{}", text(&reload));
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    goes_on(&place, 3);
    let said = agent.said();
    let beats = said.iter().filter(|said| said.starts_with("STATUS="));
    assert!(beats.count() > 0);
    let asked = Instant::now();
    assert_eq!(agent.stop().code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
}
