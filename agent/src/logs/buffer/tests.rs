use super::{
    Append, Batch, Buffer, Follow, Intake, OpenError, Reader, Settings, WhenFull, Writer, frame,
    intake, open, segment,
};
use prometheus::Registry;
use proptest::prelude::{Strategy, prop_oneof, proptest};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::oneshot;

fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.into(),
        chunk_size: 4096,
        max_chunks: 8,
        flush_interval: Duration::from_secs(3600),
        sync_interval: Duration::from_millis(10),
        when_full: WhenFull::Block,
    }
}

/// A running buffer.
struct Run {
    buffer: Buffer,
    entry: Option<Intake>,
    thread: Option<JoinHandle<()>>,
}

impl Run {
    fn start(settings: &Settings, outputs: &[&str]) -> Run {
        let (buffer, writer): (Buffer, Writer) = open(settings, outputs, &Registry::new()).unwrap();
        let (entry, appends) = intake(16);
        let thread = std::thread::spawn(move || writer.run(appends, &|| ()));
        Run {
            buffer,
            entry: Some(entry),
            thread: Some(thread),
        }
    }

    fn offer(&self, tag: &str, text: &str) -> oneshot::Receiver<()> {
        let (stored, answer) = oneshot::channel();
        let batch = Batch {
            tag: tag.into(),
            entries: text.into(),
            n_records: 1,
        };
        let batches = vec![batch];
        let sender = &self.entry.as_ref().unwrap().sender;
        sender.blocking_send(Append { batches, stored }).unwrap();
        answer
    }

    fn append(&self, text: &str) {
        self.offer("app", text).blocking_recv().unwrap();
    }

    /// Seals and ends.
    fn finish(&mut self) {
        self.entry = None;
        self.thread.take().unwrap().join().unwrap();
    }

    /// Stops where it stands, as kill -9 would.
    fn crash(mut self) {
        self.buffer.give_up();
        self.thread.take().unwrap().join().unwrap();
    }

    fn reader(&self, output: &str, follow: Follow) -> Reader {
        self.buffer.reader(output, follow).unwrap()
    }
}

/// All that can be read now, one text per frame.
fn read(reader: &mut Reader) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(block) = reader.read(1 << 20).unwrap() {
        for piece in &block.pieces {
            texts.push(String::from_utf8(block.entries(piece).to_vec()).unwrap());
        }
    }
    texts
}

fn wait_for(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < deadline, "did not come to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let list = segment::list(dir.path()).unwrap();
    list.iter()
        .map(|(n, _)| segment::path(dir.path(), *n))
        .collect()
}

#[test]
fn acknowledged_records_survive_a_crash_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let mut wanted = Vec::new();
    for life in 0..3 {
        let run = Run::start(&settings, &["out"]);
        for n in 0..5 {
            wanted.push(format!("{life}-{n}"));
            run.append(&wanted[wanted.len() - 1]);
        }
        run.crash();
    }
    let run = Run::start(&settings, &["out"]);
    let bytes: u64 = segments(&dir)
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert_eq!(run.buffer.status().bytes, bytes);
    assert_eq!(read(&mut run.reader("out", Follow::Sealed)), wanted);
    run.crash();
}

/// What a crash between the creation of a segment and its first write leaves,
/// as on a full disk.
#[test]
fn numbers_go_on_behind_a_segment_that_a_crash_left_empty() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let run = Run::start(&settings, &["out"]);
    for n in 0..3 {
        run.append(&format!("{n}"));
    }
    run.crash();
    for n in [2, 3] {
        fs::write(segment::path(dir.path(), n), b"").unwrap();
    }
    let mut run = Run::start(&settings, &["out"]);
    run.append("3");
    run.finish();
    let mut reader = run.reader("out", Follow::Sealed);
    let mut numbers = Vec::new();
    while let Some(block) = reader.read(1 << 20).unwrap() {
        numbers.extend(block.pieces.iter().map(|piece| piece.first_record));
    }
    assert_eq!(numbers, [0, 1, 2, 3]);
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_torn_frame() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let run = Run::start(&settings, &["out"]);
    run.append("first");
    run.append("second");
    run.crash();
    let path = segments(&dir).remove(0);
    let whole = fs::read(&path).unwrap();
    let last = frame::HEADER + "app".len() + "second".len();
    for cut in 1..=last {
        for name in segments(&dir) {
            fs::remove_file(name).unwrap();
        }
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let run = Run::start(&settings, &["out"]);
        run.append("third");
        let mut reader = run.reader("out", Follow::Tail);
        assert_eq!(read(&mut reader), ["first", "third"], "{cut} bytes cut");
        drop(reader);
        run.crash();
    }
}

#[test]
fn a_flipped_bit_costs_one_frame_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let run = Run::start(&settings, &["out"]);
    for text in ["one", "two", "three"] {
        run.append(text);
    }
    run.crash();
    let path = segments(&dir).remove(0);
    let whole = fs::read(&path).unwrap();
    let second = segment::HEAD as usize + frame::HEADER + "appone".len();
    let len = frame::HEADER + "apptwo".len();
    for at in second..second + len {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        fs::write(&path, &damaged).unwrap();
        let run = Run::start(&settings, &["out"]);
        assert_eq!(
            read(&mut run.reader("out", Follow::Sealed)),
            ["one", "three"]
        );
        assert_eq!(run.buffer.status().dropped, 1, "byte {at}");
        run.crash();
    }
    // A damaged head: the first frame tells the mark.
    let mut damaged = whole;
    damaged[9] ^= 4;
    fs::write(&path, &damaged).unwrap();
    let run = Run::start(&settings, &["out"]);
    assert_eq!(read(&mut run.reader("out", Follow::Sealed)).len(), 3);
    run.crash();
}

#[test]
fn a_chunk_is_sealed_by_size_or_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    let run = Run::start(&settings, &["out"]);
    let sealed = |run: &Run| run.buffer.position().borrow().sealed.record;
    run.append("small");
    assert_eq!(sealed(&run), 0);
    run.append(&"x".repeat(4096));
    wait_for(|| sealed(&run) == 2);
    run.crash();
    settings.flush_interval = Duration::from_millis(20);
    let run = Run::start(&settings, &["out"]);
    run.append("small");
    wait_for(|| sealed(&run) == 3);
    run.crash();
}

#[test]
fn chunk_ids_and_blocks_are_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let mut run = Run::start(&settings, &["out"]);
    for n in 0..40 {
        run.append(&format!("{n:0300}"));
    }
    run.finish();
    let blocks = |run: &Run| {
        let mut reader = run.reader("out", Follow::Sealed);
        let mut blocks = Vec::new();
        while let Some(block) = reader.read(1000).unwrap() {
            blocks.push(block);
        }
        blocks
    };
    let first = blocks(&run);
    assert!(first.len() > 10);
    drop(run);
    let run = Run::start(&settings, &["out"]);
    assert_eq!(blocks(&run), first);
    run.crash();
}

#[test]
fn a_segment_goes_only_after_every_checkpoint_behind_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let mut run = Run::start(&settings, &["fast", "slow"]);
    for n in 0..30 {
        run.append(&format!("{n:0400}"));
    }
    run.finish();
    let before = segments(&dir).len();
    assert!(before >= 3);
    let mut fast = run.reader("fast", Follow::Sealed);
    let mut slow = run.reader("slow", Follow::Sealed);
    assert_eq!(read(&mut fast).len(), 30);
    let end = run.buffer.position().borrow().tail;
    fast.commit(end, true).unwrap();
    assert_eq!(segments(&dir).len(), before);
    assert_eq!(read(&mut slow).len(), 30);
    slow.commit(end, false).unwrap();
    assert_eq!(segments(&dir).len(), before);
    slow.commit(end, true).unwrap();
    assert_eq!(segments(&dir).len(), 0);
    assert_eq!(run.buffer.status().bytes, 0);
    drop((fast, slow, run));
    // Nothing is left, and numbers go on where they were.
    let run = Run::start(&settings, &["fast", "slow"]);
    run.append("new");
    assert_eq!(read(&mut run.reader("slow", Follow::Tail)), ["new"]);
    assert_eq!(run.buffer.position().borrow().tail.record, 31);
    assert_eq!(run.buffer.status().dropped, 0);
    run.crash();
}

/// An idle reader keeps the file open; on a full disk that space is needed.
#[test]
fn a_segment_that_goes_gives_its_space_back_though_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::start(&settings(dir.path()), &["out"]);
    run.append("a");
    let file = fs::File::open(&segments(&dir)[0]).unwrap();
    run.finish();
    let mut reader = run.reader("out", Follow::Sealed);
    let end = reader.read(1 << 20).unwrap().unwrap().end;
    assert_ne!(file.metadata().unwrap().len(), 0);
    reader.commit(end, true).unwrap();
    assert!(segments(&dir).is_empty());
    assert_eq!(file.metadata().unwrap().len(), 0);
}

#[test]
fn a_full_buffer_blocks_until_outputs_free_space() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.max_chunks = 2;
    let run = Run::start(&settings, &["out"]);
    let mut reader = run.reader("out", Follow::Sealed);
    let mut n = 0;
    let mut waiting = loop {
        let mut answer = run.offer("app", &"x".repeat(1000));
        n += 1;
        wait_for(|| !run.buffer.status().accepting || !answer.is_empty());
        if answer.is_empty() {
            break answer;
        }
        answer.try_recv().unwrap();
    };
    assert!(run.buffer.status().bytes <= settings.limit());
    assert!(waiting.try_recv().is_err());
    assert_eq!(read(&mut reader).len(), n - 1);
    let end = run.buffer.position().borrow().sealed;
    reader.commit(end, true).unwrap();
    waiting.blocking_recv().unwrap();
    assert!(run.buffer.status().accepting);
    assert_eq!(run.buffer.status().dropped, 0);
    run.crash();
}

#[test]
fn drop_oldest_keeps_the_bound_and_counts_what_no_one_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.max_chunks = 2;
    settings.when_full = WhenFull::DropOldest;
    let mut run = Run::start(&settings, &["out"]);
    for n in 0..50 {
        run.append(&format!("{n:01000}"));
        assert!(run.buffer.status().bytes <= settings.limit());
    }
    run.finish();
    let mut reader = run.reader("out", Follow::Sealed);
    let texts = read(&mut reader);
    assert!(texts.last().unwrap().ends_with("049"));
    assert_eq!(texts.len() as u64 + run.buffer.status().dropped, 50);
}

#[test]
fn a_second_agent_is_refused_and_strange_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.seg"), "mine").unwrap();
    fs::write(dir.path().join("x.cursor"), "mine").unwrap();
    let settings = settings(dir.path());
    let run = Run::start(&settings, &["out"]);
    let second = open(&settings, &["out"], &Registry::new());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    run.crash();
    assert!(dir.path().join("notes.seg").exists());
    assert!(dir.path().join("x.cursor").exists());
}

#[test]
fn a_buffer_of_a_newer_agent_is_kept_for_it_to_the_byte() {
    let dir = TempDir::new().unwrap();
    let settings = settings(&dir.path().join("buffer"));
    let mut run = Run::start(&settings, &["out"]);
    run.append("undelivered");
    run.finish();
    drop(run);
    // What the next format's head looks like: all but the digit is the same.
    let file = segment::path(&settings.dir, 1);
    let mut bytes = fs::read(&file).unwrap();
    assert_eq!(&bytes[..4], b"aLG1");
    bytes[3] = b'2';
    fs::write(&file, &bytes).unwrap();

    let aside = dir.path().join("buffer.v2");
    for _ in 0..2 {
        let mut run = Run::start(&settings, &["out"]);
        run.append("of the older agent");
        run.finish();
        assert_eq!(fs::read(segment::path(&aside, 1)).unwrap(), bytes);
    }
    let run = Run::start(&settings, &["out"]);
    let mut reader = run.reader("out", Follow::Tail);
    assert_eq!(read(&mut reader).len(), 2);
    drop(reader);
    run.crash();

    // The newer agent is back, and gone again: the later of its buffers is kept.
    fs::write(segment::path(&settings.dir, 9), &bytes).unwrap();
    let run = Run::start(&settings, &["out"]);
    run.crash();
    assert!(segment::path(&aside, 9).exists());
    // A flipped bit is no new format: the checksum of the head tells.
    let mut bytes = bytes.clone();
    bytes[9] ^= 1;
    fs::write(segment::path(&settings.dir, 99), &bytes).unwrap();
    Run::start(&settings, &["out"]).crash();
    assert!(!segment::path(&aside, 99).exists());
}

#[test]
fn writing_heals_when_the_directory_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir.path().join("buffer"));
    let run = Run::start(&settings, &["out"]);
    let away = dir.path().join("away");
    fs::rename(&settings.dir, &away).unwrap();
    let waiting = run.offer("app", "held");
    wait_for(|| run.buffer.status().error.is_some());
    assert!(!run.buffer.status().accepting);
    fs::rename(&away, &settings.dir).unwrap();
    waiting.blocking_recv().unwrap();
    wait_for(|| run.buffer.status().accepting && run.buffer.status().error.is_none());
    assert_eq!(read(&mut run.reader("out", Follow::Tail)), ["held"]);
    run.crash();
}

#[test]
fn the_oldest_record_is_as_old_as_it_is_not_as_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::start(&settings(dir.path()), &["out"]);
    let mut reader = run.reader("out", Follow::Tail);
    let oldest = || run.buffer.status().oldest;
    assert_eq!(oldest(), None);
    run.append("early");
    std::thread::sleep(Duration::from_millis(300));
    assert!(oldest() >= Some(Duration::from_millis(299)));
    assert_eq!(read(&mut reader), ["early"]);
    reader
        .commit(run.buffer.position().borrow().tail, true)
        .unwrap();
    assert_eq!(oldest(), None);
    std::thread::sleep(Duration::from_millis(300));
    let before = Instant::now();
    run.append("late");
    let age = oldest().unwrap();
    assert!(
        age <= before.elapsed() + Duration::from_millis(2),
        "{age:?}"
    );
    run.crash();
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Crash,
    Finish,
    Deliver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..3000).prop_map(Step::Append),
        1 => proptest::strategy::Just(Step::Crash),
        1 => proptest::strategy::Just(Step::Finish),
        2 => proptest::strategy::Just(Step::Deliver),
    ]
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_happens_each_record_is_read_once_in_order(steps in proptest::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        settings.max_chunks = 1000;
        let (mut wanted, mut got) = (Vec::new(), Vec::new());
        let deliver = |run: &Run, got: &mut Vec<String>| {
            let mut reader = run.reader("out", Follow::Tail);
            got.extend(read(&mut reader));
            let tail = run.buffer.position().borrow().tail;
            reader.commit(tail, tail.record.is_multiple_of(2)).unwrap();
        };
        let mut run = Run::start(&settings, &["out"]);
        for step in steps {
            match step {
                Step::Append(len) => {
                    wanted.push(format!("{:0len$}", wanted.len()));
                    run.append(&wanted[wanted.len() - 1]);
                }
                Step::Deliver => deliver(&run, &mut got),
                Step::Crash => {
                    run.crash();
                    run = Run::start(&settings, &["out"]);
                }
                Step::Finish => {
                    run.finish();
                    drop(run);
                    run = Run::start(&settings, &["out"]);
                }
            }
        }
        deliver(&run, &mut got);
        assert_eq!(got, wanted);
        assert_eq!(run.buffer.status().dropped, 0);
        run.crash();
    }
}
