//! Schedules against an oracle that walks minute by minute, and the faults as they are told.

use super::{Schedule, ScheduleError, check_zone};
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeSet;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(text: &str, zone: &str) -> Schedule {
    Schedule::new(text, zone).unwrap_or_else(|error| panic!("{text:?} in {zone}: {error}"))
}

/// What is due after `from`, `n` times.
fn following(schedule: &Schedule, from: &str, n: usize) -> Vec<String> {
    let mut now = at(from);
    let mut found = Vec::new();
    for _ in 0..n {
        now = schedule.next(now).unwrap();
        found.push(now.to_string());
    }
    found
}

#[test]
fn five_fields_say_what_crontab_says() {
    let cases = [
        ("0 4 * * *", "2026-11-21T04:00:00Z", "2026-11-22T04:00:00Z"),
        ("0 4 * * *", "2026-11-21T03:59:59Z", "2026-11-21T04:00:00Z"),
        (
            "*/15 * * * *",
            "2026-11-21T04:01:00Z",
            "2026-11-21T04:15:00Z",
        ),
        (
            "7/20 * * * *",
            "2026-11-21T04:08:00Z",
            "2026-11-21T04:27:00Z",
        ),
        (
            "0 0 * * MON-FRI",
            "2026-11-21T00:00:00Z",
            "2026-11-23T00:00:00Z",
        ),
        ("0 0 * * 7", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
        (
            "0 0 * * sun",
            "2026-11-21T00:00:00Z",
            "2026-11-22T00:00:00Z",
        ),
        (
            "0 0 1 jan,JUL *",
            "2026-11-21T00:00:00Z",
            "2027-01-01T00:00:00Z",
        ),
        // both days restricted: either suffices
        (
            "0 0 13 * FRI",
            "2026-11-21T00:00:00Z",
            "2026-11-27T00:00:00Z",
        ),
        // one begins with "*": both must match
        (
            "0 0 */13 * FRI",
            "2026-11-21T00:00:00Z",
            "2026-11-27T00:00:00Z",
        ),
        (
            "0 0 1-7 * */7",
            "2026-11-21T00:00:00Z",
            "2026-12-06T00:00:00Z",
        ),
        ("0 0 29 2 *", "2026-11-21T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
        (
            "5-9/2,58 23 31 12 *",
            "2026-12-31T23:09:00Z",
            "2026-12-31T23:58:00Z",
        ),
        ("@hourly", "2026-11-21T04:01:00Z", "2026-11-21T05:00:00Z"),
        ("@daily", "2026-11-21T04:01:00Z", "2026-11-22T00:00:00Z"),
        ("@weekly", "2026-11-21T04:01:00Z", "2026-11-22T00:00:00Z"),
        ("@monthly", "2026-11-21T04:01:00Z", "2026-12-01T00:00:00Z"),
        ("@Yearly", "2026-11-21T04:01:00Z", "2027-01-01T00:00:00Z"),
    ];
    for (text, from, wanted) in cases {
        let schedule = schedule(text, "UTC");
        assert_eq!(
            schedule.next(at(from)),
            Some(at(wanted)),
            "{text} after {from}"
        );
        assert_eq!(schedule.latest(at(wanted)), Some(at(wanted)), "{text}");
    }
}

#[test]
fn a_local_time_that_does_not_exist_is_due_at_the_next_minute_that_does_and_once() {
    let night = schedule("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        following(&night, "2026-03-28T00:00:00Z", 3),
        [
            "2026-03-28T01:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z"
        ]
    );
    let often = schedule("*/20 2,3 * * *", "Europe/Berlin");
    assert_eq!(
        following(&often, "2026-03-29T00:00:00Z", 3),
        [
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:20:00Z",
            "2026-03-29T01:40:00Z"
        ]
    );
    // Samoa went without a whole day.
    let samoa = schedule("0 12 30 12 *", "Pacific/Apia");
    assert_eq!(
        following(&samoa, "2011-12-01T00:00:00Z", 1),
        ["2011-12-30T10:00:00Z"]
    );
}

#[test]
fn a_local_time_that_comes_twice_is_due_at_its_first_coming() {
    let night = schedule("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        following(&night, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    // An hourly job means the elapsed time and leaves no hour out.
    let hourly = schedule("0 * * * *", "Europe/Berlin");
    assert_eq!(
        following(&hourly, "2026-10-24T23:30:00Z", 3),
        [
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T02:00:00Z"
        ]
    );
}

#[test]
fn what_is_wrong_is_told_with_its_part() {
    let cases = [
        (
            "",
            "has 0 fields, not 5: minute, hour, day of month, month, day of week",
        ),
        (
            "0 0 4 * * *",
            "has 6 fields, not 5: minute, hour, day of month, month, day of week",
        ),
        ("@noon", "unknown short form \"@noon\""),
        ("60 * * * *", "minute: 60 is not within 0 to 59"),
        ("* 24 * * *", "hour: 24 is not within 0 to 23"),
        ("* * 0 * *", "day of month: 0 is not within 1 to 31"),
        ("* * * 13 *", "month: 13 is not within 1 to 12"),
        ("* * * * 8", "day of week: 8 is not within 0 to 7"),
        (
            "* * * * TUES",
            "day of week: \"TUES\" is no number, name, range or step",
        ),
        (
            "1,,2 * * * *",
            "minute: \"\" is no number, name, range or step",
        ),
        (
            "a-5 * * * *",
            "minute: \"a-5\" is no number, name, range or step",
        ),
        (
            "-5 * * * *",
            "minute: \"-5\" is no number, name, range or step",
        ),
        (
            "+5 * * * *",
            "minute: \"+5\" is no number, name, range or step",
        ),
        (
            "99999999999 * * * *",
            "minute: \"99999999999\" is no number, name, range or step",
        ),
        ("* 5-3 * * *", "hour: the range \"5-3\" runs backwards"),
        (
            "*/0 * * * *",
            "minute: the step of \"*/0\" is not within 1 to 59",
        ),
        (
            "*/ * * * *",
            "minute: the step of \"*/\" is not within 1 to 59",
        ),
        ("0 0 30 2 *", "no such day ever comes"),
        ("0 0 31 4,6,9,11 *", "no such day ever comes"),
    ];
    for (text, wanted) in cases {
        let error = Schedule::new(text, "UTC").expect_err(text);
        assert_eq!(error.to_string(), wanted, "{text:?}");
    }
    let unknown = ScheduleError::Zone {
        name: "Europe/Bärlin".into(),
    };
    assert_eq!(check_zone("Europe/Bärlin"), Err(unknown));
    assert_eq!(check_zone("europe/berlin"), Ok("Europe/Berlin".into()));
    assert_eq!(check_zone("UTC"), Ok("UTC".into()));
}

#[test]
fn what_was_due_is_counted_up_to_a_bound() {
    let minutely = schedule("* * * * *", "UTC");
    let (from, until) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T10:00:30Z"));
    assert_eq!(minutely.count(from, until, 10_000), 600);
    assert_eq!(minutely.count(from, until, 7), 7);
    assert_eq!(minutely.count(until, from, 7), 0);
}

/// Five fields as plain sets, and their text.
#[derive(Debug)]
struct Fields {
    minutes: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    days: Option<BTreeSet<i8>>,
    months: BTreeSet<i8>,
    weekdays: Option<BTreeSet<i8>>,
}

impl Fields {
    fn text(&self) -> String {
        let list = |set: &BTreeSet<i8>| {
            let words: Vec<String> = set.iter().map(i8::to_string).collect();
            words.join(",")
        };
        let days = self.days.as_ref().map_or("*".into(), list);
        let weekdays = self.weekdays.as_ref().map_or("*".into(), list);
        let (minutes, hours, months) = (list(&self.minutes), list(&self.hours), list(&self.months));
        format!("{minutes} {hours} {days} {months} {weekdays}")
    }

    fn matches(&self, local: DateTime) -> bool {
        let weekday = local.weekday().to_sunday_zero_offset();
        let is_day = match (&self.days, &self.weekdays) {
            (None, None) => true,
            (Some(days), None) => days.contains(&local.day()),
            (None, Some(weekdays)) => weekdays.contains(&weekday),
            (Some(days), Some(weekdays)) => {
                days.contains(&local.day()) || weekdays.contains(&weekday)
            }
        };
        is_day
            && self.months.contains(&local.month())
            && self.hours.contains(&local.hour())
            && self.minutes.contains(&local.minute())
    }

    /// Each minute of `from..=until` at which it is due, found without any knowledge of changes:
    /// by what the wall clock shows at this minute and showed before it.
    fn oracle(&self, zone: &TimeZone, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        // Half a day of history: what the clock has shown already.
        let mut now = from - SignedDuration::from_hours(26);
        let mut shown = zone.to_datetime(now - MINUTE);
        while now <= until {
            let local = zone.to_datetime(now);
            let mut due = self.matches(local) && (self.hours.len() == 24 || !seen.contains(&local));
            let mut skipped = shown + MINUTE;
            while skipped < local {
                due |= self.matches(skipped);
                skipped += MINUTE;
            }
            seen.insert(local);
            if due && now >= from {
                found.push(now);
            }
            shown = local;
            now += MINUTE;
        }
        found
    }
}

fn subset(least: i8, most: i8, size: usize) -> impl Strategy<Value = BTreeSet<i8>> {
    proptest::collection::btree_set(least..=most, 1..=size)
}

fn fields() -> impl Strategy<Value = Fields> {
    let hours = prop_oneof![
        1 => Just((0..24).collect::<BTreeSet<i8>>()),
        3 => subset(0, 23, 6),
        2 => subset(0, 3, 3),
    ];
    let months = prop_oneof![Just((1..=12).collect()), subset(1, 12, 4)];
    let days = proptest::option::of(subset(1, 31, 5));
    let weekdays = proptest::option::of(subset(0, 6, 3));
    (subset(0, 59, 4), hours, days, months, weekdays).prop_map(
        |(minutes, hours, days, months, weekdays)| Fields {
            minutes,
            hours,
            days,
            months,
            weekdays,
        },
    )
}

/// Days round changes: an hour forth and back, half an hour, over midnight, a lost day, none.
const SPANS: [(&str, &str); 9] = [
    ("Europe/Berlin", "2026-03-28T12:00:00Z"),
    ("Europe/Berlin", "2026-10-24T12:00:00Z"),
    ("America/New_York", "2026-11-01T00:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T00:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T00:00:00Z"),
    ("America/Asuncion", "2024-03-23T12:00:00Z"),
    ("America/Santiago", "2026-09-05T12:00:00Z"),
    ("Pacific/Apia", "2011-12-29T12:00:00Z"),
    ("UTC", "2026-12-31T00:00:00Z"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn next_latest_and_count_agree_with_a_walk_over_all_minutes(
        fields in fields(), pick in 0..SPANS.len(), offset in 0..600i64,
    ) {
        let (zone_name, from) = SPANS[pick];
        let Ok(schedule) = Schedule::new(&fields.text(), zone_name) else {
            // 31 April alone, and the like.
            return Ok(());
        };
        let zone = TimeZoneDatabase::bundled().get(zone_name).unwrap();
        let from = at(from) + SignedDuration::from_mins(offset);
        let until = from + SignedDuration::from_hours(40);
        let wanted = fields.oracle(&zone, from, until);
        let mut found = Vec::new();
        let mut now = from - SignedDuration::from_secs(1);
        while let Some(due) = schedule.next(now).filter(|due| *due <= until) {
            prop_assert!(due > now);
            found.push(due);
            now = due;
        }
        prop_assert_eq!(&found, &wanted, "{} in {}", fields.text(), zone_name);
        prop_assert_eq!(schedule.latest(until).filter(|due| *due >= from), wanted.last().copied());
        let before = from - SignedDuration::from_secs(1);
        prop_assert_eq!(schedule.count(before, until, 10_000), wanted.len());
    }
}
