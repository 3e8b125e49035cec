//! `netstat`: counters of the IP, ICMP, TCP and UDP layers, TYPE untyped as
//! node_exporter has them. Sources: /proc/net/netstat and snmp (a line of names
//! and a line of numbers per protocol), snmp6 (one per line, absent without IPv6).
//!
//! Of some 400 statistics 42 are shown, so what to pick is kept per line of
//! names and made anew only when that line changes, as with another kernel.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page, push_name};
use crate::metrics::pattern::Pattern;
use crate::metrics::short_hash::ShortHashMap;
use crate::metrics::source::{Source, Text};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// InOctets and OutOctets of a line `IpExt`, in this process' own network namespace, and since
/// when they are true: `process_*` shows them as well, and the kernel sums some 400 counters for
/// each reading.
#[derive(Clone, Default)]
pub struct Octets(Arc<Mutex<Option<(Instant, [f64; 2])>>>);

impl Octets {
    /// As they were at `begun` or later, where somebody has read them since.
    pub fn since(&self, begun: Instant) -> Option<[f64; 2]> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .filter(|(read, _)| *read >= begun)
            .map(|(_, both)| both)
    }

    fn keep(&self, read: Instant, both: [f64; 2]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((read, both));
    }
}

pub struct Netstat {
    /// None where the collectors look at another /proc than this process'.
    octets: Option<Octets>,
    paired: [(Source, Vec<Plan>); 2],
    snmp6: Source,
    shown: Pattern,
    /// By the word in snmp6.
    picks6: ShortHashMap<String, Option<Pick>>,
}

/// What to pick of one protocol, by its place in the file.
struct Plan {
    /// The line of names that it was made for.
    names: String,
    picks: Vec<Pick>,
}

/// A statistic that is shown.
struct Pick {
    /// Column in the line, its label not counted.
    column: usize,
    name: String,
    help: String,
    /// Which of [`Octets`] it is.
    octets: Option<usize>,
}

/// Names beyond this many are a file that we do not understand.
const MAX_NAMES: usize = 4096;

impl Netstat {
    /// `fields` matches the statistics to show, as `Tcp_InSegs`.
    pub fn new(roots: &Roots, fields: &str, octets: Octets) -> Netstat {
        let net = roots.proc.join("net");
        Netstat {
            octets: (roots.proc == Path::new("/proc")).then_some(octets),
            paired: ["netstat", "snmp"]
                .map(|name| (Source::of_one_piece(net.join(name)), Vec::new())),
            snmp6: Source::of_one_piece(net.join("snmp6")),
            shown: Pattern::new(fields),
            picks6: ShortHashMap::default(),
        }
    }
}

impl Collector for Netstat {
    fn name(&self) -> &'static str {
        "netstat"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        for (source, plans) in &mut self.paired {
            let read = Instant::now();
            let text = source.read()?;
            let both = write_paired(page, &text, plans, &mut self.shown)?;
            if let (Some(octets), [Some(received), Some(sent)]) = (&self.octets, both) {
                octets.keep(read, [received, sent]);
            }
        }
        match self.snmp6.read() {
            Ok(text) => write_snmp6(page, &text, &mut self.picks6, &mut self.shown),
            Err(CollectError::Absent { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn write_paired(
    page: &mut Page,
    text: &Text<'_>,
    plans: &mut Vec<Plan>,
    shown: &mut Pattern,
) -> Result<[Option<f64>; 2], CollectError> {
    let mut octets = [None; 2];
    let mut lines = text.as_str().lines();
    let mut place = 0;
    while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        let (Some((protocol, fields)), Some((same, numbers))) =
            (names.split_once(':'), numbers.split_once(':'))
        else {
            return Err(text.malformed(format!("{names:?} has no colon")));
        };
        if protocol != same {
            return Err(text.malformed(format!("numbers of {same:?} below names of {protocol:?}")));
        }
        if plans.get(place).is_none_or(|plan| plan.names != names) {
            plans.truncate(place);
            if place >= MAX_NAMES {
                return Err(text.malformed(format!("it has more than {MAX_NAMES} protocols")));
            }
            let picks = fields
                .split_ascii_whitespace()
                .enumerate()
                .filter_map(|(column, field)| pick(column, protocol, field, shown))
                .collect();
            let names = names.to_owned();
            plans.push(Plan { names, picks });
        }
        let picks = plans.get(place).map(|plan| &plan.picks);
        place += 1;
        let mut numbers = numbers.split_ascii_whitespace();
        let mut next = 0;
        for pick in picks.into_iter().flatten() {
            let value: f64 = text.number(numbers.nth(pick.column - next))?;
            next = pick.column + 1;
            page.family(&pick.name, Kind::Untyped, &pick.help)
                .bare(value);
            if let Some(direction) = pick.octets {
                octets[direction] = Some(value);
            }
        }
    }
    Ok(octets)
}

/// Words there are protocol and statistic in one: `Udp6InDatagrams`.
fn write_snmp6(
    page: &mut Page,
    text: &Text<'_>,
    picks: &mut ShortHashMap<String, Option<Pick>>,
    shown: &mut Pattern,
) -> Result<(), CollectError> {
    for line in text.as_str().lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(word) = words.next() else {
            continue;
        };
        if !picks.contains_key(word) {
            if picks.len() >= MAX_NAMES {
                picks.clear();
            }
            let pick = word
                .find('6')
                .and_then(|six| pick(0, &word[..=six], &word[six + 1..], shown));
            picks.insert(word.to_owned(), pick);
        }
        if let Some(Some(pick)) = picks.get(word) {
            let value: f64 = text.number(words.next())?;
            page.family(&pick.name, Kind::Untyped, &pick.help)
                .bare(value);
        }
    }
    Ok(())
}

fn pick(column: usize, protocol: &str, field: &str, shown: &mut Pattern) -> Option<Pick> {
    let joined = format!("{protocol}_{field}");
    if !shown.matches(&joined) {
        return None;
    }
    let mut name = "node_netstat_".to_owned();
    push_name(&mut name, &joined);
    Some(Pick {
        column,
        name,
        help: format!("Statistic {protocol}{field}."),
        octets: ["IpExt_InOctets", "IpExt_OutOctets"]
            .iter()
            .position(|one| *one == joined),
    })
}

#[cfg(test)]
mod tests {
    use super::{Netstat, Octets};
    use crate::host::roots::Roots;
    use crate::metrics::collector::Collector;
    use crate::metrics::exposition::Page;
    use crate::metrics::pattern::NETSTAT_FIELDS;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn the_default_statistics_are_picked_by_name_whatever_their_column() {
        let netstat = "TcpExt: TW ListenDrops SyncookiesSent\nTcpExt: 9 8 7\n\
            IpExt: InOctets InNoRoutes OutOctets\nIpExt: 1 2 3\n";
        let snmp = "Tcp: MaxConn CurrEstab\nTcp: -1 4\n";
        let snmp6 = "Udp6InDatagrams   \t5\nIp6InReceives \t6\n";
        let (dir, roots) = host(&[
            ("proc/net/netstat", netstat),
            ("proc/net/snmp", snmp),
            ("proc/net/snmp6", snmp6),
        ]);
        let mut collector = Netstat::new(&roots, NETSTAT_FIELDS, Octets::default());
        let pages = collect(&mut collector);
        assert_eq!(pages.len(), 6);
        assert!(pages.values().all(|family| family.kind == "untyped"));
        expect(&pages, "node_netstat_TcpExt_ListenDrops", &[], 8.0);
        expect(&pages, "node_netstat_TcpExt_SyncookiesSent", &[], 7.0);
        expect(&pages, "node_netstat_IpExt_OutOctets", &[], 3.0);
        expect(&pages, "node_netstat_Tcp_CurrEstab", &[], 4.0);
        expect(&pages, "node_netstat_Udp6_InDatagrams", &[], 5.0);

        let other = "TcpExt: ListenDrops TW\nTcpExt: 11 12\n";
        std::fs::write(dir.path().join("proc/net/netstat"), other).unwrap();
        let pages = collect(&mut collector);
        expect(&pages, "node_netstat_TcpExt_ListenDrops", &[], 11.0);
    }

    #[test]
    fn without_ipv6_the_rest_is_shown() {
        let (_dir, roots) = host(&[
            ("proc/net/netstat", ""),
            ("proc/net/snmp", "Ip: Forwarding\nIp: 1\n"),
        ]);
        let pages = collect(&mut Netstat::new(&roots, NETSTAT_FIELDS, Octets::default()));
        assert_eq!(pages.len(), 1);
        expect(&pages, "node_netstat_Ip_Forwarding", &[], 1.0);
    }

    #[test]
    fn numbers_that_miss_their_names_are_an_error() {
        for netstat in [
            "TcpExt: A ListenDrops\nTcpExt: 1\n",
            "TcpExt: A\nIpExt: 1\n",
        ] {
            let (_dir, roots) = host(&[("proc/net/netstat", netstat), ("proc/net/snmp", "")]);
            assert!(
                Netstat::new(&roots, NETSTAT_FIELDS, Octets::default())
                    .update(&mut Page::default())
                    .is_err()
            );
        }
    }

    #[test]
    fn octets_are_shared_as_long_as_they_are_of_the_same_page() {
        let octets = Octets::default();
        let fields = format!("{NETSTAT_FIELDS}|^IpExt_(In|Out)Octets$");
        let mut collector = Netstat::new(&Roots::default(), &fields, octets.clone());
        let mut page = Page::default();
        assert_eq!(octets.since(page.begun()), None);
        collector.update(&mut page).unwrap();
        assert!(octets.since(page.begun()).is_some());
        page.clear();
        assert_eq!(octets.since(page.begun()), None);
    }
}
