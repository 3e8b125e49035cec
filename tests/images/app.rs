//! Two stand-ins in one static program, chosen by the name it is called by.
//!
//! `app [PORT]`: an HTTP service on 8080 as the fleet has them: `/heartbeat`, one JSON log line per
//! request. It can be told to misbehave: `/fail`, `/heal`, `/exit?code=N`,
//! `/log?n=N&from=ID&bytes=SIZE&plain=1` (prints N lines, `bytes` long, numbered from `from`).
//!
//! `app check WHAT`: a command for probes; asks the service's `/heartbeat` on 8080, or misbehaves:
//! `ok`, `fail`, `deaf` (ignores SIGTERM and hangs), `fork` (hangs, and so does its child), `session`
//! (hangs in a session of its own, its parent gone, its output closed), `leave` (ends, its child hangs on
//! to its output), `flood` (100 MB), `garbage` (no UTF-8), `once` (fails when run twice at a time).
//! `app job SECONDS CODE`: works for so long, then ends with that code.
//!
//! `falcon`: plays the sensor: says once what it can see of the host, then stays.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

static FAILING: AtomicBool = AtomicBool::new(false);

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(code: i32) -> !;
    fn fork() -> i32;
    fn setsid() -> i32;
    fn close(fd: i32) -> i32;
}

/// The first process of a container has no default action for signals.
extern "C" fn leave(_number: i32) {
    unsafe { _exit(0) }
}

fn main() {
    unsafe {
        signal(SIGTERM, leave);
        signal(SIGINT, leave);
    }
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    if name.ends_with("falcon") {
        sensor();
    }
    let first = arguments.next();
    if first.as_deref() == Some("check") {
        check(arguments.next().as_deref());
        return;
    }
    if first.as_deref() == Some("job") {
        let mut number = || arguments.next().and_then(|text| text.parse::<i32>().ok()).unwrap_or(0);
        work(number(), number());
    }
    serve(first.and_then(|port| port.parse().ok()).unwrap_or(8080));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: go on all the same.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n"));
    let _ = out.flush();
}

fn work(seconds: i32, code: i32) -> ! {
    say(&format!("{{\"level\":\"info\",\"message\":\"working\",\"seconds\":{seconds}}}"));
    thread::sleep(Duration::from_secs(seconds.unsigned_abs().into()));
    process::exit(code);
}

fn sensor() -> ! {
    let processes = fs::read_dir("/proc").map_or(0, |entries| {
        let names = entries.flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().parse::<u32>().is_ok()).count()
    });
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .map_or("", str::trim);
    let interfaces = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let interfaces = interfaces.lines().count().saturating_sub(2);
    say(&format!(
        "{{\"level\":\"info\",\"message\":\"sensor up\",\"pid\":{},\"processes\":{processes},\"interfaces\":{interfaces},\"capabilities\":\"{capabilities}\"}}",
        process::id()
    ));
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

/// Says no by its exit code.
fn check(what: Option<&str>) -> ! {
    match what {
        None => match heartbeat() {
            Ok(200) => process::exit(0),
            Ok(status) => say(&format!("heartbeat answered {status}")),
            Err(error) => say(&format!("no heartbeat: {error}")),
        },
        Some("ok") => process::exit(0),
        Some("fail") => say("told to \x1b[31mfail"),
        Some("deaf") => {
            unsafe { signal(SIGTERM, ignore) };
            say("deaf");
            hang();
        }
        Some("fork") => {
            unsafe { fork() };
            hang();
        }
        Some("session") => unsafe {
            if fork() == 0 {
                setsid();
                if fork() == 0 {
                    (0..3).for_each(|fd| { close(fd); });
                    hang();
                }
                _exit(0);
            }
            hang();
        },
        Some("leave") => {
            if unsafe { fork() } == 0 {
                hang();
            }
            process::exit(0);
        }
        Some("flood") => {
            let line = "x".repeat(99_999);
            (0..1000).for_each(|_| say(&line));
            say("the end of the flood");
        }
        Some("garbage") => {
            let _ = std::io::stdout().write_all(b"caf\xe9 \xff\x00\n");
        }
        Some("once") => {
            let lock = "/tmp/once";
            if fs::create_dir(lock).is_err() {
                say("two at a time");
                process::exit(9);
            }
            thread::sleep(Duration::from_millis(400));
            let _ = fs::remove_dir(lock);
            process::exit(0);
        }
        Some(other) => say(&format!("no check named {other}")),
    }
    process::exit(1);
}

extern "C" fn ignore(_number: i32) {}

fn hang() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn heartbeat() -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", 8080))?;
    stream.write_all(b"GET /heartbeat HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut head = String::new();
    BufReader::new(stream).read_line(&mut head)?;
    Ok(head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default())
}

fn serve(port: u16) {
    let listener = match TcpListener::bind(("0.0.0.0", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cannot listen on port {port}: {error}");
            process::exit(1);
        }
    };
    say(&format!("{{\"level\":\"info\",\"message\":\"listening\",\"port\":{port}}}"));
    for stream in listener.incoming().flatten() {
        thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) {
    let began = Instant::now();
    let mut lines = BufReader::new(match stream.try_clone() {
        Ok(stream) => stream,
        Err(_) => return,
    })
    .lines()
    .map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let target = request.split(' ').nth(1).unwrap_or("/").to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (status, body) = act(path, query);
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    say(&format!(
        "{{\"level\":\"info\",\"path\":\"{path}\",\"status\":{status},\"duration\":{:.3}}}",
        began.elapsed().as_secs_f64() * 1000.0
    ));
}

fn act(path: &str, query: &str) -> (u16, String) {
    let value = |key: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).and_then(|(_, value)| value.parse::<usize>().ok())
    };
    match path {
        "/" => (200, "try /heartbeat, /fail, /heal, /exit?code=3, /log?n=10\n".into()),
        "/heartbeat" if FAILING.load(Ordering::Relaxed) => (503, "told to fail\n".into()),
        "/heartbeat" => (200, "ok\n".into()),
        "/fail" | "/heal" => {
            FAILING.store(path == "/fail", Ordering::Relaxed);
            (200, "done\n".into())
        }
        "/exit" => process::exit(value("code").unwrap_or(1) as i32),
        "/log" => {
            let (n, from) = (value("n").unwrap_or(1), value("from").unwrap_or(0));
            for id in from..from + n {
                say(&line(id, value("bytes").unwrap_or(0), value("plain").is_some()));
            }
            (200, format!("{n} lines\n"))
        }
        _ => (404, "no such page\n".into()),
    }
}

/// A log line of at least `bytes` bytes without its newline.
fn line(id: usize, bytes: usize, plain: bool) -> String {
    let (head, tail) = if plain {
        (format!("plain line {id} "), "")
    } else {
        (format!("{{\"level\":\"info\",\"id\":{id},\"duration\":12.5,\"text\":\""), "\"}")
    };
    let fill = bytes.saturating_sub(head.len() + tail.len());
    format!("{head}{}{tail}", "x".repeat(fill))
}
