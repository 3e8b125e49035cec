//! What supervision costs while nothing happens, with many containers, and while some crash on
//! and on. A Docker daemon of its own: what others do there is not counted.

use crate::containers::{IMAGE, image_tar};
use crate::process::{Run, cpu_seconds, http_get, rss_kb};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tests::daemon::Daemon;

/// A host is at rest when in so long a time Docker is asked no more than a ping and a list.
const REST: Duration = Duration::from_secs(5);

fn daemon() -> Result<Daemon> {
    let daemon = Daemon::start(&[]);
    let dir = tempfile::tempdir()?;
    let tar = image_tar(dir.path())?;
    daemon.try_docker(&["import", &tar.to_string_lossy(), IMAGE])?;
    Ok(daemon)
}

fn config(daemon: &Daemon, count: usize, command: &str) -> String {
    let mut config = format!("[docker]\nsocket = \"{}\"\n", daemon.socket().display());
    for number in 0..count {
        config += &format!(
            "[containers.agent-bench-{number}]\nimage = \"{IMAGE}\"\nnetwork_mode = \"none\"\n\
             command = [\"/bin/sh\", \"-c\", \"{command}\"]\n"
        );
    }
    config
}

const SLEEP: &str = "exec /bin/sleep 100000";

pub fn converged(agent: &Path) -> Result<()> {
    let daemon = daemon()?;
    let run = Run::start(agent, &config(&daemon, 10, SLEEP), true)?;
    wait_up(&run, 10)?;
    wait_rest(&run)?;
    let quiet = Quiet::watch(&run, Duration::from_secs(60))?;
    println!("converged   10 containers, {quiet} (bound 0.1 %)");
    Ok(())
}

/// One size of host.
struct Size {
    count: f64,
    running: f64,
    rss: f64,
    adopted: f64,
    start_cpu: f64,
    adopt_cpu: f64,
    rest: f64,
    rest_cpu: f64,
    quiet: Quiet,
}

pub fn many(agent: &Path) -> Result<()> {
    let mut sizes = Vec::new();
    for count in [100, 300] {
        let daemon = daemon()?;
        let mut run = Run::start(agent, &config(&daemon, count, SLEEP), true)?;
        let running = wait_up(&run, count)?;
        let start_cpu = cpu_seconds(run.child.id())?;
        run.restart(agent)?;
        let adopted = wait_up(&run, count)?;
        let adopt_cpu = cpu_seconds(run.child.id())?;
        let rest = wait_rest(&run)?;
        let rest_cpu = cpu_seconds(run.child.id())?;
        let size = Size {
            count: count as f64,
            running,
            rss: rss_kb(run.child.id())? as f64,
            adopted,
            start_cpu,
            adopt_cpu,
            rest,
            rest_cpu,
            quiet: Quiet::watch(&run, Duration::from_secs(30))?,
        };
        println!(
            "many        {count} containers: all running after {running:.1} s ({start_cpu:.2} s CPU of the agent), \
             after its restart all adopted after {adopted:.2} s ({adopt_cpu:.2} s CPU), \
             at rest after {rest:.0} s ({rest_cpu:.2} s CPU), rss {:.0} kB",
            size.rss
        );
        println!("            then {}", size.quiet);
        sizes.push(size);
        drop(run);
        remove_all(&daemon)?;
    }
    let [few, many] = &sizes[..] else {
        bail!("two sizes make a comparison")
    };
    let times = many.count / few.count;
    println!("            {times:.0} times the containers; 1.0 is linear growth:");
    for (what, from, to) in [
        ("time to running", few.running, many.running),
        ("CPU to running", few.start_cpu, many.start_cpu),
        ("time to adopted", few.adopted, many.adopted),
        ("CPU to adopted", few.adopt_cpu, many.adopt_cpu),
        ("time to rest", few.rest, many.rest),
        ("CPU to rest", few.rest_cpu, many.rest_cpu),
        ("rss", few.rss, many.rss),
        ("CPU converged", few.quiet.cpu, many.quiet.cpu),
        ("wake-ups", few.quiet.wakes, many.quiet.wakes),
        ("calls", few.quiet.calls(), many.quiet.calls()),
    ] {
        println!("            {what:<16} {:>5.2}", to / from / times);
    }
    println!(
        "            rss per further container {:.1} kB",
        (many.rss - few.rss) / (many.count - few.count)
    );
    Ok(())
}

/// Many removals at once.
fn remove_all(daemon: &Daemon) -> Result<()> {
    let all = daemon.try_docker(&["ps", "-aq"])?;
    let all: Vec<&str> = all.lines().collect();
    thread::scope(|scope| {
        for some in all.chunks(all.len().div_ceil(8).max(1)) {
            scope.spawn(move || daemon.try_docker(&[&["rm", "-f", "-v"], some].concat()));
        }
    });
    Ok(())
}

pub fn crash_loops(agent: &Path) -> Result<()> {
    let daemon = daemon()?;
    let group = Group::around(&daemon)?;
    let run = Run::start(agent, &config(&daemon, 3, "exit 1"), true)?;
    thread::sleep(Duration::from_secs(180).saturating_sub(run.began.elapsed()));
    let looks = || -> Result<(f64, f64, f64)> {
        let page = page(&run)?;
        let restarts = sum(&page, "agent_container_restarts_total");
        Ok((cpu_seconds(run.child.id())?, group.cpu_seconds()?, restarts))
    };
    let (began, before) = (Instant::now(), looks()?);
    thread::sleep(Duration::from_secs(60));
    let (after, seconds) = (looks()?, began.elapsed().as_secs_f64());
    let percent = |from: f64, to: f64| (to - from) / seconds * 100.0;
    let (ours, docker) = (percent(before.0, after.0), percent(before.1, after.1));
    println!(
        "crash loops three from minute 3 on, {seconds:.0} s: {:.2} % of a core (bound 5 %): agent {ours:.2} %, \
         dockerd, containerd, shims and what they start {docker:.2} %; {:.0} restarts",
        ours + docker,
        after.2 - before.2
    );
    Ok(())
}

/// A control group of a daemon and all that it starts but the containers, so that no ended
/// process is forgotten.
struct Group {
    path: PathBuf,
}

impl Group {
    fn around(daemon: &Daemon) -> Result<Group> {
        let old = Path::new("/sys/fs/cgroup/cpuacct");
        let root = match old.is_dir() {
            true => old,
            false => Path::new("/sys/fs/cgroup"),
        };
        let path = root.join(format!("agent-bench-{}", std::process::id()));
        fs::create_dir(&path).context("cannot make a control group")?;
        let group = Group { path };
        let socket = daemon.socket();
        let runtime = socket.parent().context("no directory")?.to_string_lossy();
        let mut moved = 0;
        for process in fs::read_dir("/proc")?.flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&*runtime) {
                let pid = process.file_name();
                fs::write(group.path.join("cgroup.procs"), pid.as_encoded_bytes())?;
                moved += 1;
            }
        }
        ensure!(moved >= 2, "dockerd and its containerd are not found");
        Ok(group)
    }

    fn cpu_seconds(&self) -> Result<f64> {
        if let Ok(nanos) = fs::read_to_string(self.path.join("cpuacct.usage")) {
            return Ok(nanos.trim().parse::<f64>()? / 1e9);
        }
        let stat = fs::read_to_string(self.path.join("cpu.stat"))?;
        let micros = stat.lines().find_map(|l| l.strip_prefix("usage_usec "));
        Ok(micros.context("no usage_usec")?.parse::<f64>()? / 1e6)
    }
}

impl Drop for Group {
    /// Whoever is still in it goes back to the root.
    fn drop(&mut self) {
        let members = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines() {
            let _ = fs::write(self.path.with_file_name("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// The agent over a span in which nothing is asked of it.
struct Quiet {
    seconds: f64,
    /// In clock ticks, of all threads; ended ones too.
    ticked: f64,
    /// To the nanosecond, of the threads that were seen.
    cpu: f64,
    wakes: f64,
    /// Per minute.
    by_kind: BTreeMap<String, f64>,
}

impl Quiet {
    fn watch(run: &Run, span: Duration) -> Result<Quiet> {
        let pid = run.child.id();
        let calls = calls(run)?;
        // The page itself has been paid for by then.
        thread::sleep(Duration::from_secs(1));
        let (began, ticks) = (Instant::now(), cpu_seconds(pid)?);
        // Of each thread what it had at first and at last: one that ends is not forgotten.
        let mut threads: BTreeMap<String, (Spent, Spent)> = BTreeMap::new();
        let mut is_first = true;
        loop {
            for (thread, now) in thread_counts(pid)? {
                let first = if is_first { now } else { Spent::default() };
                threads.entry(thread).or_insert((first, now)).1 = now;
            }
            is_first = false;
            let left = span.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(Duration::from_secs(1)));
        }
        let seconds = began.elapsed().as_secs_f64();
        let ticked = cpu_seconds(pid)? - ticks;
        let mut by_kind = self::calls(run)?;
        by_kind.retain(|kind, count| {
            *count = (*count - calls.get(kind).unwrap_or(&0.0)) / (seconds + 1.0) * 60.0;
            *count > 0.0
        });
        let grown = |of: fn(&Spent) -> f64| -> f64 {
            let threads = threads.values();
            threads.map(|(first, last)| of(last) - of(first)).sum()
        };
        Ok(Quiet {
            seconds,
            ticked,
            cpu: grown(|spent| spent.cpu),
            wakes: grown(|spent| spent.wakes) / seconds,
            by_kind,
        })
    }

    fn calls(&self) -> f64 {
        self.by_kind.values().sum()
    }
}

impl std::fmt::Display for Quiet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds = self.by_kind.iter();
        let kinds: Vec<String> = kinds.map(|(k, n)| format!("{k} {n:.1}")).collect();
        write!(
            f,
            "{:.0} s: {:.1} ms CPU (in ticks {:.2} s), {:.3} % of a core, {:.1} wake-ups/s, \
             calls to Docker per minute {:.1} ({})",
            self.seconds,
            self.cpu * 1e3,
            self.ticked,
            self.cpu / self.seconds * 100.0,
            self.wakes,
            self.calls(),
            kinds.join(", ")
        )
    }
}

/// One thread so far.
#[derive(Clone, Copy, Default)]
struct Spent {
    /// Seconds on a CPU: schedstat's first field.
    cpu: f64,
    /// Voluntary context switches.
    wakes: f64,
}

fn thread_counts(pid: u32) -> Result<Vec<(String, Spent)>> {
    let mut counts = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let read = |name: &str| fs::read_to_string(thread.path().join(name));
        // One that has just ended is passed over.
        let (Ok(stat), Ok(status)) = (read("schedstat"), read("status")) else {
            continue;
        };
        let nanos = stat.split(' ').next().context("odd schedstat")?;
        let key = "voluntary_ctxt_switches:";
        let wakes = status.lines().find_map(|line| line.strip_prefix(key));
        let wakes = wakes.context("odd status")?.trim();
        let id = thread.file_name().to_string_lossy().into_owned();
        let spent = Spent {
            cpu: nanos.parse::<f64>()? / 1e9,
            wakes: wakes.parse()?,
        };
        counts.push((id, spent));
    }
    Ok(counts)
}

fn page(run: &Run) -> Result<String> {
    Ok(String::from_utf8(http_get(
        run.metrics,
        "/metrics",
        false,
    )?)?)
}

/// Calls so far, by kind.
fn calls(run: &Run) -> Result<BTreeMap<String, f64>> {
    let page = page(run)?;
    let lines = page.lines().filter_map(|line| {
        let rest = line.strip_prefix("agent_docker_call_seconds_count{call=\"")?;
        let (kind, count) = rest.split_once("\"} ")?;
        Some((kind.to_owned(), count.trim().parse().ok()?))
    });
    Ok(lines.collect())
}

fn sum(page: &str, family: &str) -> f64 {
    let lines = page.lines().filter_map(|line| line.strip_prefix(family));
    lines
        .filter(|rest| rest.starts_with('{'))
        .filter_map(|rest| rest.rsplit_once(' ')?.1.trim().parse::<f64>().ok())
        .sum()
}

/// Seconds from the agent's start until it says that `count` containers run.
/// Asked ever more rarely, to a twentieth of the time: a page has its price too.
fn wait_up(run: &Run, count: usize) -> Result<f64> {
    let mut up = 0.0;
    while run.began.elapsed() < Duration::from_secs(300) {
        if let Ok(page) = page(run) {
            up = sum(&page, "agent_container_up");
            if up >= count as f64 {
                return Ok(run.began.elapsed().as_secs_f64());
            }
        }
        let pause = run.began.elapsed() / 20;
        thread::sleep(pause.max(Duration::from_millis(20)));
    }
    bail!("only {up} of {count} containers run after five minutes")
}

/// Seconds from the agent's start until it has let Docker alone for [`REST`], that included.
fn wait_rest(run: &Run) -> Result<f64> {
    let mut before = calls(run)?.values().sum::<f64>();
    while run.began.elapsed() < Duration::from_secs(300) {
        thread::sleep(REST);
        let now = calls(run)?.values().sum();
        if now - before <= 2.0 {
            return Ok(run.began.elapsed().as_secs_f64());
        }
        before = now;
    }
    bail!("after five minutes the agent still asks Docker more than a ping and a list")
}
