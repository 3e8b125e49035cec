//! `nfsd`: calls to this host's NFS server. Source: /proc/net/rpc/nfsd, there
//! once the module is loaded.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::rpc::Lines;
use crate::metrics::source::Source;

/// Family, keyword, column, type, help.
const NUMBERS: [(&str, &str, usize, Kind, &str); 11] = [
    (
        "node_nfsd_reply_cache_hits_total",
        "rc",
        0,
        Kind::Counter,
        "Total number of NFSd Reply Cache hits (client lost server response).",
    ),
    (
        "node_nfsd_reply_cache_misses_total",
        "rc",
        1,
        Kind::Counter,
        "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
    ),
    (
        "node_nfsd_reply_cache_nocache_total",
        "rc",
        2,
        Kind::Counter,
        "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
    ),
    (
        "node_nfsd_file_handles_stale_total",
        "fh",
        0,
        Kind::Counter,
        "Total number of NFSd stale file handles",
    ),
    (
        "node_nfsd_disk_bytes_read_total",
        "io",
        0,
        Kind::Counter,
        "Total NFSd bytes read.",
    ),
    (
        "node_nfsd_disk_bytes_written_total",
        "io",
        1,
        Kind::Counter,
        "Total NFSd bytes written.",
    ),
    (
        "node_nfsd_server_threads",
        "th",
        0,
        Kind::Gauge,
        "Total number of NFSd kernel threads that are running.",
    ),
    (
        "node_nfsd_read_ahead_cache_size_blocks",
        "ra",
        0,
        Kind::Gauge,
        "How large the read ahead cache is in blocks.",
    ),
    (
        "node_nfsd_read_ahead_cache_not_found_total",
        "ra",
        11,
        Kind::Counter,
        "Total number of NFSd read ahead cache not found.",
    ),
    (
        "node_nfsd_connections_total",
        "net",
        3,
        Kind::Counter,
        "Total number of NFSd TCP connections.",
    ),
    (
        "node_nfsd_server_rpcs_total",
        "rpc",
        0,
        Kind::Counter,
        "Total number of NFSd RPCs.",
    ),
];

/// Error, column of `rpc`.
const ERRORS: [(&str, usize); 3] = [("fmt", 2), ("auth", 3), ("cInt", 4)];

/// Procedures in the kernel's order, behind their number; `-` is not shown.
const VERSION_2: &str = "- GetAttr SetAttr Root Lookup ReadLink Read WrCache Write Create \
    Remove Rename Link SymLink MkDir RmDir ReadDir FsStat";
const VERSION_3: &str = "- GetAttr SetAttr Lookup Access ReadLink Read Write Create MkDir \
    SymLink MkNod Remove RmDir Rename Link ReadDir ReadDirPlus FsStat FsInfo PathConf Commit";
/// Operations by their number in RFC 7530.
const VERSION_4: &str = "- - - Access Close Commit Create DelegPurge DelegReturn GetAttr GetFH \
    Link Lock Lockt Locku Lookup LookupRoot Nverify Open OpenAttr OpenConfirm OpenDgrd PutFH - - \
    Read ReadDir ReadLink Remove Rename Renew RestoreFH SaveFH SecInfo SetAttr SetClientID \
    SetClientIDConfirm Verify Write RelLockOwner";

pub struct Nfsd {
    rpc: Source,
}

impl Nfsd {
    pub fn new(roots: &Roots) -> Nfsd {
        Nfsd {
            rpc: Source::new(roots.proc.join("net/rpc/nfsd")),
        }
    }
}

impl Collector for Nfsd {
    fn name(&self) -> &'static str {
        "nfsd"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.rpc.read()?;
        let lines = Lines::of(&text)?;
        for (family, keyword, column, kind, help) in NUMBERS {
            page.family(family, kind, help)
                .bare(lines.number(keyword, column));
        }
        let mut family = page.family(
            "node_nfsd_packets_total",
            Kind::Counter,
            "Total NFSd network packets (sent+received) by protocol type.",
        );
        for (proto, column) in [("udp", 1), ("tcp", 2)] {
            family.sample(&[("proto", proto)], lines.number("net", column));
        }
        let mut family = page.family(
            "node_nfsd_rpc_errors_total",
            Kind::Counter,
            "Total number of NFSd RPC errors by error type.",
        );
        for (error, column) in ERRORS {
            family.sample(&[("error", error)], lines.number("rpc", column));
        }
        let mut family = page.family(
            "node_nfsd_requests_total",
            Kind::Counter,
            "Total number NFSd Requests by method and protocol.",
        );
        for (keyword, proto, methods) in [
            ("proc2", "2", VERSION_2),
            ("proc3", "3", VERSION_3),
            ("proc4ops", "4", VERSION_4),
        ] {
            for (at, method) in methods.split_ascii_whitespace().enumerate() {
                if method != "-" {
                    let labels = [("method", method), ("proto", proto)];
                    family.sample(&labels, lines.number(keyword, at + 1));
                }
            }
        }
        let labels = [("method", "WdelegGetattr"), ("proto", "4")];
        family.sample(&labels, lines.number("wdeleg_getattr", 0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Nfsd;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn operations_are_found_by_their_number() {
        let (_dir, roots) = host(&[(
            "proc/net/rpc/nfsd",
            "rc 0 6 18622\nth 8 0 0.000\nra 32 0 0 0 0 0 0 0 0 0 0 7\nrpc 18628 3 1 2 0\n\
             proc4ops 5 0 0 0 1098 2\n",
        )]);
        let pages = collect(&mut Nfsd::new(&roots));
        expect(&pages, "node_nfsd_server_threads", &[], 8.0);
        expect(
            &pages,
            "node_nfsd_read_ahead_cache_not_found_total",
            &[],
            7.0,
        );
        let auth = [("error", "auth")];
        expect(&pages, "node_nfsd_rpc_errors_total", &auth, 2.0);
        let labels = [("method", "Access"), ("proto", "4")];
        expect(&pages, "node_nfsd_requests_total", &labels, 1098.0);
    }
}
