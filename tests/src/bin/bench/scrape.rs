//! What a start and a scrape cost, beside node_exporter.

use crate::process::{
    Exporter, Run, cpu_seconds, http_get, median, median_f, millis, rss_kb, scrape_until, series,
    which,
};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;
use tests::namespace::{self, HungMount};

const ROUNDS: usize = 5;
const SCRAPES: usize = 200;
const STARTS: usize = 7;

pub fn start_times(agent: &Path) -> Result<()> {
    let mut ready = Vec::new();
    let mut first = Vec::new();
    for _ in 0..STARTS {
        ready.push(Run::start(agent, "", true)?.ready_after);
        let run = Run::start(agent, "", false)?;
        run.first_scrape()?;
        first.push(run.began.elapsed());
    }
    println!(
        "start       exec to READY {:.1} ms, exec to first full scrape {:.1} ms (median of {STARTS})",
        millis(median(&mut ready)),
        millis(median(&mut first)),
    );
    let Some(exporter) = which("prometheus-node-exporter") else {
        println!("            node_exporter is not installed: no comparison");
        return Ok(());
    };
    let mut first = Vec::new();
    for _ in 0..STARTS {
        let peer = Exporter::start(&exporter)?;
        let began = peer.began;
        scrape_until(peer.port, began)?;
        first.push(began.elapsed());
    }
    println!(
        "            node_exporter: exec to first full scrape {:.1} ms",
        millis(median(&mut first))
    );
    Ok(())
}

/// The rest in network, mounts and process numbers of its own: [`inside`].
pub fn scrape_cost(agent: &Path) -> Result<()> {
    let agent = agent.canonicalize()?;
    for part in ["5", "51", "memory", "hung"] {
        let mut again = namespace::again(&["scrape-inside", part]);
        ensure!(
            again.env("AGENT_BIN", &agent).status()?.success(),
            "scrape {part}"
        );
    }
    Ok(())
}

/// What `scrape_cost` runs in its namespaces.
pub fn inside(agent: &Path, part: &str) -> Result<()> {
    match part {
        "memory" => memory(agent),
        "hung" => hung(agent),
        count => cost(agent, count.parse()?),
    }
}

fn interfaces() -> Result<usize> {
    Ok(fs::read_dir("/sys/class/net")?.count())
}

fn cost(agent: &Path, count: usize) -> Result<()> {
    namespace::interfaces(count);
    let run = Run::start(agent, "", true)?;
    let peer = which("prometheus-node-exporter")
        .map(|path| Exporter::start(&path))
        .transpose()?;
    if let Some(peer) = &peer {
        scrape_until(peer.port, peer.began)?;
    }
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..ROUNDS {
        ours.push(cpu_of_scrapes(run.child.id(), run.metrics)?);
        if let Some(peer) = &peer {
            let cpu = cpu_of_scrapes(peer.child.id(), peer.port);
            theirs.push(cpu.context("node_exporter's page")?);
        }
    }
    let body = http_get(run.metrics, "/metrics", false)?;
    println!(
        "scrape      {} interfaces: {:.3} ms CPU each (median of {ROUNDS} rounds of {SCRAPES}, gzip), {} series, rss {} kB",
        interfaces()?,
        median_f(&mut ours),
        series(&body),
        rss_kb(run.child.id())?,
    );
    if let Some(peer) = &peer {
        let body = http_get(peer.port, "/metrics", false)?;
        let theirs = median_f(&mut theirs);
        println!(
            "            node_exporter: {theirs:.3} ms, {} series, rss {} kB: {:.1} times ours",
            series(&body),
            rss_kb(peer.child.id())?,
            theirs / median_f(&mut ours),
        );
    }
    Ok(())
}

/// What this part adds to the process: after 400 scrapes, beside an agent that has no metrics
/// listener and is asked for its heartbeat as often.
fn memory(agent: &Path) -> Result<()> {
    namespace::interfaces(5);
    let mut with = Vec::new();
    let mut without = Vec::new();
    for _ in 0..3 {
        let run = Run::start(agent, "", true)?;
        for _ in 0..2 {
            cpu_of_scrapes(run.child.id(), run.metrics)?;
        }
        with.push(rss_kb(run.child.id())? as f64);
        let run = Run::start_without_metrics(agent)?;
        for _ in 0..2 * SCRAPES {
            http_get(run.heartbeat, "/livez", false)?;
        }
        without.push(rss_kb(run.child.id())? as f64);
    }
    let (with, without) = (median_f(&mut with), median_f(&mut without));
    println!(
        "memory      metrics add {:.0} kB: {with:.0} after {} scrapes, {without:.0} without",
        with - without,
        2 * SCRAPES,
    );
    Ok(())
}

/// Wall time of pages with a FUSE mount whose daemon never answers.
fn hung(agent: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut first = Vec::new();
    let mut later = Vec::new();
    for _ in 0..STARTS {
        let _mount = HungMount::new(&dir.path().join("hung"));
        let run = Run::start(agent, "", true)?;
        for times in [&mut first, &mut later] {
            let began = Instant::now();
            let page = http_get(run.metrics, "/metrics", false)?;
            times.push(began.elapsed());
            let page = String::from_utf8_lossy(&page).into_owned();
            ensure!(
                page.contains("device_error=\"mountpoint timeout\""),
                "no hung mount"
            );
        }
    }
    println!(
        "hung mount  first page {:.0} ms, later ones {:.1} ms (median of {STARTS})",
        millis(median(&mut first)),
        millis(median(&mut later)),
    );
    Ok(())
}

/// CPU milliseconds a scrape over one keep-alive connection.
fn cpu_of_scrapes(pid: u32, port: u16) -> Result<f64> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    for _ in 0..5 {
        keep_alive_get(&mut reader)?;
    }
    let before = cpu_seconds(pid)?;
    for _ in 0..SCRAPES {
        keep_alive_get(&mut reader)?;
    }
    Ok((cpu_seconds(pid)? - before) * 1e3 / SCRAPES as f64)
}

fn keep_alive_get(reader: &mut BufReader<TcpStream>) -> Result<()> {
    let request = "GET /metrics HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n";
    reader.get_mut().write_all(request.as_bytes())?;
    let mut length = None;
    let mut chunked = false;
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "connection closed");
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = Some(value.parse::<usize>()?);
        }
        chunked |= line == "transfer-encoding: chunked";
    }
    match (length, chunked) {
        (Some(length), _) => reader.read_exact(&mut vec![0; length])?,
        (None, true) => loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim_end(), 16)?;
            reader.read_exact(&mut vec![0; size + 2])?;
            if size == 0 {
                break;
            }
        },
        (None, false) => bail!("neither a length nor chunks"),
    }
    Ok(())
}
