//! Images on a disk that fills: a Docker whose data lie on a small file system of their own.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use tests::agent::{Agent, Place};
use tests::daemon::Daemon;
use tests::program::{command, stdout, target_directory};
use tests::{http, wait};

const MIB: u64 = 1 << 20;
/// Of the file system. Unit: MiB.
const SIZE: u32 = 400;
/// Of each image that the tests make.
const IMAGE: u64 = 30 * MIB;

/// Daemons cost much: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn place_on(daemon: &Daemon) -> Place {
    let mut place = Place::new();
    place.docker_socket = daemon.socket();
    place
}

/// The test's app with 30 MiB more, under that name.
fn make_image(daemon: &Daemon, name: &str) {
    let root = tempfile::tempdir().unwrap();
    let mut unpack = command("tar");
    unpack.arg("-C").arg(root.path()).arg("-xf");
    unpack.arg(target_directory().join("images/app.tar"));
    stdout(&mut unpack, "tar is missing").unwrap();
    write(&root.path().join("weight"), IMAGE, name.as_bytes());
    let archive = root.path().with_extension("tar");
    let mut pack = command("tar");
    pack.arg("-C").arg(root.path()).arg("-cf").arg(&archive);
    stdout(pack.arg("."), "tar is missing").unwrap();
    daemon.docker(&["import", &archive.to_string_lossy(), name]);
    fs::remove_file(archive).unwrap();
}

/// Another content for each `word`, so that no two images share a layer.
fn write(path: &Path, bytes: u64, word: &[u8]) {
    let mut file = File::create(path).unwrap();
    let block = word.repeat(65_536 / word.len() + 1);
    let mut left = usize::try_from(bytes).unwrap();
    while left > 0 {
        let n = left.min(block.len());
        file.write_all(&block[..n]).unwrap();
        left -= n;
    }
}

/// Used and available bytes of the daemon's disk, as df says it.
fn disk(daemon: &Daemon) -> (u64, u64) {
    let mut df = command("df");
    df.args(["-B1", "--output=used,avail"]).arg(daemon.data());
    let text = stdout(&mut df, "df is missing").unwrap();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Fills the daemon's disk to that share with a file.
fn fill_to(daemon: &Daemon, percent: u64, name: &str) {
    let (used, available) = disk(daemon);
    let more = (used + available) * percent / 100 - used;
    write(&daemon.data().join(name), more, b"fill");
}

fn images(daemon: &Daemon) -> Vec<String> {
    let all = daemon.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut names: Vec<String> = all.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn app(name: &str, image: &str) -> String {
    format!(
        "[containers.{name}]\nimage = \"{image}\"\nentrypoint = [\"/app\"]\n\
         network_mode = \"none\"\nstop_grace_period = \"5s\"\n"
    )
}

fn metric(place: &Place, name: &str) -> f64 {
    let page = http::get(place.metrics, "/metrics", &[]).unwrap().text();
    let line = page.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// What the audit log says of images, oldest first.
fn removals(agent: &Agent<'_>, place: &Place) -> Vec<String> {
    assert!(agent.pid() > 0);
    let path = "/events?after=0&n=1000";
    let reply = http::request_unix(&place.control(), "GET", path).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let all = answer["events"].as_array().unwrap().iter();
    all.filter(|event| event["container"] == "(images)")
        .map(|event| event["reason"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn images_that_nobody_needs_go_in_order_and_only_as_far_as_needed() {
    let _turn = turn();
    let daemon = Daemon::start_small(&["app"], SIZE);
    for name in [
        "old:1", "middle:1", "recent:1", "wanted:1", "good:1", "theirs:1",
    ] {
        make_image(&daemon, name);
    }
    // Used by somebody else, and dead.
    daemon.docker(&[
        "run",
        "-d",
        "--net=none",
        "--name",
        "theirs",
        "theirs:1",
        "/app",
    ]);
    daemon.docker(&["kill", "theirs"]);
    let place = place_on(&daemon);
    // What an update that goes wrong would go back to; only its id is known.
    let good = daemon.inspect("good:1", ".Id");
    daemon.docker(&["tag", "good:1", "renamed:1"]);
    daemon.docker(&["rmi", "good:1"]);
    fs::create_dir_all(place.path("state")).unwrap();
    let memory = format!(
        "{{\"version\":1,\"boot\":\"b\",\"containers\":{{\"app\":{{\"last_good\":\
         {{\"hash\":\"v1:0\",\"image\":\"good:1\",\"spec\":{{\"image\":\"{good}\"}}}}}}}}}}"
    );
    fs::write(place.path("state").join("supervise.json"), memory).unwrap();
    let config = app("app", "agent-test/app:1")
        + "[jobs.tidy]\nimage = \"docker.io/library/wanted:1\"\nschedule = \"@yearly\"\n\
           [images]\ngc_high = \"90%\"\ngc_low = \"80%\"\ngc_interval = \"1s\"\ngc_min_age = \"1s\"\n";
    let agent = place.start(&config);
    agent.wait_well("app");
    let all = images(&daemon);
    assert_eq!(all.len(), 7, "{all:?}");
    let (used, available) = disk(&daemon);
    wait::until("the disk's use is shown", || {
        let shown = agent.status()["docker"]["disk_used_percent"].as_u64()?;
        let is = used * 100 / (used + available);
        (shown.abs_diff(is) <= 1).then_some(())
    });
    let root = daemon.data().display().to_string();
    assert_eq!(agent.status()["docker"]["root"], root.as_str());
    wait::holds_for(
        Duration::from_secs(3),
        "below the mark nothing goes",
        || images(&daemon) == all,
    );

    let ours = "agent.managed-by=agent";
    let of = "agent.container=app";
    daemon.docker(&[
        "create",
        "--label",
        ours,
        "--label",
        of,
        "--name",
        "app.prev.7",
        "agent-test/app:1",
        "/app",
    ]);
    fill_to(&daemon, 92, "fill-1");
    wait::until("two are gone", || {
        (removals(&agent, &place).len() == 2).then_some(())
    });
    let order = removals(&agent, &place);
    assert!(
        order[0].contains("image old:1 (") && order[1].contains("image middle:1 ("),
        "{order:?}"
    );
    let needed = ["agent-test/app:1", "renamed:1", "theirs:1", "wanted:1"];
    let mut left = needed.to_vec();
    left.insert(1, "recent:1");
    wait::holds_for(
        Duration::from_secs(3),
        "below the low mark no more goes",
        || images(&daemon) == left,
    );
    assert_eq!(metric(&place, "agent_images_removed_total"), 2.0);
    let freed = metric(&place, "agent_image_bytes_freed_total");
    assert!(freed >= 2.0 * IMAGE as f64, "{freed} bytes");
    let ratio = metric(&place, "agent_docker_disk_used_ratio");
    assert!(ratio > 0.5 && ratio < 0.8, "{ratio}");
    let table = place.cli(&["status"]).stdout;
    let table = String::from_utf8_lossy(&table).into_owned();
    let host = table.lines().find(|line| line.starts_with("HOST"));
    let shown = host.is_some_and(|line| line.contains(&root) && line.ends_with("% used"));
    assert!(shown, "{table}");

    // What is needed stays, however full the disk is.
    fill_to(&daemon, 98, "fill-2");
    wait::until("the third is gone", || {
        (removals(&agent, &place).len() == 3).then_some(())
    });
    wait::holds_for(Duration::from_secs(4), "what is needed stays", || {
        images(&daemon) == needed
    });
    wait::until("it is said that there is no more to remove", || {
        agent.stderr().contains("disk stays full").then_some(())
    });
    let containers = daemon.docker(&["ps", "-a", "--format", "{{.Names}}"]);
    assert!(!containers.contains("app.prev.7"), "{containers}");
    assert_eq!(daemon.inspect("renamed:1", ".Id"), good);
    assert_eq!(daemon.inspect("theirs", ".State.Status"), "exited");
}

#[test]
fn a_launch_that_finds_the_disk_full_has_room_made_at_once() {
    let _turn = turn();
    let daemon = Daemon::start_small(&["app"], SIZE);
    make_image(&daemon, "old:1");
    let place = place_on(&daemon);
    // Its own turn does not come.
    let config =
        app("app", "agent-test/app:1") + "[images]\ngc_interval = \"1h\"\ngc_min_age = \"1ms\"\n";
    place.write(&config);
    // Room for what Docker writes to remove an image, and not for what a launch writes.
    let (_, available) = disk(&daemon);
    write(&daemon.data().join("fill"), available - 12 * 1024, b"fill");
    let mut agent = place.spawn();
    agent.wait_ready();
    agent.wait_well("app");
    let said = removals(&agent, &place);
    assert!(
        said.len() == 1 && said[0].contains("image old:1 ("),
        "{said:?}"
    );
    assert_eq!(images(&daemon), ["agent-test/app:1"]);
}
