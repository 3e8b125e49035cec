//! What a start and a scrape cost, beside node_exporter.

use crate::process::{
    Exporter, Run, cpu_seconds, http_get, median, median_f, millis, rss_kb, scrape_until, series,
    which,
};
use anyhow::{Result, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

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

pub fn scrape_cost(agent: &Path) -> Result<()> {
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
            theirs.push(cpu_of_scrapes(peer.child.id(), peer.port)?);
        }
    }
    let body = http_get(run.metrics, "/metrics", false)?;
    println!(
        "scrape      {:.3} ms CPU each (median of {ROUNDS} rounds of {SCRAPES}, gzip), {} series, rss {} kB",
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
