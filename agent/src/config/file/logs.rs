//! `[logs.*]` as written.

use super::{Located, listen};
use crate::config::fault::{Place, quoted};
use crate::config::later;
use crate::config::read::{Item, Table, Wrong};
use crate::config::{defaults, values};
use crate::listener::Address;
use crate::logs::buffer::WhenFull;
use crate::logs::enrich::{Parse, Template};
use crate::logs::output::{Forward, Kind, Server};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

pub const WHEN_FULL: [(&str, WhenFull); 2] = [
    ("block", WhenFull::Block),
    ("drop_oldest", WhenFull::DropOldest),
];

#[derive(Debug)]
pub struct LogsFile {
    pub inputs: Vec<InputFile>,
    pub parse: Parse,
    pub enrich: Vec<(String, Located<Template>)>,
    pub buffer: BufferFile,
    pub outputs: Vec<OutputFile>,
}

#[derive(Debug)]
pub struct InputFile {
    pub name: String,
    pub place: Place,
    pub listen: Option<Vec<Located<Address>>>,
    pub max_frame: u64,
    pub frame_timeout: Duration,
    /// Of a type that was read; a wrong type is a fault already.
    pub is_known: bool,
}

#[derive(Debug)]
pub struct BufferFile {
    pub dir: Option<PathBuf>,
    pub chunk_size: u64,
    pub max_chunks: u32,
    pub flush_interval: Duration,
    pub sync_interval: Duration,
    pub when_full: WhenFull,
}

#[derive(Debug)]
pub struct OutputFile {
    pub name: String,
    /// None where the type is a fault.
    pub kind: Option<Kind>,
    /// The servers of a forward output again, with their places.
    pub servers: Vec<Located<Server>>,
}

#[derive(Clone, Copy)]
enum OutputType {
    Stdout,
    Forward,
}

pub fn logs(table: &mut Table<'_>) -> LogsFile {
    LogsFile {
        inputs: table.take("inputs").named(input),
        parse: table.take("parse").table(parse),
        enrich: enrich(table.take("enrich")),
        buffer: table.take("buffer").table(buffer),
        outputs: table.take("outputs").named(output),
    }
}

fn input(name: &str, table: &mut Table<'_>) -> InputFile {
    let kind = table.take("type");
    let is_known = !kind.is_there()
        || kind
            .choice(&[("forward", ())], later::INPUT_TYPES)
            .is_some();
    if !is_known {
        table.ignore_the_rest();
    }
    InputFile {
        name: name.into(),
        place: table.place(),
        listen: listen(table.take("listen")),
        max_frame: table
            .take("max_frame")
            .size(4 << 10, 1 << 30)
            .unwrap_or(defaults::MAX_FRAME),
        frame_timeout: table
            .take("frame_timeout")
            .duration()
            .unwrap_or(defaults::FRAME_TIMEOUT),
        is_known,
    }
}

fn parse(table: &mut Table<'_>) -> Parse {
    let default = Parse::default();
    let json_field = match table.take("json_field").string() {
        None => default.json_field,
        Some(none) if none.is_empty() => None,
        Some(field) => Some(field),
    };
    Parse {
        json_field,
        keep_raw: table.take("keep_raw").bool().unwrap_or(default.keep_raw),
    }
}

fn enrich(section: Item<'_>) -> Vec<(String, Located<Template>)> {
    let mut fields = Vec::new();
    for (name, item) in section.pairs() {
        if name.is_empty() {
            item.wrong(Wrong::new("the name of a field is empty"));
        }
        let template = item.parse("text such as \"${node.region}\"", |text| {
            Template::parse(text).map_err(Wrong::new)
        });
        fields.extend(template.map(|template| (name, Located::of(&item, template))));
    }
    fields
}

fn buffer(table: &mut Table<'_>) -> BufferFile {
    BufferFile {
        dir: table.take("dir").path_buf(),
        chunk_size: table
            .take("chunk_size")
            .size(4 << 10, 1 << 30)
            .unwrap_or(defaults::CHUNK_SIZE),
        max_chunks: table
            .take("max_chunks")
            .integer(2, 1 << 20)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(defaults::MAX_CHUNKS),
        flush_interval: table
            .take("flush_interval")
            .duration()
            .unwrap_or(defaults::FLUSH_INTERVAL),
        sync_interval: table
            .take("sync_interval")
            .duration()
            .unwrap_or(defaults::SYNC_INTERVAL),
        when_full: table
            .take("when_full")
            .choice(&WHEN_FULL, &[])
            .unwrap_or(WhenFull::Block),
    }
}

fn output(name: &str, table: &mut Table<'_>) -> OutputFile {
    let types = [
        ("stdout", OutputType::Stdout),
        ("forward", OutputType::Forward),
    ];
    let item = table.take("type");
    if !item.is_there() {
        table.missing("type", "\"forward\" or \"stdout\"");
    }
    let (kind, servers) = match item.choice(&types, later::OUTPUT_TYPES) {
        None => {
            table.ignore_the_rest();
            (None, Vec::new())
        }
        Some(OutputType::Stdout) => (Some(Kind::Stdout), Vec::new()),
        Some(OutputType::Forward) => {
            let (forward, servers) = forward(table);
            (Some(Kind::Forward(forward)), servers)
        }
    };
    OutputFile {
        name: name.into(),
        kind,
        servers,
    }
}

fn forward(table: &mut Table<'_>) -> (Forward, Vec<Located<Server>>) {
    let item = table.take("servers");
    if !item.is_there() {
        table.missing("servers", "[\"logs-a.example:24224\"]");
    }
    let items = item.list();
    if items.as_ref().is_some_and(Vec::is_empty) {
        table.fault("servers is empty");
    }
    let mut servers: Vec<Located<Server>> = Vec::new();
    let mut named = BTreeSet::new();
    for item in items.unwrap_or_default() {
        let server = item.parse("a server such as \"logs-a.example:24224\"", |text| {
            let server = values::server(text)?;
            match named.insert((server.host.clone(), server.port)) {
                true => Ok(server),
                false => Err(Wrong::new(format!("{} is given twice", quoted(text)))),
            }
        });
        servers.extend(server.map(|server| Located::of(&item, server)));
    }
    let forward = Forward {
        servers: servers.iter().map(|server| server.value.clone()).collect(),
        require_ack: table.take("require_ack").bool().unwrap_or(true),
        ack_timeout: table
            .take("ack_timeout")
            .duration()
            .unwrap_or(defaults::ACK_TIMEOUT),
        connect_timeout: table
            .take("connect_timeout")
            .duration()
            .unwrap_or(defaults::CONNECT_TIMEOUT),
    };
    (forward, servers)
}
