//! The loop over real sockets.

use crate::http::{Handler, ReplyFuture, Request, serve, text};
use crate::listener::Listener;
use crate::pulse::Pulse;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
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
