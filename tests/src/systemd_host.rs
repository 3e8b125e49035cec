//! A host of the test's own: Debian 13 with systemd as PID 1, its bus, logind and Docker, as a
//! container of the machine's Docker. It boots in two seconds, may be rebooted, and leaves nothing.
//!
//! The root is made by `tests/images/make systemd` and kept in the target directory. A container
//! is no machine: the kernel and its boot id are the machine's, and there is no negative OOM score.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use crate::agent::binary;
use crate::program::{command, output, stdout, workspace};
use crate::wait;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static COUNT: AtomicU32 = AtomicU32::new(0);
const IMAGE: &str = "agent-test/systemd:1";
const HINT: &str = "apt-get install docker.io (tests/run does)";
/// Where the binary under test is in the host, as on Flatcar.
pub const AGENT: &str = "/opt/bin/agent";
/// Bit of CAP_SYS_RESOURCE; a machine may have taken it from us for good.
const SYS_RESOURCE: u32 = 24;
/// A boot, with an inner Docker's containers to stop before it.
const BOOT: Duration = Duration::from_secs(90);

/// Which cgroups PID 1 finds. On a machine with version 2 alone both are that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cgroups {
    /// With controllers: limits and statistics are real.
    #[default]
    V1,
    /// As on Flatcar, but without controllers where the machine has them in version 1.
    V2,
}

/// A host before its first boot.
#[derive(Debug, Default)]
pub struct Plan {
    cgroups: Cgroups,
    binds: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
    roots: Vec<String>,
    tmpfs: Vec<String>,
    provisioned: bool,
}

/// A host that runs. Dropped: removed with its volumes.
pub struct SystemdHost {
    name: String,
}

impl Plan {
    pub fn new() -> Plan {
        Plan::default()
    }

    pub fn cgroups(mut self, cgroups: Cgroups) -> Plan {
        self.cgroups = cgroups;
        self
    }

    /// As `docker run --volume` takes it.
    pub fn bind(mut self, volume: &str) -> Plan {
        self.binds.push(volume.into());
        self
    }

    /// A file that is there before the first boot, such as a unit.
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Plan {
        self.files.push((path.into(), content.as_ref().into()));
        self
    }

    /// A directory whose content is laid over the root before the first boot, modes and links as
    /// they are, owned by root: what Ignition wrote.
    pub fn overlay(mut self, directory: &Path) -> Plan {
        self.roots.push(directory.display().to_string());
        self
    }

    /// A file system in memory, as `docker run --tmpfs` takes it: a small disk.
    pub fn tmpfs(mut self, tmpfs: &str) -> Plan {
        self.tmpfs.push(tmpfs.into());
        self
    }

    /// The agent itself is in an overlay too, as a file that may be replaced; units are enabled by
    /// presets at the first boot, as Ignition has it.
    pub fn provisioned(mut self) -> Plan {
        self.provisioned = true;
        self.file("/etc/machine-id", "uninitialized\n")
    }

    /// Makes the host and waits until systemd has come up.
    pub fn boot(self) -> SystemdHost {
        let mut make = command(workspace().join("tests/images/make"));
        make.args(["--import", "systemd"]);
        stdout(&mut make, "see above").unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("agent-systemd-{}-{number}", std::process::id());
        let host = SystemdHost { name };
        host.create(&self);
        host.lay(&self);
        docker(&["start", &host.name]);
        host.wait_up();
        host
    }
}

impl SystemdHost {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `docker exec` of a command as root. Errors: it failed; then with all that it said.
    pub fn try_run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        stdout(&mut self.exec(arguments), HINT)
    }

    /// What the command printed; it has to succeed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).unwrap()
    }

    /// A script for the shell, which has to succeed.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        self.run(&["bash", "-ec", script])
    }

    /// Exit code and output of a command that may fail.
    pub fn output(&self, arguments: &[&str]) -> Output {
        output(&mut self.exec(arguments), HINT).unwrap()
    }

    /// One property of a unit: `systemctl show`.
    pub fn property(&self, unit: &str, property: &str) -> String {
        let shown = self.run(&["systemctl", "show", "--value", "-p", property, unit]);
        shown.trim().to_owned()
    }

    #[track_caller]
    pub fn wait_state(&self, unit: &str, state: &str) {
        wait::until(&format!("{unit} is {state}"), || {
            (self.property(unit, "ActiveState") == state).then_some(())
        });
    }

    /// Writes a file in the running host, and the directories above it.
    pub fn write(&self, path: &str, content: &str) {
        let script = "mkdir -p \"$(dirname \"$1\")\" && printf %s \"$2\" >\"$1\"";
        self.run(&["bash", "-ec", script, "-", path, content]);
    }

    /// A clean reboot: services are stopped in order, /run is new, disks stay.
    pub fn reboot(&self) {
        // The answer is lost where the shutdown is faster.
        let _ = self.try_run(&["systemctl", "reboot"]);
        wait::until_within(BOOT, "the host goes down", || {
            (self.state() != "true").then_some(())
        });
        self.start();
    }

    /// Power fails: nothing is told or synced by anybody. [`SystemdHost::start`] brings it back.
    pub fn cut_power(&self) {
        docker(&["kill", "--signal", "KILL", &self.name]);
        wait::until("the host is off", || (self.state() != "true").then_some(()));
    }

    /// Boots a host that is off.
    pub fn start(&self) {
        docker(&["start", &self.name]);
        self.wait_up();
    }

    /// The journal's last lines, of everything or of one unit.
    pub fn journal(&self, unit: Option<&str>) -> String {
        let mut arguments = vec!["journalctl", "--no-pager", "-n", "60"];
        arguments.extend(unit.iter().flat_map(|unit| ["-u", unit]));
        self.try_run(&arguments).unwrap_or_default()
    }

    /// The host's root as this machine sees it: for its files and its unix sockets.
    pub fn root(&self) -> PathBuf {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &self.name]);
        format!("/proc/{pid}/root").into()
    }

    /// Where this machine reaches it.
    pub fn address(&self) -> IpAddr {
        let field = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "-f", field, &self.name])
            .parse()
            .unwrap()
    }

    fn exec(&self, arguments: &[&str]) -> std::process::Command {
        let mut exec = command("docker");
        exec.args(["exec", &self.name]).args(arguments);
        exec
    }

    fn state(&self) -> String {
        docker(&["inspect", "-f", "{{.State.Running}}", &self.name])
    }

    fn volumes(&self) -> [String; 2] {
        ["docker", "containerd"].map(|of| format!("{}-{of}", self.name))
    }

    fn create(&self, plan: &Plan) {
        let mut create: Vec<String> = [
            "create",
            "--name",
            &self.name,
            "--hostname",
            "systemd-host",
            "--stop-signal",
            "SIGRTMIN+3",
            "--cgroupns=host",
            // Not --privileged: it asks for more than there may be.
            "--cap-add=ALL",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
            "--security-opt=systempaths=unconfined",
            "--device-cgroup-rule=a *:* rwm",
            "--tmpfs=/run",
            "--tmpfs=/run/lock",
            "--tmpfs=/tmp",
            "--env=container=docker",
        ]
        .map(str::to_owned)
        .into();
        if !may_give(SYS_RESOURCE) {
            create.push("--cap-drop=SYS_RESOURCE".into());
        }
        let cgroups = Path::new("/sys/fs/cgroup");
        let machine_is_v2 = cgroups.join("cgroup.controllers").exists();
        let bound = match (machine_is_v2, plan.cgroups) {
            (false, Cgroups::V2) => "/sys/fs/cgroup/unified",
            _ => "/sys/fs/cgroup",
        };
        create.push(format!("--volume={bound}:/sys/fs/cgroup:rw"));
        if !machine_is_v2 && plan.cgroups == Cgroups::V1 {
            let words = "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1";
            create.push(format!("--env=SYSTEMD_PROC_CMDLINE={words}"));
        }
        // On disks that a reboot keeps; overlayfs cannot lie on the container's own.
        let [inner_docker, inner_containerd] = self.volumes();
        create.push(format!("--volume={inner_docker}:/var/lib/docker"));
        create.push(format!("--volume={inner_containerd}:/var/lib/containerd"));
        if !plan.provisioned {
            create.push(format!("--volume={}:{AGENT}:ro", binary().display()));
        }
        create.extend(plan.tmpfs.iter().map(|tmpfs| format!("--tmpfs={tmpfs}")));
        create.extend(plan.binds.iter().map(|bind| format!("--volume={bind}")));
        create.push(IMAGE.into());
        let create: Vec<&str> = create.iter().map(String::as_str).collect();
        docker(&create);
    }

    /// Puts files and directories into the root, which nothing has started from yet.
    fn lay(&self, plan: &Plan) {
        let staged = tempfile::tempdir().unwrap();
        let mut roots = plan.roots.clone();
        for (path, content) in &plan.files {
            let path = staged.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        roots.push(staged.path().display().to_string());
        for root in roots {
            // Its own directory entry would give the root of the host another mode.
            let script =
                "cd \"$1\" && tar --owner=0 --group=0 -cf - -- $(ls -A) | docker cp - \"$2\":/";
            let mut copy = command("bash");
            let is_empty = fs::read_dir(&root).unwrap().next().is_none();
            if !is_empty {
                let copy = copy.args(["-ec", script, "-", &root, &self.name]);
                stdout(copy, HINT).unwrap();
            }
        }
    }

    /// A degraded system is up as well: what failed is the test's to ask.
    fn wait_up(&self) {
        let mut said = String::new();
        wait::until_within(BOOT, "systemd has come up", || {
            let is_running = self.output(&["systemctl", "is-system-running"]);
            said = String::from_utf8_lossy(&is_running.stdout)
                .trim()
                .to_owned();
            if self.state() != "true" {
                let logs = command("docker")
                    .args(["logs", "--tail", "30", &self.name])
                    .output();
                panic!("the host ended: {logs:?}");
            }
            matches!(said.as_str(), "running" | "degraded").then_some(())
        });
    }
}

impl Drop for SystemdHost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- journal of the host ---\n{}", self.journal(None));
            let agent = self.journal(Some("agent"));
            eprintln!("--- journal of the agent ---\n{agent}");
        }
        let mut remove = command("docker");
        let _ = remove.args(["rm", "-f", "-v", &self.name]).output();
        let mut remove = command("docker");
        let _ = remove
            .args(["volume", "rm", "-f"])
            .args(self.volumes())
            .output();
    }
}

#[track_caller]
fn docker(arguments: &[&str]) -> String {
    let mut docker = command("docker");
    let said = stdout(docker.args(arguments), HINT).unwrap();
    said.trim().to_owned()
}

/// Whether our own bounding set still has that capability.
fn may_give(capability: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    u64::from_str_radix(bounding.unwrap().trim(), 16).unwrap() >> capability & 1 == 1
}
