//! The loop over real sockets.

use crate::http::stall::Stall;
use crate::http::{Handler, MAX_CONNECTIONS, ReplyFuture, Request, reply, serve, text};
use crate::listener::Listener;
use crate::pulse::Pulse;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

struct Slow;

impl Handler for Slow {
    fn handle(&self, request: Request) -> ReplyFuture {
        let path = request.uri().path().to_owned();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            text(200, &path)
        })
    }
}

#[tokio::test]
async fn a_stop_lets_the_current_request_finish_and_then_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let beat = Pulse::default().register("http", Duration::from_secs(60));
    let server = serve(
        Listener::Tcp(listener),
        None,
        Arc::new(Slow),
        beat,
        stop.clone(),
    );
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        stop.cancel();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let ((), answer) = tokio::join!(server, client);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("/hello\n"), "{answer}");
    assert!(TcpStream::connect(address).await.is_err());
}

/// Answers with more than sockets hold.
struct Large;

const LARGE: usize = 32 << 20;

impl Handler for Large {
    fn handle(&self, _: Request) -> ReplyFuture {
        Box::pin(async { reply(200, "text/plain", vec![b'x'; LARGE]) })
    }
}

struct Site {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

async fn site(handler: impl Handler) -> Site {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let beat = Pulse::default().register("http", Duration::from_secs(60));
    let mut tasks = JoinSet::new();
    let stop = CancellationToken::new();
    tasks.spawn(serve(
        Listener::Tcp(listener),
        None,
        Arc::new(handler),
        beat,
        stop,
    ));
    Site {
        address,
        _tasks: tasks,
    }
}

async fn ask(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have said its word and closed before all of it was sent.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn peers_that_send_nothing_keep_nobody_out() {
    let site = site(Slow).await;
    let mut idle = Vec::new();
    for n in 0..2 * MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        if n % 2 == 0 {
            stream
                .write_all(b"GET / HTTP/1.1\r\nX-Slow: ")
                .await
                .unwrap();
        }
        idle.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(30), ask(site.address, REQUEST));
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 200 OK"));
    drop(idle);
}

#[tokio::test]
async fn a_thousand_requests_at_once_are_all_answered() {
    let site = site(Slow).await;
    let mut clients = JoinSet::new();
    for _ in 0..1000 {
        clients.spawn(ask(site.address, REQUEST));
    }
    let answers = clients.join_all().await;
    let good = answers.iter().filter(|a| a.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(good.count(), 1000);
}

#[tokio::test]
async fn floods_of_headers_are_refused() {
    let site = site(Slow).await;
    let many = "X: y\r\n".repeat(5_000);
    let large = format!("X-Large: {}\r\n", "y".repeat(10 << 20));
    for headers in [many, large] {
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let answer = ask(site.address, &head).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
    }
    assert!(
        ask(site.address, REQUEST)
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
}

#[tokio::test]
async fn who_asks_and_never_reads_is_cut_off() {
    let limit = Duration::from_millis(200);
    let (near, mut far) = tokio::io::duplex(1 << 10);
    let mut writer = Stall::new(near, limit);
    let start = Instant::now();
    let error = writer.write_all(&[0; 1 << 20]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(start.elapsed() >= limit);
    // One that reads slowly is served.
    let mut read = vec![0; 1 << 10];
    far.read_exact(&mut read).await.unwrap();
    writer.write_all(&[0; 1 << 9]).await.unwrap();
}

#[tokio::test]
async fn many_who_never_read_leave_room_for_one_who_does() {
    let site = site(Large).await;
    let mut deaf = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS / 8 {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(REQUEST.as_bytes()).await.unwrap();
        deaf.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(30), ask(site.address, REQUEST));
    assert!(answer.await.unwrap().len() > LARGE);
    drop(deaf);
}
