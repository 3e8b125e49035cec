//! What the agent decided and why: the audit log.
//!
//! One JSON object a line, which names its version, in `<state>/events.jsonl`; at 4 MiB the file becomes
//! `events.1.jsonl`, so at most 8 MiB are kept. The last thousand are in memory,
//! and are what `agent events` asks for. Writing is a thread's work: a disk that
//! hangs holds up no container, and what does not fit its queue is counted.

use prometheus::{IntCounter, Registry};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::memory::millis;

/// Events that are kept in memory.
const RING: usize = 1000;
/// Events that wait for the disk.
const QUEUE: usize = 256;
/// bytes
const FILE_LIMIT: u64 = 4 << 20;
/// Raised when an agent of the version before would misread a line.
const VERSION: u32 = 1;
/// Longest reason that is kept. Unit: characters.
const REASON_LIMIT: usize = 400;

/// One decision, as it comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub container: String,
    /// The phase before, and the one after; the same where something was done
    /// to Docker within it.
    pub from: &'static str,
    pub to: &'static str,
    pub reason: String,
    pub actor: Actor,
}

/// Who had it happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The agent by its own rules.
    Agent,
    /// A command on the control socket.
    Operator,
    /// A config that changed.
    Config,
    /// Someone else on this host.
    Outside,
}

impl Actor {
    pub fn word(self) -> &'static str {
        match self {
            Actor::Agent => "agent",
            Actor::Operator => "operator",
            Actor::Config => "config",
            Actor::Outside => "outside",
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counted on over restarts of the agent.
    pub seq: u64,
    /// Unix milliseconds.
    pub at: u64,
    pub container: String,
    pub from: String,
    pub to: String,
    pub reason: String,
    pub actor: String,
}

/// A line as it is on disk.
#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    #[serde(flatten)]
    event: &'a Event,
}

/// What every version of a line has; the first one did not name itself.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    v: u32,
    seq: u64,
}

/// Where records go. Cheap to clone; a record is never waited for.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    ring: Mutex<Ring>,
    disk: SyncSender<Message>,
    unwritten: IntCounter,
}

struct Ring {
    events: VecDeque<Event>,
    next: u64,
}

enum Message {
    Line(Event),
    Flush(SyncSender<()>),
}

impl Audit {
    /// Opens the log beside the memory; one that cannot be read begins anew.
    pub fn open(folder: &Path, registry: &Registry) -> Audit {
        let path = folder.join("events.jsonl");
        let (events, next) = last_events(&path);
        let (disk, lines) = sync_channel(QUEUE);
        let unwritten = IntCounter::new(
            "agent_events_unwritten_total",
            "Events of the audit log that did not reach the disk.",
        )
        .expect("a constant, valid name");
        if let Err(error) = registry.register(Box::new(unwritten.clone())) {
            tracing::warn!(%error, "audit metrics are not exported");
        }
        let lost = unwritten.clone();
        let thread = std::thread::Builder::new().name("audit".into());
        if let Err(error) = thread.spawn(move || write_all(&path, &lines, &lost)) {
            tracing::warn!(%error, "the audit log is not written to disk");
        }
        Audit {
            inner: Arc::new(Inner {
                ring: Mutex::new(Ring { events, next }),
                disk,
                unwritten,
            }),
        }
    }

    pub fn record(&self, record: Record) {
        let mut ring = self.lock();
        let event = Event {
            seq: ring.next,
            at: millis(SystemTime::now()),
            container: record.container,
            from: record.from.into(),
            to: record.to.into(),
            reason: printable(&record.reason),
            actor: record.actor.word().into(),
        };
        ring.next += 1;
        if ring.events.len() == RING {
            ring.events.pop_front();
        }
        ring.events.push_back(event.clone());
        drop(ring);
        tracing::info!(
            container = event.container,
            from = event.from,
            to = event.to,
            reason = event.reason,
            actor = event.actor,
            "container event"
        );
        if self.inner.disk.try_send(Message::Line(event)).is_err() {
            self.inner.unwritten.inc();
        }
    }

    /// At most `n` events after `seq`, the last ones, oldest first.
    pub fn after(&self, seq: u64, n: usize, container: Option<&str>) -> Vec<Event> {
        let ring = self.lock();
        let meant = |event: &&Event| {
            event.seq > seq && container.is_none_or(|name| event.container == name)
        };
        let all: Vec<&Event> = ring.events.iter().filter(meant).collect();
        let surplus = all.len().saturating_sub(n);
        all.into_iter().skip(surplus).cloned().collect()
    }

    /// Waits a moment for the disk to have what was recorded.
    pub fn flush(&self) {
        let (done, told) = sync_channel(1);
        if self.inner.disk.try_send(Message::Flush(done)).is_ok() {
            // A disk that hangs is not waited for any longer.
            let _ = told.recv_timeout(Duration::from_millis(500));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.inner
            .ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn printable(text: &str) -> String {
    let plain = text.chars().take(REASON_LIMIT);
    plain
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn older(path: &Path) -> PathBuf {
    path.with_file_name("events.1.jsonl")
}

/// The last events, and the number of the next. A line that cannot be read is
/// left out: a torn one at the end, after a crash, or a newer agent's.
fn last_events(path: &Path) -> (VecDeque<Event>, u64) {
    let mut events = VecDeque::new();
    let (mut next, mut newer) = (1, 0_u64);
    for file in [older(path), path.to_owned()] {
        let Ok(file) = File::open(file) else { continue };
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            let Ok(head) = serde_json::from_str::<Head>(&line) else {
                continue;
            };
            next = next.max(head.seq.saturating_add(1));
            if head.v > VERSION {
                newer += 1;
            } else if let Ok(event) = serde_json::from_str(&line) {
                if events.len() == RING {
                    events.pop_front();
                }
                events.push_back(event);
            }
        }
    }
    if newer > 0 {
        tracing::warn!(
            path = %path.display(), lines = newer, known = VERSION,
            "lines of the audit log were written by a newer agent: they stay in the file and are not shown"
        );
    }
    (events, next)
}

fn write_all(path: &Path, lines: &Receiver<Message>, lost: &IntCounter) {
    let mut complained = false;
    while let Ok(message) = lines.recv() {
        match message {
            Message::Flush(done) => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
            Message::Line(event) => match append(path, &event) {
                Ok(()) => complained = false,
                Err(error) => {
                    lost.inc();
                    if !complained {
                        complained = true;
                        tracing::warn!(path = %path.display(), %error, "audit log cannot be written");
                    }
                }
            },
        }
    }
}

fn append(path: &Path, event: &Event) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&Line { v: VERSION, event })?;
    line.push(b'\n');
    if fs::metadata(path).is_ok_and(|file| file.len() >= FILE_LIMIT) {
        fs::rename(path, older(path))?;
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::{Actor, Audit, RING, Record};
    use prometheus::Registry;

    fn record(n: usize) -> Record {
        Record {
            container: format!("c{}", n % 2),
            from: "running",
            to: "backoff",
            reason: format!("exit {n}\n\u{1b}[31m"),
            actor: Actor::Agent,
        }
    }

    #[test]
    fn events_outlive_the_agent_and_are_bounded_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path(), &Registry::new());
        for n in 0..RING + 10 {
            audit.record(record(n));
            if n % 100 == 0 {
                audit.flush();
            }
        }
        audit.flush();
        let all = audit.after(0, usize::MAX, None);
        assert_eq!(all.len(), RING);
        assert_eq!(all[0].seq, 11);
        let one = audit.after(0, 3, Some("c1"));
        assert!(one.len() == 3 && one.iter().all(|event| event.container == "c1"));
        let last = all.last().unwrap().seq;
        let again = Audit::open(dir.path(), &Registry::new());
        again.record(record(0));
        assert_eq!(again.after(last, 10, None).len(), 1);
    }

    #[test]
    fn lines_of_a_newer_agent_stay_are_not_shown_and_their_numbers_are_not_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let old = "{\"seq\":4,\"at\":1,\"container\":\"c0\",\"from\":\"a\",\"to\":\"b\",\
                   \"reason\":\"r\",\"actor\":\"agent\"}\n";
        let newer = "{\"v\":2,\"seq\":7,\"what\":[\"new\"]}\n";
        std::fs::write(&path, [old, newer].concat()).unwrap();
        let audit = Audit::open(dir.path(), &Registry::new());
        audit.record(record(0));
        audit.flush();
        let seqs: Vec<u64> = audit.after(0, 10, None).iter().map(|one| one.seq).collect();
        assert_eq!(seqs, [4, 8]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(&[old, newer, "{\"v\":1,\"seq\":8,"].concat()),
            "{text}"
        );
    }

    #[test]
    fn a_hostile_reason_is_one_plain_line() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path(), &Registry::new());
        audit.record(record(7));
        let event = &audit.after(0, 1, None)[0];
        assert!(!event.reason.contains(|c: char| c.is_control()));
    }
}
