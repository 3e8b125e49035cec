//! Registries that fail, each in its way.

use crate::place::Host;
use crate::proxy::{Fault, Request};
use crate::registry::{PASSWORD, USER};
use std::fs;
use std::time::Duration;
use tests::wait;

const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\ncontent-type: application/json\r\n\
                    content-length: 81\r\n\r\n\
                    {\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"retry-after: 12s, allowed: 1\"}]}\n";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
const UNKNOWN: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: 73\r\n\r\n\
                       {\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"token is too old, sorry\"}]}\n";

#[test]
fn a_registry_that_asks_for_patience_hears_nothing_until_it_is_over() {
    let host = Host::new();
    host.proxy.fault("/manifests/", 1, Fault::Answer(BUSY));
    let config = host.images("") + &host.container("app", "app:1", "");
    let agent = host.place.start(&config);
    let now = host.wait_message(&agent, "app", "toomanyrequests");
    assert_eq!(now["state"], "backoff");
    assert!(now["retry_at"].is_string(), "{now}");
    // Another image of the same registry waits with it.
    host.place
        .write(&(config + &host.container("other", "other:1", "")));
    assert_eq!(host.place.cli(&["reload"]).status.code(), Some(0));
    host.wait_message(&agent, "other", "asked for patience");
    // An operator's impatience is not the registry's.
    assert_eq!(host.place.cli(&["restart", "app"]).status.code(), Some(0));
    agent.wait_well("app");
    agent.wait_well("other");
    let asked = host.proxy.requests();
    let is_refused = |one: &&Request| one.method == "GET" && one.path.contains("/manifests/");
    let refused = asked.iter().find(is_refused);
    let refused = refused.unwrap().at;
    let next = asked.iter().find(|one| one.at > refused).unwrap();
    let pause = next.at - refused;
    assert!(
        pause >= Duration::from_secs(12),
        "asked again after {pause:?}"
    );
    assert_eq!((host.pulls("limited"), host.pulls("ok")), (1, 2));
}

#[test]
fn a_broken_registry_is_asked_again_on_a_ladder_of_its_own() {
    let host = Host::new();
    host.proxy.fault("/manifests/", 2, Fault::Answer(BROKEN));
    let config = host.images("") + &host.container("app", "app:1", "");
    let agent = host.place.start(&config);
    let now = host.wait_message(&agent, "app", "500");
    assert_eq!(now["state"], "backoff");
    let now = agent.wait_well("app");
    assert_eq!(now["restarts"], 0, "{now}");
    let mut asked = host.proxy.asked("/manifests/");
    asked.retain(|one| one.method == "GET");
    let pauses: Vec<Duration> = asked.windows(2).map(|two| two[1].at - two[0].at).collect();
    // 2 s and 4 s, a quarter less at the least.
    assert!(pauses[0] >= Duration::from_millis(1500), "{pauses:?}");
    assert!(pauses[1] >= Duration::from_millis(3000), "{pauses:?}");
    assert_eq!((host.pulls("failed"), host.pulls("ok")), (2, 1));
}

#[test]
fn a_login_refused_once_is_tried_once_more_at_once() {
    let host = Host::new();
    host.proxy.fault("/manifests/", 1, Fault::Answer(UNKNOWN));
    let config = host.images("") + &host.container("app", "app:1", "");
    let agent = host.place.start(&config);
    agent.wait_well("app");
    assert_eq!((host.pulls("denied"), host.pulls("ok")), (0, 1));
    let mut asked = host.proxy.asked("/manifests/");
    asked.retain(|one| one.method == "GET");
    assert_eq!(asked.len(), 2);
}

#[test]
fn a_password_that_is_mended_is_taken_without_a_restart() {
    let host = Host::new();
    host.log_out();
    let config = host.images("") + &host.container("app", "app:1", "");
    let agent = host.place.start(&config);
    let entry = format!("no entry for {}", host.proxy.address);
    host.wait_message(&agent, "app", &entry);
    // What the agent cannot use is named.
    let helper = format!(
        "{{\"credHelpers\":{{\"{}\":\"ecr-login\"}}}}",
        host.proxy.address
    );
    fs::write(host.place.path("config.json"), helper).unwrap();
    host.wait_message(&agent, "app", "docker-credential-ecr-login (credHelpers)");
    // The config's own, wrong at first.
    let file = host.place.path("password");
    fs::write(&file, "wrong\n").unwrap();
    let named = format!(
        "[images.credentials.\"{}\"]\nusername = \"{USER}\"\npassword = {{ file = {file:?} }}\n",
        host.proxy.address
    );
    host.place.write(&(named + &config));
    assert_eq!(host.place.cli(&["reload"]).status.code(), Some(0));
    assert_eq!(host.place.cli(&["restart", "app"]).status.code(), Some(0));
    host.wait_message(&agent, "app", "[images.credentials.");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    agent.wait_well("app");
    host.assert_secret(&agent);
    assert!(!agent.stderr().contains("wrong"), "{}", agent.stderr());
}

#[test]
fn an_image_that_is_not_there_is_said_plainly_and_asked_for_slowly() {
    let host = Host::new();
    let config = host.images("") + &host.container("app", "app:2", "");
    let agent = host.place.start(&config);
    let now = host.wait_message(&agent, "app", "manifest unknown");
    assert_eq!(now["state"], "backoff");
    let asked = host.proxy.asked("/manifests/").len();
    wait::holds_for(Duration::from_secs(5), "it is not asked for again", || {
        host.proxy.asked("/manifests/").len() == asked
    });
    // Someone wants it now.
    assert_eq!(host.place.cli(&["restart", "app"]).status.code(), Some(0));
    wait::until("it is asked for", || {
        (host.proxy.asked("/manifests/").len() > asked).then_some(())
    });
    assert_eq!(host.pulls("denied"), 0);
}

#[test]
fn a_layer_that_stalls_is_given_up_and_pulled_again() {
    let host = Host::new();
    host.proxy.fault("/blobs/", 2, Fault::StallAfter(20_000));
    let config = host.images("stall_timeout = \"2s\"") + &host.container("app", "app:1", "");
    let agent = host.place.start(&config);
    host.wait_message(&agent, "app", "no byte from the registry within 2s");
    host.proxy.heal();
    agent.wait_well("app");
    assert!(host.pulls("stalled") >= 1);
    assert_eq!(host.pulls("ok"), 1);
}
