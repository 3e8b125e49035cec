//! `timex`: the state of the kernel's clock discipline. Source: adjtimex(2)
//! without a mode, which only asks; always of the running kernel.

use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use std::io;

/// STA_NANO, linux/timex.h: offset and jitter are in nanoseconds.
const NANO: i32 = 0x2000;
/// TIME_ERROR: the clock is not synchronised.
const UNSYNCHRONISED: i32 = 5;
const MICROSECONDS: f64 = 1e6;
const NANOSECONDS: f64 = 1e9;
/// Frequencies are parts per million with a 16-bit fraction.
const SCALED_PPM: f64 = 65536.0 * 1e6;

pub struct Timex;

impl Collector for Timex {
    fn name(&self) -> &'static str {
        "timex"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let (state, timex) = ask().map_err(|source| CollectError::Call {
            call: "adjtimex",
            source,
        })?;
        write(page, state, &timex);
        Ok(())
    }
}

fn ask() -> io::Result<(i32, libc::timex)> {
    #![allow(unsafe_code)]
    // SAFETY: a C struct of integers only, for which all zeros is a value; its
    // `modes` of 0 asks and sets nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `struct timex` that lives beyond the
    // call; the kernel fills it and keeps no reference.
    match unsafe { libc::adjtimex(&raw mut timex) } {
        -1 => Err(io::Error::last_os_error()),
        state => Ok((state, timex)),
    }
}

#[rustfmt::skip] // a table reads better in its columns
fn write(page: &mut Page, state: i32, timex: &libc::timex) {
    use Kind::{Counter, Gauge};
    let fine = if timex.status & NANO == 0 { MICROSECONDS } else { NANOSECONDS };
    let synchronised = if state == UNSYNCHRONISED { 0.0 } else { 1.0 };
    for (name, kind, value, help) in [
        ("sync_status", Gauge, synchronised,
            "Is clock synchronized to a reliable server (1 = yes, 0 = no)."),
        ("offset_seconds", Gauge, timex.offset as f64 / fine,
            "Time offset in between local system and reference clock."),
        ("frequency_adjustment_ratio", Gauge, 1.0 + timex.freq as f64 / SCALED_PPM,
            "Local clock frequency adjustment."),
        ("maxerror_seconds", Gauge, timex.maxerror as f64 / MICROSECONDS,
            "Maximum error in seconds."),
        ("estimated_error_seconds", Gauge, timex.esterror as f64 / MICROSECONDS,
            "Estimated error in seconds."),
        ("status", Gauge, f64::from(timex.status),
            "Value of the status array bits."),
        ("loop_time_constant", Gauge, timex.constant as f64,
            "Phase-locked loop time constant."),
        ("tick_seconds", Gauge, timex.tick as f64 / MICROSECONDS,
            "Seconds between clock ticks."),
        ("pps_frequency_hertz", Gauge, timex.ppsfreq as f64 / SCALED_PPM,
            "Pulse per second frequency."),
        ("pps_jitter_seconds", Gauge, timex.jitter as f64 / fine,
            "Pulse per second jitter."),
        ("pps_shift_seconds", Gauge, f64::from(timex.shift),
            "Pulse per second interval duration."),
        ("pps_stability_hertz", Gauge, timex.stabil as f64 / SCALED_PPM,
            "Pulse per second stability, average of recent frequency changes."),
        ("pps_jitter_total", Counter, timex.jitcnt as f64,
            "Pulse per second count of jitter limit exceeded events."),
        ("pps_calibration_total", Counter, timex.calcnt as f64,
            "Pulse per second count of calibration intervals."),
        ("pps_error_total", Counter, timex.errcnt as f64,
            "Pulse per second count of calibration errors."),
        ("pps_stability_exceeded_total", Counter, timex.stbcnt as f64,
            "Pulse per second count of stability limit exceeded events."),
        ("tai_offset_seconds", Gauge, f64::from(timex.tai),
            "International Atomic Time (TAI) offset."),
    ] {
        page.family(&format!("node_timex_{name}"), kind, help).bare(value);
    }
}

#[cfg(test)]
mod tests {
    use super::{NANO, Timex, UNSYNCHRONISED, ask, write};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, parse};

    #[test]
    fn offset_is_in_the_unit_that_the_status_names_and_errors_in_microseconds() {
        for (status, offset) in [(0, 2.5), (NANO, 0.0025)] {
            let (_, mut timex) = ask().unwrap();
            timex.status = status;
            timex.offset = 2_500_000;
            timex.maxerror = 500_000;
            timex.freq = 65536 * 100;
            let mut page = Page::default();
            write(&mut page, UNSYNCHRONISED, &timex);
            let pages = parse(&page);
            expect(&pages, "node_timex_offset_seconds", &[], offset);
            expect(&pages, "node_timex_maxerror_seconds", &[], 0.5);
            expect(&pages, "node_timex_frequency_adjustment_ratio", &[], 1.0001);
            expect(&pages, "node_timex_sync_status", &[], 0.0);
        }
    }

    #[test]
    fn the_running_kernel_ticks() {
        let pages = collect(&mut Timex);
        assert_eq!(pages.len(), 17);
        let tick = pages["node_timex_tick_seconds"].series.values().next();
        assert!(tick.is_some_and(|tick| (0.009..0.011).contains(tick)));
    }
}
