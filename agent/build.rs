//! Tells the binary which sources it was made of, for `agent --version`.
//!
//! The commit is the first of: `AGENT_COMMIT` (packaging/build sets it), the
//! file `COMMIT` of a source tarball, `.git` of a checkout. Files are read and
//! git is not run: it may be absent, or refuse a directory of another owner.
//! In development builds only the variable counts, so that a commit does not
//! build everything again. Nothing else of the machine gets in: equal sources
//! give equal bytes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=AGENT_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let given = env::var("AGENT_COMMIT").ok().filter(|text| is_commit(text));
    let found = || if is_release { of_sources() } else { None };
    let commit = given.or_else(found).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=AGENT_COMMIT={commit}");
    let target = env::var("TARGET").unwrap_or_else(|_| "unknown".into());
    println!("cargo::rustc-env=AGENT_TARGET={target}");
}

fn of_sources() -> Option<String> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?).join("..");
    // `git archive` fills it in: commit and time. In a checkout it is a blank form.
    let written = watched(&root.join("COMMIT"));
    let written = written.and_then(|line| line.split(' ').next().map(str::to_owned));
    let written = written.filter(|text| is_commit(text));
    let commit = written.or_else(|| head(&root.join(".git")))?;
    is_commit(&commit).then_some(commit)
}

/// gitrepository-layout(5): HEAD is a commit or names a ref, which is a file or a line of
/// packed-refs. In a linked work tree `.git` is a file that says where HEAD is.
fn head(git: &Path) -> Option<String> {
    let own = match fs::read_to_string(git) {
        Ok(link) => {
            let path = link.trim().strip_prefix("gitdir: ")?;
            git.parent()?.join(path)
        }
        Err(_) => git.to_owned(),
    };
    let common = match fs::read_to_string(own.join("commondir")) {
        Ok(path) => own.join(path.trim()),
        Err(_) => own.clone(),
    };
    let head = watched(&own.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref: ") else {
        return Some(head);
    };
    watched(&common.join(name)).or_else(|| {
        let packed = watched(&common.join("packed-refs"))?;
        let line = packed.lines().find(|line| line.ends_with(name))?;
        line.split(' ').next().map(str::to_owned)
    })
}

/// The file without its last line end; a change of it runs this again.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text.trim().to_owned())
}

/// What git calls one, perhaps with `-dirty` behind it.
fn is_commit(text: &str) -> bool {
    let digits = text.strip_suffix("-dirty").unwrap_or(text);
    (7..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}
