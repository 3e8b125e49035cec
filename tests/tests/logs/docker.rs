//! Docker's own fluentd driver as the source: what containers printed arrives once, whole, enriched.

use crate::place::{arrived, assert_enriched, forward_to, sample, value};
use std::time::Duration;
use tests::agent::{Place, free_port};
use tests::daemon::Daemon;
use tests::receiver::Receiver;
use tests::{http, wait};

/// Runs `script` in a container whose output goes to the agent under `tag`, with the driver options
/// that docs/logs.md recommends. The container sees this machine's programs, read-only.
fn run(daemon: &Daemon, place: &Place, tag: &str, script: &str) -> String {
    run_with(daemon, place, tag, script, &[])
}

fn run_with(daemon: &Daemon, place: &Place, tag: &str, script: &str, more: &[&str]) -> String {
    let address = format!(
        "fluentd-address=unix://{}",
        place.forward_socket().display()
    );
    let mut arguments = vec!["run", "-d", "--name", tag, "--network", "none"];
    for directory in [
        "/usr:/usr:ro",
        "/bin:/bin:ro",
        "/lib:/lib:ro",
        "/lib64:/lib64:ro",
    ] {
        arguments.extend(["-v", directory]);
    }
    arguments.extend(["--log-driver", "fluentd", "--log-opt", &address]);
    let tag_option = format!("tag={tag}");
    for option in ["fluentd-sub-second-precision=true", &tag_option] {
        arguments.extend(["--log-opt", option]);
    }
    arguments.extend(more);
    arguments.extend(["--entrypoint", "/bin/sh", "agent-test/app:1", "-c", script]);
    daemon.docker(&arguments)
}

#[test]
fn what_a_container_printed_arrives_once_parsed_and_enriched() {
    let daemon = Daemon::start(&["app"]);
    let aggregator = Receiver::start();
    let place = Place::new();
    let agent = place.start(&forward_to(aggregator.address));
    let id = run(
        &daemon,
        &place,
        "printed",
        r#"echo '{"level":"warn","id":7,"took":1.5,"nested":{"a":[1,null]},"ip_address":"spoofed"}'
           echo 'plain text, "quoted"' >&2
           echo '{"cut":'
           echo '[1,2]'"#,
    );
    let records = arrived("printed", 4, || aggregator.records());
    wait::holds_for(Duration::from_secs(1), "nothing arrives twice", || {
        aggregator.records().len() == 4
    });
    for record in &records {
        assert_enriched(record);
        assert_eq!(record.text("container_id"), Some(id.as_str()));
        assert_eq!(record.text("container_name"), Some("/printed"));
    }
    let parsed = records
        .iter()
        .find(|record| record.id() == Some(7))
        .unwrap();
    assert_eq!(parsed.text("level"), Some("warn"));
    assert_eq!(value(parsed, "took").unwrap().as_f64(), Some(1.5));
    assert_eq!(parsed.text("source"), Some("stdout"));
    assert!(value(parsed, "nested").unwrap().is_map());
    assert!(
        value(parsed, "log").is_none(),
        "the parsed line is not kept"
    );
    let log = |text: &str| {
        records
            .iter()
            .find(|record| record.text("log") == Some(text))
    };
    let plain = log("plain text, \"quoted\"").expect("the plain line");
    assert_eq!(plain.text("source"), Some("stderr"));
    assert!(
        log("{\"cut\":").is_some() && log("[1,2]").is_some(),
        "{records:?}"
    );
    assert_eq!(sample(&place, "agent_log_unparsed_total"), 3.0);
    // Docker's own time with its nanoseconds, as EventTime.
    assert!(
        matches!(parsed.time, rmpv::Value::Ext(0, _)),
        "{}",
        parsed.time
    );
    assert!(agent.stop().success());
}

#[test]
fn lines_of_both_streams_at_once_arrive_once_each() {
    const LINES: u64 = 100;
    let daemon = Daemon::start(&["app"]);
    let aggregator = Receiver::start();
    let place = Place::new();
    let agent = place.start(&forward_to(aggregator.address));
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do echo \"{{\\\"id\\\":$i}}\"; \
         echo \"{{\\\"id\\\":$((i + {LINES}))}}\" >&2; i=$((i+1)); done"
    );
    run(&daemon, &place, "both", &script);
    let all = wait::until("all lines arrive", || {
        Some(aggregator.ids()).filter(|ids| ids.len() as u64 == 2 * LINES)
    });
    assert_eq!(all, (0..2 * LINES).map(|id| (id, 1)).collect());
    wait::holds_for(Duration::from_secs(1), "nothing arrives twice", || {
        aggregator.records().len() as u64 == 2 * LINES
    });
    assert!(agent.stop().success());
}

#[test]
fn lines_that_docker_cuts_arrive_joined() {
    let daemon = Daemon::start(&["app"]);
    let aggregator = Receiver::start();
    let place = Place::new();
    let agent = place.start(&forward_to(aggregator.address));
    run(
        &daemon,
        &place,
        "long",
        r#"fill() { head -c "$1" /dev/zero | tr '\0' x; }
           fill 40000; echo
           printf '{"id":5,"text":"'; fill 50000; printf '"}\n'
           fill 16384; echo
           printf 'no newline at the end'"#,
    );
    let records = arrived("long", 4, || aggregator.records());
    for record in &records {
        assert_enriched(record);
        assert_eq!(record.text("container_name"), Some("/long"));
        assert!(value(record, "partial_message").is_none(), "{record:?}");
    }
    let of_length = |n: usize| {
        records
            .iter()
            .find(|r| r.text("log").is_some_and(|log| log.len() == n))
    };
    let long = of_length(40_000).expect("the long line");
    assert!(long.text("log").unwrap().bytes().all(|byte| byte == b'x'));
    assert!(value(long, "partial_incomplete").is_none() && value(long, "partial_id").is_none());
    assert!(of_length(16_384).is_some(), "a line of exactly one part");
    let parsed = records
        .iter()
        .find(|record| record.id() == Some(5))
        .expect("the long JSON line");
    assert_eq!(parsed.text("text").map(str::len), Some(50_000));
    let last = records
        .iter()
        .find(|r| r.text("log") == Some("no newline at the end"));
    let last = last.expect("the line without its newline");
    assert_eq!(last.text("partial_incomplete"), Some("closed"));
    assert_eq!(
        sample(
            &place,
            "agent_log_partial_incomplete_total{reason=\"closed\"}"
        ),
        1.0
    );
    assert!(agent.stop().success());
}

#[test]
fn a_supervised_container_logs_to_its_agent() {
    let daemon = Daemon::start(&["app"]);
    let aggregator = Receiver::start();
    let mut place = Place::new();
    place.docker_socket = daemon.socket();
    let app = free_port();
    let rest = forward_to(aggregator.address);
    let agent = place.start(&format!(
        "{rest}\n[containers.talker]\nimage = \"agent-test/app:1\"\ncommand = [\"{}\"]\n\
         network_mode = \"host\"\npull_policy = \"never\"\nlogging = {{ tag = \"campaigns\" }}\n\
         [containers.talker.probes]\nreadiness = {{ http = \":{}/heartbeat\", period = \"1s\" }}\n",
        app.port(),
        app.port(),
    ));
    agent.wait_well("talker");
    http::get(app, "/log?n=50&from=100", &[]).unwrap();
    let ids = wait::until("its lines arrive", || {
        Some(aggregator.ids()).filter(|ids| ids.len() >= 50)
    });
    assert_eq!(ids, (100..150).map(|id| (id, 1)).collect());
    let records = aggregator.records();
    let mine = records
        .iter()
        .find(|record| record.id() == Some(100))
        .unwrap();
    assert_eq!(mine.tag, "campaigns");
    assert_eq!(mine.text("container_name"), Some("/talker"));
    assert_enriched(mine);
    let address = daemon.inspect(
        "talker",
        "index .HostConfig.LogConfig.Config \"fluentd-address\"",
    );
    assert_eq!(
        address,
        format!("unix://{}", place.forward_socket().display())
    );
    drop(agent);
}

#[test]
fn a_container_that_prints_through_a_kill_9_of_the_agent_loses_no_line() {
    const LINES: usize = 1500;
    let daemon = Daemon::start(&["app"]);
    let aggregator = Receiver::start();
    let place = Place::new();
    let agent = place.start(&forward_to(aggregator.address));
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do echo \"{{\\\"id\\\":$i}}\"; i=$((i+1)); \
         [ $((i % 20)) = 0 ] && sleep 0.05; done; exit 0"
    );
    // One stream: the driver may wait for acks (docs/logs.md, "Known limits").
    let acks = ["--log-opt", "fluentd-request-ack=true"];
    run_with(&daemon, &place, "stream", &script, &acks);
    let reached = |n: usize| {
        wait::until("records arrive", || {
            (aggregator.ids().len() >= n).then_some(())
        })
    };
    reached(200);
    agent.kill();
    // Long enough for a line to meet the closed socket.
    std::thread::sleep(Duration::from_secs(1));
    let agent = place.start(&forward_to(aggregator.address));
    reached(600);
    agent.kill();
    let agent = place.start(&forward_to(aggregator.address));
    reached(LINES);
    let ids = aggregator.ids();
    let duplicates: usize = ids.values().map(|n| n - 1).sum();
    eprintln!(
        "{LINES} lines through two kills: {} arrived, {duplicates} again",
        ids.len()
    );
    assert_eq!(
        ids.keys().copied().collect::<Vec<_>>(),
        (0..LINES as u64).collect::<Vec<_>>()
    );
    assert!(agent.stop().success());
}

#[test]
fn a_line_cut_in_two_by_a_kill_9_arrives_marked() {
    let daemon = Daemon::start(&["app"]);
    let aggregator = Receiver::start();
    let place = Place::new();
    let agent = place.start(&forward_to(aggregator.address));
    // 40,000 bytes in three parts: the first two before, the last after the kill.
    let script = "fill() { head -c \"$1\" /dev/zero | tr '\\0' x; }
                  fill 33000; while [ ! -e /go/on ]; do sleep 0.1; done; fill 7000; echo
                  echo behind; sleep 600";
    let go = place.path("go");
    std::fs::create_dir(&go).unwrap();
    run_with(
        &daemon,
        &place,
        "cut",
        script,
        &["-v", &format!("{}:/go:ro", go.display())],
    );
    wait::until("two parts were taken in", || {
        (sample(&place, "agent_log_received_bytes_total") > 32_768.0).then_some(())
    });
    agent.kill();
    let agent = place.start(&forward_to(aggregator.address));
    std::fs::write(go.join("on"), "").unwrap();
    let records = arrived("cut", 1, || aggregator.records());
    assert_eq!(records[0].text("log"), Some("behind"));
    // The container's end ends the connection, and with it the wait for parts.
    daemon.docker(&["kill", "cut"]);
    let records = arrived("cut", 2, || aggregator.records());
    let rest = records[1].text("log").unwrap().len();
    assert_eq!(
        rest,
        40_000 - 2 * 16_384,
        "the parts before the kill are lost, the one after is not"
    );
    assert_eq!(records[1].text("partial_incomplete"), Some("closed"));
    assert!(agent.stop().success());
}
