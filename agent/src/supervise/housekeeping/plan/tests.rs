use super::{Disk, Image, Keep, Occasion, familiar, plan, surplus};
use crate::docker::container::Summary;
use crate::supervise::body::{LABEL_CONTAINER, LABEL_MANAGED_BY, MANAGER};
use crate::supervise::housekeeping::Settings;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

const HOUR: u64 = 3600;
/// Seconds.
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Of use so many hours ago.
fn image(id: &str, tag: &str, hours: u64) -> Image {
    Image {
        id: format!("sha256:{id}"),
        tags: vec![tag.into()],
        digests: vec![format!("{}@sha256:d{id}", tag.split(':').next().unwrap())],
        size: 1,
        used: at(NOW - hours * HOUR),
    }
}

fn container(image: &str) -> Summary {
    Summary {
        image_id: format!("sha256:{image}"),
        ..Summary::default()
    }
}

fn keep(references: &[&str], ids: &[&str]) -> Keep {
    Keep {
        references: references.iter().map(|one| one.to_string()).collect(),
        ids: ids.iter().map(|one| format!("sha256:{one}")).collect(),
    }
}

fn disk(percent: u64) -> Disk {
    Disk {
        used: percent,
        available: 100 - percent,
    }
}

/// What goes of three images, at that fill, beside those containers.
fn goes(percent: u64, containers: &[Summary], keep: &Keep) -> Vec<String> {
    let images = [
        image("aa11", "app:2", 2),
        image("bb22", "app:1", 30),
        image("cc33", "host:5000/team/tool:7", 9),
        image("dd44", "young:1", 0),
    ];
    let settings = Settings::default();
    let turn = Occasion::Turn;
    plan(
        &images,
        containers,
        keep,
        disk(percent),
        &settings,
        turn,
        at(NOW),
    )
}

#[test]
fn images_go_from_the_high_mark_on_the_longest_unused_first() {
    let all = ["sha256:bb22", "sha256:cc33", "sha256:aa11"];
    let nobody = Keep::default();
    assert_eq!(goes(84, &[], &nobody), [""; 0]);
    assert_eq!(goes(85, &[], &nobody), all);
    assert_eq!(goes(100, &[], &nobody), all);
}

#[test]
fn what_anybody_needs_stays() {
    let cases: [(&str, &[Summary], Keep); 12] = [
        ("cc33", &[container("cc33")], keep(&[], &[])),
        ("cc33", &[], keep(&[], &["cc33"])),
        ("cc33", &[], keep(&["host:5000/team/tool:7"], &[])),
        ("cc33", &[], keep(&["sha256:cc33"], &[])),
        ("cc33", &[], keep(&["cc3"], &[])),
        (
            "cc33",
            &[],
            keep(&["host:5000/team/tool@sha256:dcc33"], &[]),
        ),
        ("cc33", &[], keep(&["host:5000/x:9@sha256:dcc33"], &[])),
        ("aa11", &[], keep(&["app:2"], &[])),
        ("aa11", &[], keep(&["docker.io/app:2"], &[])),
        ("aa11", &[], keep(&["docker.io/library/app:2"], &[])),
        ("bb22", &[], keep(&["library/app:1"], &[])),
        ("bb22", &[container("bb22")], keep(&["bb22"], &["bb22"])),
    ];
    for (stays, containers, keep) in cases {
        let gone = goes(95, containers, &keep);
        assert_eq!(gone.len(), 2, "{keep:?}: {gone:?}");
        assert!(!gone.contains(&format!("sha256:{stays}")), "{keep:?}");
    }
    // Another tag, digest or id keeps nothing.
    let others = ["app", "app:3", "app@sha256:d99", "sha256:99", "c.example"];
    assert_eq!(goes(95, &[container("99")], &keep(&others, &[])).len(), 3);
}

#[test]
fn an_emergency_asks_for_no_mark_and_off_is_off() {
    let images = [image("aa11", "app:2", 2), image("dd44", "young:1", 0)];
    let nobody = Keep::default();
    let go = |settings: &Settings, occasion| {
        plan(&images, &[], &nobody, disk(40), settings, occasion, at(NOW))
    };
    let on = Settings::default();
    assert_eq!(go(&on, Occasion::Emergency), ["sha256:aa11"]);
    assert!(go(&on, Occasion::Turn).is_empty());
    let off = Settings { on: false, ..on };
    assert!(go(&off, Occasion::Emergency).is_empty());
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_old() {
    let images = [image("aa11", "app:2", 0)];
    let now = at(NOW - 50 * HOUR);
    let found = plan(
        &images,
        &[],
        &Keep::default(),
        disk(99),
        &Settings::default(),
        Occasion::Turn,
        now,
    );
    assert!(found.is_empty());
}

#[test]
fn the_disk_is_as_full_as_df_says() {
    for (used, available, percent) in [
        (0, 0, 0),
        (0, 10, 0),
        (1, 999, 1),
        (85, 15, 85),
        (5, 0, 100),
    ] {
        let disk = Disk { used, available };
        assert_eq!(disk.percent(), percent, "{disk:?}");
    }
    assert!(disk(85).is_at(85) && !disk(84).is_at(85));
}

#[test]
fn names_are_compared_as_docker_lists_them() {
    for (written, listed) in [
        ("app", "app:latest"),
        ("docker.io/library/app:1", "app:1"),
        ("index.docker.io/team/app", "team/app:latest"),
        ("host:5000/app", "host:5000/app:latest"),
    ] {
        assert_eq!(familiar(written), listed);
    }
}

/// A dead container of ours, made so many hours ago.
fn dead(of: &str, name: &str, hours: u64) -> Summary {
    Summary {
        id: name.into(),
        name: name.into(),
        labels: HashMap::from([
            (LABEL_MANAGED_BY.to_owned(), MANAGER.to_owned()),
            (LABEL_CONTAINER.to_owned(), of.to_owned()),
        ]),
        created: i64::try_from(NOW - hours * HOUR).unwrap(),
        ..Summary::default()
    }
}

#[test]
fn of_dead_containers_one_generation_stays_and_others_property_too() {
    let foreign = Summary {
        labels: HashMap::new(),
        ..dead("app", "foreign", 99)
    };
    let running = Summary {
        running: true,
        ..dead("app", "app.prev.9", 99)
    };
    let unstarted = Summary {
        created_only: true,
        ..dead("app", "app.prev.8", 2)
    };
    let all = [
        dead("app", "app", 99),
        dead("app", "app.next", 99),
        dead("app", "app.prev", 3),
        dead("app", "app.prev.1", 9),
        dead("app", "app.prev.2", 8),
        dead("other", "other.prev.1", 99),
        dead("other", "other.prev.2", 98),
        dead("young", "young.prev", 0),
        dead("young", "young.prev.1", 0),
        foreign,
        running,
        unstarted,
    ];
    let names = ["app", "young"].map(str::to_owned);
    let found = surplus(
        &all,
        &BTreeSet::from(names),
        Duration::from_secs(HOUR),
        at(NOW),
    );
    let mut found: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["app.prev.1", "app.prev.2", "app.prev.8"]);
}
