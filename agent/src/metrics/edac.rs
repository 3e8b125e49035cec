//! `edac`: memory errors that the hardware corrected, or could not. Source:
//! /sys/devices/system/edac/mc, the kernel's admin-guide/RAS.

use crate::host::roots::Roots;
use crate::metrics::attributes::{attribute, index, names_if_any, number};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use std::path::{Path, PathBuf};

pub struct Edac {
    controllers: PathBuf,
}

impl Edac {
    pub fn new(roots: &Roots) -> Edac {
        Edac {
            controllers: roots.sys.join("devices/system/edac/mc"),
        }
    }
}

/// Adds the number in `file` where there is one.
fn add(page: &mut Page, file: &Path, family: &str, help: &str, labels: &[(&str, &str)]) {
    if let Some(errors) = number(file) {
        page.family(family, Kind::Counter, help)
            .sample(labels, errors);
    }
}

/// The kernel's own label for a place, `mc0csrow1channel2`, is shown as
/// `mc0_csrow1_channel2`; what firmware wrote stays.
fn shown_label(label: &str) -> String {
    let parts = || {
        let (controller, rest) = label.split_once("csrow")?;
        let (row, channel) = rest.split_once("channel")?;
        index(controller, "mc", "")?;
        index(row, "", "")?;
        index(channel, "", "")?;
        Some(format!("{controller}_csrow{row}_channel{channel}"))
    };
    parts().unwrap_or_else(|| label.to_owned())
}

/// What a file counts: its short name, and the words of the family and the help.
const COUNTS: [(&str, &str); 2] = [("ce", "correctable"), ("ue", "uncorrectable")];

impl Collector for Edac {
    fn name(&self) -> &'static str {
        "edac"
    }

    fn shows_what_few_have(&self) -> bool {
        true
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        for name in names_if_any(&self.controllers, "mc")? {
            let Some(controller) = index(&name, "mc", "") else {
                continue;
            };
            let directory = self.controllers.join(&name);
            for (short, word) in COUNTS {
                let labels = [("controller", controller)];
                let family = format!("node_edac_{word}_errors_total");
                let help = format!("Total {word} memory errors.");
                let file = directory.join(format!("{short}_count"));
                add(page, &file, &family, &help, &labels);
                let labels = [("controller", controller), ("csrow", "unknown")];
                let family = format!("node_edac_csrow_{word}_errors_total");
                let help = format!("Total {word} memory errors for this csrow.");
                let file = directory.join(format!("{short}_noinfo_count"));
                add(page, &file, &family, &help, &labels);
            }
            for row in names_if_any(&directory, "csrow")? {
                if let Some(csrow) = index(&row, "csrow", "") {
                    write_row(page, &directory.join(&row), controller, csrow)?;
                }
            }
        }
        Ok(())
    }
}

fn write_row(
    page: &mut Page,
    directory: &Path,
    controller: &str,
    csrow: &str,
) -> Result<(), CollectError> {
    let files = names_if_any(directory, "ch")?;
    for (short, word) in COUNTS {
        let labels = [("controller", controller), ("csrow", csrow)];
        let family = format!("node_edac_csrow_{word}_errors_total");
        let help = format!("Total {word} memory errors for this csrow.");
        let file = directory.join(format!("{short}_count"));
        add(page, &file, &family, &help, &labels);
        let family = format!("node_edac_channel_{word}_errors_total");
        let help = format!("Total {word} memory errors for this channel.");
        for file in &files {
            let Some(channel) = index(file, "ch", &format!("_{short}_count")) else {
                continue;
            };
            let label = attribute(&directory.join(format!("ch{channel}_dimm_label")));
            let labels = [
                ("channel", channel),
                ("controller", controller),
                ("csrow", csrow),
                ("dimm_label", &shown_label(&label.unwrap_or_default())),
            ];
            add(page, &directory.join(file), &family, &help, &labels);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Edac;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn errors_are_counted_by_controller_row_and_channel() {
        let (_dir, roots) = host(&[
            ("sys/devices/system/edac/mc/mc0/ce_count", "1\n"),
            ("sys/devices/system/edac/mc/mc0/ue_noinfo_count", "6\n"),
            ("sys/devices/system/edac/mc/mc0/csrow2/ce_count", "3\n"),
            ("sys/devices/system/edac/mc/mc0/csrow2/ch1_ue_count", "4\n"),
            (
                "sys/devices/system/edac/mc/mc0/csrow2/ch1_dimm_label",
                "A1\n",
            ),
        ]);
        let pages = collect(&mut Edac::new(&roots));
        let controller = ("controller", "0");
        let family = "node_edac_correctable_errors_total";
        expect(&pages, family, &[controller], 1.0);
        let family = "node_edac_csrow_uncorrectable_errors_total";
        expect(&pages, family, &[controller, ("csrow", "unknown")], 6.0);
        let family = "node_edac_csrow_correctable_errors_total";
        expect(&pages, family, &[controller, ("csrow", "2")], 3.0);
        let family = "node_edac_channel_uncorrectable_errors_total";
        let labels = [
            ("channel", "1"),
            controller,
            ("csrow", "2"),
            ("dimm_label", "A1"),
        ];
        expect(&pages, family, &labels, 4.0);
    }
}
