//! `uname`: kernel and host names. Source: uname(2), always of the running kernel.

use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};

pub struct Uname;

impl Collector for Uname {
    fn name(&self) -> &'static str {
        "uname"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let uname = rustix::system::uname();
        let labels = [
            ("domainname", uname.domainname()),
            ("machine", uname.machine()),
            ("nodename", uname.nodename()),
            ("release", uname.release()),
            ("sysname", uname.sysname()),
            ("version", uname.version()),
        ]
        .map(|(name, value)| (name, value.to_string_lossy()));
        let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, v.as_ref())).collect();
        page.family(
            "node_uname_info",
            Kind::Gauge,
            "Labeled system information as provided by the uname system call.",
        )
        .sample(&labels, 1u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Uname;
    use crate::metrics::tests::collect;

    #[test]
    fn the_running_kernel_is_shown_in_six_labels() {
        let pages = collect(&mut Uname);
        let (labels, value) = pages["node_uname_info"].series.first_key_value().unwrap();
        assert_eq!((labels.len(), *value), (6, 1.0));
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(labels["release"], release.trim_end());
        assert_eq!(labels["sysname"], "Linux");
    }
}
