//! Values that are written as text: durations, sizes, addresses, probes.
//! Each parser is told the text alone and says what is wrong with it.

use crate::config::fault::quoted;
use crate::config::read::{Item, Wrong};
use crate::listener::Address;
use crate::logs::output::Server;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Longer durations are slips of the pen, and would overflow clocks.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Longest path of a unix socket, unix(7): 108 bytes with the final NUL.
const SOCKET_PATH: usize = 107;

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

impl Item<'_> {
    /// A duration above zero.
    pub fn duration(&self) -> Option<Duration> {
        let duration = self.duration_or_zero()?;
        if duration.is_zero() {
            self.wrong(Wrong::new("must be longer than zero"));
            return None;
        }
        Some(duration)
    }

    pub fn duration_or_zero(&self) -> Option<Duration> {
        self.parse("a duration such as \"5s\"", duration)
    }

    /// A size in bytes: a number, or text with a unit.
    pub fn size(&self, least: u64, most: u64) -> Option<u64> {
        let size = self.scalar("a size such as \"16MiB\"", size)?;
        if size < least {
            let text = format!("{} is too small", size_text(size));
            self.wrong(Wrong::new(text).help(format!("at least {}", size_text(least))));
            return None;
        }
        if size > most {
            let text = format!("{} is too large", size_text(size));
            self.wrong(Wrong::new(text).help(format!("at most {}", size_text(most))));
            return None;
        }
        Some(size)
    }

    /// A share from 1 % to 100 %.
    pub fn percent(&self) -> Option<u8> {
        self.parse("a percentage such as \"85%\"", percent)
    }

    pub fn path_buf(&self) -> Option<PathBuf> {
        self.parse("an absolute path", absolute_path)
    }

    pub fn socket_path(&self) -> Option<PathBuf> {
        self.parse("the absolute path of a socket", |text| {
            let path = absolute_path(text)?;
            fits_a_socket(text)?;
            Ok(path)
        })
    }
}

/// `500ms`, `5s`, `1h30m`: whole numbers, each with its unit.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let help = "units are ms, s, m, h, d: \"500ms\", \"5s\", \"1h30m\"";
    let wrong = |what: String| Wrong::new(format!("{} {what}", quoted(text))).help(help);
    let mut rest = text;
    let mut millis: u64 = 0;
    if rest.is_empty() {
        return Err(wrong("is no duration".into()));
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err(wrong("is no duration".into()));
        }
        if unit.is_empty() {
            return Err(wrong("has no unit".into()));
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(wrong(format!("has the unknown unit {}", quoted(unit))));
        };
        let part = number.parse::<u64>().ok();
        let sum = part
            .and_then(|part| part.checked_mul(*factor))
            .and_then(|part| millis.checked_add(part));
        match sum {
            Some(sum) if Duration::from_millis(sum) <= LONGEST => millis = sum,
            _ => return Err(wrong("is longer than a year".into())),
        }
        rest = tail;
    }
    Ok(Duration::from_millis(millis))
}

/// The shortest text that [`duration`] reads as the same; below a millisecond is cut.
pub fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in UNITS.iter().rev() {
        if rest / factor > 0 {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// `85%`: a whole number from 1 to 100 with its sign.
pub fn percent(text: &str) -> Result<u8, Wrong> {
    let wrong = |what: &str| {
        let text = format!("{} {what}", quoted(text));
        Wrong::new(text).help("use a whole number from 1% to 100%, such as \"85%\"")
    };
    let Some(number) = text.strip_suffix('%') else {
        return Err(wrong("has no % at its end"));
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong("is no percentage"));
    }
    match number.parse() {
        Ok(number @ 1..=100) => Ok(number),
        Ok(_) | Err(_) => Err(wrong("is not within 1% to 100%")),
    }
}

/// Bytes: `16MiB`, `6GiB`; and as Compose takes them, powers of 1024 by `b`, `k`, `m`, `g`
/// with or without a `b`. A bare number is bytes.
pub fn size(text: &str) -> Result<u64, Wrong> {
    let help = "units are B, KiB, MiB, GiB, TiB, or k, m, g, t as in Compose";
    let wrong = |what: String| Wrong::new(format!("{} {what}", quoted(text))).help(help);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong(format!("has the unknown unit {}", quoted(unit)))),
    };
    let factor = 1u64 << shift;
    let size = if number.contains('.') && shift > 0 {
        // Compose takes "1.5g"; below 2^53 the product is exact enough for bytes.
        let product = number.parse::<f64>().ok().map(|n| n * factor as f64);
        product.filter(|n| *n < 9e15).map(|n| n as u64)
    } else {
        match number.parse::<u64>() {
            Ok(number) => number.checked_mul(factor),
            Err(_) => None,
        }
    };
    size.ok_or_else(|| wrong("is no size".into()))
}

/// The text of a size in the largest unit that divides it.
pub fn size_text(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in units {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// Where to listen: `127.0.0.1:24224`, `:9100` for all IPv4 addresses, `unix:/path`.
pub fn address(text: &str) -> Result<Address, Wrong> {
    let help = "use \"127.0.0.1:9100\", \"[::1]:9100\", \":9100\" or \"unix:/path\"";
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        fits_a_socket(path)?;
        return Ok(Address::Unix(absolute_path(path)?));
    }
    if let Some(port) = text.strip_prefix(':')
        && let Ok(port) = port.parse::<u16>()
    {
        return Ok(Address::Tcp((Ipv4Addr::UNSPECIFIED, port).into()));
    }
    text.parse::<SocketAddr>()
        .map(Address::Tcp)
        .map_err(|_| Wrong::new(format!("{} is no address to listen on", quoted(text))).help(help))
}

/// `host:port` of a server; without a port the forward protocol's 24224.
pub fn server(text: &str) -> Result<Server, Wrong> {
    const FORWARD_PORT: u16 = 24224;
    let wrong = || {
        Wrong::new(format!("{} is no server", quoted(text)))
            .help("use \"host:port\", such as \"logs-a.example:24224\"")
    };
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Server {
            host: ip.to_string(),
            port: FORWARD_PORT,
        });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
        None => (text, Some(FORWARD_PORT)),
    };
    let host = host_name(host).ok_or_else(wrong)?;
    let port = port.ok_or_else(wrong)?;
    Ok(Server { host, port })
}

/// A name or an IP address, the brackets of an IPv6 address taken off.
fn host_name(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return inner.parse::<IpAddr>().ok().map(|ip| ip.to_string());
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = !text.is_empty() && text.len() <= 253 && text.chars().all(is_name);
    fits.then(|| text.to_string())
}

/// `host:port`, an IPv6 address in brackets.
pub fn server_text(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// What a probe asks: `:8080/heartbeat`, `host:8080/path`, with or without `http://`.
pub fn http_target(text: &str) -> Result<(String, u16, String), Wrong> {
    let help = "use \":8080/heartbeat\" or \"host:8080/heartbeat\"";
    let wrong = |what: &str| Wrong::new(format!("{} {what}", quoted(text))).help(help);
    if text.starts_with("https://") {
        return Err(wrong("is not supported by this version: probes speak http"));
    }
    let rest = text.strip_prefix("http://").unwrap_or(text);
    let split = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    let (host, port) = authority
        .rsplit_once(':')
        .ok_or_else(|| wrong("names no port"))?;
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 => port,
        _ => return Err(wrong("has no valid port")),
    };
    let host = match host {
        "" => Ipv4Addr::LOCALHOST.to_string(),
        host => host_name(host).ok_or_else(|| wrong("has no valid host"))?,
    };
    if !path.chars().all(|c| c.is_ascii_graphic()) {
        return Err(wrong("has a path with characters that a URL cannot have"));
    }
    let path = if path.is_empty() { "/" } else { path };
    Ok((host, port, path.into()))
}

fn absolute_path(text: &str) -> Result<PathBuf, Wrong> {
    if text.starts_with('/') && !text.contains('\0') {
        Ok(PathBuf::from(text))
    } else {
        let wrong = Wrong::new(format!("{} is no absolute path", quoted(text)));
        Err(match text.strip_prefix("unix://") {
            Some(path) => wrong.help(format!("write {path:?}")),
            None => wrong.help("begin it with \"/\""),
        })
    }
}

fn fits_a_socket(path: &str) -> Result<(), Wrong> {
    if path.len() <= SOCKET_PATH {
        return Ok(());
    }
    let text = format!("{} is too long for a socket", quoted(path));
    Err(Wrong::new(text).help(format!("at most {SOCKET_PATH} bytes")))
}

#[cfg(test)]
mod tests {
    use super::{address, duration, duration_text, http_target, server, size, size_text};
    use std::time::Duration;

    #[test]
    fn durations_read_with_each_unit_and_print_back() {
        let cases = [
            ("500ms", 500),
            ("5s", 5_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1d1ms", 86_400_001),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            let read = duration(text).unwrap();
            assert_eq!(read, Duration::from_millis(millis), "{text}");
            assert_eq!(duration_text(read), text);
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5s",
            "5sec",
            "367d",
            "99999999999999999999s",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_read_as_compose_reads_them() {
        let cases = [
            ("16MiB", 16 << 20),
            ("6GiB", 6 << 30),
            ("512m", 512 << 20),
            ("64kb", 64 << 10),
            ("1.5g", 3 << 29),
            ("2GB", 2 << 30),
            ("300", 300),
            ("10B", 10),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
            assert_eq!(size(&size_text(bytes)).unwrap(), bytes);
        }
        for text in [
            "",
            "MiB",
            "-1",
            "1.5",
            "5 potatoes",
            "99999999TiB",
            "1e3",
            "1.2.3g",
        ] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn addresses_read_in_every_documented_form() {
        let cases = [
            ("127.0.0.1:24224", "127.0.0.1:24224"),
            (":9100", "0.0.0.0:9100"),
            ("[::1]:80", "[::1]:80"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
        ];
        for (text, printed) in cases {
            assert_eq!(address(text).unwrap().to_string(), printed);
        }
        for text in [
            "",
            "9100",
            "localhost:80",
            "1.2.3.4",
            "1.2.3.4:70000",
            "unix:x",
            "::1:80",
        ] {
            assert!(address(text).is_err(), "{text:?}");
        }
        assert!(address(&format!("unix:/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn servers_and_probe_targets_read() {
        let read = |text| server(text).map(|s| (s.host, s.port)).ok();
        assert_eq!(read("logs-a.example:1"), Some(("logs-a.example".into(), 1)));
        assert_eq!(read("logs-a"), Some(("logs-a".into(), 24224)));
        assert_eq!(read("[::1]:5"), Some(("::1".into(), 5)));
        assert_eq!(read("::1"), Some(("::1".into(), 24224)));
        for text in ["", ":1", "a:0", "a:b", "a b:1", "http://x:1", "[::1:5"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        let probe = |text| http_target(text).ok();
        assert_eq!(
            probe(":80/x?y"),
            Some(("127.0.0.1".into(), 80, "/x?y".into()))
        );
        assert_eq!(probe("http://a:80"), Some(("a".into(), 80, "/".into())));
        for text in ["", "/x", ":0/x", ":80/ x", "https://a:1/", ":x/"] {
            assert_eq!(probe(text), None, "{text:?}");
        }
    }
}
