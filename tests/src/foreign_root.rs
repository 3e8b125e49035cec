//! Packages of another Debian release: a root file system with another glibc than the one we
//! link and Flatcar's nsswitch.conf, and a newer node_exporter.
//!
//! This is where a static glibc binary dies in its first getaddrinfo: libc
//! loads the root's `libnss_resolve`, and with it the root's libc. The root is
//! made of two Debian packages of another release, fetched once with apt from
//! the mirror that this machine is configured for, and kept in the target
//! directory.

use crate::program::{command, stdout, target_directory};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Flatcar's line, from its baselayout.
const NSSWITCH: &str = "\
passwd: files usrfiles sss systemd
hosts: files usrfiles resolve [!UNAVAIL=return] dns myhostname
";
/// The C library, and the plugin that `resolve` names with what it links.
const PACKAGES: [&str; 3] = ["libc6", "libnss-resolve", "libcap2"];
/// Debian's own place for the keys of its releases.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const APT: &str = "these tests fetch packages with apt, so they need Debian";

/// The root's directory; fetched when it is not there yet.
pub fn directory() -> Result<PathBuf> {
    let suite = foreign_suite()?;
    fetched(&format!("foreign-root-{suite}"), suite, &PACKAGES, complete)
}

/// node_exporter of the Debian release after the one that these tests were written on: its file,
/// fetched when it is not there yet.
pub fn newer_node_exporter() -> Result<PathBuf> {
    let packages = ["prometheus-node-exporter"];
    let root = fetched("node-exporter-trixie", "trixie", &packages, |_| Ok(()))?;
    Ok(root.join("usr/bin/prometheus-node-exporter"))
}

/// A directory of that name with the packages' files, completed by `complete`.
fn fetched(
    name: &str,
    suite: &str,
    names: &[&str],
    complete: fn(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let root = target_directory().join(name);
    if root.is_dir() {
        return Ok(root);
    }
    // Made aside and renamed, so an interrupted run leaves no half of it.
    let work = tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(target_directory())
        .context("cannot make a directory in the target directory")?;
    let packages = download(work.path(), suite, names)?;
    let made = work.path().join("root");
    unpack(&packages, &made)?;
    complete(&made)?;
    if let Err(error) = fs::rename(&made, &root) {
        // Another test was faster.
        if !root.is_dir() {
            return Err(error).with_context(|| format!("cannot make {}", root.display()));
        }
    }
    Ok(root)
}

/// A Debian release whose glibc is not this machine's.
fn foreign_suite() -> Result<&'static str> {
    Ok(match codename()?.as_str() {
        "trixie" => "bookworm",
        _ => "trixie",
    })
}

fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let line = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(line.context(APT)?.trim_matches('"').to_owned())
}

/// Fetches with an apt whose state is all in `work`: this machine's own lists
/// and packages are not touched.
fn download(work: &Path, suite: &str, names: &[&str]) -> Result<PathBuf> {
    let packages = work.join("packages");
    for directory in ["lists/partial", "cache/archives/partial", "packages"] {
        fs::create_dir_all(work.join(directory))?;
    }
    let signed = match Path::new(KEYRING).exists() {
        true => format!("[signed-by={KEYRING}] "),
        false => String::new(),
    };
    let mirror = mirror()?;
    let source = format!("deb {signed}{mirror} {suite} main\n");
    fs::write(work.join("sources.list"), source)?;
    fs::write(work.join("status"), "")?;
    let apt = || {
        let mut apt = command("apt-get");
        let path = |name: &str| work.join(name).display().to_string();
        for (option, value) in [
            ("Dir::State", path(".")),
            ("Dir::State::status", path("status")),
            ("Dir::Cache", path("cache")),
            ("Dir::Etc::sourcelist", path("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Acquire::Languages", "none".into()),
            ("Acquire::Retries", "3".into()),
            ("APT::Sandbox::User", "root".into()),
        ] {
            apt.arg("-o").arg(format!("{option}={value}"));
        }
        apt.arg("-qq").current_dir(&packages);
        apt
    };
    stdout(apt().arg("update"), APT)?;
    stdout(apt().arg("download").args(names), APT)?;
    Ok(packages)
}

/// URI of the Debian mirror that this machine uses.
fn mirror() -> Result<String> {
    let mut query = command("apt-get");
    query
        .args(["indextargets", "--format"])
        .arg("$(REPO_URI) $(RELEASE) $(COMPONENT)")
        .arg("Created-By: Packages");
    let targets = stdout(&mut query, APT)?;
    let codename = codename()?;
    let own = format!(" {codename} main");
    let uri = targets.lines().find_map(|line| line.strip_suffix(&own));
    let uri = uri.with_context(|| format!("apt has no source for main of {codename}"))?;
    Ok(uri.to_owned())
}

fn unpack(packages: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for package in fs::read_dir(packages)? {
        stdout(
            command("dpkg-deb").arg("-x").arg(package?.path()).arg(root),
            APT,
        )?;
    }
    Ok(())
}

/// What the packages of a C library leave to the rest of a system.
fn complete(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("usr/lib"))?;
    // As every merged-/usr system has them; the loader looks in /lib.
    for (link, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        if fs::symlink_metadata(root.join(link)).is_err() {
            symlink(target, root.join(link))?;
        }
    }
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/nsswitch.conf"), NSSWITCH)?;
    Ok(())
}
