//! Whatever bytes stand in the files that collectors read, no collector panics
//! and the page keeps to the format.

use super::{host, nobody, parse, settings_in};
use crate::metrics::exposition::Page;
use crate::metrics::{Shares, make};

use proptest::prelude::*;

/// Collector, a file that it reads below the fixture's roots.
const FILES: [(&str, &str); 32] = [
    ("bonding", "sys/class/net/bonding_masters"),
    ("bonding", "sys/class/net/b/bonding/slaves"),
    ("cgroups", "proc/cgroups"),
    (
        "cpufreq",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
    ),
    (
        "cpufreq",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors",
    ),
    ("edac", "sys/devices/system/edac/mc/mc0/csrow0/ch0_ce_count"),
    (
        "edac",
        "sys/devices/system/edac/mc/mc0/csrow0/ch0_dimm_label",
    ),
    ("interrupts", "proc/interrupts"),
    ("mdadm", "proc/mdstat"),
    ("nfs", "proc/net/rpc/nfs"),
    ("nfsd", "proc/net/rpc/nfsd"),
    ("processes", "proc/7/stat"),
    ("processes", "proc/7/task/8/stat"),
    ("rapl", "sys/class/powercap/intel-rapl:0/name"),
    ("softirqs", "proc/softirqs"),
    ("btrfs", "proc/1/mountinfo"),
    ("btrfs", "sys/fs/btrfs/1-2/commit_stats"),
    ("cpu", "proc/cpuinfo"),
    ("cpu", "sys/devices/system/cpu/isolated"),
    (
        "cpu",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
    ),
    ("dmmultipath", "sys/block/dm-0/dm/uuid"),
    ("dmmultipath", "sys/block/dm-1/size"),
    ("hwmon", "sys/class/hwmon/hwmon0/name"),
    ("hwmon", "sys/class/hwmon/hwmon0/temp1_label"),
    ("hwmon", "sys/class/hwmon/hwmon0/in0_input"),
    ("infiniband", "sys/class/infiniband/efa_0/ports/1/rate"),
    ("infiniband", "sys/class/infiniband/efa_0/ports/1/state"),
    ("powersupplyclass", "sys/class/power_supply/BAT0/status"),
    ("stat", "proc/stat"),
    ("thermal_zone", "sys/class/thermal/thermal_zone0/type"),
    ("watchdog", "sys/class/watchdog/watchdog0/timeout"),
    ("xfs", "sys/fs/xfs/sda1/stats/stats"),
];

/// Words and signs of these files, so that more than their first line is reached.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "md0 : active raid1 sda[0](F)\n",
        "      8 blocks [2/1] [U_]\n",
        "  recovery = (1/",
        "resync",
        "th 8 0 0.000\n",
        "proc4ops 3 1",
        "rpc ",
        "7 (a) S ",
        "1 ",
        "-9 ",
        "18446744073709551616 ",
        "  CPU0 CPU1\n",
        "NMI:",
        " 16: 1 2 ",
        "rw 1 2\n",
        "mc0csrow1channel2",
        "processor : 1\n",
        "flags : a b\n",
        "softirq 1 2\n",
        "mpath-",
        "30 1 0:25 / / rw - btrfs /dev/a rw\n",
        "1,3-5",
        "2.5 Gb/sec (4X)",
        "4: ACTIVE",
        "b ",
        "\n",
        "\t",
        ":",
        "é\"\\",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec(prop_oneof![3 => known, 1 => bytes], 0..24)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_break_a_collector_or_the_page(
        (collector, path) in prop::sample::select(FILES.to_vec()),
        content in content(),
    ) {
        let also = [
            ("sys/class/powercap/intel-rapl:0/energy_uj", "1"),
            ("sys/class/thermal/thermal_zone0/temp", "1"),
            ("sys/devices/system/edac/mc/mc0/csrow0/ch0_ce_count", "1"),
            ("sys/class/net/bonding_masters", "b"),
            ("proc/7/stat", "7 (a) S 1"),
            ("proc/sys/kernel/threads-max", "1"),
            ("proc/sys/kernel/pid_max", "1"),
            ("proc/stat", "cpu0 1 2\n"),
            ("sys/block/dm-1/dm/uuid", "mpath-1"),
            ("sys/devices/system/cpu/cpu0/topology/core_id", "0"),
            ("sys/devices/system/cpu/cpu0/topology/physical_package_id", "0"),
            ("sys/class/power_supply/BAT0/temp", "1"),
            ("sys/fs/btrfs/1-2/devices/sda/size", "1"),
            (path, ""),
        ];
        let (dir, roots) = host(&also);
        std::fs::write(dir.path().join(path), content).unwrap();
        let mut page = Page::default();
        let mut settings = settings_in(roots);
        settings.options.cpu_info = true;
        settings.options.cpu_flags = Some("".into());
        settings.options.stat_softirq = true;
        let shares = Shares::default();
        let mut made = make(collector, &settings, &shares, &nobody()).unwrap();
        let _ = made.update(&mut page);
        parse(&page);
    }
}
