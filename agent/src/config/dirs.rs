//! Which directories the agent calls its own, by who it runs as.

use std::ffi::OsString;
use std::path::PathBuf;

/// What the process was given: enough to choose directories, and nothing read twice.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    pub is_root: bool,
    pub uid: u32,
    /// systemd's StateDirectory= (systemd.exec).
    pub state_directory: Option<OsString>,
    /// systemd's RuntimeDirectory=.
    pub runtime_directory: Option<OsString>,
    /// XDG Base Directory Specification.
    pub xdg_state_home: Option<OsString>,
    pub xdg_runtime_dir: Option<OsString>,
    pub home: Option<OsString>,
    pub temp: PathBuf,
}

impl Surroundings {
    pub fn of_process() -> Surroundings {
        let uid = rustix::process::geteuid();
        Surroundings {
            is_root: uid.is_root(),
            uid: uid.as_raw(),
            state_directory: std::env::var_os("STATE_DIRECTORY"),
            runtime_directory: std::env::var_os("RUNTIME_DIRECTORY"),
            xdg_state_home: std::env::var_os("XDG_STATE_HOME"),
            xdg_runtime_dir: std::env::var_os("XDG_RUNTIME_DIR"),
            home: std::env::var_os("HOME"),
            temp: std::env::temp_dir(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// Log buffer, supervision memory.
    pub state: PathBuf,
    /// Sockets.
    pub runtime: PathBuf,
    /// State would not outlive a reboot: what to tell the operator.
    pub warning: Option<String>,
}

/// State: what was asked for (command line, then config), systemd's, root's, XDG's, or a
/// temporary one with a warning. Runtime likewise, in the end the state directory itself.
pub fn resolve(asked: Option<PathBuf>, around: &Surroundings) -> Dirs {
    let home_state = || absolute(&around.home).map(|home| home.join(".local/state"));
    let mut warning = None;
    let state = asked
        .or_else(|| first(&around.state_directory))
        .or_else(|| around.is_root.then(|| "/var/lib/agent".into()))
        .or_else(|| {
            let xdg = absolute(&around.xdg_state_home).or_else(home_state)?;
            Some(xdg.join("agent"))
        })
        .unwrap_or_else(|| {
            let path = around.temp.join(format!("agent-{}", around.uid));
            warning = Some(format!(
                "state goes to the temporary directory {}: \
                 set agent.state_dir, --state-dir or XDG_STATE_HOME",
                path.display()
            ));
            path
        });
    let runtime = first(&around.runtime_directory)
        .or_else(|| around.is_root.then(|| "/run/agent".into()))
        .or_else(|| Some(absolute(&around.xdg_runtime_dir)?.join("agent")))
        .unwrap_or_else(|| state.clone());
    Dirs {
        state,
        runtime,
        warning,
    }
}

/// systemd lists several directories with colons between; the first is ours.
fn first(variable: &Option<OsString>) -> Option<PathBuf> {
    let paths = std::env::split_paths(variable.as_ref()?);
    paths.into_iter().find(|path| path.is_absolute())
}

/// A relative path in these variables is to be ignored (XDG).
fn absolute(variable: &Option<OsString>) -> Option<PathBuf> {
    let path = PathBuf::from(variable.as_ref()?);
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::{Surroundings, resolve};

    fn user() -> Surroundings {
        Surroundings {
            uid: 1000,
            temp: "/tmp".into(),
            ..Surroundings::default()
        }
    }

    fn shown(asked: Option<&str>, around: &Surroundings) -> (String, String, bool) {
        let dirs = resolve(asked.map(Into::into), around);
        let text = |path: &std::path::Path| path.display().to_string();
        (
            text(&dirs.state),
            text(&dirs.runtime),
            dirs.warning.is_some(),
        )
    }

    fn row(state: &str, runtime: &str, warned: bool) -> (String, String, bool) {
        (state.into(), runtime.into(), warned)
    }

    #[test]
    fn directories_follow_who_runs_the_agent() {
        let root = Surroundings {
            is_root: true,
            home: Some("/root".into()),
            ..user()
        };
        assert_eq!(
            shown(None, &root),
            row("/var/lib/agent", "/run/agent", false)
        );
        let unit = Surroundings {
            state_directory: Some("/var/lib/agent-a:/var/lib/b".into()),
            runtime_directory: Some("/run/agent-a".into()),
            ..root.clone()
        };
        assert_eq!(
            shown(None, &unit),
            row("/var/lib/agent-a", "/run/agent-a", false)
        );
        assert_eq!(shown(Some("/x"), &unit), row("/x", "/run/agent-a", false));
        let home = Surroundings {
            home: Some("/home/u".into()),
            ..user()
        };
        let state = "/home/u/.local/state/agent";
        assert_eq!(shown(None, &home), row(state, state, false));
        let xdg = Surroundings {
            xdg_state_home: Some("/s".into()),
            xdg_runtime_dir: Some("/r".into()),
            ..home
        };
        assert_eq!(shown(None, &xdg), row("/s/agent", "/r/agent", false));
    }

    #[test]
    fn a_temporary_state_directory_is_warned_of() {
        let bare = Surroundings {
            home: Some("relative".into()),
            ..user()
        };
        assert_eq!(
            shown(None, &bare),
            row("/tmp/agent-1000", "/tmp/agent-1000", true)
        );
    }
}
