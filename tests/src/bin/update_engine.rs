//! Stands in for Flatcar's update_engine on the system bus: `update_engine STATUS_FILE`.
//!
//! `GetStatus` answers with the operation that the file names; when the file changes it sends
//! `StatusUpdate`. Name, path, interface and signature are update_engine's own.

// A stand-in may fail like the test that it is for.
#![allow(clippy::unwrap_used)]

use futures_util::StreamExt;
use std::time::Duration;
use zbus::message::Type;
use zbus::{Connection, MessageStream};

const NAME: &str = "com.coreos.update1";
const PATH: &str = "/com/coreos/update1";
const INTERFACE: &str = "com.coreos.update1.Manager";

/// last_checked_time, progress, current_operation, new_version, new_size
type Status = (i64, f64, String, &'static str, i64);

fn status(file: &str) -> Status {
    let word = std::fs::read_to_string(file).unwrap();
    let operation = format!("UPDATE_STATUS_{}", word.trim());
    (1_790_000_000, 0.25, operation, "4593.2.0", 1 << 28)
}

#[tokio::main]
async fn main() {
    let file = std::env::args().nth(1).unwrap();
    let connection = Connection::system().await.unwrap();
    connection.request_name(NAME).await.unwrap();
    let mut calls = MessageStream::from(connection.clone());
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let mut last = status(&file);
    loop {
        tokio::select! {
            call = calls.next() => {
                let call = call.unwrap().unwrap();
                let header = call.header();
                let is = |member: &str| {
                    header.member().is_some_and(|name| name.as_str() == member)
                };
                if call.message_type() == Type::MethodCall && is("GetStatus") {
                    connection.reply(&header, &status(&file)).await.unwrap();
                }
            }
            _ = ticks.tick() => {
                let now = status(&file);
                if now != last {
                    let to = None::<&str>;
                    connection.emit_signal(to, PATH, INTERFACE, "StatusUpdate", &now).await.unwrap();
                    last = now;
                }
            }
        }
    }
}
