//! The status as an operator reads it: plain text, 80 columns where names allow.

use crate::control::protocol::{Container, Exit, Host, Job, Logs, Metrics, Status};
use jiff::Timestamp;

/// All sections. `now` is the reader's clock, for ages.
pub fn whole(status: &Status, now: Timestamp) -> String {
    let mut text = head(status);
    for reason in &status.reasons {
        text += &format!("! {reason}\n");
    }
    if let Some(error) = &status.config.error {
        text += &format!("! config: reload refused, the settings before it run on: {error}\n");
    }
    if !status.containers.is_empty() {
        text += &containers(&status.containers, now);
    }
    if !status.jobs.is_empty() {
        text += &jobs(&status.jobs, now);
    }
    text += &logs(&status.logs);
    text += &metrics(&status.metrics);
    text += &host(status);
    text
}

/// One row a container, its trouble below it.
pub fn containers(containers: &[Container], now: Timestamp) -> String {
    let head = [
        "CONTAINER",
        "STATE",
        "READY",
        "UP",
        "RESTARTS",
        "LAST EXIT",
        "IMAGE",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for one in containers {
        let ready = match one.ready {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        let up = match &one.started_at {
            Some(at) if one.pid.is_some() => age(at, now),
            _ => "-".into(),
        };
        let exit = one
            .last_exit
            .as_ref()
            .map_or("-".into(), |e| exit_text(e, now));
        let image = one.image.rsplit('/').next().unwrap_or(&one.image);
        rows.push(vec![
            one.name.clone(),
            one.state.clone(),
            ready.into(),
            up,
            one.restarts.to_string(),
            exit,
            image.into(),
        ]);
    }
    let mut lines = columns(&rows).into_iter();
    let mut text = lines.next().unwrap_or_default();
    for (line, one) in lines.zip(containers) {
        text += &line;
        if let Some(trouble) = trouble(one, now) {
            text += &format!("            {trouble}\n");
        }
    }
    text
}

/// One row a job, its trouble below it.
pub fn jobs(jobs: &[Job], now: Timestamp) -> String {
    let head = ["JOB", "STATE", "FOR", "NEXT", "LAST RUN", "SCHEDULE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for job in jobs {
        let run = job.runs.last();
        let last = job.history.first().map_or("-".into(), |last| {
            let code = last.code.map(|code| format!(" {code}")).unwrap_or_default();
            format!("{}{code}, {} ago", last.class, age(&last.ended, now))
        });
        let next = job.next_run.as_ref();
        rows.push(vec![
            job.name.clone(),
            job.state.clone(),
            run.map_or("-".into(), |run| age(&run.begun, now)),
            next.map_or("-".into(), |at| format!("in {}", until(at, now))),
            last,
            format!("{} {}", job.schedule, job.time_zone),
        ]);
    }
    let mut lines = columns(&rows).into_iter();
    let mut text = lines.next().unwrap_or_default();
    for (line, job) in lines.zip(jobs) {
        text += &line;
        let reasons = job.runs.iter().filter_map(|run| run.reason.as_ref());
        let last = job.history.first().and_then(|last| last.reason.as_ref());
        for trouble in reasons.chain(&job.message).chain(last).take(1) {
            text += &format!("            {trouble}\n");
        }
    }
    text
}

fn trouble(one: &Container, now: Timestamp) -> Option<String> {
    let retry = one
        .retry_at
        .as_ref()
        .map(|at| format!("retry in {}", until(at, now)));
    let mut marks = Vec::new();
    if let Some(pull) = &one.pull {
        let (done, total) = (bytes(pull.done_bytes), bytes(pull.total_bytes));
        let bar = bar(pull.percent);
        return Some(format!("image {bar} {} %  {done} of {total}", pull.percent));
    }
    if one.crash_loop {
        marks.push("crash loop".to_owned());
    }
    if one.paused {
        marks.push("paused".to_owned());
    }
    if one.rolled_back {
        marks.push("rolled back: the config's shape is no good".to_owned());
    }
    if let Some(update) = &one.update {
        marks.push(format!("update {update}"));
    }
    let why = match (retry, &one.message) {
        (Some(retry), Some(message)) => Some(format!("{retry}: {message:?}")),
        (Some(retry), None) => Some(retry),
        (None, Some(message)) => Some(message.clone()),
        (None, None) => None,
    };
    marks.extend(why);
    (!marks.is_empty()).then(|| marks.join(", "))
}

/// A bar of twenty places.
fn bar(percent: u8) -> String {
    const PLACES: usize = 20;
    let full = usize::from(percent.min(100)) * PLACES / 100;
    format!("[{}{}]", "#".repeat(full), "-".repeat(PLACES - full))
}

fn exit_text(exit: &Exit, now: Timestamp) -> String {
    format!("{} {}, {} ago", exit.class, exit.code, age(&exit.at, now))
}

fn head(status: &Status) -> String {
    let mut words = vec![
        format!("agent {}", status.version),
        format!("up {}", span(status.uptime_seconds)),
    ];
    for name in ["instance_id", "environment", "region", "private_ip"] {
        words.extend(status.facts.get(name).map(|fact| fact.value.clone()));
    }
    words.push(
        if status.healthy {
            "HEALTHY"
        } else {
            "DEGRADED"
        }
        .into(),
    );
    format!("{}\n", words.join("  "))
}

fn logs(logs: &Logs) -> String {
    let mut rows = vec![
        ["LOGS", "IN", "OUT", "BUFFERED", "OLDEST", "LAST ERROR"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for output in &logs.outputs {
        rows.push(vec![
            output.name.clone(),
            logs.records_in.to_string(),
            output.records_out.to_string(),
            format!(
                "{} / {}",
                bytes(output.pending_bytes),
                bytes(logs.buffer_limit_bytes)
            ),
            output.oldest_seconds.map_or("-".into(), span),
            output.last_error.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    let mut text = columns(&rows).concat();
    if let Some(error) = &logs.error {
        text += &format!("            {error}\n");
    }
    text
}

fn metrics(metrics: &Metrics) -> String {
    let last = metrics
        .last_seconds
        .map_or("-".into(), |seconds| format!("{:.1} ms", seconds * 1e3));
    let failed = match metrics.collectors_failed.len() {
        0 => "0 failed".to_owned(),
        n => format!("{n} failed: {}", metrics.collectors_failed.join(", ")),
    };
    format!(
        "METRICS     scrapes {}  last {last}  collectors {} ok, {failed}\n",
        metrics.scrapes, metrics.collectors_ok
    )
}

fn host(status: &Status) -> String {
    let docker = &status.docker;
    let word = match (docker.reachable, &docker.version, &docker.error) {
        (Some(true), Some(version), _) => version.clone(),
        (Some(true), None, _) => "ok".into(),
        (Some(false), _, Some(error)) => format!("unreachable: {error}"),
        (Some(false), _, None) => "unreachable".into(),
        (None, ..) if status.containers.is_empty() => "not used".into(),
        (None, ..) => "not asked yet".into(),
    };
    let disk = match (&docker.root, docker.disk_used_percent) {
        (Some(root), Some(percent)) => format!("  {root} {percent} % used"),
        _ => String::new(),
    };
    let systemd = match status.host.systemd.as_deref() {
        Some("running") => "  systemd ok".to_owned(),
        Some(word) => format!("  systemd {word}"),
        None => String::new(),
    };
    format!(
        "HOST        docker {word}{systemd}{disk}{}\n",
        reboot(&status.host)
    )
}

/// Nothing on a host where nobody could tell.
fn reboot(host: &Host) -> String {
    match (&host.reboot_reason, &host.update) {
        _ if host.shutting_down => "  shutting down".into(),
        (Some(reason), _) => format!("  reboot: needed, {reason}"),
        (None, Some(update)) if update.operation == "downloading" => {
            let percent = (update.progress * 100.0).round();
            format!("  update: {} {percent} %", update.new_version)
        }
        (None, _) if host.systemd.is_some() => "  reboot: not needed".into(),
        (None, _) => String::new(),
    }
}

/// Left-aligned columns two spaces apart, each line ended.
fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; n_columns];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    // The first column lines up with METRICS and HOST below.
    if let Some(first) = widths.first_mut() {
        *first = (*first).max(10);
    }
    let line = |row: &Vec<String>| {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            text += &format!("{cell:<width$}  ");
        }
        format!("{}\n", text.trim_end())
    };
    rows.iter().map(line).collect()
}

fn age(at: &str, now: Timestamp) -> String {
    seconds_between(at, now).map_or("?".into(), |seconds| span(seconds.max(0).unsigned_abs()))
}

fn until(at: &str, now: Timestamp) -> String {
    seconds_between(at, now).map_or("?".into(), |seconds| span((-seconds).max(0).unsigned_abs()))
}

fn seconds_between(at: &str, now: Timestamp) -> Option<i64> {
    let at: Timestamp = at.parse().ok()?;
    Some(now.as_second() - at.as_second())
}

/// The two largest units: `3d 4h`, `48s`.
fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Binary units with one decimal below ten.
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit > 0 && value < 10.0 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests;
