//! Each key of `[containers.NAME]`, as Docker has it in the end.

use crate::place::Host;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use tests::program::workspace;

/// Container, key, its lines, and what inspect says: pointer and JSON, several with one key.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const ROWS: &[Row] = &[
    // words
    (
        "words",
        "image",
        "",
        &[("/Config/Image", r#""agent-test/app:1""#)],
    ),
    (
        "words",
        "entrypoint",
        "entrypoint = ['/app']",
        &[
            ("/Config/Entrypoint", r#"["/app"]"#),
            ("/Path", r#""/app""#),
        ],
    ),
    (
        "words",
        "command",
        "command = '8090 \"two words\"'",
        &[("/Config/Cmd", r#"["8090","two words"]"#)],
    ),
    (
        "words",
        "environment",
        "environment = { B = 5, C = 'x y', D = '' }",
        &[(
            "/Config/Env",
            r#"["A=file","B=5","C=x y","D=","E=raw \"x\"","S=hidden"]"#,
        )],
    ),
    (
        "words",
        "env_file",
        "env_file = ['@DIR@/a.env', { path = '@DIR@/raw.env', format = 'raw' }, { path = '@DIR@/none', required = false }]",
        &[],
    ),
    ("words", "env_file.path", "", &[]),
    ("words", "env_file.required", "", &[]),
    ("words", "env_file.format", "", &[]),
    (
        "words",
        "secrets.NAME.file",
        "secrets = { S = { file = '@DIR@/secret' }, key = { file = '@DIR@/secret', target = '/run/secrets/key' } }",
        &[],
    ),
    (
        "words",
        "secrets.NAME.target",
        "",
        &[
            (
                "/HostConfig/Mounts",
                r#"[{"Type":"bind","Source":"@DIR@/secret","Target":"/run/secrets/key","ReadOnly":true}]"#,
            ),
            ("/Mounts/0/RW", "false"),
        ],
    ),
    (
        "words",
        "labels",
        "labels = ['team=web', 'flag']",
        &[
            ("/Config/Labels/team", r#""web""#),
            ("/Config/Labels/flag", r#""""#),
        ],
    ),
    (
        "words",
        "user",
        "user = '1000:1000'",
        &[("/Config/User", r#""1000:1000""#)],
    ),
    (
        "words",
        "group_add",
        "group_add = [44, '45']",
        &[("/HostConfig/GroupAdd", r#"["44","45"]"#)],
    ),
    (
        "words",
        "working_dir",
        "working_dir = '/tmp'",
        &[("/Config/WorkingDir", r#""/tmp""#)],
    ),
    (
        "words",
        "hostname",
        "hostname = 'w1'",
        &[("/Config/Hostname", r#""w1""#)],
    ),
    (
        "words",
        "domainname",
        "domainname = 'example.org'",
        &[("/Config/Domainname", r#""example.org""#)],
    ),
    (
        "words",
        "stop_signal",
        "stop_signal = 'SIGINT'",
        &[("/Config/StopSignal", r#""SIGINT""#)],
    ),
    ("words", "tty", "tty = true", &[("/Config/Tty", "true")]),
    (
        "words",
        "stdin_open",
        "stdin_open = true",
        &[("/Config/OpenStdin", "true")],
    ),
    (
        "words",
        "runtime",
        "runtime = 'runc'",
        &[("/HostConfig/Runtime", r#""runc""#)],
    ),
    // healthcheck
    (
        "health",
        "healthcheck.test",
        "healthcheck = { test = ['CMD', '/app', 'x'], interval = '1m', timeout = '2s', retries = 7, start_period = '30s' }",
        &[(
            "/Config/Healthcheck",
            r#"{"Test":["CMD","/app","x"],"Interval":60000000000,"Timeout":2000000000,"StartPeriod":30000000000,"Retries":7}"#,
        )],
    ),
    ("health", "healthcheck.interval", "", &[]),
    ("health", "healthcheck.timeout", "", &[]),
    ("health", "healthcheck.retries", "", &[]),
    ("health", "healthcheck.start_period", "", &[]),
    (
        "sick",
        "healthcheck.disable",
        "healthcheck = { disable = true }",
        &[("/Config/Healthcheck", r#"{"Test":["NONE"]}"#)],
    ),
    // limits
    (
        "limits",
        "mem_limit",
        "mem_limit = '64m'",
        &[("/HostConfig/Memory", "67108864")],
    ),
    (
        "limits",
        "memswap_limit",
        "memswap_limit = -1",
        &[("/HostConfig/MemorySwap", "-1")],
    ),
    (
        "limits",
        "mem_reservation",
        "mem_reservation = '32m'",
        &[("/HostConfig/MemoryReservation", "33554432")],
    ),
    (
        "limits",
        "mem_swappiness",
        "mem_swappiness = 10",
        &[("/HostConfig/MemorySwappiness", "10")],
    ),
    (
        "limits",
        "cpus",
        "cpus = 0.5",
        &[("/HostConfig/NanoCpus", "500000000")],
    ),
    (
        "limits",
        "cpu_shares",
        "cpu_shares = 512",
        &[("/HostConfig/CpuShares", "512")],
    ),
    (
        "limits",
        "cpuset",
        "cpuset = '0'",
        &[("/HostConfig/CpusetCpus", r#""0""#)],
    ),
    (
        "limits",
        "pids_limit",
        "pids_limit = 50",
        &[("/HostConfig/PidsLimit", "50")],
    ),
    (
        "limits",
        "oom_score_adj",
        "oom_score_adj = 100",
        &[("/HostConfig/OomScoreAdj", "100")],
    ),
    (
        "limits",
        "oom_kill_disable",
        "oom_kill_disable = true",
        &[("/HostConfig/OomKillDisable", "true")],
    ),
    (
        "limits",
        "shm_size",
        "shm_size = '32m'",
        &[("/HostConfig/ShmSize", "33554432")],
    ),
    (
        "limits",
        "ulimits.NAME.soft",
        "ulimits = { nofile = { soft = 1024, hard = 2048 }, core = 0 }",
        &[(
            "/HostConfig/Ulimits",
            r#"[{"Name":"core","Hard":0,"Soft":0},{"Name":"nofile","Hard":2048,"Soft":1024}]"#,
        )],
    ),
    ("limits", "ulimits.NAME.hard", "", &[]),
    (
        "limits",
        "sysctls",
        "sysctls = { 'net.core.somaxconn' = 512 }",
        &[("/HostConfig/Sysctls", r#"{"net.core.somaxconn":"512"}"#)],
    ),
    // rights
    (
        "rights",
        "cap_add",
        "cap_add = ['NET_ADMIN']",
        &[("/HostConfig/CapAdd", r#"["NET_ADMIN"]"#)],
    ),
    (
        "rights",
        "cap_drop",
        "cap_drop = ['MKNOD', 'CHOWN']",
        &[("/HostConfig/CapDrop", r#"["MKNOD","CHOWN"]"#)],
    ),
    (
        "rights",
        "devices",
        "devices = ['/dev/null:/dev/nought:r', '/dev/zero:rw', { source = '/dev/full', target = '/dev/filled', permissions = 'r' }]",
        &[(
            "/HostConfig/Devices",
            r#"[{"PathOnHost":"/dev/null","PathInContainer":"/dev/nought","CgroupPermissions":"r"},{"PathOnHost":"/dev/zero","PathInContainer":"/dev/zero","CgroupPermissions":"rw"},{"PathOnHost":"/dev/full","PathInContainer":"/dev/filled","CgroupPermissions":"r"}]"#,
        )],
    ),
    ("rights", "devices.source", "", &[]),
    ("rights", "devices.target", "", &[]),
    ("rights", "devices.permissions", "", &[]),
    (
        "rights",
        "device_cgroup_rules",
        "device_cgroup_rules = ['c 1:3 mr']",
        &[("/HostConfig/DeviceCgroupRules", r#"["c 1:3 mr"]"#)],
    ),
    (
        "rights",
        "security_opt",
        "security_opt = ['no-new-privileges:true', 'seccomp=@DIR@/seccomp.json']",
        &[
            ("/HostConfig/SecurityOpt/0", r#""no-new-privileges:true""#),
            (
                "/HostConfig/SecurityOpt/1",
                r#""seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}""#,
            ),
            // Docker's own, for the host's pid namespace.
            ("/HostConfig/SecurityOpt/2", r#""label=disable""#),
        ],
    ),
    (
        "rights",
        "read_only",
        "read_only = true",
        &[("/HostConfig/ReadonlyRootfs", "true")],
    ),
    (
        "rights",
        "init",
        "init = true",
        &[("/HostConfig/Init", "true")],
    ),
    (
        "rights",
        "pid",
        "pid = 'host'",
        &[("/HostConfig/PidMode", r#""host""#)],
    ),
    (
        "rights",
        "ipc",
        "ipc = 'shareable'",
        &[("/HostConfig/IpcMode", r#""shareable""#)],
    ),
    (
        "rights",
        "uts",
        "uts = 'host'",
        &[("/HostConfig/UTSMode", r#""host""#)],
    ),
    (
        "rights",
        "userns_mode",
        "userns_mode = 'host'",
        &[("/HostConfig/UsernsMode", r#""host""#)],
    ),
    (
        "rights",
        "cgroup",
        "cgroup = 'private'",
        &[("/HostConfig/CgroupnsMode", r#""private""#)],
    ),
    (
        "rights",
        "cgroup_parent",
        "cgroup_parent = '/agent-test-spec'",
        &[("/HostConfig/CgroupParent", r#""/agent-test-spec""#)],
    ),
    // mounts
    (
        "mounts",
        "volumes",
        "volumes = ['@DIR@/bound:/bound:ro', 'agent-spec-named:/named', '/anonymous', { type = 'bind', source = '@DIR@/made', target = '/made', read_only = true, bind = { create_host_path = true, propagation = 'private' } }, { type = 'bind', source = '@DIR@/bound', target = '/long', bind = { create_host_path = false, propagation = 'rprivate' } }, { type = 'volume', source = 'agent-spec-long', target = '/lib2', volume = { nocopy = true } }, { type = 'tmpfs', target = '/scratch', tmpfs = { size = '1m', mode = 0o700 } }]",
        &[
            (
                "/HostConfig/Binds",
                r#"["@DIR@/bound:/bound:ro","agent-spec-named:/named","@DIR@/made:/made:ro,private"]"#,
            ),
            ("/Config/Volumes", r#"{"/anonymous":{}}"#),
            (
                "/HostConfig/Mounts",
                r#"[{"Type":"bind","Source":"@DIR@/bound","Target":"/long","BindOptions":{"Propagation":"rprivate"}},{"Type":"volume","Source":"agent-spec-long","Target":"/lib2","VolumeOptions":{"NoCopy":true}},{"Type":"tmpfs","Target":"/scratch","TmpfsOptions":{"SizeBytes":1048576,"Mode":448}}]"#,
            ),
        ],
    ),
    ("mounts", "volumes.type", "", &[]),
    ("mounts", "volumes.source", "", &[]),
    ("mounts", "volumes.target", "", &[]),
    ("mounts", "volumes.read_only", "", &[]),
    ("mounts", "volumes.bind.create_host_path", "", &[]),
    ("mounts", "volumes.bind.propagation", "", &[]),
    ("mounts", "volumes.volume.nocopy", "", &[]),
    ("mounts", "volumes.tmpfs.size", "", &[]),
    ("mounts", "volumes.tmpfs.mode", "", &[]),
    (
        "mounts",
        "tmpfs",
        "tmpfs = ['/run:size=1m', '/var/tmp']",
        &[("/HostConfig/Tmpfs", r#"{"/run":"size=1m","/var/tmp":""}"#)],
    ),
    // network
    (
        "net",
        "networks",
        "networks = { front = { aliases = ['web'], ipv4_address = '@NET@.50' }, back = { aliases = ['store'], link_local_ips = ['169.254.8.8'], driver_opts = { a = 'b' } } }",
        &[
            ("/HostConfig/NetworkMode", r#""front""#),
            (
                "/NetworkSettings/Networks/front/IPAMConfig",
                r#"{"IPv4Address":"@NET@.50"}"#,
            ),
            ("/NetworkSettings/Networks/front/IPAddress", r#""@NET@.50""#),
            ("/NetworkSettings/Networks/front/Aliases/0", r#""web""#),
            ("/NetworkSettings/Networks/back/Aliases/0", r#""store""#),
            (
                "/NetworkSettings/Networks/back/IPAMConfig/LinkLocalIPs",
                r#"["169.254.8.8"]"#,
            ),
            ("/NetworkSettings/Networks/back/DriverOpts", r#"{"a":"b"}"#),
        ],
    ),
    ("net", "networks.NAME.aliases", "", &[]),
    ("net", "networks.NAME.ipv4_address", "", &[]),
    ("net", "networks.NAME.link_local_ips", "", &[]),
    ("net", "networks.NAME.driver_opts", "", &[]),
    (
        "net",
        "extra_hosts",
        "extra_hosts = { db = '10.0.0.5' }",
        &[("/HostConfig/ExtraHosts", r#"["db:10.0.0.5"]"#)],
    ),
    (
        "net",
        "dns",
        "dns = ['10.0.0.2']",
        &[("/HostConfig/Dns", r#"["10.0.0.2"]"#)],
    ),
    (
        "net",
        "dns_search",
        "dns_search = ['example.org']",
        &[("/HostConfig/DnsSearch", r#"["example.org"]"#)],
    ),
    (
        "net",
        "dns_opt",
        "dns_opt = ['ndots:1']",
        &[("/HostConfig/DnsOptions", r#"["ndots:1"]"#)],
    ),
    (
        "host",
        "network_mode",
        "network_mode = 'host'\ncommand = '18911'",
        &[("/HostConfig/NetworkMode", r#""host""#)],
    ),
    (
        "ports",
        "ports",
        "ports = ['18901:80', '127.0.0.1:18902-18903:81-82/udp', '83', '18905-18909:84', { target = 85, published = 18904, host_ip = '127.0.0.1', protocol = 'udp' }]",
        &[
            (
                "/HostConfig/PortBindings",
                r#"{"80/tcp":[{"HostIp":"","HostPort":"18901"}],"81/udp":[{"HostIp":"127.0.0.1","HostPort":"18902"}],"82/udp":[{"HostIp":"127.0.0.1","HostPort":"18903"}],"83/tcp":[{"HostIp":"","HostPort":""}],"84/tcp":[{"HostIp":"","HostPort":"18905-18909"}],"85/udp":[{"HostIp":"127.0.0.1","HostPort":"18904"}]}"#,
            ),
            (
                "/Config/ExposedPorts",
                r#"{"80/tcp":{},"81/udp":{},"82/udp":{},"83/tcp":{},"84/tcp":{},"85/udp":{}}"#,
            ),
        ],
    ),
    ("ports", "ports.target", "", &[]),
    ("ports", "ports.published", "", &[]),
    ("ports", "ports.host_ip", "", &[]),
    ("ports", "ports.protocol", "", &[]),
    // logging
    (
        "words",
        "logging.driver",
        "logging = { driver = 'json-file', options = { max-size = '1m' } }",
        &[(
            "/HostConfig/LogConfig",
            r#"{"Type":"json-file","Config":{"max-size":"1m"}}"#,
        )],
    ),
    ("words", "logging.options", "", &[]),
    (
        "tagged",
        "logging.tag",
        "logging = { tag = 'campaigns' }",
        &[
            ("/HostConfig/LogConfig/Type", r#""fluentd""#),
            ("/HostConfig/LogConfig/Config/tag", r#""campaigns""#),
        ],
    ),
];

/// Keys that no inspect shows, and where they are proven instead.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "annotations",
        "refused.rs: the daemon of this test is too old for it",
    ),
    ("mac_address", "refused.rs: as above"),
    ("networks.NAME.mac_address", "refused.rs: as above"),
    ("healthcheck.start_interval", "refused.rs: as above"),
    (
        "storage_opt",
        "refused.rs: Docker's own answer shows that it arrived",
    ),
    ("platform", "refused.rs: as above"),
    (
        "networks.NAME.ipv6_address",
        "a unit test: the daemon of this test has no IPv6",
    ),
    (
        "privileged",
        "privileged.rs: a Docker of this age asks for rights that not every host has",
    ),
    ("depends_on", "supervision"),
    ("depends_on.NAME.condition", "supervision"),
    ("stop_grace_period", "supervision"),
    ("pull_policy", "supervision"),
    ("essential", "supervision"),
    ("takeover", "supervision"),
    ("drain.deregister_wait", "supervision"),
    ("drain.connections", "supervision"),
    ("update.apply", "supervision"),
    ("update.order", "supervision"),
    ("update.rollback", "supervision"),
    ("update.ready_within", "supervision"),
];

#[test]
fn every_key_reaches_docker_exactly() {
    let host = Host::new();
    let dir = host.place.path("files");
    fs::create_dir(&dir).unwrap();
    let dir_text = dir.to_string_lossy().into_owned();
    fs::create_dir(dir.join("bound")).unwrap();
    fs::write(dir.join("a.env"), "A=file\nB=beneath\n").unwrap();
    fs::write(dir.join("raw.env"), "E=raw \"x\"\n").unwrap();
    fs::write(dir.join("secret"), "hidden\n").unwrap();
    fs::write(
        dir.join("seccomp.json"),
        "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n",
    )
    .unwrap();
    let net = format!("10.214.{}", std::process::id() % 256);
    let subnet = format!("{net}.0/24");
    host.daemon
        .docker(&["network", "create", "--subnet", &subnet, "front"]);
    let second = format!("10.215.{}.0/24", std::process::id() % 256);
    host.daemon
        .docker(&["network", "create", "--subnet", &second, "back"]);
    let fill = |text: &str| text.replace("@DIR@", &dir_text).replace("@NET@", &net);

    let names: BTreeSet<&str> = ROWS.iter().map(|(name, ..)| *name).collect();
    let mut config = String::new();
    for name in &names {
        config.push_str(&format!(
            "[containers.{name}]\nimage = 'agent-test/app:1'\npull_policy = 'never'\nstop_grace_period = '1s'\n"
        ));
        for (_, _, lines, _) in ROWS.iter().filter(|(of, ..)| of == name) {
            config.push_str(&fill(lines));
            config.push('\n');
        }
    }
    let agent = host.place.start(&config);
    for name in &names {
        agent.wait_well(name);
    }
    let mut wrong = Vec::new();
    let mut n_compared = 0;
    for (name, key, _, expected) in ROWS {
        let inspected = host.inspected(name);
        for (pointer, json) in *expected {
            let expected: Value = serde_json::from_str(&fill(json)).unwrap();
            let found = inspected.pointer(pointer).unwrap_or(&Value::Null);
            n_compared += 1;
            if *found != expected {
                wrong.push(format!("{key} at {pointer}: {found} instead of {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_compared > 60, "only {n_compared} values");
    // The secret that is a file is one inside, and cannot be written to.
    let pid = host.daemon.inspect("words", ".State.Pid");
    let inside = format!("/proc/{pid}/root/run/secrets/key");
    assert_eq!(fs::read_to_string(inside).unwrap(), "hidden\n");
    // Nobody tells a secret but Docker, to whom it has been told.
    let status = agent.status().to_string();
    assert!(!agent.stderr().contains("hidden") && !status.contains("hidden"));
    for name in &names {
        let labels = host.inspected(name)["Config"]["Labels"].to_string();
        assert!(!labels.contains("hidden"), "{labels}");
    }
}

#[test]
fn every_key_of_the_page_is_in_the_table() {
    let page = fs::read_to_string(workspace().join("docs/config.md")).unwrap();
    let known: BTreeSet<&str> = ROWS
        .iter()
        .map(|(_, key, ..)| *key)
        .chain(ELSEWHERE.iter().map(|(key, _)| *key))
        .collect();
    let mut documented = BTreeSet::new();
    for line in page.lines() {
        let key = line.strip_prefix("| `containers.NAME.");
        documented.extend(key.and_then(|key| key.split_once('`')).map(|(key, _)| key));
    }
    // Probes are the agent's, not Docker's.
    documented.retain(|key| !key.starts_with("probes."));
    assert_eq!(documented, known);
}
