//! `agent check`: validates, changes nothing.

use crate::chain::Chain;
use crate::config::{self, Loaded, Origin, Settings, effective};
use crate::metrics::web::{self, WebError};
use std::io::{self, Write};
use std::process::ExitCode;

/// Some file could not be read.
const UNREADABLE: u8 = 2;
const FAULTY: u8 = 1;

/// Says whether the configuration is right: one line, or the effective
/// configuration as TOML, on stdout; all faults on stderr. Exit code 0 right,
/// 1 faulty, 2 something could not be read.
pub fn check(origin: &Origin, effective: bool) -> ExitCode {
    let outcome = config::load(origin);
    let web = match &outcome {
        Ok(loaded) => check_web(&loaded.settings),
        Err(_) => Ok(()),
    };
    // A reader that went away early (`| head`) changes nothing of the verdict.
    let _ = tell(&outcome, web.as_ref().err(), effective);
    match outcome {
        Ok(_) if web.is_err() => ExitCode::from(FAULTY),
        Ok(_) => ExitCode::SUCCESS,
        Err(faults) if faults.is_unreadable() => ExitCode::from(UNREADABLE),
        Err(_) => ExitCode::from(FAULTY),
    }
}

/// The file that `metrics.web_config` names; none is right.
fn check_web(settings: &Settings) -> Result<(), WebError> {
    let path = settings.metrics.options.web_config.as_deref();
    path.map_or(Ok(()), web::check)
}

fn tell(
    outcome: &Result<Loaded, config::Faults>,
    web: Option<&WebError>,
    effective: bool,
) -> io::Result<()> {
    if let Some(fault) = web {
        writeln!(io::stderr().lock(), "metrics.web_config: {}", Chain(fault))?;
        if !effective {
            return Ok(());
        }
    }
    match outcome {
        Err(faults) => writeln!(io::stderr().lock(), "{faults}"),
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(io::stderr().lock(), "warning: {warning}")?;
            }
            let mut stdout = io::stdout().lock();
            if effective {
                stdout.write_all(effective::text(&loaded.settings).as_bytes())?;
            } else {
                writeln!(stdout, "{}", summary(loaded))?;
            }
            stdout.flush()
        }
    }
}

/// `ok: /etc/agent/agent.toml (3 containers, 1 log input, 2 log outputs)`
fn summary(loaded: &Loaded) -> String {
    let files: Vec<String> = loaded
        .files
        .iter()
        .map(|f| f.display().to_string())
        .collect();
    let files = match files.is_empty() {
        true => "built-in defaults, no file found".into(),
        false => files.join(", "),
    };
    let settings = &loaded.settings;
    let parts = [
        count(settings.containers.containers.len(), "container"),
        count(settings.logs.inputs.len(), "log input"),
        count(settings.logs.outputs.len(), "log output"),
    ];
    format!("ok: {files} ({})", parts.join(", "))
}

fn count(n: usize, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::{check, summary};
    use crate::config::{self, Origin};
    use std::process::ExitCode;

    fn origin(directory: &tempfile::TempDir, text: &str) -> Origin {
        let path = directory.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Origin {
            files: Some(vec![path]),
            state_dir: None,
        }
    }

    #[test]
    fn exit_code_tells_right_from_faulty_from_unreadable() {
        let directory = tempfile::tempdir().unwrap();
        let right = origin(&directory, "[containers.web]\nimage = \"web:1\"\n");
        assert_eq!(check(&right, false), ExitCode::SUCCESS);
        assert_eq!(check(&right, true), ExitCode::SUCCESS);
        let line = summary(&config::load(&right).unwrap());
        assert!(line.starts_with("ok: /"), "{line}");
        assert!(line.ends_with("agent.toml (1 container, 1 log input, 1 log output)"));
        let faulty = origin(&directory, "[container.web]\nimage = \"web:1\"\n");
        assert_eq!(check(&faulty, false), ExitCode::from(1));
        let missing = Origin {
            files: Some(vec![directory.path().join("none.toml")]),
            state_dir: None,
        };
        assert_eq!(check(&missing, false), ExitCode::from(2));
    }
}
