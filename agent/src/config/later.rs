//! Keys that are right in spirit and not taken here: what a later version
//! brings, and what Compose users write out of habit. All such names are in
//! this one file, so that none is ever accepted in silence.

/// Keys that a later version brings, by the table that they stand in.
const LATER: &[(&str, &[&str])] = &[
    (
        "containers.NAME",
        &[
            "secrets",
            "drain",
            "update",
            "env_file",
            "networks",
            "healthcheck",
        ],
    ),
    (
        "jobs.NAME",
        &["secrets", "env_file", "networks", "depends_on"],
    ),
    ("heartbeat", &["drain"]),
    ("logs.inputs.NAME", &["paths", "shared_key", "tls"]),
    ("logs", &["multiline"]),
    (
        "logs.outputs.NAME",
        &[
            "shared_key",
            "tls",
            "endpoint",
            "index_prefix",
            "auth",
            "group",
            "stream",
        ],
    ),
];

/// Compose keys that have no meaning here, and what to do instead.
const FOREIGN: &[(&str, &str)] = &[
    (
        "restart",
        "leave it out: the agent restarts every container",
    ),
    (
        "container_name",
        "leave it out: the name is that of the table, [containers.NAME]",
    ),
    ("build", "build the image elsewhere and name it in image"),
    ("expose", "leave it out: it publishes nothing; use ports"),
    (
        "deploy",
        "use mem_limit, cpus and pids_limit for its limits",
    ),
    ("mem_reservation", "use mem_limit"),
];

/// Values of `type` that a later version brings.
pub const INPUT_TYPES: &[&str] = &["tail"];
pub const OUTPUT_TYPES: &[&str] = &["elasticsearch", "cloudwatch", "file"];

/// Whether a later version has this key. `table` is written with NAME for names.
pub fn is_later(table: &str, key: &str) -> bool {
    LATER
        .iter()
        .any(|(place, keys)| *place == table && keys.contains(&key))
}

/// What to do instead of a Compose key that has no meaning here.
pub fn instead(table: &str, key: &str) -> Option<&'static str> {
    match (table, key) {
        ("jobs.NAME", "restart") => return Some("use retries: a job runs once and ends"),
        ("containers.NAME" | "jobs.NAME", _) => {}
        _ => return None,
    }
    let (_, instead) = FOREIGN.iter().find(|(name, _)| *name == key)?;
    Some(instead)
}
