//! The state machine as tables, the order of starts, and the room with a Docker
//! that is not there.

use super::spec::{EnvFile, EnvFormat};
use super::state::{
    Action, Event, Exited, Failure, Policy, Running, Sight, Signal, State, Swap, Then, Wish,
};
use super::transition::next;
use super::{
    Condition, Container, ContainerStatus, Dependency, Drain, ExitClass, Haste, Parts, Phase,
    Probes, PullPolicy, Settings, Takeover, Target, Update, order, spec::Spec,
};
use crate::docker;
use crate::pulse::Pulse;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const POLICY: Policy = Policy {
    spread: 0.5,
    grace: Duration::from_secs(30),
    deregister: Duration::ZERO,
    connections: Duration::ZERO,
    deadline: None,
    pull: PullPolicy::Missing,
    starts: false,
    readies: false,
    completes: false,
    overlap: false,
    ready_within: Duration::from_secs(120),
    paused: false,
};

const CRASH: Event = Event::Exited(Exited {
    class: ExitClass::Error,
    brief: true,
});

fn running(climb: u32, good_since: Option<Instant>) -> State {
    State::Running(Running {
        climb,
        good_since,
        started: true,
        ready: None,
        swap: Swap::No,
    })
}

fn step(state: State, event: Event, now: Instant) -> (State, Option<Action>) {
    let step = next(state, event, now, &POLICY);
    assert!(!step.surprise, "{event:?}");
    (step.state, step.action)
}

#[test]
fn the_first_crash_is_restarted_at_once_without_a_pull() {
    let now = Instant::now();
    let (state, action) = step(running(0, Some(now)), CRASH, now);
    assert_eq!(state, State::Starting { climb: 1 });
    assert_eq!(action, Some(Action::Launch));
}

#[test]
fn the_next_crashes_and_failed_starts_climb_one_ladder() {
    let now = Instant::now();
    let wait = |climb, seconds| State::Backoff {
        climb,
        until: now + Duration::from_secs(seconds),
    };
    assert_eq!(step(running(1, Some(now)), CRASH, now), (wait(2, 1), None));
    let failed = Event::LaunchFailed(Failure::Failed);
    let (state, action) = step(State::Starting { climb: 2 }, failed, now);
    assert_eq!((state.clone(), action), (wait(3, 2), None));
    let (state, action) = step(state, Event::Due, now + Duration::from_secs(2));
    assert_eq!(state, State::Starting { climb: 3 });
    assert_eq!(action, Some(Action::Launch));
}

#[test]
fn ten_good_minutes_lead_back_to_the_ground() {
    let begun = Instant::now();
    let later = begun + Duration::from_secs(600);
    let (state, action) = step(running(7, Some(begun)), CRASH, later);
    assert_eq!(state, State::Starting { climb: 1 });
    assert_eq!(action, Some(Action::Launch));
    // Running without being ready is not good time.
    let (state, _) = step(running(7, None), CRASH, later);
    assert!(matches!(state, State::Backoff { climb: 8, .. }));
}

#[test]
fn what_runs_is_adopted_without_an_action() {
    let now = Instant::now();
    let sight = Event::Sighted(Sight::Running {
        started: true,
        ready: Some(true),
    });
    let (state, action) = step(State::Unknown { climb: 3 }, sight, now);
    assert_eq!(action, None);
    assert!(matches!(
        state,
        State::Running(Running {
            climb: 3,
            ready: Some(true),
            ..
        })
    ));
}

#[test]
fn after_a_boot_the_dead_wait_for_their_dependencies_again() {
    let now = Instant::now();
    let dead = |news| {
        Event::Sighted(Sight::Dead {
            exit: Exited {
                class: ExitClass::Signal,
                brief: true,
            },
            news,
            same: true,
            wait: None,
        })
    };
    let (state, action) = step(State::Unknown { climb: 0 }, dead(true), now);
    assert_eq!((state, action), (State::Waiting { climb: 1 }, None));
    // A death that was counted before the agent went does not climb again.
    let (state, _) = step(State::Unknown { climb: 2 }, dead(false), now);
    assert!(matches!(state, State::Backoff { climb: 2, .. }));
}

#[test]
fn death_with_the_daemon_costs_no_rung() {
    let now = Instant::now();
    let lost = Event::Exited(Exited {
        class: ExitClass::Daemon,
        brief: true,
    });
    let (state, _) = step(running(2, Some(now)), lost, now);
    assert_eq!(state, State::Waiting { climb: 2 });
}

#[test]
fn an_image_is_fetched_only_when_it_is_missing() {
    let now = Instant::now();
    let later = now + Duration::from_secs(2);
    let starting = State::Starting { climb: 0 };
    let (state, action) = step(State::Waiting { climb: 0 }, Event::Released, now);
    assert_eq!((state, action), (starting.clone(), Some(Action::Launch)));
    let missing = Event::LaunchFailed(Failure::ImageMissing);
    let (state, action) = step(starting, missing, now);
    assert_eq!(action, Some(Action::Fetch));
    // A registry that said no is not asked again at once.
    let (state, action) = step(state, Event::FetchFailed(later), now);
    assert_eq!(action, None);
    assert!(matches!(state, State::Backoff { until, .. } if until > now));
}

#[test]
fn a_replacement_is_fetched_before_the_old_one_is_stopped() {
    let now = Instant::now();
    let later = now + Duration::from_secs(2);
    let (state, action) = step(running(0, Some(now)), Event::Wish(Wish::Replace), now);
    assert_eq!(state.phase(), Phase::Running);
    assert_eq!(action, Some(Action::Fetch));
    let (kept, action) = step(state.clone(), Event::FetchFailed(later), now);
    assert_eq!((kept.phase(), action), (Phase::Running, None));
    let (state, action) = step(state, Event::Fetched, now);
    assert_eq!((state.phase(), action), (Phase::Running, None));
    let (state, action) = step(state, Event::Turn, now);
    assert_eq!(state.phase(), Phase::Stopping);
    assert_eq!(action, Some(Action::Signal(Signal::Stop)));
}

#[test]
fn a_stop_is_followed_by_a_kill_after_the_grace_and_by_rest() {
    let now = Instant::now();
    let (state, action) = step(running(4, Some(now)), Event::Wish(Wish::Stop), now);
    assert_eq!(action, Some(Action::Signal(Signal::Stop)));
    assert_eq!(state.due(), Some(now + POLICY.grace));
    let (state, action) = step(state, Event::Due, now + POLICY.grace);
    assert_eq!(action, Some(Action::Signal(Signal::Kill)));
    let (state, action) = step(state, CRASH, now + POLICY.grace);
    assert_eq!((state, action), (State::Stopped, None));
}

#[test]
fn an_operators_restart_is_no_failure() {
    let now = Instant::now();
    let (state, _) = step(running(4, Some(now)), Event::Wish(Wish::Restart), now);
    let (state, action) = step(state, CRASH, now);
    assert_eq!(state, State::Starting { climb: 0 });
    assert_eq!(action, Some(Action::Launch));
}

#[test]
fn a_foreign_holder_of_the_name_blocks_and_is_looked_at_slowly() {
    let now = Instant::now();
    let foreign = Event::LaunchFailed(Failure::Foreign);
    let (state, action) = step(State::Starting { climb: 1 }, foreign, now);
    assert_eq!((state.phase(), action), (Phase::Blocked, None));
    assert!(state.due() >= Some(now + Duration::from_secs(30)));
}

#[test]
fn after_an_unclear_start_what_is_there_decides() {
    let now = Instant::now();
    let starting = State::Starting { climb: 1 };
    let unsure = Event::LaunchFailed(Failure::Unsure);
    assert_eq!(
        step(starting.clone(), unsure, now),
        (starting.clone(), None)
    );
    let there = Event::Sighted(Sight::Running {
        started: true,
        ready: None,
    });
    assert_eq!(step(starting.clone(), there, now).1, None);
    let nothing = Event::Sighted(Sight::Nothing);
    assert_eq!(step(starting, nothing, now).1, Some(Action::Launch));
}

#[test]
fn what_others_wait_for_ends_well_once() {
    let now = Instant::now();
    let policy = Policy {
        completes: true,
        ..POLICY
    };
    let clean = Event::Exited(Exited {
        class: ExitClass::Clean,
        brief: true,
    });
    let done = next(running(0, Some(now)), clean, now, &policy);
    assert_eq!((done.state, done.action), (State::Completed, None));
    let crash = next(running(0, Some(now)), CRASH, now, &policy);
    assert_eq!(crash.action, Some(Action::Launch));
}

#[test]
fn no_event_in_any_state_panics_or_acts_on_what_makes_no_sense() {
    let now = Instant::now();
    let states = [
        State::Unknown { climb: 0 },
        State::Waiting { climb: 1 },
        State::Fetching {
            climb: 1,
            missing: true,
        },
        State::Starting { climb: u32::MAX },
        running(u32::MAX, None),
        State::Stopping {
            until: now,
            killed: true,
            then: Then::Remove,
        },
        State::Stopped,
        State::Completed,
        State::Removing { retry: None },
        State::Removed,
    ];
    for state in states {
        for event in [
            CRASH,
            Event::Vanished,
            Event::Launched,
            Event::Fetched,
            Event::Ready(true),
        ] {
            let step = next(state.clone(), event, now, &POLICY);
            if step.surprise {
                assert_eq!((step.state, step.action), (state.clone(), None));
            }
        }
    }
    assert!(next(State::Stopped, CRASH, now, &POLICY).surprise);
}

fn container(name: &str, depends_on: &[(&str, Condition)]) -> Container {
    Container {
        name: name.into(),
        spec: Spec {
            image: "app:1".into(),
            ..Spec::default()
        },
        depends_on: depends_on
            .iter()
            .map(|(name, condition)| Dependency {
                name: (*name).into(),
                condition: *condition,
            })
            .collect(),
        stop_grace_period: Duration::from_secs(30),
        pull_policy: PullPolicy::Missing,
        probes: Probes::default(),
        drain: Drain::default(),
        update: Update::default(),
        takeover: Takeover::default(),
        essential: true,
    }
}

fn status(phase: Phase, ready: Option<bool>) -> ContainerStatus {
    ContainerStatus {
        name: "db".into(),
        image: String::new(),
        essential: true,
        phase,
        ready,
        ..ContainerStatus::default()
    }
}

#[test]
fn a_start_waits_for_the_condition_and_says_for_whom() {
    use Condition::{Completed, Ready, Started};
    let cases = [
        (Started, Phase::Running, Some(false), true),
        (Started, Phase::Starting, None, false),
        (Ready, Phase::Running, Some(false), false),
        (Ready, Phase::Running, Some(true), true),
        (Ready, Phase::Running, None, true),
        (Completed, Phase::Running, Some(true), false),
        (Completed, Phase::Completed, None, true),
    ];
    for (condition, phase, ready, free) in cases {
        let app = container("app", &[("db", condition)]);
        let db = status(phase, ready);
        let gate = order::unmet(&app, |name| (name == "db").then_some(&db));
        assert_eq!(gate.is_none(), free, "{condition:?} {phase:?} {ready:?}");
    }
    let app = container("app", &[("db", Ready)]);
    let gate = order::unmet(&app, |_| None);
    assert_eq!(gate.as_deref(), Some("waits for db to be ready"));
}

fn wanted(containers: Vec<Container>) -> Settings {
    Settings {
        containers,
        ..Settings::default()
    }
}

fn parts(dir: &std::path::Path, containers: Vec<Container>) -> Parts {
    Parts {
        settings: Settings {
            containers,
            ..Settings::default()
        },
        docker: docker::Settings {
            socket: dir.join("docker.sock"),
            timeout: Duration::from_millis(200),
        },
        log_address: None,
        facts: watch::channel(Arc::default()).1,
        memory: dir.join("supervise.json"),
        boot: "b1".into(),
        registry: prometheus::Registry::new(),
        pulse: Pulse::default(),
        credentials: Default::default(),
    }
}

/// With Docker absent, and then with one that accepts and says nothing.
#[tokio::test]
async fn status_and_orders_are_answered_while_docker_is_not_there_or_hangs() {
    for hangs in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let _listener = hangs.then(|| UnixListener::bind(dir.path().join("docker.sock")).unwrap());
        let (handle, supervisor) = super::new(parts(dir.path(), vec![container("app", &[])]));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(supervisor.run(stop.clone()));
        let mut shown = handle.status.clone();
        shown
            .wait_for(|status| status.docker.reachable == Some(false))
            .await
            .unwrap();
        let status = handle.status();
        assert!(status.docker.error.is_some());
        assert_eq!(status.containers[0].phase, Phase::Unknown);

        let answered = tokio::time::timeout(Duration::from_secs(5), async {
            let unknown = handle.restart("nobody").await.unwrap_err();
            assert_eq!(
                unknown.to_string(),
                "no container named \"nobody\" in the config"
            );
            handle.stop(Target::All, Haste::default()).await.unwrap();
            let containers = vec![container("other", &[])];
            handle.reload(wanted(containers)).await.unwrap()
        })
        .await
        .unwrap();
        let what: Vec<_> = answered.iter().map(|c| (c.name.as_str(), c.what)).collect();
        assert_eq!(what, [("other", "added"), ("app", "removed")]);
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), tasks.join_all())
            .await
            .unwrap();
    }
}

/// A shutdown is nobody's order: it overrules none, and none of it is remembered.
#[tokio::test]
async fn a_host_that_goes_down_has_all_stop_and_one_that_stays_has_them_back() {
    let dir = tempfile::tempdir().unwrap();
    let containers = vec![container("app", &[]), container("idle", &[])];
    let (handle, supervisor) = super::new(parts(dir.path(), containers));
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(supervisor.run(stop.clone()));
    let idle = Target::Named("idle".into());
    handle.stop(idle.clone(), Haste::default()).await.unwrap();
    let unwanted = async |expected: [bool; 2]| {
        let is_so = |status: &super::Status| {
            let shown = status.containers.iter().map(|one| one.unwanted);
            shown.eq(expected)
        };
        let wait = tokio::time::timeout(Duration::from_secs(20), handle.wait_for(is_so));
        assert!(wait.await.unwrap());
    };
    unwanted([false, true]).await;
    handle.host_goes(Duration::from_secs(60)).await.unwrap();
    unwanted([true, true]).await;
    // An order does not bring up what the host takes down.
    handle.start(Target::All).await.unwrap();
    handle.stop(idle, Haste::default()).await.unwrap();
    unwanted([true, true]).await;
    handle.host_stays().await.unwrap();
    unwanted([false, true]).await;
    let reasons: Vec<String> = handle
        .events(0, 100, Some("app"))
        .into_iter()
        .filter(|event| event.actor == "outside")
        .map(|event| event.reason)
        .collect();
    let both = [
        "the host shuts down",
        "the host does not shut down after all",
    ];
    assert_eq!(reasons, both);
    handle.host_goes(Duration::from_secs(60)).await.unwrap();
    unwanted([true, true]).await;
    stop.cancel();
    tasks.join_all().await;
    let (handle, _supervisor) = super::new(parts(
        dir.path(),
        vec![container("app", &[]), container("idle", &[])],
    ));
    let after: Vec<bool> = handle
        .status()
        .containers
        .iter()
        .map(|one| one.unwanted)
        .collect();
    assert_eq!(after, [false, true], "as after a boot");
}

#[tokio::test]
async fn a_reload_says_what_it_replaces_and_what_it_leaves_running() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c, mut d] = ["a", "b", "c", "d"].map(|name| container(name, &[]));
    d.spec.env_files = vec![EnvFile {
        path: "/none".into(),
        required: true,
        format: EnvFormat::default(),
    }];
    let containers = vec![a.clone(), b.clone(), c.clone(), d.clone()];
    let (handle, supervisor) = super::new(parts(dir.path(), containers));
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(supervisor.run(stop.clone()));
    let mut changed = b;
    changed.spec.image = "app:2".into();
    let mut retimed = c;
    retimed.stop_grace_period = Duration::from_secs(5);
    let containers = vec![a, changed, retimed, d];
    let changes = handle.reload(wanted(containers)).await.unwrap();
    let what: Vec<_> = changes.iter().map(|change| change.what).collect();
    let of_files = "kept, replaced if its files have changed";
    assert_eq!(what, ["kept", "replaced", "updated in place", of_files]);
    stop.cancel();
    tasks.join_all().await;
}
