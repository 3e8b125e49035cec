//! When a job is due: five fields of cron in a time zone, as pure functions of time.
//!
//! Fields are minute, hour, day of month, month, day of week, with lists,
//! ranges, steps and names. Where both days are restricted either of them
//! suffices; a field that begins with `*` restricts nothing in this sense
//! (crontab(5)). Clock changes: local minutes that do not exist are all due at
//! the first one that does, once. Local minutes that come twice are due at their
//! first coming; where the hour field is every hour they are due both times,
//! since then the elapsed time is what is meant.
//!
//! Zones come from the database in the binary, so that each host, and each
//! `agent check`, finds the same minutes.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

/// The whole database is 0.2 MB of the binary; a zone is read once.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// 29 February on a given day of the week: at most 40 years apart (1880 to 1920 like 2080 to 2120).
const LONGEST_WAIT_DAYS: usize = 41 * 366;
/// Earlier days are not looked at for what was due last.
const LOOK_BACK_DAYS: usize = LONGEST_WAIT_DAYS;

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const SHORT: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// What is wrong with a schedule or a zone; `part` is the text at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("has {found} fields, not 5: minute, hour, day of month, month, day of week")]
    Fields { found: usize },
    #[error("unknown short form {part:?}")]
    Short { part: String },
    #[error("{field}: {part:?} is no number, name, range or step")]
    Part { field: &'static str, part: String },
    #[error("{field}: {value} is not within {least} to {most}")]
    Outside {
        field: &'static str,
        value: u32,
        least: u32,
        most: u32,
    },
    #[error("{field}: the range {part:?} runs backwards")]
    Backwards { field: &'static str, part: String },
    #[error("{field}: the step of {part:?} is not within 1 to {most}")]
    Step {
        field: &'static str,
        part: String,
        most: u32,
    },
    #[error("no such day ever comes")]
    Never,
    #[error("no time zone named {name:?}")]
    Zone { name: String },
}

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// The names of `least`, `least + 1`, …
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    field("minute", 0, 59, &[]),
    field("hour", 0, 23, &[]),
    field("day of month", 1, 31, &[]),
    field("month", 1, 12, &MONTHS),
    // 7 is Sunday as well.
    field("day of week", 0, 7, &DAYS),
];

const fn field(name: &'static str, least: u32, most: u32, names: &'static [&'static str]) -> Field {
    Field {
        name,
        least,
        most,
        names,
    }
}

/// A schedule in its zone. Sets are bit masks: bit n is the value n.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    zone: TimeZone,
    zone_name: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// One of the day fields begins with `*`: both must match, else either.
    both_days: bool,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Schedule) -> bool {
        self.text == other.text && self.zone_name == other.zone_name
    }
}

/// As it is written, its zone behind it.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone_name)
    }
}

/// The zone's name as the database writes it. Errors: [`ScheduleError::Zone`].
pub fn check_zone(name: &str) -> Result<String, ScheduleError> {
    let unknown = || ScheduleError::Zone { name: name.into() };
    let zone = ZONES.get(name).map_err(|_| unknown())?;
    zone.iana_name().map(str::to_owned).ok_or_else(unknown)
}

impl Schedule {
    /// Reads a schedule. Errors: the first thing wrong with it.
    pub fn new(text: &str, zone_name: &str) -> Result<Schedule, ScheduleError> {
        let zone_name = check_zone(zone_name)?;
        let zone = ZONES.get(&zone_name).map_err(|_| ScheduleError::Zone {
            name: zone_name.clone(),
        })?;
        let text = text.trim();
        let long = match text.strip_prefix('@') {
            None => text,
            Some(_) => SHORT
                .iter()
                .find(|(short, _)| short.eq_ignore_ascii_case(text))
                .map(|(_, long)| *long)
                .ok_or_else(|| ScheduleError::Short { part: text.into() })?,
        };
        let parts: Vec<&str> = long.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(ScheduleError::Fields { found: parts.len() });
        };
        let [minutes, hours, days, months, weekdays] = FIELDS;
        let weekdays = weekdays.read(weekday)?;
        let schedule = Schedule {
            minutes: minutes.read(minute)?,
            hours: hours.read(hour)?,
            days: days.read(day)?,
            months: months.read(month)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            both_days: day.starts_with('*') || weekday.starts_with('*'),
            text: text.into(),
            zone,
            zone_name,
        };
        match schedule.next(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never),
        }
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn zone(&self) -> &str {
        &self.zone_name
    }

    /// The first due time after `after`; None beyond the calendar's end.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut day = self.day_of(after).checked_sub(1.day()).ok()?;
        for _ in 0..LONGEST_WAIT_DAYS {
            if let Some(found) = self.first_of(day, after) {
                // Where clocks go back over midnight the next day's first minutes come before
                // this day's last ones.
                let tomorrow = day
                    .tomorrow()
                    .ok()
                    .and_then(|day| self.first_of(day, after));
                return Some(tomorrow.map_or(found, |other| other.min(found)));
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// The last due time up to and including `until`.
    pub fn latest(&self, until: Timestamp) -> Option<Timestamp> {
        let mut day = self.day_of(until).checked_add(1.day()).ok()?;
        let last_of = |day| self.due_on(day).into_iter().rfind(|at| *at <= until);
        for _ in 0..LOOK_BACK_DAYS {
            if let Some(found) = last_of(day) {
                let before = day.yesterday().ok().and_then(last_of);
                return Some(before.map_or(found, |other| other.max(found)));
            }
            day = day.yesterday().ok()?;
        }
        None
    }

    /// How many due times lie in `after..=until`, counted up to `most`.
    pub fn count(&self, after: Timestamp, until: Timestamp, most: usize) -> usize {
        // A set: minutes that do not exist are due at one that another day may have as well.
        let mut found = BTreeSet::new();
        let mut day = self.day_of(after).saturating_sub(1.day());
        let last = self.day_of(until).saturating_add(1.day());
        while day <= last && found.len() < most {
            let due = self.due_on(day).into_iter();
            found.extend(due.filter(|due| *due > after && *due <= until));
            let Ok(tomorrow) = day.tomorrow() else { break };
            day = tomorrow;
        }
        found.len().min(most)
    }

    fn day_of(&self, at: Timestamp) -> Date {
        self.zone.to_datetime(at).date()
    }

    fn first_of(&self, day: Date, after: Timestamp) -> Option<Timestamp> {
        self.due_on(day).into_iter().find(|at| *at > after)
    }

    /// All due times of one local day, in order.
    fn due_on(&self, day: Date) -> Vec<Timestamp> {
        let mut due = Vec::new();
        if !self.has_day(day) {
            return due;
        }
        for hour in (0..24i8).filter(|hour| has(self.hours, *hour)) {
            for minute in (0..60i8).filter(|minute| has(self.minutes, *minute)) {
                if let Ok(time) = Time::new(hour, minute, 0, 0) {
                    self.resolve(day, time, &mut due);
                }
            }
        }
        due.sort_unstable();
        due.dedup();
        due
    }

    fn has_day(&self, day: Date) -> bool {
        let is_day = has(self.days, day.day());
        let is_weekday = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        let either = if self.both_days {
            is_day && is_weekday
        } else {
            is_day || is_weekday
        };
        has(self.months, day.month()) && either
    }

    /// The moments of one local minute: one, none of its own, or two.
    fn resolve(&self, day: Date, time: Time, due: &mut Vec<Timestamp>) {
        let local = day.to_datetime(time);
        // Beyond the calendar's ends nothing is due.
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => due.extend(offset.to_timestamp(local)),
            AmbiguousOffset::Gap { after, .. } => {
                // By the offset after it the minute lies before the change, which is the first
                // minute that exists.
                let before = after.to_timestamp(local).ok();
                let change = before.and_then(|at| self.zone.following(at).next());
                due.extend(change.map(|change| change.timestamp()));
            }
            AmbiguousOffset::Fold { before, after } => {
                due.extend(before.to_timestamp(local));
                if self.hours == 0xff_ffff {
                    due.extend(after.to_timestamp(local));
                }
            }
        }
    }
}

fn has(set: u64, value: i8) -> bool {
    set >> value & 1 == 1
}

impl Field {
    /// A list of parts, each `*`, a value or a range, each with or without a step.
    fn read(&self, text: &str) -> Result<u64, ScheduleError> {
        let mut set = 0;
        for part in text.split(',') {
            set |= self.part(part)?;
        }
        Ok(set)
    }

    fn part(&self, part: &str) -> Result<u64, ScheduleError> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(self.step(part, step)?)),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.top()),
            Some((first, last)) => (self.value(part, first)?, self.value(part, last)?),
            None => {
                let value = self.value(part, range)?;
                // As in crontab(5): a step behind one value goes from there to the end.
                (value, if step.is_some() { self.top() } else { value })
            }
        };
        if first > last {
            return Err(ScheduleError::Backwards {
                field: self.name,
                part: part.into(),
            });
        }
        let values = (first..=last).step_by(step.unwrap_or(1));
        Ok(values.fold(0, |set, value| set | 1 << value))
    }

    /// The last value of `*`: Sunday is counted once.
    fn top(&self) -> u32 {
        if self.most == 7 { 6 } else { self.most }
    }

    fn step(&self, part: &str, step: &str) -> Result<usize, ScheduleError> {
        let number = digits(step).filter(|step| (1..=self.most).contains(step));
        number
            .and_then(|step| usize::try_from(step).ok())
            .ok_or_else(|| ScheduleError::Step {
                field: self.name,
                part: part.into(),
                most: self.most,
            })
    }

    fn value(&self, part: &str, text: &str) -> Result<u32, ScheduleError> {
        let mut names = (self.least..).zip(self.names);
        if let Some((value, _)) = names.find(|(_, name)| name.eq_ignore_ascii_case(text)) {
            return Ok(value);
        }
        let value = digits(text).ok_or_else(|| ScheduleError::Part {
            field: self.name,
            part: part.into(),
        })?;
        if !(self.least..=self.most).contains(&value) {
            return Err(ScheduleError::Outside {
                field: self.name,
                value,
                least: self.least,
                most: self.most,
            });
        }
        Ok(value)
    }
}

fn digits(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
