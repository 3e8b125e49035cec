//! The HTTP side: `/` and `/metrics`, what a request asks for, and the limits.
//!
//! At most `max_requests` scrapes are served or wait, more are refused with 503,
//! as node_exporter does. A scrape ends by its deadline: what Prometheus says
//! in `X-Prometheus-Scrape-Timeout-Seconds`, less a margin to send the page.
//! While it waits it looks after the thread that makes the pages (`desk`).

use crate::http::{Handler, Reply, ReplyFuture, Request, reply};
use crate::metrics::collector::Selection;
use crate::metrics::desk::{Desk, limit};
use crate::metrics::left_out;
use crate::metrics::scraper::{Body, Job};
use crate::metrics::{COLLECTORS, Metrics, OPTIONAL, Shared, gzip, look};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot::{self, error::RecvError};
use tokio::time::error::Elapsed;
use tokio::time::timeout_at;

const PAGE_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
/// Where the client does not say: Prometheus' own default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Asked for more, we still stop here.
const MAX_TIMEOUT: Duration = Duration::from_secs(120);
/// Kept back from the client's time-out to send the page; at most half of it.
const MARGIN: Duration = Duration::from_millis(500);
const UNREAD: &str = "Too many pages wait for clients that do not read, try again later.\n";
/// A page that is nearly made when the deadline passes is waited for this much longer.
const GRACE: Duration = Duration::from_millis(250);

/// Collectors of ours that are off unless included, and on there.
const ON_THERE: &[&str] = &["rapl"];

/// The page at `/`, with a link to `path`.
fn landing(path: &str) -> String {
    let path = path
        .replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <title>Node metrics</title></head>\n<body>\n<h1>Node metrics</h1>\n\
         <p>This host's metrics under node_exporter's names, and the agent's own: \
         <a href=\"{path}\">Metrics</a></p>\n</body>\n</html>\n"
    )
}

/// The page where the configuration says, else at `/` a link to it.
impl Handler for Metrics {
    fn handle(&self, request: Request) -> ReplyFuture {
        let answer = match request.uri().path() {
            path if path == self.telemetry_path => {
                self.begin(request.uri().query(), request.headers())
            }
            "/" => {
                let landing = landing(&self.telemetry_path);
                Answer::Now(reply(200, "text/html; charset=utf-8", landing))
            }
            _ => Answer::Now(reply(404, TEXT_TYPE, "404 page not found\n")),
        };
        Box::pin(async move {
            match answer {
                Answer::Now(reply) => reply,
                Answer::Later(scrape) => scrape.finish().await,
            }
        })
    }
}

enum Answer {
    Now(Reply),
    Later(Scrape),
}

impl Metrics {
    /// Hands the job to the thread, or refuses.
    fn begin(&self, query: Option<&str>, headers: &HeaderMap) -> Answer {
        let selection = match selection(query.unwrap_or_default(), &self.enabled) {
            Ok(selection) => selection,
            Err(reason) => return Answer::Now(reply(400, TEXT_TYPE, reason)),
        };
        let accepted = headers
            .get_all(ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(gzip::is_accepted);
        let timeout = headers.get(SCRAPE_TIMEOUT).and_then(|v| v.to_str().ok());
        let asked = Instant::now();
        let deadline = asked + budget(timeout);
        let (answer, body) = oneshot::channel();
        let job = Job {
            selection,
            deadline,
            gzip: accepted,
            reply: answer,
        };
        let refusal = if self.shared.is_full() {
            UNREAD.to_owned()
        } else {
            if let Some(place) = Place::take(&self.shared, self.places)
                && self.desk.ask(job)
            {
                return Answer::Later(Scrape {
                    place,
                    desk: self.desk.clone(),
                    body,
                    asked,
                    deadline,
                });
            }
            format!(
                "Limit of concurrent requests reached ({}), try again later.\n",
                self.places
            )
        };
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        Answer::Now(reply(503, TEXT_TYPE, refusal))
    }
}

/// A job that is under way.
struct Scrape {
    place: Place,
    desk: Arc<Desk>,
    body: oneshot::Receiver<Body>,
    asked: Instant,
    deadline: Instant,
}

impl Scrape {
    async fn finish(mut self) -> Reply {
        let body = self.body().await;
        let shared = &self.place.shared;
        match body {
            Ok(Ok(body)) => {
                shared.ok.fetch_add(1, Ordering::Relaxed);
                let mut page = reply(200, PAGE_TYPE, body.bytes);
                if body.gzip {
                    let gzip = HeaderValue::from_static("gzip");
                    page.headers_mut().insert(CONTENT_ENCODING, gzip);
                }
                page
            }
            Ok(Err(_)) if shared.is_full() => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                reply(503, TEXT_TYPE, UNREAD)
            }
            Ok(Err(_)) => {
                shared.failed.fetch_add(1, Ordering::Relaxed);
                reply(500, TEXT_TYPE, "The metrics thread has ended.\n")
            }
            Err(_) => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                reply(503, TEXT_TYPE, "No page within the scrape's time-out.\n")
            }
        }
    }

    /// The page; `Err` outside where it does not come in time.
    async fn body(&mut self) -> Result<Result<Body, RecvError>, Elapsed> {
        let mut next = limit(self.asked, self.asked, self.deadline);
        while next < self.deadline {
            if let Ok(body) = timeout_at(next.into(), &mut self.body).await {
                return Ok(body);
            }
            next = look(&self.desk, self.asked, self.deadline);
        }
        timeout_at((self.deadline + GRACE).into(), &mut self.body).await
    }
}

/// One of the places, given back when dropped.
struct Place {
    shared: Arc<Shared>,
}

impl Place {
    fn take(shared: &Arc<Shared>, places: usize) -> Option<Place> {
        take(&shared.in_flight, places).then(|| Place {
            shared: shared.clone(),
        })
    }
}

fn take(in_flight: &AtomicU64, places: usize) -> bool {
    in_flight
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            (taken < places as u64).then_some(taken + 1)
        })
        .is_ok()
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Time for collecting, from the client's time-out in seconds.
fn budget(timeout: Option<&str>) -> Duration {
    let timeout = timeout
        .and_then(|text| text.trim().parse::<f64>().ok())
        .filter(|seconds| *seconds > 0.0)
        .map_or(DEFAULT_TIMEOUT, |seconds| {
            Duration::from_secs_f64(seconds.min(MAX_TIMEOUT.as_secs_f64()))
        });
    timeout - MARGIN.min(timeout / 2)
}

/// `collect[]` and `exclude[]`; an error is the text of the 400, in node_exporter's words.
fn selection(query: &str, enabled: &[&str]) -> Result<Selection, String> {
    let mut collect = Vec::new();
    let mut exclude = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match decoded(key).as_str() {
            "collect[]" => collect.push(decoded(value)),
            "exclude[]" => exclude.push(decoded(value)),
            _ => {}
        }
    }
    if !collect.is_empty() && !exclude.is_empty() {
        return Err("Combined collect and exclude queries are not allowed.".into());
    }
    for name in &collect {
        let name = name.as_str();
        if enabled.contains(&name) {
            continue;
        }
        let left_out = left_out::find(name);
        if ON_THERE.contains(&name) || left_out.is_some_and(|one| one.is_on_there) {
            continue; // nothing to show, as there on a host without its source
        }
        let is_off = left_out.is_some() || COLLECTORS.contains(&name) || OPTIONAL.contains(&name);
        let reason = if is_off { "disabled" } else { "missing" };
        return Err(format!(
            "Couldn't create filtered metrics handler: \
             couldn't create collector: {reason} collector: {name}"
        ));
    }
    Ok(match (collect.is_empty(), exclude.is_empty()) {
        (false, _) => Selection::Only(collect),
        (true, false) => Selection::Except(exclude),
        (true, true) => Selection::All,
    })
}

/// Percent-decoding of a query, `+` is a blank.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after
            .first_chunk::<2>()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (byte, used) = match (first, hex) {
            (b'%', Some(byte)) => (byte, 2),
            (b'+', _) => (b' ', 0),
            (other, _) => (*other, 0),
        };
        bytes.push(byte);
        rest = &after[used..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Selection, budget, decoded, selection};
    use std::time::Duration;

    #[test]
    fn collect_and_exclude_choose_and_are_refused_in_node_exporters_words() {
        let enabled = ["cpu", "stat"];
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (query, expected) in [
            ("", Ok(Selection::All)),
            ("name=x&", Ok(Selection::All)),
            (
                "collect[]=cpu&collect%5B%5D=stat",
                Ok(Selection::Only(names(&["cpu", "stat"]))),
            ),
            (
                "exclude[]=zfs&exclude[]=cpu",
                Ok(Selection::Except(names(&["zfs", "cpu"]))),
            ),
            (
                "collect[]=cpu&exclude[]=stat",
                Err("Combined collect and exclude queries are not allowed."),
            ),
            (
                "collect[]=zsf",
                Err("Couldn't create filtered metrics handler: \
                     couldn't create collector: missing collector: zsf"),
            ),
            ("collect[]=zfs", Ok(Selection::Only(names(&["zfs"])))),
            (
                "collect[]=wifi",
                Err("Couldn't create filtered metrics handler: \
                     couldn't create collector: disabled collector: wifi"),
            ),
            (
                "collect[]=uname",
                Err("Couldn't create filtered metrics handler: \
                     couldn't create collector: disabled collector: uname"),
            ),
        ] {
            let expected = expected.map_err(str::to_owned);
            assert_eq!(selection(query, &enabled), expected, "{query}");
        }
    }

    #[test]
    fn the_budget_leaves_a_margin_and_survives_nonsense() {
        for (header, millis) in [
            (None, 9_500),
            (Some("5"), 4_500),
            (Some("0.4"), 200),
            (Some("1e9"), 119_500),
            (Some("-1"), 9_500),
            (Some("NaN"), 9_500),
            (Some("soon"), 9_500),
        ] {
            assert_eq!(budget(header), Duration::from_millis(millis), "{header:?}");
        }
    }

    #[test]
    fn broken_percent_signs_stay_as_they_are() {
        assert_eq!(decoded("a%5Bb%zz%4+%"), "a[b%zz%4 %");
    }
}
