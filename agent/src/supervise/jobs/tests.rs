//! Jobs as tables over a clock that is set by hand; beside it a simulation.

mod simulation;

use super::job::next;
use super::memory;
use super::schedule::Schedule;
use super::settings::{Job as Policy, Overlap};
use super::state::{Cause, Class, Effect, Event, Exit, Failure, Job, Key, News, Now, Seen, Stage};
use crate::supervise::PullPolicy;
use crate::supervise::spec::Spec;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

fn policy(schedule: &str) -> Policy {
    Policy {
        name: "cleanup".into(),
        spec: Spec::default(),
        schedule: Schedule::new(schedule, "UTC").unwrap(),
        jitter: Duration::ZERO,
        overlap: Overlap::Forbid,
        timeout: None,
        retries: 0,
        catch_up: true,
        catch_up_within: Duration::from_secs(3600),
        history: 10,
        stop_grace_period: Duration::from_secs(30),
        pull_policy: PullPolicy::Missing,
    }
}

fn at(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// A job, its clocks and what was last asked for.
struct Desk {
    job: Job,
    policy: Policy,
    wall: i64,
    mono: Instant,
    docker: bool,
}

impl Desk {
    fn new(policy: Policy, start: &str) -> Desk {
        let mut desk = Desk {
            job: Job {
                seed: 7,
                ..Job::default()
            },
            policy,
            wall: at(start),
            mono: Instant::now(),
            docker: true,
        };
        assert_eq!(desk.tick(), []);
        desk
    }

    fn feed(&mut self, event: Event) -> Vec<Effect> {
        let now = Now {
            wall: self.wall,
            mono: self.mono,
            docker: self.docker,
            spread: 0.5,
        };
        let (job, effects) = next(std::mem::take(&mut self.job), event, &now, &self.policy);
        self.job = job;
        effects
    }

    fn tick(&mut self) -> Vec<Effect> {
        self.feed(Event::Tick)
    }

    /// Both clocks go on.
    fn pass(&mut self, millis: i64) -> Vec<Effect> {
        self.wall += millis;
        self.mono += Duration::from_millis(millis.unsigned_abs());
        self.tick()
    }

    fn launched(&mut self, number: u64, attempt: u32) -> Vec<Effect> {
        let key = Key { number, attempt };
        let (id, since) = (format!("id{number}.{attempt}"), self.wall);
        self.feed(Event::Launched { key, id, since })
    }

    fn exits(&mut self, id: &str, code: i64) -> Vec<Effect> {
        let exit = Exit {
            code,
            is_oom: false,
            at: self.wall,
        };
        self.feed(Event::Ended {
            id: id.into(),
            exit,
        })
    }

    /// The agent is replaced by another that knows what was written down.
    fn restart(&mut self) {
        let text = serde_json::to_string(&self.job).unwrap();
        self.job = serde_json::from_str(&text).unwrap();
        self.mono += Duration::from_secs(5);
    }

    fn last(&self) -> (Class, Option<i64>, u32) {
        let last = self.job.history.back().unwrap();
        (last.class, last.code, last.attempt)
    }
}

fn launches(effects: &[Effect]) -> Vec<(u64, u32, bool)> {
    let launch = |effect: &Effect| match effect {
        Effect::Launch { key, late } => Some((key.number, key.attempt, *late)),
        _ => None,
    };
    effects.iter().filter_map(launch).collect()
}

fn missed(effects: &[Effect]) -> usize {
    let n = |effect: &Effect| match effect {
        Effect::Tell(News::Missed { n }) => *n,
        _ => 0,
    };
    effects.iter().map(n).sum()
}

#[test]
fn what_was_saved_is_remembered_and_what_is_unreadable_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.json");
    assert!(memory::load(&path).is_empty());
    let mut desk = Desk::new(policy("0 4 * * *"), "2026-11-21T04:00:00Z");
    desk.feed(Event::Start);
    desk.launched(1, 1);
    let text = memory::text(&BTreeMap::from([("cleanup", &desk.job)]));
    memory::save(&path, &text).unwrap();
    let loaded = memory::load(&path).remove("cleanup").unwrap();
    desk.restart();
    assert_eq!(loaded, desk.job);
    for bad in ["{\"version\":1,\"jo", "{\"version\":0,\"jobs\":{}}", "\0"] {
        std::fs::write(&path, bad).unwrap();
        assert!(memory::load(&path).is_empty());
        let aside = folder.path().join("jobs.json.bad");
        assert_eq!(std::fs::read_to_string(aside).unwrap(), bad);
    }
    let newer = "{\"version\":2,\"jobs\":[]}";
    std::fs::write(&path, newer).unwrap();
    assert!(memory::load(&path).is_empty());
    let aside = folder.path().join("jobs.json.v2");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), newer);
}

#[test]
fn a_run_begins_at_its_minute_and_its_end_is_recorded() {
    let mut desk = Desk::new(policy("0 4 * * *"), "2026-11-21T03:00:00Z");
    assert_eq!(
        desk.job.next_run(&desk.policy),
        Some(at("2026-11-21T04:00:00Z"))
    );
    assert_eq!(desk.pass(HOUR - 1), []);
    assert_eq!(launches(&desk.pass(1)), [(1, 1, false)]);
    assert_eq!(desk.tick(), []);
    desk.launched(1, 1);
    desk.pass(90 * SECOND);
    let effects = desk.exits("id1.1", 0);
    assert!(effects.contains(&Effect::Remove("id1.1".into())));
    let record = desk.job.history.back().unwrap();
    assert_eq!((record.class, record.code), (Class::Success, Some(0)));
    assert_eq!(record.cause, Cause::Schedule);
    assert_eq!(record.ended - record.begun, 90 * SECOND);
    assert_eq!(desk.job.last_success, Some(record.ended));
    assert_eq!(
        desk.job.next_run(&desk.policy),
        Some(at("2026-11-22T04:00:00Z"))
    );
}

#[test]
fn of_several_missed_runs_the_last_is_made_up_for_and_only_while_it_is_fresh() {
    let cases = [
        // away for, catch_up: begun, missed
        (50 * SECOND, true, 1, 0),
        (50 * SECOND, false, 1, 0),
        (30 * MINUTE, true, 1, 0),
        (30 * MINUTE, false, 0, 1),
        (3 * HOUR + 30 * MINUTE, true, 1, 3),
        (3 * HOUR + 30 * MINUTE, false, 0, 4),
    ];
    for (away, catch_up, n_begun, n_missed) in cases {
        let mut hourly = policy("0 * * * *");
        hourly.catch_up = catch_up;
        let mut desk = Desk::new(hourly, "2026-11-21T03:59:59Z");
        desk.restart();
        let effects = desk.pass(away + SECOND);
        assert_eq!(launches(&effects).len(), n_begun, "{away} {catch_up}");
        assert_eq!(missed(&effects), n_missed, "{away} {catch_up}");
        assert_eq!(desk.tick(), []);
    }
    let mut desk = Desk::new(policy("0 4 * * *"), "2026-11-21T03:00:00Z");
    let effects = desk.pass(6 * HOUR);
    assert_eq!(
        (launches(&effects).len(), missed(&effects)),
        (0, 1),
        "too old"
    );
}

#[test]
fn a_schedule_that_did_not_hold_yet_has_missed_nothing() {
    let mut desk = Desk::new(policy("0 4 * * *"), "2026-11-21T04:30:00Z");
    assert_eq!(desk.tick(), []);
    desk.policy = policy("15 4 * * *");
    desk.restart();
    assert_eq!(desk.feed(Event::Changed), []);
    assert_eq!(
        desk.job.next_run(&desk.policy),
        Some(at("2026-11-22T04:15:00Z"))
    );
}

#[test]
fn no_minute_runs_twice_when_the_clock_goes_back() {
    for back in [2 * MINUTE, 3 * HOUR, 40 * 24 * HOUR] {
        let mut desk = Desk::new(policy("0 4 * * *"), "2026-11-21T03:59:00Z");
        assert_eq!(launches(&desk.pass(MINUTE)).len(), 1);
        desk.launched(1, 1);
        desk.exits("id1.1", 0);
        desk.wall -= back;
        assert_eq!(desk.tick(), []);
        desk.restart();
        let due = at("2026-11-21T04:00:00Z");
        let mut begun = Vec::new();
        while desk.wall < due + 10 * MINUTE {
            let effects = desk.pass(5 * MINUTE);
            for (number, ..) in launches(&effects) {
                begun.extend(desk.job.runs.last().and_then(|run| run.due));
                desk.launched(number, 1);
                desk.exits(&format!("id{number}.1"), 0);
            }
        }
        assert!(!begun.contains(&due), "{back}");
        // A clock that was wrong by days does not silence the job for as long.
        assert_eq!(begun.is_empty(), back < 26 * HOUR, "{back}");
    }
}

#[test]
fn overlap_is_as_the_config_says_for_schedules_and_operators_alike() {
    let desk = |overlap| {
        let mut minutely = policy("* * * * *");
        minutely.overlap = overlap;
        let mut desk = Desk::new(minutely, "2026-11-21T04:00:30Z");
        assert_eq!(launches(&desk.pass(30 * SECOND)), [(1, 1, false)]);
        desk.launched(1, 1);
        desk
    };
    let mut forbid = desk(Overlap::Forbid);
    let effects = forbid.pass(MINUTE);
    let due = at("2026-11-21T04:02:00Z");
    assert_eq!(effects, [Effect::Tell(News::Skipped { due })]);
    assert!(forbid.job.refusal(&forbid.policy).is_some());
    assert_eq!(forbid.feed(Event::Start), []);

    let mut replace = desk(Overlap::Replace);
    let effects = replace.pass(MINUTE);
    assert!(effects.contains(&Effect::Stop("id1.1".into())));
    assert_eq!(
        launches(&effects),
        [],
        "not beside the one that it replaces"
    );
    let effects = replace.exits("id1.1", 0);
    assert_eq!(launches(&effects), [(2, 1, false)]);
    assert_eq!(replace.last(), (Class::Stopped, Some(0), 1));

    let mut allow = desk(Overlap::Allow);
    for number in 2..=8 {
        assert_eq!(launches(&allow.pass(MINUTE)), [(number, 1, false)]);
        allow.launched(number, 1);
    }
    assert_eq!(launches(&allow.pass(MINUTE)), [], "bounded");
    assert_eq!(allow.job.runs.len(), 8);
}

#[test]
fn a_run_past_its_timeout_is_signalled_killed_and_recorded_as_such() {
    let mut slow = policy("0 4 * * *");
    slow.timeout = Some(Duration::from_secs(600));
    let mut desk = Desk::new(slow, "2026-11-21T04:00:00Z");
    desk.feed(Event::Start);
    desk.launched(1, 1);
    assert_eq!(desk.pass(599 * SECOND), []);
    // Another agent has the same deadline.
    desk.restart();
    desk.tick();
    assert_eq!(desk.pass(SECOND), [Effect::Stop("id1.1".into())]);
    assert_eq!(desk.pass(29 * SECOND), []);
    assert_eq!(desk.pass(SECOND), [Effect::Kill("id1.1".into())]);
    desk.exits("id1.1", 137);
    assert_eq!(desk.last(), (Class::Timeout, Some(137), 1));
}

#[test]
fn failures_are_tried_again_after_ten_twenty_forty_seconds() {
    let mut stubborn = policy("0 4 * * *");
    stubborn.retries = 2;
    let mut desk = Desk::new(stubborn, "2026-11-21T04:00:00Z");
    desk.feed(Event::Start);
    desk.launched(1, 1);
    desk.exits("id1.1", 3);
    assert!(desk.job.history.is_empty());
    assert_eq!(desk.pass(10 * SECOND - 1), []);
    assert_eq!(launches(&desk.pass(1)), [(1, 2, false)]);
    let failed = Event::LaunchFailed {
        key: Key {
            number: 1,
            attempt: 2,
        },
        failure: Failure::Failed,
        text: "no such image".into(),
    };
    desk.feed(failed);
    // The wait goes on under the next agent.
    desk.restart();
    assert_eq!(desk.tick(), []);
    assert_eq!(launches(&desk.pass(20 * SECOND)), [(1, 3, false)]);
    desk.launched(1, 3);
    desk.exits("id1.3", 4);
    assert_eq!(desk.last(), (Class::Error, Some(4), 3));
    assert!(desk.job.runs.is_empty());
}

#[test]
fn only_the_last_failed_container_is_kept_and_no_longer_than_its_record() {
    let mut short = policy("0 4 * * *");
    short.history = 2;
    let mut desk = Desk::new(short, "2026-11-21T04:00:00Z");
    let mut removed = Vec::new();
    for (number, code) in [(1, 1), (2, 1), (3, 0), (4, 0)] {
        desk.feed(Event::Start);
        desk.launched(number, 1);
        let effects = desk.exits(&format!("id{number}.1"), code);
        removed.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Remove(id) => Some(id),
            _ => None,
        }));
    }
    assert_eq!(removed, ["id1.1", "id3.1", "id4.1", "id2.1"]);
}

#[test]
fn what_runs_is_adopted_and_an_end_while_the_agent_was_away_is_recorded() {
    let mut desk = Desk::new(policy("0 4 * * *"), "2026-11-21T04:00:00Z");
    desk.feed(Event::Start);
    desk.launched(1, 1);
    desk.docker = false;
    desk.restart();
    desk.docker = true;
    let seen = |is_running| Seen {
        id: "id1.1".into(),
        key: Key {
            number: 1,
            attempt: 1,
        },
        due: None,
        is_running,
        created: at("2026-11-21T04:00:00Z"),
    };
    assert_eq!(desk.feed(Event::Listed(vec![seen(true)])), []);
    assert!(matches!(desk.job.runs[0].stage, Stage::Running { .. }));
    let effects = desk.feed(Event::Listed(vec![seen(false)]));
    assert_eq!(effects, [Effect::Inspect("id1.1".into())]);
    desk.exits("id1.1", 7);
    assert_eq!(desk.last(), (Class::Error, Some(7), 1));
}

#[test]
fn a_lost_memory_is_made_good_from_the_labels() {
    let mut desk = Desk::new(policy("0 4 * * *"), "2026-11-21T04:00:20Z");
    let seen = |number, is_running| Seen {
        id: format!("id{number}"),
        key: Key { number, attempt: 1 },
        due: Some(at("2026-11-21T04:00:00Z")),
        is_running,
        created: desk.wall,
    };
    let list = vec![seen(41, false), seen(42, true)];
    let effects = desk.feed(Event::Listed(list));
    assert!(effects.contains(&Effect::Remove("id41".into())));
    assert_eq!(desk.job.number, 42);
    assert_eq!(desk.job.runs.len(), 1);
    desk.wall -= MINUTE;
    assert_eq!(launches(&desk.pass(MINUTE)), [], "it has run already");
}

#[test]
fn a_run_written_down_but_never_begun_is_only_looked_for_once_it_is_old() {
    for (away, is_late) in [(MINUTE, false), (2 * HOUR, true)] {
        let mut desk = Desk::new(policy("0 4 * * *"), "2026-11-21T03:59:59Z");
        assert_eq!(launches(&desk.pass(SECOND)), [(1, 1, false)]);
        desk.restart();
        assert_eq!(launches(&desk.pass(away)), [(1, 1, is_late)]);
    }
}

#[test]
fn orders_end_what_is_under_way_wherever_it_is() {
    let mut desk = Desk::new(policy("0 4 * * *"), "2026-11-21T04:00:00Z");
    let key = |number| Key { number, attempt: 1 };
    desk.feed(Event::Start);
    // While the image is fetched.
    assert_eq!(desk.feed(Event::Stop), [Effect::Cancel(key(1))]);
    let failure = Failure::Cancelled;
    desk.feed(Event::LaunchFailed {
        key: key(1),
        failure,
        text: String::new(),
    });
    assert_eq!(desk.last(), (Class::Stopped, None, 1));
    // Begun all the same.
    desk.feed(Event::Start);
    desk.feed(Event::Stop);
    assert_eq!(desk.launched(2, 1), [Effect::Stop("id2.1".into())]);
    desk.exits("id2.1", 143);
    assert_eq!(desk.last(), (Class::Stopped, Some(143), 1));
    // Out of the config.
    desk.feed(Event::Start);
    desk.launched(3, 1);
    assert_eq!(desk.feed(Event::Retire), [Effect::Stop("id3.1".into())]);
    desk.feed(Event::Vanished { id: "id3.1".into() });
    assert!(desk.job.runs.is_empty());
    assert_eq!(desk.pass(24 * HOUR), []);
}

#[test]
fn docker_away_at_the_time_delays_the_run_and_no_longer_than_the_rule_allows() {
    let mut desk = Desk::new(policy("0 4 * * *"), "2026-11-21T03:59:00Z");
    desk.docker = false;
    assert_eq!(desk.pass(20 * MINUTE), []);
    desk.docker = true;
    assert_eq!(launches(&desk.tick()), [(1, 1, false)]);
    assert_eq!(desk.job.runs[0].cause, Cause::CatchUp);
    desk.launched(1, 1);
    desk.exits("id1.1", 0);
    desk.docker = false;
    desk.pass(30 * HOUR);
    desk.docker = true;
    let effects = desk.tick();
    assert_eq!((launches(&effects).len(), missed(&effects)), (0, 1));
}

#[test]
fn jitter_spreads_hosts_and_stays_the_same_on_one() {
    let begin = |seed| {
        let mut spread = policy("0 4 * * *");
        spread.jitter = Duration::from_secs(300);
        let mut desk = Desk::new(spread, "2026-11-21T03:59:59Z");
        desk.job.seed = seed;
        let mut waited = 0;
        while launches(&desk.pass(SECOND)).is_empty() {
            if waited == 0 {
                desk.restart();
            }
            waited += 1;
            assert!(waited <= 300);
        }
        waited
    };
    let waits: BTreeSet<i32> = (1..20).map(begin).collect();
    assert!(waits.len() > 12, "{waits:?}");
    assert_eq!(begin(5), begin(5));
}
