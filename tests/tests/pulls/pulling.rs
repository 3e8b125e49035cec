//! Pulls that succeed, and what is not asked of a registry.

use crate::place::Host;
use crate::proxy::Fault;
use std::collections::BTreeSet;
use tests::wait;

#[test]
fn images_come_by_tag_and_by_digest_with_a_login_and_a_crash_asks_for_nothing() {
    let host = Host::new();
    let digest = host.digest.clone();
    let config = host.images("")
        + &host.container("tagged", "app:1", "")
        + &host.container("pinned", &format!("app@{digest}"), "")
        + &host.container("both", &format!("other:1@{digest}"), "");
    let agent = host.place.start(&config);
    for name in ["tagged", "pinned", "both"] {
        agent.wait_well(name);
        let image = host.daemon.inspect(name, ".Image");
        let digests = host
            .daemon
            .docker(&["inspect", "-f", "{{.RepoDigests}}", &image]);
        assert!(digests.contains(&digest), "{digests}");
    }
    assert_eq!(host.pulls("ok"), 3);
    let by_digest = format!("/v2/other/manifests/{digest}");
    assert!(
        !host.proxy.asked(&by_digest).is_empty(),
        "the tag was asked for"
    );
    host.assert_secret(&agent);

    // A new process, and later a new agent: nothing is asked of the registry.
    let before = host.proxy.requests().len();
    for name in ["tagged", "pinned"] {
        let pid = agent.container(name)["pid"].clone();
        host.daemon.kill_main(name);
        wait::until("it runs again", || {
            let now = agent.container(name);
            (now["well"] == true && now["pid"] != pid).then_some(())
        });
    }
    assert!(agent.stop().success());
    host.daemon.docker(&["rm", "-f", "both"]);
    let agent = host.place.start(&config);
    agent.wait_well("both");
    assert_eq!(host.proxy.requests().len(), before);
}

#[test]
fn containers_of_one_image_share_one_pull() {
    let host = Host::new();
    // The second comes while the first waits for the end of the layer.
    host.proxy.fault("/blobs/", 1, Fault::CloseAfter(20_000));
    let config = host.images("")
        + &host.container("first", "app:1", "")
        + &host.container("second", "app:1", "essential = false");
    let agent = host.place.start(&config);
    agent.wait_well("first");
    agent.wait_well("second");
    assert_eq!(host.pulls("ok"), 1);
    let manifests = host.proxy.asked("/manifests/");
    let distinct: BTreeSet<(String, String)> = manifests
        .iter()
        .map(|one| (one.method.clone(), one.path.clone()))
        .collect();
    assert_eq!(manifests.len(), distinct.len(), "{manifests:?}");
    assert_eq!(agent.container("first")["restarts"], 0);
}

#[test]
fn always_with_the_registry_away_starts_what_is_here_and_says_so() {
    let host = Host::new();
    let config = host.images("") + &host.container("app", "app:1", "pull_policy = \"always\"");
    let agent = host.place.start(&config);
    agent.wait_well("app");
    assert_eq!(host.pulls("ok"), 1);
    assert!(agent.stop().success());
    host.daemon.docker(&["rm", "-f", "app"]);
    host.proxy.fault("/", usize::MAX, Fault::CloseAfter(0));
    let agent = host.place.start(&config);
    agent.wait_well("app");
    assert_eq!(host.pulls("failed"), 1);
    let said = "the registry gives no image, the one that is here is used";
    assert!(agent.stderr().contains(said), "{}", agent.stderr());
}

#[test]
fn a_change_of_config_and_a_stop_of_the_agent_end_the_request() {
    let host = Host::new();
    host.proxy
        .fault("/blobs/", usize::MAX, Fault::StallAfter(20_000));
    let config = |name| host.images("") + &host.container("app", name, "");
    let agent = host.place.start(&config("app:1"));
    wait::until("the layer stalls", || {
        (host.proxy.n_stalled() == 1).then_some(())
    });
    host.place.write(&config("other:1"));
    assert_eq!(host.place.cli(&["reload"]).status.code(), Some(0));
    wait::until("the other image's layer stalls", || {
        (host.proxy.n_stalled() == 2).then_some(())
    });
    assert_eq!(host.pulls("cancelled"), 1);
    assert!(agent.stop().success());
    // Docker has one download of a layer at a time, which all pulls under way share: one that
    // begins anew shows that the pull before it has ended.
    let _agent = host.place.start(&config("other:1"));
    wait::until("the layer stalls once more", || {
        (host.proxy.n_stalled() == 3).then_some(())
    });
}
