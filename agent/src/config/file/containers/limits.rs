//! Limits and devices.

use super::text;
use crate::config::compose::check_device;
use crate::config::fault::quoted;
use crate::config::read::{Item, Table, Wrong};
use crate::supervise::spec::{Spec, Ulimit};
use std::collections::BTreeMap;

/// Docker refuses less (`mem_limit` below 6 MiB).
const LEAST_MEMORY: u64 = 6 << 20;

/// The memory keys of a spec, alone.
pub fn memory(table: &mut Table<'_>) -> Spec {
    let limit = table.take("mem_limit").size(LEAST_MEMORY, u64::MAX >> 1);
    let item = table.take("memswap_limit");
    let place = item.place();
    let unlimited = item.is("-1");
    let swap = match unlimited {
        true => None,
        false => item.size(LEAST_MEMORY, u64::MAX >> 1),
    };
    let item = table.take("mem_reservation");
    let reservation_place = item.place();
    let reservation = item.size(LEAST_MEMORY, u64::MAX >> 1);
    if let (Some(limit), Some(reservation)) = (limit, reservation)
        && reservation > limit
    {
        let help = "it is what stays when memory is short";
        table.fault_at(
            reservation_place,
            "mem_reservation",
            "is more than mem_limit",
            help,
        );
    }
    match (limit, swap) {
        (None, swap) if swap.is_some() || unlimited => {
            let help = "it bounds memory and swap together: set mem_limit as well";
            table.fault_at(
                place,
                "memswap_limit",
                "means nothing without mem_limit",
                help,
            );
        }
        (Some(limit), Some(swap)) if swap < limit => {
            let help = "it bounds memory and swap together";
            table.fault_at(place, "memswap_limit", "is less than mem_limit", help);
        }
        _ => {}
    }
    Spec {
        mem_limit: limit,
        memswap_limit: match unlimited {
            true => Some(-1),
            false => swap.and_then(|swap| i64::try_from(swap).ok()),
        },
        mem_reservation: reservation,
        ..Spec::default()
    }
}

pub fn ulimits(item: Item<'_>) -> BTreeMap<String, Ulimit> {
    let pairs = item.pairs().into_iter();
    pairs
        .filter_map(|(name, item)| Some((name, item.ulimit()?)))
        .collect()
}

/// Groups by name or number.
pub fn groups(item: Item<'_>) -> Vec<String> {
    let items = item.list().unwrap_or_default();
    let read = |item: &Item<'_>| item.scalar("a group such as \"adm\" or 4", text);
    items.iter().filter_map(read).collect()
}

/// `"/dev/a:/dev/b:rwm"`, or the long form, put into the short one.
pub fn devices(item: Item<'_>) -> Vec<String> {
    let mut devices = Vec::new();
    for item in item.list().unwrap_or_default() {
        if !item.is_table() {
            let device = |text: &str| check_device(text).map(|()| text.to_string());
            devices.extend(item.parse("a device such as \"/dev/kmsg\"", device));
            continue;
        }
        devices.extend(item.table(|table| {
            let source = table.take("source");
            if !source.is_there() {
                table.missing("source", "\"/dev/kmsg\"");
            }
            let target = table.take("target").string();
            let permissions = table.take("permissions").string();
            source.parse("a device such as \"/dev/kmsg\"", |source| {
                let target = target.unwrap_or_else(|| source.into());
                let permissions = permissions.unwrap_or_else(|| "rwm".into());
                let device = format!("{source}:{target}:{permissions}");
                check_device(&device).map(|()| device)
            })
        }));
    }
    devices
}

/// `c 1:3 mr`: as the device cgroup takes rules.
pub fn check_device_rule(text: &str) -> Result<(), Wrong> {
    let parts: Vec<&str> = text.split(' ').collect();
    let is_number = |text: &str| text == "*" || text.parse::<u32>().is_ok();
    let fits = match parts.as_slice() {
        [kind, numbers, access] => {
            let numbers = numbers.split_once(':');
            matches!(*kind, "a" | "b" | "c")
                && numbers.is_some_and(|(major, minor)| is_number(major) && is_number(minor))
                && (1..=3).contains(&access.len())
                && access.chars().all(|c| "rwm".contains(c))
        }
        _ => false,
    };
    match fits {
        true => Ok(()),
        false => Err(
            Wrong::new(format!("{} is no rule for devices", quoted(text)))
                .help("such as \"c 1:3 mr\" or \"c 10:* rwm\""),
        ),
    }
}
