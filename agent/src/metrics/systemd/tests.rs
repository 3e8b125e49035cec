use super::{AskError, Choice, Pattern, open, whole};
use crate::host::bus::Bus;
use crate::host::bus::systemd1::{Systemd1, Unit};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::Page;
use crate::metrics::options::Units;
use crate::pulse::Pulse;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn unit(name: &str, load_state: &str) -> Unit {
    Unit {
        name: name.into(),
        load_state: load_state.into(),
        active_state: "active".into(),
        path: "/x".into(),
    }
}

fn chosen(include: &str, exclude: &str) -> Vec<String> {
    let mut choice = Choice {
        include: Pattern::new(&whole(include)),
        exclude: Pattern::new(&whole(exclude)),
        tasks: false,
        restarts: false,
        start_times: false,
    };
    let units = vec![
        unit("docker.service", "loaded"),
        unit("docker.socket", "loaded"),
        unit("nodocker.service", "loaded"),
        unit("gone.service", "not-found"),
        unit("data.mount", "loaded"),
    ];
    let units = choice.choose(units);
    units.into_iter().map(|unit| unit.name).collect()
}

#[test]
fn names_match_as_a_whole_and_only_loaded_units_are_chosen() {
    let default = Units::default();
    assert_eq!(
        chosen(&default.include, &default.exclude),
        ["docker.service", "docker.socket", "nodocker.service"]
    );
    assert_eq!(chosen("docker", ""), [""; 0]);
    assert_eq!(
        chosen("docker.*|data.mount", ""),
        ["docker.service", "docker.socket", "data.mount"]
    );
    assert_eq!(chosen("docker.*", ".*socket"), ["docker.service"]);
    assert_eq!(chosen("", ""), [""; 0]);
}

fn error(asker: &mut super::Asker) -> AskError {
    match asker.update(&mut Page::default()) {
        Err(CollectError::Systemd { source }) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_that_nobody_takes_is_not_waited_for_twice() {
    let (mut asker, reader) = open(&Units::default(), Systemd1::new(Bus::system()));
    assert!(matches!(error(&mut asker), AskError::Late));
    assert!(matches!(error(&mut asker), AskError::Busy));
    drop(reader);
    assert!(matches!(error(&mut asker), AskError::Nobody));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_not_there_is_said_at_once_and_the_reader_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::at(&format!("unix:path={}/none", dir.path().display()));
    let (mut asker, reader) = open(&Units::default(), Systemd1::new(bus));
    let stop = CancellationToken::new();
    let beat = Pulse::default().register("units", Duration::from_secs(20));
    let task = tokio::task::spawn_blocking(move || {
        (0..2)
            .map(|_| asker.update(&mut Page::default()))
            .collect::<Vec<_>>()
    });
    let ask = async {
        let results = task.await.unwrap();
        stop.cancel();
        results
    };
    let ((), results) = tokio::join!(reader.run(beat, stop.clone()), ask);
    for result in results {
        // A developer's machine has systemd as PID 1, a build container has not.
        let fits = matches!(
            &result,
            Err(CollectError::Absent { .. }
                | CollectError::Systemd {
                    source: AskError::Bus { .. }
                })
        );
        assert!(fits || Systemd1::is_booted(), "{result:?}");
    }
}
