//! What Docker's words about a failed pull mean. Docker hands on the
//! registry's answer as text only, in words that differ from one storage driver
//! and release to the next; what is not known here is a plain failure.

use crate::docker::error::Cause;
use std::time::Duration;

/// Why a pull failed, by what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Docker does not answer.
    Docker,
    /// The policy forbids what would be needed.
    Never,
    /// The registry does not take the credentials.
    Denied,
    NotFound,
    /// The registry asks for patience: 429 or 503.
    Limited,
    /// No byte for too long.
    Stalled,
    /// Not done in the time that a pull has.
    Late,
    DiskFull,
    /// What came, or what is here, is not what the digest says.
    Corrupt,
    Failed,
}

/// Docker's words when the disk below it has no room.
pub fn is_disk_full(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["no space left on device", "disk quota exceeded"]
        .iter()
        .any(|words| text.contains(words))
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Docker,
        Kind::Never,
        Kind::Denied,
        Kind::NotFound,
        Kind::Limited,
        Kind::Stalled,
        Kind::Late,
        Kind::DiskFull,
        Kind::Corrupt,
        Kind::Failed,
    ];

    /// As metrics and logs show it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Never => "never",
            Kind::Denied => "denied",
            Kind::NotFound => "not_found",
            Kind::Limited => "limited",
            Kind::Stalled => "stalled",
            Kind::Late => "late",
            Kind::DiskFull => "disk_full",
            Kind::Corrupt => "corrupt",
            Kind::Failed => "failed",
        }
    }

    /// Somebody has to do something before another try makes sense.
    pub fn is_slow(self) -> bool {
        matches!(self, Kind::NotFound | Kind::Never | Kind::DiskFull)
    }

    pub fn of(cause: &Cause) -> Kind {
        match cause {
            Cause::Late(_) | Cause::Absent(_) | Cause::Lost(_) | Cause::TooOld { .. } => {
                Kind::Docker
            }
            Cause::Stalled(_) => Kind::Stalled,
            Cause::Answer { status, message } => match Kind::of_text(message) {
                Kind::Failed if matches!(status, 400 | 404) => Kind::NotFound,
                kind => kind,
            },
            Cause::Other(message) => Kind::of_text(message),
        }
    }

    fn of_text(text: &str) -> Kind {
        let text = text.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        // Before "denied": docker says "pull access denied" of both.
        if says(&[
            "toomanyrequests",
            "too many requests",
            "http 429",
            "http status: 429",
            "rate exceeded",
            "http 503",
            "http status: 503",
            "503 service unavailable",
        ]) {
            return Kind::Limited;
        }
        // A file that Docker may not write is no registry's word.
        let refused = text.contains("denied") && !text.contains("permission denied");
        if refused
            || says(&[
                "unauthorized",
                "no basic auth credentials",
                "authentication required",
                "http 401",
                "http status: 401",
                "403 forbidden",
                "authorization token has expired",
                "insufficient_scope",
            ])
        {
            return Kind::Denied;
        }
        if is_disk_full(&text) {
            return Kind::DiskFull;
        }
        if says(&[
            "manifest unknown",
            "name unknown",
            "repository name not known",
            "no matching manifest",
            "manifest not found",
            "invalid reference format",
        ]) || (text.contains("manifest for ") && text.contains("not found"))
        {
            return Kind::NotFound;
        }
        if says(&["verification failed", "failed to verify", "digest mismatch"]) {
            return Kind::Corrupt;
        }
        Kind::Failed
    }
}

/// How long the registry asked to wait, where its words say so
/// (`retry-after: 1.5s, allowed: 44000/minute`). Docker keeps the header to itself.
pub fn retry_after(text: &str) -> Option<Duration> {
    let lower = text.to_ascii_lowercase();
    let at = ["retry-after", "retry after", "try again in"]
        .iter()
        .find_map(|word| lower.find(word).map(|at| at + word.len()))?;
    let rest = lower[at..].trim_start_matches([':', '=', ' ', '"']);
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == 'µ'));
    let mut rest = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
    let mut seconds = 0.0;
    let mut found = false;
    while let Some(after) = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')) {
        let number: f64 = rest[..after].parse().ok()?;
        let unit = &rest[after..];
        let units = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        seconds += number
            * match &unit[..units] {
                "h" => 3600.0,
                "m" | "min" | "minute" | "minutes" => 60.0,
                "s" | "sec" | "second" | "seconds" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &unit[units..];
        found = true;
    }
    if !rest.is_empty() {
        // A bare number is seconds (RFC 9110 section 10.2.3).
        seconds += rest.parse::<f64>().ok()?;
        found = true;
    }
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    found.then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::{Kind, retry_after};
    use crate::docker::error::Cause;
    use std::time::Duration;

    fn said(status: u16, message: &str) -> Kind {
        Kind::of(&Cause::Answer {
            status,
            message: message.into(),
        })
    }

    #[test]
    fn what_dockers_say_of_registries_is_understood() {
        let cases = [
            (
                500,
                "toomanyrequests: You have reached your pull rate limit.",
                Kind::Limited,
            ),
            (
                500,
                "error parsing HTTP 429 response body: unexpected end of JSON input: \"\"",
                Kind::Limited,
            ),
            (
                500,
                "received unexpected HTTP status: 503 Service Unavailable",
                Kind::Limited,
            ),
            (
                500,
                "received unexpected HTTP status: 500 Internal Server Error",
                Kind::Failed,
            ),
            (
                500,
                "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                Kind::Failed,
            ),
            (
                404,
                "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                Kind::Denied,
            ),
            (
                500,
                "Get \"https://1.dkr.ecr.us-east-1.amazonaws.com/v2/x/manifests/1\": no basic auth credentials",
                Kind::Denied,
            ),
            (500, "unauthorized: authentication required", Kind::Denied),
            (
                500,
                "denied: Your authorization token has expired. Reauthenticate and try again.",
                Kind::Denied,
            ),
            (
                404,
                "manifest for 127.0.0.1:5000/app:2 not found: manifest unknown: manifest unknown",
                Kind::NotFound,
            ),
            (
                404,
                "no matching manifest for linux/amd64 in the manifest list entries",
                Kind::NotFound,
            ),
            (400, "invalid reference format", Kind::NotFound),
            (
                500,
                "write /var/lib/docker/tmp/x: no space left on device",
                Kind::DiskFull,
            ),
            (
                500,
                "mkdir /var/lib/docker/tmp: permission denied",
                Kind::Failed,
            ),
            (
                500,
                "manifest verification failed for digest sha256:00",
                Kind::Corrupt,
            ),
        ];
        for (status, text, kind) in cases {
            assert_eq!(said(status, text), kind, "{text}");
        }
        let second = Duration::from_secs(1);
        assert_eq!(Kind::of(&Cause::Stalled(second)), Kind::Stalled);
        assert_eq!(Kind::of(&Cause::Late(second)), Kind::Docker);
        let stream = Cause::Other("unexpected EOF".into());
        assert_eq!(Kind::of(&stream), Kind::Failed);
    }

    #[test]
    fn the_patience_that_a_registry_asks_for_is_read_from_its_words() {
        let cases = [
            (
                "toomanyrequests: retry-after: 1.5s, allowed: 44000/minute",
                Some(1.5),
            ),
            ("toomanyrequests: Retry-After: 30", Some(30.0)),
            ("slow down, try again in 2m30s.", Some(150.0)),
            ("retry-after: 250ms", Some(0.25)),
            ("toomanyrequests: rate exceeded", None),
            ("retry-after: soon", None),
            ("retry-after: 99999999999999999999999999h", None),
        ];
        for (text, seconds) in cases {
            let found = retry_after(text).map(|wait| wait.as_secs_f64());
            assert_eq!(found, seconds, "{text}");
        }
    }
}
