//! statfs(2) that never holds up a page: a dead NFS server or FUSE daemon
//! keeps the call in the kernel for ever.
//!
//! Mounts that are [`Place::near`] are asked at once, in the caller's thread:
//! they answer from memory in a microsecond, where handing the question to
//! another thread costs twenty. One that was ever slow is near no more. For the
//! others one worker thread asks mount after mount. When it is silent for
//! [`PATIENCE`], each mount that it has not begun gets a thread of its own and
//! everyone gets as long again; whoever is silent then has timed out. A mount
//! that timed out is not asked again until its thread came back, so there is
//! at most one stuck thread per mount, and a batch takes at most twice
//! [`PATIENCE`] (once where a single mount hangs), and only once: later batches
//! do not wait for mounts known to hang.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a batch waits for its worker, and then for the single threads.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// A near mount that takes longer is asked by the worker from then on.
const SLOW: Duration = Duration::from_millis(20);
/// statfs needs next to no stack.
const STACK: usize = 128 << 10;

/// Room on a file system. Units: bytes and inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub size: u64,
    pub free: u64,
    /// Free to ordinary users.
    pub available: u64,
    pub files: u64,
    pub files_free: u64,
    pub read_only: bool,
}

/// One mount point to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    /// Its file system and all on the way there are this host's own.
    pub near: bool,
}

/// What became of one question.
#[derive(Debug)]
pub enum Answer {
    Usage(Usage),
    Error(io::Error),
    Timeout,
}

/// The call itself; tests give one that hangs.
type Ask = Arc<dyn Fn(&Path) -> io::Result<Usage> + Send + Sync>;
type Reply = (usize, io::Result<Usage>);

/// The worker and the memory of who is stuck.
pub struct Pool {
    ask: Ask,
    patience: Duration,
    worker: Option<SyncSender<Arc<Batch>>>,
    stuck: HashMap<PathBuf, Arc<Question>>,
    /// Near ones that were slow; there are not more than mounts.
    slow: HashSet<PathBuf>,
}

/// One mount to ask, and whether the call has returned.
struct Question {
    index: usize,
    path: PathBuf,
    done: AtomicBool,
}

struct Batch {
    questions: Vec<Arc<Question>>,
    /// The next question that nobody has taken.
    next: AtomicUsize,
    reply: SyncSender<Reply>,
}

impl Pool {
    pub fn new() -> Pool {
        Pool::with(Arc::new(statfs), PATIENCE)
    }

    fn with(ask: Ask, patience: Duration) -> Pool {
        Pool {
            ask,
            patience,
            worker: None,
            stuck: HashMap::new(),
            slow: HashSet::new(),
        }
    }

    /// One answer per place, in their order. Paths must differ.
    pub fn ask_all(&mut self, places: &[Place]) -> Vec<Answer> {
        self.stuck
            .retain(|_, question| !question.done.load(Ordering::Acquire));
        let mut answers: Vec<Option<Answer>> = Vec::new();
        answers.resize_with(places.len(), || None);
        let mut questions = Vec::new();
        for (index, Place { path, near }) in places.iter().enumerate() {
            if *near && !self.slow.contains(path) {
                answers[index] = Some(self.ask_here(path));
            } else if !self.stuck.contains_key(path) {
                questions.push(Arc::new(Question {
                    index,
                    path: path.clone(),
                    done: AtomicBool::new(false),
                }));
            }
        }
        if !questions.is_empty() {
            self.ask_questions(questions, &mut answers);
        }
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or(Answer::Timeout))
            .collect()
    }

    fn ask_here(&mut self, path: &Path) -> Answer {
        let start = Instant::now();
        let result = (self.ask)(path);
        if start.elapsed() > SLOW {
            self.slow.insert(path.to_owned());
        }
        match result {
            Ok(usage) => Answer::Usage(usage),
            Err(error) => Answer::Error(error),
        }
    }

    /// Forgets who was slow; for when the mounts are others.
    pub fn forget(&mut self) {
        self.slow.clear();
    }

    fn ask_questions(&mut self, questions: Vec<Arc<Question>>, answers: &mut [Option<Answer>]) {
        let count = questions.len();
        // Room for every reply: a thread that comes back late never blocks on it.
        let (reply, replies) = sync_channel(count);
        let batch = Arc::new(Batch {
            questions,
            next: AtomicUsize::new(0),
            reply,
        });
        let mut open = count;
        let mut last_reply = Instant::now();
        if self.start(&batch) {
            let deadline = last_reply + self.patience;
            open -= receive(&replies, open, deadline, answers, &mut last_reply);
        }
        if open == 0 {
            return;
        }
        // The worker ends after the call that it is in; its questions go to single threads.
        self.worker = None;
        let begun = batch.next.swap(count, Ordering::AcqRel).min(count);
        for question in &batch.questions[begun..] {
            let (ask, own) = (self.ask.clone(), question.clone());
            let reply = batch.reply.clone();
            let spawned = named_thread().spawn(move || answer(&ask, &own, &reply));
            if let Err(error) = spawned {
                answers[question.index] = Some(Answer::Error(error));
                open -= 1;
            }
        }
        let deadline = Instant::now() + self.patience;
        let others = open.saturating_sub(1);
        let mut ignored = last_reply;
        open -= receive(&replies, others, deadline, answers, &mut ignored);
        // The worker went into its call at its last reply: alone it need not wait again.
        let alone = begun
            .checked_sub(1)
            .is_some_and(|current| answers[batch.questions[current].index].is_none());
        let deadline = if alone && open == 1 {
            last_reply + self.patience
        } else {
            deadline
        };
        receive(&replies, open, deadline, answers, &mut ignored);
        for question in &batch.questions {
            if answers[question.index].is_none() {
                self.stuck.insert(question.path.clone(), question.clone());
            }
        }
    }

    /// Hands the batch to the worker, made here when there is none. False where no
    /// thread can be had.
    fn start(&mut self, batch: &Arc<Batch>) -> bool {
        if let Some(worker) = &self.worker
            && worker.try_send(batch.clone()).is_ok()
        {
            return true;
        }
        let (worker, batches) = sync_channel::<Arc<Batch>>(1);
        let ask = self.ask.clone();
        let spawned = named_thread().spawn(move || {
            while let Ok(batch) = batches.recv() {
                work(&ask, &batch);
            }
        });
        let begun = spawned.is_ok() && worker.try_send(batch.clone()).is_ok();
        self.worker = begun.then_some(worker);
        begun
    }
}

fn named_thread() -> thread::Builder {
    thread::Builder::new()
        .name("statfs".into())
        .stack_size(STACK)
}

/// Asks until the batch has no question left that is not taken.
fn work(ask: &Ask, batch: &Batch) {
    while let Some(question) = batch
        .questions
        .get(batch.next.fetch_add(1, Ordering::AcqRel))
    {
        answer(ask, question, &batch.reply);
    }
}

fn answer(ask: &Ask, question: &Question, reply: &SyncSender<Reply>) {
    let result = ask(&question.path);
    question.done.store(true, Ordering::Release);
    // Nobody listens any more when this comes too late.
    let _ = reply.try_send((question.index, result));
}

/// Takes up to `open` replies until `deadline`; returns how many came, and in
/// `last` when the last one did.
fn receive(
    replies: &Receiver<Reply>,
    open: usize,
    deadline: Instant,
    answers: &mut [Option<Answer>],
    last: &mut Instant,
) -> usize {
    for came in 0..open {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok((index, result)) = replies.recv_timeout(left) else {
            return came;
        };
        *last = Instant::now();
        answers[index] = Some(match result {
            Ok(usage) => Answer::Usage(usage),
            Err(error) => Answer::Error(error),
        });
    }
    open
}

fn statfs(path: &Path) -> io::Result<Usage> {
    /// ST_RDONLY of statfs(2).
    const READ_ONLY: i64 = 1;
    let stat = rustix::fs::statfs(path)?;
    // The fields' width and sign differ between architectures.
    let block = u64::try_from(stat.f_bsize).unwrap_or_default();
    Ok(Usage {
        size: stat.f_blocks.saturating_mul(block),
        free: stat.f_bfree.saturating_mul(block),
        available: stat.f_bavail.saturating_mul(block),
        files: stat.f_files,
        files_free: stat.f_ffree,
        read_only: stat.f_flags & READ_ONLY != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::{Answer, Place, Pool, SLOW, Usage};
    use std::io;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Condvar, Mutex};
    use std::time::{Duration, Instant};

    /// Calls for `/hung…` wait until it opens.
    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
        waiting: AtomicUsize,
    }

    impl Gate {
        fn ask(&self, path: &Path) -> io::Result<Usage> {
            if path.starts_with("/broken") {
                return Err(io::Error::other("broken"));
            }
            if path.starts_with("/hung") {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let open = self.open.lock().unwrap();
                drop(self.opened.wait_while(open, |open| !*open).unwrap());
                self.waiting.fetch_sub(1, Ordering::SeqCst);
            }
            Ok(Usage::default())
        }

        fn open(&self) {
            *self.open.lock().unwrap() = true;
            self.opened.notify_all();
        }
    }

    fn pool(patience: Duration) -> (Arc<Gate>, Pool) {
        let gate = Arc::new(Gate::default());
        let ask = gate.clone();
        (
            gate,
            Pool::with(Arc::new(move |path| ask.ask(path)), patience),
        )
    }

    fn outcomes(pool: &mut Pool, paths: &[&str]) -> String {
        pool.ask_all(&places(paths, false))
            .iter()
            .map(|answer| match answer {
                Answer::Usage(_) => 'u',
                Answer::Error(_) => 'e',
                Answer::Timeout => 't',
            })
            .collect()
    }

    fn places(paths: &[&str], near: bool) -> Vec<Place> {
        let path = |path: &&str| Place {
            path: path.into(),
            near,
        };
        paths.iter().map(path).collect()
    }

    #[test]
    fn near_mounts_are_asked_in_this_thread_until_one_is_slow() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let who = asked.clone();
        let ask = move |path: &Path| {
            who.lock().unwrap().push(std::thread::current().id());
            if path.ends_with("slow") {
                std::thread::sleep(2 * SLOW);
            }
            Ok(Usage::default())
        };
        let mut pool = Pool::with(Arc::new(ask), Duration::from_secs(10));
        let near = places(&["/fast", "/slow"], true);
        let here = std::thread::current().id();
        pool.ask_all(&near);
        assert_eq!(*asked.lock().unwrap(), [here, here]);
        pool.ask_all(&near);
        assert_eq!(asked.lock().unwrap()[2], here);
        assert_ne!(asked.lock().unwrap()[3], here);
        pool.forget();
        pool.ask_all(&near);
        assert_eq!(asked.lock().unwrap()[4..], [here, here]);
    }

    #[test]
    fn hung_mounts_time_out_alone_with_one_thread_each_however_often_asked() {
        let (gate, mut pool) = pool(Duration::from_millis(50));
        let paths = ["/a", "/hung/1", "/b", "/hung/2", "/broken"];
        assert_eq!(outcomes(&mut pool, &paths), "utute");
        for _ in 0..20 {
            assert_eq!(outcomes(&mut pool, &paths), "utute");
        }
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 2);

        gate.open();
        let give_up = Instant::now() + Duration::from_secs(10);
        while outcomes(&mut pool, &paths) != "uuuue" {
            assert!(Instant::now() < give_up, "a mended mount stays stuck");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_mount_known_to_hang_costs_no_more_waiting() {
        let (gate, mut pool) = pool(Duration::from_secs(1));
        assert_eq!(outcomes(&mut pool, &["/hung", "/a"]), "tu");
        let start = Instant::now();
        assert_eq!(outcomes(&mut pool, &["/hung", "/a"]), "tu");
        assert!(start.elapsed() < Duration::from_secs(1));
        gate.open();
    }

    #[test]
    fn the_root_of_this_host_has_a_size() {
        let answers = Pool::new().ask_all(&places(&["/", "/no/such/mount"], false));
        let [Answer::Usage(usage), Answer::Error(error)] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert!(usage.size > 0 && usage.free <= usage.size);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
