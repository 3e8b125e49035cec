//! Keys that are right in spirit and not taken here: what a later version
//! brings, and what Compose users write out of habit. All such names are in
//! this one file, so that none is ever accepted in silence.

/// Keys that a later version brings, by the table that they stand in.
const LATER: &[(&str, &[&str])] = &[
    ("jobs.NAME", &["depends_on"]),
    ("containers.NAME.drain", &["deregister"]),
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

/// Compose keys that have no meaning here, by their table, and what to do instead.
const FOREIGN: &[(&str, &[(&str, &str)])] = &[
    (
        "",
        &[
            ("services", "each service is a table [containers.NAME]"),
            (
                "volumes",
                "leave it out: Docker makes a named volume on first use",
            ),
            (
                "networks",
                "leave it out: containers name networks that there are",
            ),
            ("secrets", "each container says where its secrets are"),
            ("configs", "mount the file with volumes"),
            ("include", "put more files into conf.d"),
            ("version", "leave it out"),
            ("name", "leave it out: there are no projects"),
        ],
    ),
    ("containers.NAME", CONTAINER),
    (
        "containers.NAME.depends_on.NAME",
        &[
            (
                "restart",
                "leave it out: a container outlives the restart of what it waits for",
            ),
            ("required", "leave it out, or remove the dependency"),
        ],
    ),
    (
        "containers.NAME.ports",
        &[
            ("mode", "leave it out: it is of Swarm"),
            ("name", "leave it out: it changes nothing"),
            ("app_protocol", "leave it out: it changes nothing"),
        ],
    ),
    (
        "containers.NAME.networks.NAME",
        &[
            (
                "priority",
                "leave it out: the first network is the one that it is created in",
            ),
            (
                "gw_priority",
                "leave it out: the first network is the one that it is created in",
            ),
            ("interface_name", "leave it out: Docker names interfaces"),
        ],
    ),
    (
        "containers.NAME.secrets.NAME",
        &[
            ("external", "give file"),
            ("source", "give file"),
            ("uid", "set the owner of the file itself"),
            ("gid", "set the group of the file itself"),
            ("mode", "set the mode of the file itself"),
        ],
    ),
    (
        "containers.NAME.volumes",
        &[
            ("consistency", "leave it out: it changes nothing on Linux"),
            ("image", "this version mounts no images"),
        ],
    ),
    (
        "containers.NAME.volumes.bind",
        &[
            ("selinux", "use the short form: \"/host:/container:z\""),
            ("recursive", "leave it out: binds are recursive"),
        ],
    ),
    (
        "containers.NAME.volumes.volume",
        &[
            ("subpath", "mount the whole volume"),
            ("labels", "label the volume with docker volume create"),
        ],
    ),
];

const CONTAINER: &[(&str, &str)] = &[
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
        "use mem_limit, mem_reservation, cpus and pids_limit for its limits",
    ),
    ("attach", "leave it out: logs go where logging says"),
    (
        "blkio_config",
        "this version has no limits of block devices",
    ),
    ("configs", "mount the file with volumes"),
    ("cpu_count", "use cpus"),
    ("cpu_percent", "use cpus"),
    ("cpu_period", "use cpus"),
    ("cpu_quota", "use cpus"),
    (
        "cpu_rt_period",
        "use cpus: this version sets no realtime limits",
    ),
    (
        "cpu_rt_runtime",
        "use cpus: this version sets no realtime limits",
    ),
    ("credential_spec", "it is of Windows"),
    ("develop", "it is of development machines"),
    ("extends", "write the keys out: drop-ins of conf.d merge"),
    (
        "external_links",
        "use networks: containers of one network find each other by name",
    ),
    (
        "gpus",
        "this version requests no GPUs: list the device files in devices and set runtime",
    ),
    ("isolation", "it is of Windows"),
    ("label_file", "write labels"),
    (
        "links",
        "use networks: containers of one network find each other by name",
    ),
    ("models", "run the model as a container"),
    ("post_start", "do it in entrypoint"),
    ("pre_stop", "handle stop_signal in the container"),
    (
        "profiles",
        "put the container into a drop-in of hosts that want it",
    ),
    ("provider", "name an image"),
    ("scale", "write one table for each container"),
    ("use_api_socket", "mount the socket with volumes"),
    ("volumes_from", "list the same volumes in both"),
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
    let table = match (table, key) {
        ("jobs.NAME", "restart") => return Some("use retries: a job runs once and ends"),
        ("jobs.NAME", _) => "containers.NAME",
        (table, _) => table,
    };
    let (_, keys) = FOREIGN.iter().find(|(place, _)| *place == table)?;
    let (_, instead) = keys.iter().find(|(name, _)| *name == key)?;
    Some(instead)
}
