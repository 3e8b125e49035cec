//! `processes` (off by default): processes and threads by state. Sources:
//! /proc/PID/stat and /proc/PID/task/TID/stat, proc(5); costs one open per thread.
//!
//! A process that ends meanwhile is left out.

use crate::host::roots::Roots;
use crate::metrics::attributes::{attribute, index, names, names_if_any};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub struct Processes {
    proc: PathBuf,
    pid_max: Source,
    threads_max: Source,
}

impl Processes {
    pub fn new(roots: &Roots) -> Processes {
        Processes {
            proc: roots.proc.clone(),
            pid_max: Source::of_one_piece(roots.proc.join("sys/kernel/pid_max")),
            threads_max: Source::of_one_piece(roots.proc.join("sys/kernel/threads-max")),
        }
    }
}

/// State and number of threads; the name before them may hold spaces and brackets.
fn state_and_threads(stat: &str) -> Option<(&str, u64)> {
    let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = words.next()?;
    Some((state, words.nth(16)?.parse().ok()?))
}

impl Collector for Processes {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let (mut pids, mut threads) = (0u64, 0u64);
        let (mut states, mut thread_states) = (BTreeMap::new(), BTreeMap::new());
        for pid in names(&self.proc, "")? {
            if index(&pid, "", "").is_none() {
                continue;
            }
            let process = self.proc.join(&pid);
            let Some(stat) = attribute(&process.join("stat")) else {
                continue;
            };
            let Some((state, count)) = state_and_threads(&stat) else {
                continue;
            };
            pids += 1;
            threads += count;
            *states.entry(state.to_owned()).or_insert(0u64) += 1;
            let tasks = process.join("task");
            for task in names_if_any(&tasks, "").unwrap_or_default() {
                // The first thread has the process's number and state.
                let of_task = match task == pid {
                    true => None,
                    false => attribute(&tasks.join(&task).join("stat")),
                };
                let stat = match task == pid {
                    true => Some(&stat),
                    false => of_task.as_ref(),
                };
                if let Some((state, _)) = stat.and_then(|stat| state_and_threads(stat)) {
                    *thread_states.entry(state.to_owned()).or_insert(0u64) += 1;
                }
            }
        }
        for (family, value, help) in [
            (
                "node_processes_threads",
                threads,
                "Allocated threads in system",
            ),
            ("node_processes_pids", pids, "Number of PIDs"),
        ] {
            page.family(family, Kind::Gauge, help).bare(value);
        }
        for (family, label, states, help) in [
            (
                "node_processes_state",
                "state",
                &states,
                "Number of processes in each state.",
            ),
            (
                "node_processes_threads_state",
                "thread_state",
                &thread_states,
                "Number of threads in each state.",
            ),
        ] {
            let mut family = page.family(family, Kind::Gauge, help);
            for (state, count) in states {
                family.sample(&[(label, state)], *count);
            }
        }
        for (source, family, help) in [
            (
                &mut self.threads_max,
                "node_processes_max_threads",
                "Limit of threads in the system",
            ),
            (
                &mut self.pid_max,
                "node_processes_max_processes",
                "Number of max PIDs limit",
            ),
        ] {
            let text = source.read()?;
            let limit: u64 = text.number(text.as_str().split_ascii_whitespace().next())?;
            page.family(family, Kind::Gauge, help).bare(limit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Processes;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn threads_are_counted_by_their_own_state_whatever_the_process_is_called() {
        let tail = "1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 2 0 0";
        let (_dir, roots) = host(&[
            ("proc/7/stat", &format!("7 (a) R (b) S {tail}\n")),
            ("proc/7/task/7/stat", "gone"),
            ("proc/7/task/8/stat", &format!("8 (x) R {tail}\n")),
            ("proc/self/stat", "not a number"),
            ("proc/sys/kernel/pid_max", "123\n"),
            ("proc/sys/kernel/threads-max", "7801\n"),
        ]);
        let pages = collect(&mut Processes::new(&roots));
        expect(&pages, "node_processes_pids", &[], 1.0);
        expect(&pages, "node_processes_threads", &[], 2.0);
        expect(&pages, "node_processes_state", &[("state", "S")], 1.0);
        for state in ["S", "R"] {
            let labels = [("thread_state", state)];
            expect(&pages, "node_processes_threads_state", &labels, 1.0);
        }
    }
}
