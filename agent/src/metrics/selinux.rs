//! `selinux`: whether it is on, and its mode as booted and as configured.
//! Sources: /sys/fs/selinux/enforce, /etc/selinux/config, /proc/self/attr/current.
//!
//! Modes: 1 enforcing, 0 permissive, -1 disabled or unknown.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

pub struct Selinux {
    enforce: Source,
    config: Source,
    label: Source,
}

impl Selinux {
    pub fn new(roots: &Roots) -> Selinux {
        Selinux {
            enforce: Source::of_one_piece(roots.sys.join("fs/selinux/enforce")),
            config: Source::new(roots.rootfs.join("etc/selinux/config")),
            label: Source::new(roots.proc.join("self/attr/current")),
        }
    }

    /// The running mode, or `None` where SELinux is off or has no policy yet,
    /// which shows in this process' own label: it is still `kernel`.
    fn current(&mut self) -> Option<f64> {
        let enforce = self.enforce.read().ok()?;
        let mode = enforce.as_str().trim().parse().unwrap_or(-1.0);
        let label = self.label.read();
        let without_policy =
            label.is_ok_and(|label| label.as_str().trim_end_matches(['\0', '\n']) == "kernel");
        (!without_policy).then_some(mode)
    }

    fn configured(&mut self) -> f64 {
        let Ok(text) = self.config.read() else {
            return -1.0;
        };
        let mode = text
            .as_str()
            .lines()
            .find_map(|line| line.trim().strip_prefix("SELINUX="))
            .map(str::trim);
        match mode {
            Some("enforcing") => 1.0,
            Some("permissive") => 0.0,
            _ => -1.0,
        }
    }
}

impl Collector for Selinux {
    fn name(&self) -> &'static str {
        "selinux"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let current = self.current();
        page.family(
            "node_selinux_enabled",
            Kind::Gauge,
            "SELinux is enabled, 1 is true, 0 is false",
        )
        .bare(current.is_some());
        let Some(current) = current else {
            return Ok(());
        };
        page.family(
            "node_selinux_config_mode",
            Kind::Gauge,
            "Configured SELinux enforcement mode",
        )
        .bare(self.configured());
        page.family(
            "node_selinux_current_mode",
            Kind::Gauge,
            "Current SELinux enforcement mode",
        )
        .bare(current);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Selinux;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn modes_are_shown_where_it_is_on() {
        let (_dir, roots) = host(&[
            ("sys/fs/selinux/enforce", "0"),
            ("etc/selinux/config", "# x\nSELINUX=enforcing\n"),
            ("proc/self/attr/current", "system_u:system_r:kernel_t:s0\0"),
        ]);
        let pages = collect(&mut Selinux::new(&roots));
        expect(&pages, "node_selinux_enabled", &[], 1.0);
        expect(&pages, "node_selinux_config_mode", &[], 1.0);
        expect(&pages, "node_selinux_current_mode", &[], 0.0);
    }

    #[test]
    fn without_file_system_or_policy_it_is_off() {
        let label = ("proc/self/attr/current", "kernel\0");
        let mounted = ("sys/fs/selinux/enforce", "0");
        for files in [vec![], vec![label, mounted]] {
            let (_dir, roots) = host(&files);
            let pages = collect(&mut Selinux::new(&roots));
            assert_eq!(pages.len(), 1);
            expect(&pages, "node_selinux_enabled", &[], 0.0);
        }
    }
}
