//! The guard and the door behind the house's real HTTP server, without TLS; with
//! TLS real peers stand in tests/tests/web.rs.

use super::{Entry, Guard, Web, check};
use crate::http::{self, Handler, ReplyFuture, Request, text};
use crate::listener::Listener;
use crate::pulse::Pulse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

struct Inner;

impl Handler for Inner {
    fn handle(&self, request: Request) -> ReplyFuture {
        let path = request.uri().path().to_owned();
        Box::pin(async move { text(200, &path) })
    }
}

struct Site {
    dir: tempfile::TempDir,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Site {
    async fn new(text: &str) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.yml");
        std::fs::write(&path, text).unwrap();
        let web = Web::new(path);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let guard = Guard {
            web: web.clone(),
            inner: Arc::new(Inner),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(http::serve(
            Listener::Tcp(listener),
            Some(Arc::new(Entry(web))),
            Arc::new(guard),
            Pulse::default().register("web", Duration::from_secs(60)),
            CancellationToken::new(),
        ));
        Site {
            dir,
            address,
            _tasks: tasks,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("web.yml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The whole answer to one request on a connection of its own.
    async fn get(&self, path: &str, login: Option<&str>) -> String {
        ask(self.connect().await, path, login).await
    }
}

async fn ask(mut stream: TcpStream, path: &str, login: Option<&str>) -> String {
    let login = login.map_or(String::new(), |login| {
        format!("Authorization: Basic {}\r\n", STANDARD.encode(login))
    });
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{login}\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    // Turned away at the door, a peer may see a reset.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).to_lowercase()
}

#[tokio::test]
async fn a_login_is_asked_for_on_every_path_and_headers_are_on_every_answer() {
    let hash = bcrypt::hash("one", 4).unwrap();
    let site = Site::new(&format!(
        "basic_auth_users: {{alice: '{hash}'}}\n\
         http_server_config: {{headers: {{X-Frame-Options: deny, X-Content-Type-Options: nosniff}}}}\n"
    ))
    .await;
    for path in ["/metrics", "/", "/nowhere"] {
        for login in [None, Some("alice:two"), Some("bob:one")] {
            let answer = site.get(path, login).await;
            assert!(answer.starts_with("http/1.1 401 unauthorized"), "{answer}");
            assert!(answer.contains("\nwww-authenticate: basic\r"), "{answer}");
            assert!(answer.contains("\nx-frame-options: deny\r"), "{answer}");
        }
        let answer = site.get(path, Some("alice:one")).await;
        assert!(answer.starts_with("http/1.1 200 ok"), "{answer}");
        assert!(answer.contains("\nx-content-type-options: nosniff\r"));
    }
}

#[tokio::test]
async fn an_edit_holds_at_once_and_a_broken_one_serves_nobody_until_mended() {
    let site = Site::new("").await;
    assert!(site.get("/", None).await.starts_with("http/1.1 200"));
    site.write(&format!(
        "basic_auth_users: {{a: '{}'}}\n",
        bcrypt::hash("x", 4).unwrap()
    ));
    assert!(site.get("/", None).await.starts_with("http/1.1 401"));
    let open = site.connect().await;
    site.write("basic_auth_users: {a: 'x'}\n");
    assert_eq!(site.get("/", Some("a:x")).await, "", "a new connection");
    // `open` may have passed the door before or after the edit: served it is not.
    let answer = ask(open, "/", Some("a:x")).await;
    assert!(
        answer.is_empty() || answer.starts_with("http/1.1 500"),
        "{answer}"
    );
    let fault = check(&site.path()).unwrap_err().to_string();
    assert!(
        fault.contains("line 1: the password of \"a\" is no bcrypt hash"),
        "{fault}"
    );
    site.write("");
    assert!(site.get("/", None).await.starts_with("http/1.1 200"));
    std::fs::remove_file(site.path()).unwrap();
    assert_eq!(site.get("/", None).await, "");
    site.write("# back\n");
    assert!(site.get("/", None).await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn an_open_connection_is_told_500_while_the_file_is_broken() {
    let site = Site::new("").await;
    let mut stream = site.connect().await;
    let mut answer = vec![0; 4096];
    for (text, expected) in [("", "200"), ("x: y\n", "500"), ("\n", "200")] {
        site.write(text);
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let length = stream.read(&mut answer).await.unwrap();
        let line = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(line.starts_with(&format!("HTTP/1.1 {expected}")), "{line}");
    }
}
