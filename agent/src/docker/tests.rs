//! A daemon that is absent, silent, rude or well, on a unix socket of the test.

use super::{Docker, Settings};
use crate::chain::Chain;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

fn docker(socket: &Path, timeout: Duration) -> Docker {
    let settings = Settings {
        socket: socket.into(),
        timeout,
    };
    Docker::new(settings, &prometheus::Registry::new())
}

/// Answers every connection with what `answer` makes of the request line.
fn serve(listener: UnixListener, answer: fn(&str) -> String) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..n]).into_owned();
            let body = answer(text.lines().next().unwrap_or_default());
            let _ = stream.write_all(body.as_bytes()).await;
        }
    });
    tasks
}

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

const VERSION: &str = r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#;

#[tokio::test]
async fn an_absent_socket_is_an_error_at_once_and_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let begun = Instant::now();
    let error = docker(&socket, Duration::from_secs(5))
        .ping()
        .await
        .unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(error.is_unreachable() && error.is_retryable());
    let text = Chain(&error).to_string();
    assert!(
        text.starts_with("cannot ping docker: docker is not reachable"),
        "{text}"
    );
    assert!(text.contains("docker.sock"), "{text}");
}

#[tokio::test]
async fn a_daemon_that_accepts_and_says_nothing_costs_one_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let begun = Instant::now();
    let error = docker(&socket, Duration::from_millis(200))
        .inspect("app")
        .await
        .unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(error.is_unreachable());
    assert_eq!(
        Chain(&error).to_string(),
        "cannot inspect container app: no answer from docker within 200ms"
    );
}

#[tokio::test]
async fn what_docker_refuses_is_told_in_its_words_on_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let _tasks = serve(UnixListener::bind(&socket).unwrap(), |line| {
        if line.contains("/version") {
            http("200 OK", VERSION)
        } else {
            http(
                "409 Conflict",
                r#"{"message":"the name\n\u001b[31mis taken"}"#,
            )
        }
    });
    let docker = docker(&socket, Duration::from_secs(5));
    assert_eq!(docker.version().await.unwrap().engine, "20.10.24");
    let error = docker.rename("a", "b").await.unwrap_err();
    assert!(error.is_conflict() && !error.is_unreachable() && !error.is_not_found());
    assert_eq!(
        Chain(&error).to_string(),
        "cannot rename container a: docker answered 409: the name  [31mis taken"
    );
}

#[tokio::test]
async fn garbage_and_a_cut_answer_are_errors_not_panics() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let _tasks = serve(UnixListener::bind(&socket).unwrap(), |line| {
        if line.contains("/version") {
            http("200 OK", VERSION)
        } else if line.contains("/json?") {
            http("200 OK", "[{\"Id\": 7")
        } else {
            "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{".into()
        }
    });
    let docker = docker(&socket, Duration::from_secs(5));
    let garbage = docker.list(&["a=b".into()]).await.unwrap_err();
    assert!(!garbage.is_unreachable() && garbage.is_retryable());
    assert!(docker.inspect("x").await.unwrap_err().is_unreachable());
}

#[test]
fn text_from_outside_moves_no_cursor_and_hides_nothing() {
    let hostile = "red \u{1b}[31m\u{7}\nline\u{202e}live\u{200b}\u{feff}";
    assert_eq!(super::error::printable(hostile), "red  [31m  line live  ");
    assert_eq!(super::error::printable("größe 東京 ✓"), "größe 東京 ✓");
}
