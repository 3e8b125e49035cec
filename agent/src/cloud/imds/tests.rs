use super::{DEADLINE, ImdsError, Variables, endpoint, read_all};
use crate::chain::Chain;
use crate::cloud::Settings;
use crate::dns::Resolver;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// IMDSv2 on loopback, speaking as the service is documented: a token by PUT
/// with a TTL that it repeats, 401 for a GET without the current token, 404
/// for what it does not have.
#[derive(Default)]
struct Stub {
    paths: HashMap<&'static str, &'static str>,
    /// Answers to a path before its value.
    first: Mutex<HashMap<&'static str, u16>>,
    /// The current token is refused once before this path, as after a restart of the service.
    revoke_before: Option<&'static str>,
    revoked: Mutex<bool>,
    tokens: Mutex<u32>,
    /// What PUT answers instead of a token.
    put: Option<u16>,
}

const EVERYTHING: [(&str, &str); 8] = [
    ("/latest/meta-data/placement/region", "eu-west-1"),
    (
        "/latest/meta-data/placement/availability-zone",
        "eu-west-1b",
    ),
    ("/latest/meta-data/instance-id", "i-0123456789abcdef0"),
    ("/latest/meta-data/instance-type", "c7g.large"),
    ("/latest/meta-data/local-ipv4", "10.1.2.3"),
    ("/latest/meta-data/ami-id", "ami-0abc"),
    (
        "/latest/meta-data/local-hostname",
        "ip-10-1-2-3.ec2.internal",
    ),
    (
        "/latest/dynamic/instance-identity/document",
        r#"{"accountId":"123456789012","region":"eu-west-1"}"#,
    ),
];

impl Stub {
    fn everything() -> Stub {
        Stub {
            paths: EVERYTHING.into(),
            ..Stub::default()
        }
    }

    fn start(self) -> (String, Arc<Stub>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stub = Arc::new(self);
        let endpoint = at(&listener);
        let serving = stub.clone();
        // Ends with the test process; the listener is its own.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serving.serve(stream.unwrap());
            }
        });
        (endpoint, stub)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let request = lines.next().unwrap().unwrap();
        let headers: HashMap<String, String> = lines
            .map_while(|line| line.ok().filter(|line| !line.is_empty()))
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        assert!(headers.contains_key("host"), "{headers:?}");
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let (status, extra, body) = self.answer(method, path, &headers);
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{extra}\r\n{body}"
        )
        .unwrap();
    }

    fn answer(
        &self,
        method: &str,
        path: &str,
        headers: &HashMap<String, String>,
    ) -> (u16, String, String) {
        let plain = |status: u16| (status, String::new(), "nothing".to_owned());
        const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
        if method == "PUT" {
            if let Some(status) = self.put {
                return plain(status);
            }
            let ttl: u32 = headers[TTL].parse().unwrap();
            assert!((1..=21_600).contains(&ttl), "{ttl}");
            let mut tokens = self.tokens.lock().unwrap();
            *tokens += 1;
            return (200, format!("{TTL}: {ttl}\r\n"), format!("token-{tokens}"));
        }
        let current = format!("token-{}", self.tokens.lock().unwrap());
        if self.revoke_before == Some(path)
            && !std::mem::replace(&mut *self.revoked.lock().unwrap(), true)
        {
            return plain(401);
        }
        if headers.get("x-aws-ec2-metadata-token") != Some(&current) {
            return plain(401);
        }
        if let Some(status) = self.first.lock().unwrap().remove(path) {
            return plain(status);
        }
        match self.paths.get(path) {
            Some(value) => (200, String::new(), (*value).to_owned()),
            None => plain(404),
        }
    }
}

fn at(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}

fn resolver() -> Resolver {
    Resolver::with_files(
        "/nonexistent/resolv.conf".into(),
        "/nonexistent/hosts".into(),
    )
}

/// Past the environment, which may switch metadata off where the tests run.
async fn read(endpoint: &str) -> Result<HashMap<String, String>, ImdsError> {
    let facts = read_all(endpoint.to_owned(), &resolver()).await?;
    Ok(facts.into_iter().collect())
}

#[tokio::test]
async fn every_fact_is_read_with_one_token() {
    let (service, stub) = Stub::everything().start();
    let found = read(&service).await.unwrap();
    for (name, value) in [
        ("region", "eu-west-1"),
        ("zone", "eu-west-1b"),
        ("instance_id", "i-0123456789abcdef0"),
        ("instance_type", "c7g.large"),
        ("private_ip", "10.1.2.3"),
        ("image_id", "ami-0abc"),
        ("hostname", "ip-10-1-2-3.ec2.internal"),
        ("account", "123456789012"),
    ] {
        assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(found.len(), 8);
    assert_eq!(*stub.tokens.lock().unwrap(), 1);
}

#[tokio::test]
async fn what_the_service_does_not_have_is_absent() {
    let stub = Stub {
        paths: EVERYTHING[..3].iter().copied().collect(),
        ..Stub::default()
    };
    let (service, _stub) = stub.start();
    let found = read(&service).await.unwrap();
    let mut names: Vec<&str> = found.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["instance_id", "region", "zone"]);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    let stub = Stub {
        revoke_before: Some("/latest/meta-data/instance-id"),
        ..Stub::everything()
    };
    let (service, stub) = stub.start();
    assert_eq!(read(&service).await.unwrap().len(), 8);
    assert_eq!(*stub.tokens.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_passing_fault_of_the_service_is_survived() {
    let (service, stub) = Stub::everything().start();
    let path = "/latest/meta-data/local-ipv4";
    stub.first.lock().unwrap().insert(path, 503);
    assert_eq!(read(&service).await.unwrap()["private_ip"], "10.1.2.3");
}

#[tokio::test]
async fn a_service_without_tokens_is_an_error_without_retries() {
    let stub = Stub {
        put: Some(403),
        ..Stub::everything()
    };
    let (service, _stub) = stub.start();
    let started = Instant::now();
    let error = read(&service).await.unwrap_err();
    let text = Chain(&error).to_string();
    assert!(
        text.contains("placement/region") && text.contains("no session token"),
        "{text}"
    );
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_silent_service_costs_no_more_than_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let started = Instant::now();
    let error = read(&at(&silent)).await.unwrap_err();
    assert!(
        started.elapsed() < DEADLINE + Duration::from_secs(1),
        "{error}"
    );
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_refused_port_is_an_error_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = at(&listener);
    drop(listener);
    let started = Instant::now();
    let text = Chain(&read(&service).await.unwrap_err()).to_string();
    assert!(
        text.contains("refused") && text.contains("off EC2"),
        "{text}"
    );
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_endpoint_that_is_no_http_url_is_named() {
    for wrong in ["not a url", "https://127.0.0.1:1"] {
        let error = read(wrong).await.unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
}

#[test]
fn the_setting_wins_over_the_environment_and_off_is_off() {
    let settings = |endpoint: Option<&str>| Settings {
        imds: true,
        endpoint: endpoint.map(Into::into),
    };
    let variables = |disabled: &str, named: Option<&str>, mode: &str| Variables {
        disabled: Some(disabled.into()),
        endpoint: named.map(Into::into),
        mode: Some(mode.into()),
    };
    let chosen = |endpoint: Result<String, ImdsError>| endpoint.unwrap();
    let (set, env) = (Some("http://set"), Some("http://env"));
    assert_eq!(
        chosen(endpoint(&settings(set), variables("false", env, ""))),
        "http://set"
    );
    assert_eq!(
        chosen(endpoint(&settings(None), variables("", env, ""))),
        "http://env"
    );
    assert_eq!(
        chosen(endpoint(&settings(None), variables("", None, ""))),
        super::IPV4
    );
    assert_eq!(
        chosen(endpoint(&settings(None), variables("", None, "IPv6"))),
        super::IPV6
    );
    assert!(endpoint(&settings(set), variables("TRUE", None, "")).is_err());
    let off = Settings {
        imds: false,
        endpoint: None,
    };
    assert!(endpoint(&off, Variables::default()).is_err());
}
