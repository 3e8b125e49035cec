//! Clocks jump, agents die and Docker goes away, in any order.

use super::{Desk, HOUR, MINUTE, policy};
use crate::supervise::jobs::settings::Overlap;
use crate::supervise::jobs::state::{Effect, Event, Key, Seen, stamp};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Clone)]
enum Step {
    Pass(i64),
    Jump(i64),
    Restart,
    Docker(bool),
    End(i64),
    Answer,
    Start,
    Stop,
    List,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..20 * MINUTE).prop_map(Step::Pass),
        1 => (-5 * HOUR..5 * HOUR).prop_map(Step::Jump),
        1 => Just(Step::Restart),
        1 => any::<bool>().prop_map(Step::Docker),
        3 => (0..3i64).prop_map(Step::End),
        4 => Just(Step::Answer),
        1 => Just(Step::Start),
        1 => Just(Step::Stop),
        1 => Just(Step::List),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    /// Docker is a set of containers here: named as launches name them, made once each.
    #[test]
    fn whatever_happens_no_minute_runs_twice_and_all_stays_bounded(
        steps in proptest::collection::vec(step(), 1..120),
        overlap in prop_oneof![Just(Overlap::Forbid), Just(Overlap::Replace), Just(Overlap::Allow)],
        retries in 0..3u32,
    ) {
        let mut often = policy("*/7 * * * *");
        often.overlap = overlap;
        often.retries = retries;
        often.timeout = Some(Duration::from_secs(900));
        let mut desk = Desk::new(often, "2026-11-21T04:00:30Z");
        let mut asked: BTreeSet<Key> = BTreeSet::new();
        // Key → whether it runs.
        let mut made: BTreeMap<Key, bool> = BTreeMap::new();
        let mut due_of: BTreeMap<i64, u64> = BTreeMap::new();
        for step in steps {
            let mut effects = match step {
                Step::Pass(span) => desk.pass(span),
                Step::Jump(span) => {
                    desk.wall += span;
                    desk.tick()
                }
                Step::Restart => {
                    desk.restart();
                    asked.clear();
                    desk.tick()
                }
                Step::Docker(is_up) => {
                    desk.docker = is_up;
                    desk.tick()
                }
                Step::End(code) => {
                    let running = made.iter_mut().find(|(_, runs)| **runs);
                    match running {
                        Some((key, runs)) => {
                            *runs = false;
                            let id = format!("id{}.{}", key.number, key.attempt);
                            desk.exits(&id, code)
                        }
                        None => vec![],
                    }
                }
                Step::Answer => match asked.pop_first() {
                    Some(key) => {
                        made.entry(key).or_insert(true);
                        desk.launched(key.number, key.attempt)
                    }
                    None => vec![],
                },
                Step::Start => desk.feed(Event::Start),
                Step::Stop => desk.feed(Event::Stop),
                Step::List => {
                    let seen = made.iter().map(|(key, runs)| Seen {
                        id: format!("id{}.{}", key.number, key.attempt),
                        key: *key,
                        due: None,
                        is_running: *runs,
                        created: desk.wall,
                    });
                    desk.feed(Event::Listed(seen.collect()))
                }
            };
            // What is asked for is done at once, but for launches, which take their time.
            while let Some(effect) = effects.pop() {
                match effect {
                    Effect::Launch { key, .. } => {
                        prop_assert!(desk.docker, "begun while Docker is away");
                        prop_assert!(asked.insert(key), "asked twice for {key:?}");
                    }
                    Effect::Remove(id) => made.retain(|key, _| id != format!("id{}.{}", key.number, key.attempt)),
                    Effect::Kill(id) | Effect::Stop(id) | Effect::Inspect(id) => {
                        let name = |key: &Key| format!("id{}.{}", key.number, key.attempt);
                        match made.iter_mut().find(|(key, _)| name(key) == id) {
                            Some((_, runs)) if !*runs => effects.extend(desk.exits(&id, 137)),
                            Some(_) => {}
                            None => effects.extend(desk.feed(Event::Vanished { id })),
                        }
                    }
                    Effect::Cancel(_) | Effect::Tell(_) => {}
                }
            }
            for run in &desk.job.runs {
                if let Some(due) = run.due {
                    let first = *due_of.entry(due).or_insert(run.number);
                    prop_assert_eq!(first, run.number, "{} began two runs", stamp(due));
                }
            }
            let most = match overlap {
                Overlap::Forbid => 1,
                Overlap::Replace => 9,
                Overlap::Allow => 8,
            };
            prop_assert!(desk.job.runs.len() <= most, "{:?}", desk.job.runs);
            prop_assert!(desk.job.history.len() <= 10 && desk.job.begun.len() <= 64);
        }
    }
}
