//! Files of other programs, read by the agent and by two releases of node_exporter at once: what
//! is on the page, what is an error, and which files have an mtime.

use crate::page::{Sample, families, samples};
use crate::twin::{releases, twin};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant, SystemTime};
use tests::agent::Place;
use tests::program::{command, output};
use tests::{http, wait};

/// A directory of one case: what it shows, and files with their texts.
type Case = (&'static str, &'static [(&'static str, &'static str)]);

const CASES: &[Case] = &[
    ("no_files", &[("readme.txt", "Not a metric.\n")]),
    (
        "two_files",
        &[
            ("a.prom", "one{a=\"x\"} 1\ntwo{a=\"y\"} 2\n"),
            ("b.prom", "three 3\n"),
        ],
    ),
    (
        "client_timestamps",
        &[("a.prom", "stamped 1 1441205977284\nplain 2\n")],
    ),
    (
        "different_types",
        &[(
            "a.prom",
            "# HELP c_total C.\n# TYPE c_total counter\nc_total{a=\"1\"} 1\nc_total{a=\"2\"} 2\n\n\
             # HELP s S.\n# TYPE s summary\ns{b=\"x\",quantile=\"0.5\"} 1e-06\n\
             s{b=\"x\",quantile=\"0.90\"} 2\ns_sum{b=\"x\"} 1.8e+06\ns_count{b=\"x\"} 1.5e+09\n",
        )],
    ),
    (
        "summary_with_labels_of_some",
        &[(
            "a.prom",
            "# TYPE s summary\ns{r=\"a\",quantile=\"0.5\", h=\"x\"} 1\ns{r=\"a\",quantile=\"0.9\"} 2\n\
             s_sum{r=\"a\"} 3\ns_count{r=\"a\"} 4\ns_sum{r=\"b\"} 5\n",
        )],
    ),
    (
        "histogram_with_labels_of_some",
        &[(
            "a.prom",
            "# TYPE h histogram\nh_bucket{le=\"100\"} 0\nh_bucket{le=\"1600000\",f=\"x\"} 1\n\
             h_bucket{le=\"+Inf\"} 7\nh_sum 6.7e+08\nh_count 6\nh_sum{f=\"x\"} 1\n",
        )],
    ),
    (
        "labels_of_some_series",
        &[(
            "a.prom",
            "# TYPE r counter\nr{code=\"200\",handler=\"a\"} 1\nr{code=\"200\", foo=\"b\"} 2\n\
             r{zip=\"\\\"\\\\\\n\",code=\"500\"} 3\nr 4\n",
        )],
    ),
    (
        "same_help",
        &[
            ("a.prom", "# HELP e E.\n# TYPE e counter\ne{f=\"a\"} 1\n"),
            ("b.prom", "# HELP e E.\n# TYPE e counter\ne{f=\"b\"} 2\n"),
        ],
    ),
    (
        "no_help",
        &[
            ("a.prom", "# TYPE e counter\ne{f=\"a\"} 1\n"),
            ("b.prom", "# HELP e \n# TYPE e counter\ne{f=\"b\"} 2\n"),
        ],
    ),
    (
        "clashing_help",
        &[
            ("a.prom", "# HELP e A.\n# TYPE e counter\ne{f=\"a\"} 1\n"),
            ("b.prom", "# HELP e B.\n# TYPE e counter\ne{f=\"b\"} 2\n"),
        ],
    ),
    (
        "duplicates",
        &[
            ("a.prom", "d{a=\"1\"} 1\nd{a=\"1\"} 2\n"),
            ("b.prom", "f 1\n"),
        ],
    ),
    ("carriage_returns", &[("a.prom", "a 1\r\n")]),
    (
        "carriage_returns_in_comments",
        &[("a.prom", "# words\r\nb 1\n")],
    ),
    ("blank_after_value", &[("a.prom", "a 1 \n")]),
    ("blanks", &[("a.prom", "\t a {b = \"c\" , }  1\n \t")]),
    ("no_last_line_feed", &[("a.prom", "a 1\nb 2")]),
    ("type_after_samples", &[("a.prom", "a 1\n# TYPE a gauge\n")]),
    ("type_in_capitals", &[("a.prom", "# TYPE a COUNTER\na 1\n")]),
    (
        "second_help",
        &[("a.prom", "# HELP a A.\n# HELP a B.\na 1\n")],
    ),
    (
        "help_alone",
        &[(
            "a.prom",
            "# HELP a A.\n# TYPE b gauge\nc 1\n# HELP\n# TYPE d\n",
        )],
    ),
    (
        "help_escapes",
        &[("a.prom", "# HELP a one\\\\two\\nthree \na 1\n")],
    ),
    ("bad_escape", &[("a.prom", "a{b=\"\\t\"} 1\n")]),
    ("label_twice", &[("a.prom", "a{b=\"1\",b=\"2\"} 1\n")]),
    ("comma_alone", &[("a.prom", "a{,} 1\n")]),
    ("bad_name", &[("a.prom", "a-b 1\n")]),
    (
        "numbers",
        &[(
            "a.prom",
            "n{i=\"1\"} +Inf\nn{i=\"2\"} -inf\nn{i=\"3\"} .5\nn{i=\"4\"} 5.\nn{i=\"5\"} -0\n\
             n{i=\"6\"} 1e-400\nn{i=\"7\"} 123456789012\nn{i=\"8\"} infinity\n",
        )],
    ),
    ("too_large", &[("a.prom", "a 1e999\n")]),
    ("signed_nan", &[("a.prom", "a -NaN\n")]),
    ("empty", &[("a.prom", "")]),
    (
        "good_beside_bad",
        &[("a.prom", "a b c\n"), ("b.prom", "b 1\n")],
    ),
];

/// Cases that 1.5 shows otherwise: it tells of help texts that clash only in its log.
const LATER_ONLY: [&str; 1] = ["clashing_help"];

/// A page as it is compared: families with type and help, samples, without what tells of scrapes.
type Shown = (
    BTreeMap<String, String>,
    BTreeMap<String, String>,
    Vec<Sample>,
);

fn shown(page: &str) -> Shown {
    let own = |name: &str| {
        [
            "go_",
            "process_",
            "promhttp_",
            "agent_",
            "node_exporter_",
            "node_scrape_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
    };
    let mut types = families(page);
    types.retain(|name, _| !own(name));
    let helps = page.lines().filter_map(|line| line.strip_prefix("# HELP "));
    let helps = helps.filter_map(|line| line.split_once(' '));
    let helps = helps.map(|(name, help)| (name.to_owned(), help.to_owned()));
    let mut samples = samples(page);
    samples.retain(|sample| !own(&sample.name));
    samples.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
    let helps = helps.filter(|(name, _)| types.contains_key(name)).collect();
    (types, helps, samples)
}

const ONLY: &str = "/metrics?collect[]=textfile";

#[test]
fn every_kind_of_file_is_read_as_node_exporter_reads_it() {
    let mut faults = Vec::new();
    for (case, files) in CASES {
        let place = Place::new();
        let directory = place.path("texts");
        fs::create_dir(&directory).unwrap();
        for (name, text) in *files {
            fs::write(directory.join(name), text).unwrap();
        }
        let config = format!(
            "[metrics.textfile]\ndirectories = [\"{}\"]\n",
            directory.display()
        );
        let _agent = place.start(&config);
        let ours = http::get(place.metrics, ONLY, &[]).unwrap().text();
        for (release, program) in releases() {
            if release == "1.5" && LATER_ONLY.contains(case) {
                continue;
            }
            let (_twin, address) = twin(&program, &place, &[]);
            let theirs = http::get(address, ONLY, &[]).unwrap().text();
            if shown(&ours) != shown(&theirs) {
                faults.push(format!(
                    "{case} beside {release}:\n{:#?}\nnot\n{:#?}",
                    shown(&ours),
                    shown(&theirs)
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn directories_may_be_globs_and_repeat() {
    let [_, (_, program)] = releases();
    let place = Place::new();
    for (path, text) in [
        ("texts/unused", ""),
        ("a/one/x.prom", "x{f=\"1\"} 1\n"),
        ("a/two/x.prom", "x{f=\"2\"} 1\n"),
        ("a/.three/y.prom", "y 1\n"),
        ("b/z.prom", "z 1\n"),
    ] {
        let path = place.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let directories = ["texts", "a/*", "a/[^x]wo", "b", "none*"];
    let directories = directories.map(|name| place.path(name).display().to_string());
    let _agent = place.start(&format!(
        "[metrics.textfile]\ndirectories = {directories:?}\n"
    ));
    let flags: Vec<String> = directories
        .iter()
        .skip(1)
        .map(|directory| format!("--collector.textfile.directory={directory}"))
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let (_twin, address) = twin(&program, &place, &flags);
    let [ours, theirs] =
        [place.metrics, address].map(|at| http::get(at, ONLY, &[]).unwrap().text());
    assert_eq!(shown(&ours), shown(&theirs));
    assert!(ours.contains("\nnode_textfile_scrape_error 1\n"), "{ours}");
}

#[test]
fn hostile_files_neither_hold_nor_fill_the_page() {
    let place = Place::new();
    let directory = place.path("texts");
    fs::create_dir_all(directory.join("directory.prom")).unwrap();
    let path = |name: &str| directory.join(name);
    fs::write(path("good.prom"), "good 1\n").unwrap();
    fs::File::create(path("sparse.prom"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    fs::write(path("endless.prom"), vec![b'a'; 1 << 20]).unwrap();
    fs::write(path("bytes.prom"), b"a{b=\"\xff\"} 1\n").unwrap();
    let lines: Vec<String> = (0..1_000_000)
        .map(|n| format!("m{{n=\"{n}\"}} 1\n"))
        .collect();
    fs::write(path("million.prom"), lines.concat()).unwrap();
    symlink("loop.prom", path("loop.prom")).unwrap();
    symlink("/dev/zero", path("zero.prom")).unwrap();
    let fifo = path("fifo.prom").display().to_string();
    assert!(
        output(command("mkfifo").arg(fifo), "coreutils")
            .unwrap()
            .status
            .success()
    );
    let old = path("old.prom");
    fs::write(&old, "old 1\n").unwrap();
    let before = SystemTime::now() - Duration::from_secs(7200);
    fs::File::options()
        .append(true)
        .open(&old)
        .unwrap()
        .set_modified(before)
        .unwrap();

    let agent = place.start(&format!(
        "[metrics.textfile]\ndirectories = [\"{}\"]\nmax_age = \"1h\"\n",
        directory.display()
    ));
    for _ in 0..3 {
        let start = Instant::now();
        let page = http::get(place.metrics, "/metrics", &[]).unwrap().text();
        let took = start.elapsed();
        for line in [
            "good 1",
            "node_textfile_scrape_error 1",
            "node_scrape_collector_success{collector=\"textfile\"} 1",
            "agent_textfile_stale_files 1",
        ] {
            assert!(page.contains(&format!("\n{line}\n")), "{line}");
        }
        assert!(!page.contains("\nold ") && !page.contains("\nm{"));
        assert_eq!(page.matches("\nnode_textfile_mtime_seconds{").count(), 2);
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    // Each fault is told once.
    let told = wait::until("the log has the faults", || {
        let told = agent.stderr();
        (told.matches("textfile not shown").count() >= 8).then_some(told)
    });
    assert_eq!(told.matches("textfile not shown").count(), 8, "{told}");
    assert_eq!(told.matches("textfile is too old").count(), 1, "{told}");
}
