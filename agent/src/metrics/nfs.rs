//! `nfs`: calls of the NFS client. Source: /proc/net/rpc/nfs, there once the
//! module is loaded.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::rpc::Lines;
use crate::metrics::source::Source;

/// Procedures in the kernel's order, behind their number.
const VERSION_2: &str = "Null GetAttr SetAttr Root Lookup ReadLink Read WrCache Write Create \
    Remove Rename Link SymLink MkDir RmDir ReadDir FsStat";
const VERSION_3: &str = "Null GetAttr SetAttr Lookup Access ReadLink Read Write Create MkDir \
    SymLink MkNod Remove RmDir Rename Link ReadDir ReadDirPlus FsStat FsInfo PathConf Commit";
const VERSION_4: &str = "Null Read Write Commit Open OpenConfirm OpenNoattr OpenDowngrade Close \
    Setattr FsInfo Renew SetClientID SetClientIDConfirm Lock Lockt Locku Access Getattr Lookup \
    LookupRoot Remove Rename Link Symlink Create Pathconf StatFs ReadLink ReadDir ServerCaps \
    DelegReturn GetACL SetACL FsLocations ReleaseLockowner Secinfo FsidPresent ExchangeID \
    CreateSession DestroySession Sequence GetLeaseTime ReclaimComplete GetDeviceInfo LayoutGet \
    LayoutCommit LayoutReturn SecinfoNoName TestStateID FreeStateID GetDeviceList \
    BindConnToSession DestroyClientID Seek Allocate DeAllocate LayoutStats Clone";

pub struct Nfs {
    rpc: Source,
}

impl Nfs {
    pub fn new(roots: &Roots) -> Nfs {
        Nfs {
            rpc: Source::new(roots.proc.join("net/rpc/nfs")),
        }
    }
}

impl Collector for Nfs {
    fn name(&self) -> &'static str {
        "nfs"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.rpc.read()?;
        let lines = Lines::of(&text)?;
        let mut family = page.family(
            "node_nfs_packets_total",
            Kind::Counter,
            "Total NFSd network packets (sent+received) by protocol type.",
        );
        for (protocol, column) in [("udp", 1), ("tcp", 2)] {
            family.sample(&[("protocol", protocol)], lines.number("net", column));
        }
        for (family, keyword, column, help) in [
            (
                "node_nfs_connections_total",
                "net",
                3,
                "Total number of NFSd TCP connections.",
            ),
            (
                "node_nfs_rpcs_total",
                "rpc",
                0,
                "Total number of RPCs performed.",
            ),
            (
                "node_nfs_rpc_retransmissions_total",
                "rpc",
                1,
                "Number of RPC transmissions performed.",
            ),
            (
                "node_nfs_rpc_authentication_refreshes_total",
                "rpc",
                2,
                "Number of RPC authentication refreshes performed.",
            ),
        ] {
            page.family(family, Kind::Counter, help)
                .bare(lines.number(keyword, column));
        }
        let mut family = page.family(
            "node_nfs_requests_total",
            Kind::Counter,
            "Number of NFS procedures invoked.",
        );
        for (keyword, proto, methods) in [
            ("proc2", "2", VERSION_2),
            ("proc3", "3", VERSION_3),
            ("proc4", "4", VERSION_4),
        ] {
            for (at, method) in methods.split_ascii_whitespace().enumerate() {
                let labels = [("method", method), ("proto", proto)];
                family.sample(&labels, lines.number(keyword, at + 1));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Nfs;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn procedures_are_named_by_version_and_short_lines_are_filled_up() {
        let (_dir, roots) = host(&[(
            "proc/net/rpc/nfs",
            "net 70 70 69 45\nrpc 9 3 2\nproc4 3 98 51 54\n",
        )]);
        let pages = collect(&mut Nfs::new(&roots));
        expect(&pages, "node_nfs_rpc_retransmissions_total", &[], 3.0);
        let tcp = [("protocol", "tcp")];
        expect(&pages, "node_nfs_packets_total", &tcp, 69.0);
        for (method, count) in [("Write", 54.0), ("Clone", 0.0)] {
            let labels = [("method", method), ("proto", "4")];
            expect(&pages, "node_nfs_requests_total", &labels, count);
        }
    }
}
