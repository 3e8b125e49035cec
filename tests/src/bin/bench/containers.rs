//! What the container parts share: the image and the docker command; and idle memory.

use crate::process::{Run, rss_kb};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

pub const IMAGE: &str = "agent-bench:1";

pub fn docker(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(arguments).output()?;
    ensure!(
        output.status.success(),
        "docker {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A tar of Debian's static busybox alone, which `docker import` makes [`IMAGE`] of.
pub fn image_tar(dir: &Path) -> Result<PathBuf> {
    let bin = dir.join("root/bin");
    fs::create_dir_all(&bin)?;
    fs::copy("/bin/busybox", bin.join("busybox")).context("busybox-static is missing")?;
    for name in ["sh", "sleep"] {
        std::os::unix::fs::symlink("busybox", bin.join(name))?;
    }
    let tar = dir.join("image.tar");
    let made = Command::new("tar")
        .arg("-C")
        .arg(dir.join("root"))
        .arg("-cf")
        .arg(&tar)
        .arg(".")
        .status()?;
    ensure!(made.success(), "tar failed");
    Ok(tar)
}

pub fn make_image() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let tar = image_tar(dir.path())?;
    docker(&["import", &tar.to_string_lossy(), IMAGE])?;
    Ok(())
}

pub fn idle_memory(agent: &Path) -> Result<()> {
    make_image()?;
    let names = ["agent-bench-a", "agent-bench-b", "agent-bench-c"];
    let config: String = names
        .iter()
        .map(|name| {
            format!(
                "[containers.{name}]\nimage = \"{IMAGE}\"\ninit = true\ncommand = [\"/bin/sleep\", \"1000\"]\n"
            )
        })
        .collect();
    let run = Run::start(agent, &config, true)?;
    for name in names {
        wait_running(name, None)?;
    }
    thread::sleep(Duration::from_secs(3));
    println!(
        "memory      {} kB rss idle with three containers",
        rss_kb(run.child.id())?
    );
    drop(run);
    for name in names {
        remove(name);
    }
    Ok(())
}

pub fn remove(name: &str) {
    for name in [name.to_owned(), format!("{name}.prev")] {
        let _ = docker(&["rm", "-f", &name]);
    }
}

/// The pid of the container's main process, once it is another than `old`.
pub fn wait_running(name: &str, old: Option<u32>) -> Result<u32> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let state = docker(&["inspect", "-f", "{{.State.Running}} {{.State.Pid}}", name]);
        if let Some(pid) = state
            .ok()
            .and_then(|s| s.strip_prefix("true ")?.parse().ok())
            && Some(pid) != old
        {
            return Ok(pid);
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{name} does not run")
}
