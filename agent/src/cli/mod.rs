//! The command line: one file per command, exit codes in one place.

mod act;
mod check;
mod client;
mod events;
mod ignition;
mod status;
mod version;

use crate::app;
use crate::chain::Chain;
use crate::config::{self, Faults, Origin};
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit codes, the same for every command. `status` adds [`DEGRADED`].
pub const FAILED: u8 = 1;
pub const DEGRADED: u8 = 1;
/// No agent answers, or a file cannot be read.
pub const NO_AGENT: u8 = 2;

const RUN_CODES: &str =
    "Exit: 0 stopped in order, 1 could not start or a part ended unasked, 2 wrong command line";
const CHECK_CODES: &str = "Exit: 0 valid, 1 faulty, 2 a file cannot be read";
const IGNITION_CODES: &str =
    "Exit: 0 rendered, 1 refused, with the reason, 2 a file cannot be read";
const STATUS_CODES: &str = "Exit: 0 all well, 1 degraded, 2 no agent answers";
const EVENTS_CODES: &str = "Exit: 0 shown, 2 no agent answers";
const ACT_CODES: &str = "Exit: 0 done, 1 refused, with the reason, 2 no agent answers";

/// Supervises containers, exports node metrics and forwards logs on a container host.
#[derive(Parser)]
#[command(name = "agent", version = version::version(), disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent: the service itself
    #[command(after_help = RUN_CODES)]
    Run(Files),
    /// Validate the config; all faults at once, nothing changed
    #[command(after_help = CHECK_CODES)]
    Check {
        /// Files to check in place of /etc/agent/agent.toml and conf.d
        files: Vec<PathBuf>,
        /// Print the config in effect, defaults included
        #[arg(long)]
        effective: bool,
        /// State directory, as for `run`
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Render what puts the agent on a new Flatcar host: its user-data, from the host's config
    #[command(after_help = IGNITION_CODES)]
    Ignition(Box<ignition::Options>),
    /// Show everything at a glance
    #[command(after_help = STATUS_CODES)]
    Status {
        /// Only this container or job
        name: Option<String>,
        /// Print JSON, the form for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: Socket,
    },
    /// Apply the changed config; touches only what changed
    #[command(after_help = ACT_CODES)]
    Reload {
        #[command(flatten)]
        socket: Socket,
    },
    /// Stop a container and start it afresh
    #[command(after_help = ACT_CODES)]
    Restart {
        /// The container
        name: String,
        #[command(flatten)]
        socket: Socket,
    },
    /// Stop a container, or all in reverse order of their start; end a job's run
    #[command(after_help = ACT_CODES)]
    Stop {
        #[command(flatten)]
        target: Target,
        /// Do not wait for open connections
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        socket: Socket,
    },
    /// Leave a container alone: no restart, no replacement; also over restarts of the agent
    #[command(after_help = ACT_CODES)]
    Pause {
        #[command(flatten)]
        target: Target,
        /// Supervise it again after this time, such as 10m
        #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
        time: Option<u64>,
        #[command(flatten)]
        socket: Socket,
    },
    /// End a pause
    #[command(after_help = ACT_CODES)]
    Resume {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        socket: Socket,
    },
    /// Take the host out of service: heartbeat 503, connections finish, containers stop
    #[command(after_help = ACT_CODES)]
    Drain {
        /// All of it has to be over within this time, such as 100s
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        within: Option<u64>,
        #[command(flatten)]
        socket: Socket,
    },
    /// Show what the agent decided and why
    #[command(after_help = EVENTS_CODES)]
    Events {
        /// Only this container
        name: Option<String>,
        /// How many of the last ones
        #[arg(short = 'n', long = "lines", default_value_t = 50)]
        lines: u64,
        /// Go on with new ones as they come
        #[arg(short, long)]
        follow: bool,
        /// One JSON object a line, the form for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: Socket,
    },
    /// Start a stopped container, or all; run a job now
    #[command(after_help = ACT_CODES)]
    Start {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        socket: Socket,
    },
}

#[derive(Args)]
struct Files {
    /// Config file, in place of /etc/agent/agent.toml and conf.d; later ones win per key
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Where the log buffer and supervision memory live
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Args)]
struct Socket {
    /// The agent's control socket
    #[arg(long, value_name = "PATH", env = "AGENT_SOCKET")]
    socket: Option<PathBuf>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// The container or job
    name: Option<String>,
    /// All containers, no jobs
    #[arg(long)]
    all: bool,
}

/// Parses the command line, runs the command, gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" to clap; a closed pipe while printing them is fine.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(NO_AGENT));
        }
    };
    match cli.command {
        Command::Run(files) => run(files),
        Command::Check {
            files,
            effective,
            state_dir,
        } => check::check(&origin(files, state_dir), effective),
        Command::Ignition(options) => ignition::ignition(&options),
        Command::Status { name, json, socket } => {
            status::status(&socket.path(), name.as_deref(), json)
        }
        Command::Reload { socket } => act::act(&socket.path(), "/reload"),
        Command::Restart { name, socket } => act::one(&socket.path(), &name, "restart"),
        Command::Stop {
            target,
            now,
            socket,
        } => target.act(&socket.path(), if now { "stop?now" } else { "stop" }),
        Command::Pause {
            target,
            time,
            socket,
        } => {
            let verb = match time {
                Some(seconds) => format!("pause?for={seconds}"),
                None => "pause".to_owned(),
            };
            target.act(&socket.path(), &verb)
        }
        Command::Resume { target, socket } => target.act(&socket.path(), "resume"),
        Command::Drain { within, socket } => {
            let route = match within {
                Some(seconds) => format!("/drain?within={seconds}"),
                None => "/drain".to_owned(),
            };
            act::act(&socket.path(), &route)
        }
        Command::Events {
            name,
            lines,
            follow,
            json,
            socket,
        } => events::events(&socket.path(), name.as_deref(), lines, follow, json),
        Command::Start { target, socket } => target.act(&socket.path(), "start"),
    }
}

fn run(files: Files) -> ExitCode {
    match app::run(origin(files.config, files.state_dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<Faults>() {
                Some(faults) => complain(&format!("{faults}")),
                None => complain(&format!("agent: {}", Chain(error.as_ref()))),
            }
            ExitCode::from(FAILED)
        }
    }
}

fn origin(files: Vec<PathBuf>, state_dir: Option<PathBuf>) -> Origin {
    Origin {
        files: (!files.is_empty()).then_some(files),
        state_dir,
    }
}

impl Socket {
    /// As given, else as the config in /etc says.
    fn path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(config::control_socket)
    }
}

impl Target {
    fn act(&self, socket: &Path, verb: &str) -> ExitCode {
        match &self.name {
            Some(name) => act::one(socket, name, verb),
            None => act::act(socket, &format!("/containers/{verb}")),
        }
    }
}

/// A time on the command line, in whole seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let time = config::duration(text)?;
    match time.as_secs() {
        0 => Err("at least one second, such as 10m".into()),
        seconds => Ok(seconds),
    }
}

/// A line on stderr.
fn complain(text: &str) {
    // stderr may be closed; there is nobody left to tell then.
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}

/// Text on stdout; a closed pipe, as from `| head`, ends quietly.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}
