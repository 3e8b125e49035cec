//! `agent ignition`: from the config of a host to what brings that host up.

use super::{FAILED, NO_AGENT, complain};
use crate::chain::Chain;
use crate::config::{self, Faults, Settings};
use crate::ignition::{
    self, CloudConfigError, Contents, File, Host, PlanError, Program, Remote, Sha512, Socket,
    USER_DATA,
};
use crate::listener::Address;
use crate::secret::Source;
use crate::supervise::Container;
use crate::supervise::spec::SecretSource;
use clap::{Args, ValueEnum};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What such hosts ran before the agent (ignition/README.md).
const LEGACY: &str = "campaigns.service,fluentd.service,node-exporter.service,cadvisor.service,falcon-sensor.service";
const CONFIG: &str = "/etc/agent/agent.toml";
const DROP_INS: &str = "/etc/agent/conf.d";
/// Larger things are not configuration: the host fetches them. Unit: bytes.
const LONGEST_FILE: u64 = 1 << 20;

#[derive(Args)]
#[command(group = clap::ArgGroup::new("program").required(true).args(["binary_url", "sysext_url", "preinstalled"]))]
pub struct Options {
    /// The host's config: agent.toml, then drop-ins for conf.d
    #[arg(required = true)]
    config: Vec<PathBuf>,
    /// Where the host gets the binary: https://, s3:// or http://
    #[arg(long, value_name = "URL")]
    binary_url: Option<String>,
    /// The binary's sha512, 128 hex digits
    #[arg(long, value_name = "HEX", value_parser = sha512, conflicts_with = "binary")]
    binary_sha512: Option<Sha512>,
    /// The binary itself, to take the sha512 of
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where the host gets the system extension, in place of the binary
    #[arg(long, value_name = "URL")]
    sysext_url: Option<String>,
    /// The extension's sha512
    #[arg(long, value_name = "HEX", value_parser = sha512, conflicts_with = "sysext")]
    sysext_sha512: Option<Sha512>,
    /// The extension itself, to take the sha512 of
    #[arg(long, value_name = "FILE")]
    sysext: Option<PathBuf>,
    /// The image of the host has the binary at /opt/bin/agent
    #[arg(long)]
    preinstalled: bool,
    /// In which language
    #[arg(
        long = "for",
        value_name = "FORM",
        value_enum,
        default_value = "ignition"
    )]
    form: Form,
    /// A further file: its path on the host, and a local file or URL#sha512=HEX
    #[arg(long, value_name = "PATH=SOURCE", value_parser = placed)]
    file: Vec<Placed>,
    /// The same for a secret: only root may read it; better from s3:// than in user-data
    #[arg(long, value_name = "PATH=SOURCE", value_parser = placed)]
    secret: Vec<Placed>,
    /// Units that must not start any more; "" for none
    #[arg(long, value_name = "UNITS", value_delimiter = ',', default_value = LEGACY)]
    mask_legacy: Vec<String>,
    /// Compress what is inline
    #[arg(long)]
    compress: bool,
    /// Print only a pointer to the config, which will be at this URL and is written to --output
    #[arg(long, value_name = "URL", requires = "output")]
    pointer: Option<String>,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Longest user-data that the cloud takes, in bytes; 0 for no limit
    #[arg(long, value_name = "BYTES", default_value_t = USER_DATA)]
    limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Ignition 3.3.0
    Ignition,
    /// Butane, variant flatcar 1.0.0
    Butane,
    /// cloud-config of coreos-cloudinit
    CloudConfig,
}

/// `PATH=SOURCE`
#[derive(Debug, Clone, PartialEq)]
struct Placed {
    path: String,
    source: Placing,
}

#[derive(Debug, Clone, PartialEq)]
enum Placing {
    Local(PathBuf),
    Remote(Remote),
}

#[derive(Debug, thiserror::Error)]
enum RenderError {
    #[error(transparent)]
    Config(Faults),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{path} is larger than 1 MiB: put it where the host can fetch it and give URL#sha512=HEX"
    )]
    Large { path: PathBuf },
    #[error("{path} has no name that ends in .toml, as drop-ins of conf.d need")]
    DropIn { path: PathBuf },
    #[error("{url} needs its sha512: give --{what}-sha512, or the file itself with --{what}")]
    NoHash { url: String, what: &'static str },
    #[error("--pointer is for Ignition: cloud-config has nothing of the kind")]
    Pointer,
    #[error("--compress is not for Butane, which compresses by itself")]
    Compress,
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    CloudConfig(#[from] CloudConfigError),
    #[error("the user-data has {size} bytes, and the cloud takes {limit}: {advice}")]
    TooLarge {
        size: usize,
        limit: usize,
        advice: String,
    },
}

/// Prints user-data on stdout or writes it to a file. What it cannot know is
/// said on stderr.
pub fn ignition(options: &Options) -> ExitCode {
    match render(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(RenderError::Config(faults)) => {
            complain(&faults.to_string());
            ExitCode::from(if faults.is_unreadable() {
                NO_AGENT
            } else {
                FAILED
            })
        }
        Err(error) => {
            complain(&format!("agent ignition: {}", Chain(&error)));
            let unreadable = matches!(error, RenderError::Read { .. });
            ExitCode::from(if unreadable { NO_AGENT } else { FAILED })
        }
    }
}

fn render(options: &Options) -> Result<(), RenderError> {
    let loaded = config::load_for_host(options.config.clone()).map_err(RenderError::Config)?;
    let host = host(options, &loaded.settings)?;
    for note in notes(&host, &loaded.settings) {
        complain(&note);
    }
    let text = match (options.form, &options.pointer) {
        (Form::Butane, _) if options.compress => return Err(RenderError::Compress),
        (Form::Butane | Form::CloudConfig, Some(_)) => return Err(RenderError::Pointer),
        (form, None) => in_form(form, &host, options.compress)?,
        (Form::Ignition, Some(url)) => {
            let whole = in_form(Form::Ignition, &host, options.compress)?;
            let url = ignition::checked_url(url)?;
            let pointer = ignition::pointer(url, &whole);
            write(options.output.as_deref(), &whole)?;
            return write(None, &pointer);
        }
    };
    // Butane is for people and for `butane`; what that makes of it is not known here.
    if options.form != Form::Butane {
        fits(&text, options, &host)?;
    }
    write(options.output.as_deref(), &text)
}

fn in_form(form: Form, host: &Host, compress: bool) -> Result<String, RenderError> {
    let plan = ignition::plan(host)?;
    Ok(match form {
        Form::Ignition => ignition::ignition(&plan, compress),
        Form::Butane => ignition::butane(&plan),
        Form::CloudConfig => ignition::cloud_config(&plan, compress)?,
    })
}

fn fits(text: &str, options: &Options, host: &Host) -> Result<(), RenderError> {
    let (size, limit) = (text.len(), options.limit);
    if limit == 0 || size <= limit {
        return Ok(());
    }
    let mut advice = Vec::new();
    if !options.compress {
        let compressed = in_form(options.form, host, true)?.len();
        advice.push(match compressed <= limit {
            true => format!("--compress makes it {compressed}"),
            false => format!("--compress makes it {compressed}, which is still too large"),
        });
    }
    if options.form == Form::Ignition {
        advice.push(
            "--pointer URL --output FILE leaves a small pointer in the user-data, \
             and the whole config at that URL"
                .into(),
        );
    } else {
        advice.push("give large files a URL, or use --for ignition with --pointer".into());
    }
    Err(RenderError::TooLarge {
        size,
        limit,
        advice: advice.join("; "),
    })
}

fn write(path: Option<&Path>, text: &str) -> Result<(), RenderError> {
    match path {
        // A closed pipe, as from `| head`, ends quietly.
        None => {
            let _ = io::stdout().write_all(text.as_bytes());
            Ok(())
        }
        Some(path) => fs::write(path, text).map_err(|source| RenderError::Write {
            path: path.into(),
            source,
        }),
    }
}

fn host(options: &Options, settings: &Settings) -> Result<Host, RenderError> {
    let mut files = Vec::new();
    for (index, local) in options.config.iter().enumerate() {
        let path = match index {
            0 => CONFIG.into(),
            _ => drop_in(local)?,
        };
        let source = Placing::Local(local.clone());
        files.push(file(path, 0o644, &source)?);
    }
    for (placed, mode) in options
        .file
        .iter()
        .map(|placed| (placed, 0o644))
        .chain(options.secret.iter().map(|placed| (placed, 0o600)))
    {
        files.push(file(placed.path.clone(), mode, &placed.source)?);
    }
    let masks = options.mask_legacy.iter();
    Ok(Host {
        program: program(options)?,
        files,
        masks: masks.filter(|name| !name.is_empty()).cloned().collect(),
        sockets: sockets(settings),
        drain: drain(settings),
    })
}

/// `/etc/agent/conf.d/NAME.toml`
fn drop_in(local: &Path) -> Result<String, RenderError> {
    let name = local.file_name().and_then(|name| name.to_str());
    match name {
        Some(name) if name.ends_with(".toml") => Ok(format!("{DROP_INS}/{name}")),
        _ => Err(RenderError::DropIn { path: local.into() }),
    }
}

fn file(path: String, mode: u32, source: &Placing) -> Result<File, RenderError> {
    let contents = match source {
        Placing::Remote(remote) => Contents::Remote(remote.clone()),
        Placing::Local(local) => Contents::Inline(read(local)?),
    };
    Ok(File {
        path,
        mode,
        contents,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, RenderError> {
    let failed = |source| RenderError::Read {
        path: path.into(),
        source,
    };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > LONGEST_FILE {
        return Err(RenderError::Large { path: path.into() });
    }
    fs::read(path).map_err(failed)
}

fn program(options: &Options) -> Result<Program, RenderError> {
    if let Some(url) = &options.binary_url {
        let given = (&options.binary_sha512, &options.binary);
        return Ok(Program::Binary(remote(url, given, "binary")?));
    }
    if let Some(url) = &options.sysext_url {
        let given = (&options.sysext_sha512, &options.sysext);
        return Ok(Program::Sysext(remote(url, given, "sysext")?));
    }
    Ok(Program::Preinstalled)
}

fn remote(
    url: &str,
    given: (&Option<Sha512>, &Option<PathBuf>),
    what: &'static str,
) -> Result<Remote, RenderError> {
    let sha512 = match given {
        (Some(sha512), _) => sha512.clone(),
        (None, Some(path)) => Sha512::of(&fs::read(path).map_err(|source| RenderError::Read {
            path: path.clone(),
            source,
        })?),
        (None, None) => {
            return Err(RenderError::NoHash {
                url: url.into(),
                what,
            });
        }
    };
    Ok(Remote {
        url: url.into(),
        sha512,
    })
}

/// By the names that `app` asks systemd for.
fn sockets(settings: &Settings) -> Vec<Socket> {
    let forward: Vec<Address> = settings
        .logs
        .inputs
        .iter()
        .flat_map(|input| input.listen.clone())
        .collect();
    let socket = |name, addresses: &[Address]| Socket {
        name,
        listen: addresses
            .iter()
            .map(|address| match address {
                Address::Tcp(address) => address.to_string(),
                Address::Unix(path) => path.display().to_string(),
            })
            .collect(),
    };
    vec![
        socket("forward", &forward),
        socket("metrics", &settings.metrics.listen),
        socket("containers", &settings.container_metrics.listen),
        socket("heartbeat", &settings.heartbeat),
    ]
}

/// The longest that stopping everything in order can take: a container stops
/// after those that depend on it.
fn drain(settings: &Settings) -> Duration {
    let containers: BTreeMap<&str, &Container> = settings
        .containers
        .containers
        .iter()
        .map(|container| (container.name.as_str(), container))
        .collect();
    // Dependencies have no cycle, the config is checked for that.
    fn longest<'a>(name: &'a str, all: &BTreeMap<&'a str, &'a Container>) -> Duration {
        let Some(container) = all.get(name) else {
            return Duration::ZERO;
        };
        let drain = &container.drain;
        let own = drain.deregister_wait + drain.connections + container.stop_grace_period;
        let dependencies = container.depends_on.iter();
        let after = dependencies.map(|dependency| longest(&dependency.name, all));
        own + after.max().unwrap_or_default()
    }
    let chains = containers.keys().map(|name| longest(name, &containers));
    let jobs = settings.jobs.jobs.iter().map(|job| job.stop_grace_period);
    chains.chain(jobs).max().unwrap_or_default()
}

/// What an operator should know and the output does not say.
fn notes(host: &Host, settings: &Settings) -> Vec<String> {
    let mut notes = Vec::new();
    for file in &host.files {
        if file.mode & 0o077 == 0 && matches!(file.contents, Contents::Inline(_)) {
            notes.push(format!(
                "warning: {} is in the user-data, which everything on the host can read from the \
                 metadata service: better give it as URL#sha512=HEX with an s3:// URL",
                file.path
            ));
        }
    }
    let put: BTreeSet<&Path> = host
        .files
        .iter()
        .map(|file| Path::new(&file.path))
        .collect();
    for path in wanted(settings) {
        if !put.contains(path.as_path()) {
            notes.push(format!(
                "note: the config reads {}, which nothing here puts on the host: --secret or --file does",
                path.display()
            ));
        }
    }
    notes
}

/// Files that the config names and the agent must read.
fn wanted(settings: &Settings) -> BTreeSet<PathBuf> {
    let mut wanted = BTreeSet::new();
    let containers = settings.containers.containers.iter().map(|c| &c.spec);
    for spec in containers.chain(settings.jobs.jobs.iter().map(|job| &job.spec)) {
        let required = spec.env_files.iter().filter(|file| file.required);
        wanted.extend(required.map(|file| file.path.clone()));
        for secret in spec.secrets.values() {
            let SecretSource::File(path) = &secret.source;
            wanted.insert(path.clone());
        }
    }
    for named in settings.containers.images.credentials.values() {
        if let Source::File(path) = &named.password {
            wanted.insert(path.clone());
        }
    }
    wanted.extend(settings.metrics.options.web_config.clone());
    wanted
}

fn sha512(text: &str) -> Result<Sha512, String> {
    Sha512::parse(text).ok_or_else(|| "a sha512 has 128 hex digits".into())
}

/// `/etc/agent/token=secrets/token`, `/etc/agent/token=s3://bucket/token#sha512=…`
fn placed(text: &str) -> Result<Placed, String> {
    let (path, source) = text.split_once('=').ok_or("PATH=SOURCE is wanted")?;
    let source = match source.split_once("://") {
        None => Placing::Local(source.into()),
        Some(_) => {
            let (url, hash) = source
                .split_once("#sha512=")
                .ok_or("a URL needs #sha512=HEX at its end")?;
            Placing::Remote(Remote {
                url: url.into(),
                sha512: sha512(hash)?,
            })
        }
    };
    Ok(Placed {
        path: path.into(),
        source,
    })
}
