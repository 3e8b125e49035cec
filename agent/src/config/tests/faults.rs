//! What an operator reads when something is wrong: each case of `faults.txt`
//! is a configuration and, below the ruler, exactly what is printed.

use super::read;
use crate::config::fault::Place;
use proptest::prelude::*;

const CASES: &str = include_str!("faults.txt");
const RULER: &str = "--------\n";

#[test]
fn every_kind_of_fault_is_told_as_reviewed() {
    let mut n_cases = 0;
    let mut wrong = String::new();
    for case in CASES.split("======== ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (text, expected) = rest.split_once(RULER).unwrap();
        let printed = match read(&[text]) {
            Ok(_) => "accepted".into(),
            Err(faults) => faults.to_string(),
        };
        if printed.trim_end() != expected.trim_end() {
            wrong.push_str(&format!("======== {name}\n{text}{RULER}{printed}\n\n"));
        }
        n_cases += 1;
    }
    assert!(n_cases >= 30, "only {n_cases} cases");
    assert!(wrong.is_empty(), "printed otherwise:\n{wrong}");
}

#[test]
fn faults_of_all_files_come_in_one_go_and_in_order() {
    let faults = read(&[
        "[metrics]\nlisten = 5\n[containers.web]\nimage = 'web'\n",
        "[containers.web]\nimage = ''\ncolour = 1\n",
    ]);
    let printed = faults.unwrap_err().to_string();
    let lines: Vec<&str> = printed.lines().collect();
    let expected = "a.toml:2:10: metrics.listen: \
                    expected an address such as \"127.0.0.1:9100\", found integer 5";
    assert_eq!(lines[0], expected);
    assert_eq!(lines[1], "b.toml:2:9: containers.web.image: is empty");
    assert_eq!(lines[2], "b.toml:3:1: containers.web.colour: unknown key");
    assert!(lines[3].starts_with("    keys here: annotations, cap_add, cap_drop, "));
    assert_eq!(lines[4..], ["3 faults"]);
}

#[test]
fn a_clash_names_the_later_place() {
    let faults = read(&[
        "[containers.aa]\nimage = 'a'\nports = ['8080:80']\n",
        "[containers.bb]\nimage = 'b'\nports = ['127.0.0.1:8080:80']\n",
    ])
    .unwrap_err();
    let places: Vec<Place> = faults.iter().map(|fault| fault.place).collect();
    let expected = Place {
        file: 1,
        line: 3,
        column: 10,
    };
    assert_eq!(places, [expected]);
}

#[test]
fn deep_nesting_is_a_fault_and_not_a_stack_overflow() {
    let arrays = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let keys = format!("a{} = 1", ".a".repeat(50_000));
    let headers = format!("[{}a]\n", "a.".repeat(50_000));
    let inner = format!("{}a", "a.".repeat(78));
    let both = format!(
        "{inner} = {}1{}",
        format!("{{ {inner} = ").repeat(78),
        " }".repeat(78)
    );
    for text in [arrays, keys, headers, both] {
        assert!(read(&[&text]).is_err());
    }
}

#[test]
fn short_text_does_not_become_endless_lists() {
    let ranges = "'1-65535:1-65535',".repeat(1000);
    let ports = format!("[containers.aa]\nimage = 'a'\nports = [{ranges}]\n");
    let faults = read(&[&ports]).unwrap_err().to_string();
    assert!(faults.contains("more ports than a host has"));
    assert!(faults.ends_with("\n3 faults"), "{faults}");
    let keys: String = (0..2000).map(|n| format!("k{n} = 1\n")).collect();
    let faults = read(&[&keys]).unwrap_err().to_string();
    assert!(faults.ends_with("\n2000 faults, the first 1000 are shown"));
}

#[test]
fn a_variable_that_no_process_can_be_started_with_is_refused_without_its_value() {
    let long = "hunter".repeat(30_000);
    let text = format!("[containers.web]\nimage = 'web'\nenvironment = {{ A = '{long}' }}\n");
    let printed = read(&[&text]).unwrap_err().to_string();
    let expected = "a.toml:3:21: containers.web.environment.A: \
                    is longer than 128 KiB: no process can be started with it\n";
    assert!(printed.starts_with(expected), "{printed}");
    assert!(!printed.contains("hunter"));
}

/// Lines of a configuration, right and wrong, to be put together at random.
const LINES: [&str; 28] = [
    "[containers.\"\\u001bx\"]",
    "depends_on = [\"\\u001bx\", \"\\u001by\"]",
    "[logs.inputs.\"\\u001bx\"]",
    "a = \"${\\u001b}\"",
    "[containers.web]",
    "[containers.api]",
    "[containers.web.probes]",
    "readiness = { http = \":80\" }",
    "image = \"web:1\"",
    "image = 5",
    "ports = [\"80:80\", \"1-3:4-6/udp\"]",
    "depends_on = [\"api\", \"web\"]",
    "depends_on = { web = \"ready\" }",
    "environment = [\"A=b\", \"A\"]",
    "[logs.inputs.docker]",
    "listen = []",
    "listen = \":80\"",
    "type = \"forward\"",
    "type = \"tail\"",
    "servers = [\"a:1\", \"127.0.0.1:24224\"]",
    "[logs.outputs.up]",
    "[logs.enrich]",
    "a = \"${node.region\"",
    "command = \"a 'b",
    "mem_limit = \"1.5g\"",
    "x = [1, { y = \"\"\"",
    "\"\u{1b}[31m\" = 1",
    "cpus = 1e400",
];

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = read(&[&text]).map_err(|faults| faults.to_string());
    }

    #[test]
    fn lines_in_any_order_never_panic_nor_print_escapes(
        picks in proptest::collection::vec(0..LINES.len(), 0..24),
        cut in 0..400usize,
    ) {
        let text: Vec<&str> = picks.iter().map(|pick| LINES[*pick]).collect();
        let text: String = text.join("\n").chars().take(cut).collect();
        if let Err(faults) = read(&[&text]) {
            let printed = faults.to_string();
            prop_assert!(faults.n_faults() > 0);
            prop_assert!(!printed.contains('\u{1b}'), "{}", printed);
        }
    }

    #[test]
    fn any_value_at_any_key_never_panics(
        key in "(agent|node|containers\\.a1|jobs\\.a1|metrics|logs\\.(inputs|outputs)\\.x)\\.[a-z_]{1,12}",
        value in "[0-9a-z\"'{}\\[\\]=,.:/ -]{0,24}",
    ) {
        let _ = read(&[&format!("{key} = {value}\n")]).map_err(|faults| faults.to_string());
    }
}
