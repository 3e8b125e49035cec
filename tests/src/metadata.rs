//! Instance metadata, version 2, as EC2 answers it on the link-local address; here on loopback.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

pub const REGION: &str = "eu-central-1";
pub const INSTANCE: &str = "i-0fedcba9876543210";
pub const PRIVATE_IP: &str = "10.20.30.40";
const TOKEN: &str = "AQAEAtesttoken==";

/// Serves until the process ends. `silent`: accepts and never answers.
pub fn serve(silent: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            if silent {
                kept.push(stream);
            } else {
                std::thread::spawn(move || answer(stream));
            }
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => head.push(line.trim().to_owned()),
            }
        }
        let reply = reply(&head);
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

fn reply(head: &[String]) -> String {
    let header = |name: &str| {
        head[1..].iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let mut words = head[0].split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    if method == "PUT" && path == "/latest/api/token" {
        let ttl = header("x-aws-ec2-metadata-token-ttl-seconds");
        return match ttl.as_deref().map(str::parse::<u32>) {
            Some(Ok(ttl @ 1..=21600)) => with(
                200,
                TOKEN,
                &format!("x-aws-ec2-metadata-token-ttl-seconds: {ttl}\r\n"),
            ),
            _ => with(400, "", ""),
        };
    }
    if header("x-aws-ec2-metadata-token").as_deref() != Some(TOKEN) {
        return with(401, "", "");
    }
    let zone = format!("{REGION}a");
    let document = format!(
        "{{\"accountId\":\"123456789012\",\"architecture\":\"x86_64\",\"availabilityZone\":\"{zone}\",\
         \"imageId\":\"ami-1\",\"instanceId\":\"{INSTANCE}\",\"instanceType\":\"t2.medium\",\
         \"privateIp\":\"{PRIVATE_IP}\",\"region\":\"{REGION}\",\"version\":\"2017-09-30\"}}"
    );
    match path.strip_prefix("/latest/").unwrap_or_default() {
        "meta-data/placement/region" => with(200, REGION, ""),
        "meta-data/placement/availability-zone" => with(200, &zone, ""),
        "meta-data/instance-id" => with(200, INSTANCE, ""),
        "meta-data/instance-type" => with(200, "t2.medium", ""),
        "meta-data/local-ipv4" => with(200, PRIVATE_IP, ""),
        "dynamic/instance-identity/document" => with(200, &document, ""),
        _ => with(404, "not found", ""),
    }
}

fn with(status: u16, body: &str, headers: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}
