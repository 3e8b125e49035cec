//! `[jobs.NAME]` as written: what a container is made of, and when it runs.

use super::Located;
use super::containers::{PULL_POLICIES, check_name, spec};
use crate::config::defaults;
use crate::config::fault::{Place, quoted};
use crate::config::read::{Table, Wrong};
use crate::supervise::jobs::schedule::{Schedule, ScheduleError, check_zone};
use crate::supervise::jobs::{Job, Overlap};
use crate::supervise::spec::Port;

pub const OVERLAPS: [(&str, Overlap); 3] = [
    ("forbid", Overlap::Forbid),
    ("replace", Overlap::Replace),
    ("allow", Overlap::Allow),
];
const MOST_RETRIES: i64 = 100;
const MOST_HISTORY: i64 = 100;

#[derive(Debug)]
pub struct JobFile {
    pub name: String,
    pub place: Place,
    /// None where its schedule is at fault.
    pub job: Option<Job>,
    pub ports: Vec<Located<Port>>,
    /// Where `logging` stands, for the check that someone listens.
    pub logging_place: Place,
}

pub fn job(name: &str, table: &mut Table<'_>) -> JobFile {
    if let Err(text) = check_name(name) {
        table.fault(text);
    }
    let place = table.place();
    let logging = table.take("logging");
    let logging_place = logging.place();
    let (spec, ports) = spec(table, logging);
    let schedule = schedule(table);
    let duration = |item: Option<_>, default| item.unwrap_or(default);
    let count = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok());
    let jitter = table.take("jitter").duration_or_zero();
    let overlap = table.take("overlap").choice(&OVERLAPS, &[]);
    let timeout = table.take("timeout").duration();
    let retries = count(table.take("retries").integer(0, MOST_RETRIES));
    let catch_up = table.take("catch_up").bool();
    let catch_up_within = table.take("catch_up_within").duration();
    let history = count(table.take("history").integer(0, MOST_HISTORY));
    let grace = table.take("stop_grace_period").duration_or_zero();
    let pull_policy = table.take("pull_policy").choice(&PULL_POLICIES, &[]);
    let job = schedule.map(|schedule| Job {
        name: name.into(),
        spec,
        schedule,
        jitter: jitter.unwrap_or_default(),
        overlap: overlap.unwrap_or_default(),
        timeout,
        retries: retries.unwrap_or_default(),
        catch_up: catch_up.unwrap_or(true),
        catch_up_within: duration(catch_up_within, defaults::CATCH_UP_WITHIN),
        history: history.map_or(defaults::JOB_HISTORY, |n| n as usize),
        stop_grace_period: duration(grace, defaults::STOP_GRACE_PERIOD),
        pull_policy: pull_policy.unwrap_or_default(),
    });
    JobFile {
        name: name.into(),
        place,
        job,
        ports,
        logging_place,
    }
}

fn schedule(table: &mut Table<'_>) -> Option<Schedule> {
    let zone = table.take("time_zone");
    let has_zone = zone.is_there();
    let zone = zone.parse("a time zone such as \"Europe/Berlin\"", |text| {
        check_zone(text).map_err(|error| wrong(&error))
    });
    let item = table.take("schedule");
    if !item.is_there() {
        table.missing("schedule", "\"0 4 * * *\"");
        return None;
    }
    // With a wrong zone the schedule is still read for its own faults.
    let name = zone.clone().unwrap_or_else(|| defaults::TIME_ZONE.into());
    let schedule = item.parse("a schedule such as \"0 4 * * *\"", |text| {
        Schedule::new(text, &name).map_err(|error| wrong(&error))
    });
    schedule.filter(|_| zone.is_some() || !has_zone)
}

fn wrong(error: &ScheduleError) -> Wrong {
    let help = match error {
        ScheduleError::Fields { found: 6 } => {
            "there is no field for seconds: \"0 4 * * *\" is each day at 04:00"
        }
        ScheduleError::Fields { .. } => "\"0 4 * * *\" is each day at 04:00",
        ScheduleError::Short { .. } => {
            "short forms are @hourly, @daily, @weekly, @monthly, @yearly"
        }
        ScheduleError::Zone { .. } => {
            "a name of the IANA database such as \"Europe/Berlin\" or \"UTC\""
        }
        ScheduleError::Part { field, .. } if field.ends_with("week") => {
            "numbers from 0 (Sunday) or SUN to SAT, with \",\", \"-\", \"/\""
        }
        ScheduleError::Part { field, .. } if *field == "month" => {
            "numbers from 1 or JAN to DEC, with \",\", \"-\", \"/\""
        }
        ScheduleError::Never => "none of its months has such a day",
        _ => "parts are \"*\", \"5\", \"1-5\", \"*/15\", \"1,31\"",
    };
    Wrong::new(quoted_fault(error)).help(help)
}

/// Text of the file is not printed as it is: it may hold control characters.
fn quoted_fault(error: &ScheduleError) -> String {
    match error {
        ScheduleError::Short { part } => format!("unknown short form {}", quoted(part)),
        ScheduleError::Part { field, part } => {
            format!(
                "{field}: {} is no number, name, range or step",
                quoted(part)
            )
        }
        ScheduleError::Zone { name } => format!("no time zone named {}", quoted(name)),
        other => other.to_string(),
    }
}
