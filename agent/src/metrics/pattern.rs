//! node_exporter's default expressions: which devices and mounts stay off the
//! page, which statistics are on it. Decisions are remembered: names repeat at
//! every scrape.

use crate::metrics::options::Filter;
use crate::metrics::short_hash::ShortHashMap;
use regex_lite::Regex;

/// Partitions, RAM disks, loop and floppy devices; whole disks and dm-* stay.
pub const DISKS: &str = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$";
/// Kernel directories and the mounts that Docker and containerd make per container.
pub const MOUNT_POINTS: &str = concat!(
    r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+",
    r"|var/lib/containers/storage/.+)($|/)"
);
/// Pseudo file systems, and read-only or stacked ones that are always full; tmpfs stays.
pub const FILESYSTEM_TYPES: &str = concat!(
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs",
    r"|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs",
    r"|squashfs|erofs|sysfs|tracefs)$"
);

/// Unit types that hosts have by the hundred, made by themselves.
pub const UNITS: &str = r".+\.(automount|device|mount|scope|slice)";

/// Of the some 400 protocol statistics, those that are shown; `Protocol_Statistic`.
pub const NETSTAT_FIELDS: &str = concat!(
    r"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)",
    r"|Icmp6?_(InMsgs|OutMsgs)",
    r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)",
    r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)",
    r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
);

/// Of the some 150 statistics of memory, those that are shown.
pub const VMSTAT_FIELDS: &str = "^(oom_kill|pgpg|pswp|pg.*fault).*";

/// Remembered decisions; when full, all are forgotten.
const REMEMBERED: usize = 4096;

/// One expression and what it said before.
pub struct Pattern {
    expression: Option<Regex>,
    decided: ShortHashMap<String, bool>,
}

impl Pattern {
    /// An expression that cannot be compiled matches nothing; ours are tested.
    pub fn new(expression: &str) -> Pattern {
        Pattern {
            expression: Regex::new(expression).ok(),
            decided: ShortHashMap::default(),
        }
    }

    pub fn matches(&mut self, name: &str) -> bool {
        if let Some(decision) = self.decided.get(name) {
            return *decision;
        }
        let decision = self
            .expression
            .as_ref()
            .is_some_and(|expression| expression.is_match(name));
        if self.decided.len() >= REMEMBERED {
            self.decided.clear();
        }
        self.decided.insert(name.to_owned(), decision);
        decision
    }
}

/// The expression that matches where all of a name matches `expression`.
pub fn whole(expression: &str) -> String {
    format!("^(?:{expression})$")
}

/// Whether `text` is an expression that [`Pattern`] can use; else why not. The
/// syntax is RE2's without Unicode classes.
pub fn check(text: &str) -> Result<(), String> {
    Regex::new(text)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// A [`Filter`] at work.
pub struct Sieve {
    include: Option<Pattern>,
    exclude: Option<Pattern>,
}

impl Sieve {
    pub fn new(filter: &Filter) -> Sieve {
        let pattern = |text: &Option<String>| text.as_deref().map(Pattern::new);
        Sieve {
            include: pattern(&filter.include),
            exclude: pattern(&filter.exclude),
        }
    }

    pub fn takes(&mut self, name: &str) -> bool {
        let included = self
            .include
            .as_mut()
            .is_none_or(|pattern| pattern.matches(name));
        included
            && !self
                .exclude
                .as_mut()
                .is_some_and(|pattern| pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::{DISKS, FILESYSTEM_TYPES, MOUNT_POINTS, Pattern, UNITS, whole};

    fn split<'a>(expression: &str, names: &[&'a str]) -> Vec<&'a str> {
        let mut excluded = Pattern::new(expression);
        assert!(excluded.expression.is_some());
        let kept = |excluded: &mut Pattern| -> Vec<&'a str> {
            names
                .iter()
                .copied()
                .filter(|name| !excluded.matches(name))
                .collect()
        };
        let first = kept(&mut excluded);
        assert_eq!(first, kept(&mut excluded), "remembered differently");
        first
    }

    #[test]
    fn whole_disks_stay_and_their_partitions_go() {
        let names = [
            "sda",
            "sda1",
            "nvme0n1",
            "nvme0n1p3",
            "xvdf",
            "xvdf1",
            "dm-0",
            "loop7",
            "zram0",
            "md127",
            "mmcblk0p1",
        ];
        assert_eq!(
            split(DISKS, &names),
            ["sda", "nvme0n1", "xvdf", "dm-0", "md127", "mmcblk0p1"]
        );
    }

    #[test]
    fn container_mounts_and_kernel_directories_go() {
        let names = [
            "/",
            "/proc",
            "/proc/sys/fs/binfmt_misc",
            "/process",
            "/var/lib/docker",
            "/var/lib/docker/overlay2/abc/merged",
            "/run/credentials/systemd-sysctl.service",
            "/run",
            "/data",
        ];
        assert_eq!(
            split(MOUNT_POINTS, &names),
            ["/", "/process", "/var/lib/docker", "/run", "/data"]
        );
    }

    #[test]
    fn services_sockets_and_timers_stay_and_what_devices_make_goes() {
        let names = [
            "docker.service",
            "docker.socket",
            "dev-sda1.device",
            "data.mount",
            "fstrim.timer",
            "system.slice",
            "docker-0a1b.scope",
            "multi-user.target",
            "mount.service",
        ];
        assert_eq!(
            split(&whole(UNITS), &names),
            [
                "docker.service",
                "docker.socket",
                "fstrim.timer",
                "multi-user.target",
                "mount.service"
            ]
        );
    }

    #[test]
    fn pseudo_types_go_and_tmpfs_stays() {
        let names = [
            "ext4", "tmpfs", "cgroup", "cgroup2", "overlay", "nfs4", "btrfs",
        ];
        assert_eq!(
            split(FILESYSTEM_TYPES, &names),
            ["ext4", "tmpfs", "nfs4", "btrfs"]
        );
    }
}
