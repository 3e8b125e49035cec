//! Values in the short forms of the Compose specification: command lines,
//! ports, lists that may be tables.

use crate::config::fault::{Place, quoted};
use crate::config::read::{Item, Table, Wrong};
use crate::supervise::spec::{Port, Protocol, Ulimit};
use std::collections::BTreeMap;
use std::net::IpAddr;

impl Item<'_> {
    /// A command: an array of words, or one string that is split as a shell splits words.
    pub fn words(self) -> Option<Vec<String>> {
        if self.is_array() {
            let items = self.list()?;
            return Some(items.iter().filter_map(Item::plain).collect());
        }
        self.parse("an array of strings or a command line", words)
    }

    /// A list of strings; one string is a list of itself.
    pub fn strings(self, parse: impl Fn(&str) -> Result<(), Wrong>) -> Vec<String> {
        let items = self.list().unwrap_or_default();
        let read =
            |item: &Item<'_>| item.parse("a string", |text| parse(text).map(|()| text.to_string()));
        items.iter().filter_map(read).collect()
    }

    /// A table of plain values, or a list of `KEY=value`.
    pub fn map(self) -> BTreeMap<String, String> {
        let bare = |text: &str| Err(Wrong::new(format!("{} is not \"KEY=value\"", quoted(text))));
        self.map_of(bare, |_, _| Ok(()))
    }

    /// [`Item::map`], in whose list a key alone has the empty value.
    pub fn labels(self) -> BTreeMap<String, String> {
        let bare = |text: &str| match text {
            "" => Err(Wrong::new("is empty")),
            text => Ok((text.to_string(), String::new())),
        };
        self.map_of(bare, |_, _| Ok(()))
    }

    /// A map whose pairs pass `check`; `bare` is told of list entries without `=`.
    pub fn map_of(
        self,
        bare: impl Fn(&str) -> Result<(String, String), Wrong>,
        check: impl Fn(&str, &str) -> Result<(), Wrong>,
    ) -> BTreeMap<String, String> {
        if self.is_table() {
            let pairs = self.pairs();
            let read = |(key, item): &(String, Item<'_>)| {
                if key.is_empty() || key.contains(['=', '\0']) {
                    item.wrong(Wrong::new("the name is empty or has \"=\" in it"));
                    return None;
                }
                let value = item.plain()?;
                check(key, &value).map_err(|wrong| item.wrong(wrong)).ok()?;
                Some((key.clone(), value))
            };
            return pairs.iter().filter_map(read).collect();
        }
        let mut map = BTreeMap::new();
        for item in self.list().unwrap_or_default() {
            let pair = item.parse("a table, or a list of \"KEY=value\"", |text| {
                let (key, value) = match text.split_once('=') {
                    Some((key, value)) if !key.is_empty() => (key.to_string(), value.into()),
                    Some(_) => {
                        let text = format!("{} is not \"KEY=value\"", quoted(text));
                        return Err(Wrong::new(text));
                    }
                    None => bare(text)?,
                };
                check(&key, &value)?;
                Ok((key, value))
            });
            let Some((key, value)) = pair else { continue };
            if map.insert(key.clone(), value).is_some() {
                item.wrong(Wrong::new(format!("{} is given twice", quoted(&key))));
            }
        }
        map
    }

    /// `"80"`, `"8080:80"`, `"127.0.0.1:8080:80/udp"`, ranges of equal length.
    pub fn ports(self) -> Vec<(Port, Place)> {
        let mut found = Vec::new();
        for item in self.list().unwrap_or_default() {
            let place = item.place();
            let fits = |n| {
                let fits = item.may_add_ports(n);
                if !fits {
                    let wrong = Wrong::new("more ports than a host has");
                    item.wrong(wrong.help("use network_mode = \"host\""));
                }
                fits
            };
            let ports = match item.is_table() {
                true => item.copy().table(long_port).unwrap_or_default(),
                false => {
                    let ports = item.scalar("a port such as \"8080:80\"", ports);
                    ports.unwrap_or_default()
                }
            };
            if !fits(ports.len()) {
                break;
            }
            found.extend(ports.into_iter().map(|port| (port, place)));
        }
        found
    }

    pub fn ulimit(self) -> Option<Ulimit> {
        if !self.is_table() {
            let both = self.integer(-1, i64::MAX)?;
            return Some(Ulimit {
                soft: both,
                hard: both,
            });
        }
        self.table(|table| {
            let soft = table.take("soft").integer(-1, i64::MAX);
            let hard = table.take("hard").integer(-1, i64::MAX);
            match (soft, hard) {
                (Some(soft), Some(hard)) => Some(Ulimit { soft, hard }),
                _ => {
                    table.fault("needs both soft and hard");
                    None
                }
            }
        })
    }
}

/// Splits a command line into words: quotes and backslashes as in a shell, nothing is expanded.
pub fn words(text: &str) -> Result<Vec<String>, Wrong> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(unclosed(text, '\'')),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some('\n') => {}
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err(unclosed(text, '"')),
                        },
                        Some(c) => word.push(c),
                        None => return Err(unclosed(text, '"')),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => {
                    let text = format!("{} ends in a lone backslash", quoted(text));
                    return Err(Wrong::new(text));
                }
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn unclosed(text: &str, quote: char) -> Wrong {
    Wrong::new(format!("no closing {quote} in {}", quoted(text)))
        .help("or write an array: [\"node\", \"server.js\"]")
}

/// One entry of `ports`: `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, HOST and CONTAINER a port or a range.
pub fn ports(text: &str) -> Result<Vec<Port>, Wrong> {
    let help = "use \"80\", \"8080:80\" or \"127.0.0.1:8080:80/udp\"";
    let wrong = |what: &str| Wrong::new(format!("{} {what}", quoted(text))).help(help);
    let (rest, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some(_) => return Err(wrong("names a protocol that is neither tcp nor udp")),
    };
    let (rest, container) = match rest.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), container),
        None => (None, rest),
    };
    let (host_ip, host) = match rest {
        None => ("", None),
        Some(rest) => match rest.rsplit_once(':') {
            Some((ip, host)) => (ip, Some(host)),
            None => ("", Some(rest)),
        },
    };
    let host_ip = host_ip.trim_start_matches('[').trim_end_matches(']');
    if !host_ip.is_empty() && host_ip.parse::<IpAddr>().is_err() {
        return Err(wrong("has no valid IP address before the host port"));
    }
    let container = range(container).ok_or_else(|| wrong("has no valid container port"))?;
    let n_ports = container.1 - container.0;
    let host = match host {
        None | Some("") => None,
        Some(host) => Some(range(host).ok_or_else(|| wrong("has no valid host port"))?),
    };
    let choice = host.filter(|(first, last)| n_ports == 0 && first < last);
    let host = host.filter(|_| choice.is_none());
    if host.is_some_and(|(first, last)| last - first != n_ports) {
        return Err(wrong("has ranges of different length"));
    }
    let port = |n: u16| Port {
        host_ip: host_ip.into(),
        host_port: host.map(|(first, _)| first + n),
        host_range: choice,
        container_port: container.0 + n,
        protocol,
    };
    Ok((0..=n_ports).map(port).collect())
}

/// A port in the long form, put into the short one.
fn long_port(table: &mut Table<'_>) -> Option<Vec<Port>> {
    let target = table.take("target");
    if !target.is_there() {
        table.missing("target", "80");
    }
    let text = |text: &str| Ok::<_, Wrong>(text.to_string());
    let published = table.take("published").scalar("a port", text);
    let ip = table.take("host_ip").parse("an IP address", |ip| {
        check_ip(ip)?;
        Ok(if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_string()
        })
    });
    let protocol = table.take("protocol").parse("\"tcp\" or \"udp\"", text);
    target.scalar("a port of the container", |target| {
        let host = match (ip, published) {
            (Some(ip), published) => format!("{ip}:{}:", published.unwrap_or_default()),
            (None, Some(published)) => format!("{published}:"),
            (None, None) => String::new(),
        };
        let protocol = protocol.unwrap_or_else(|| "tcp".into());
        ports(&format!("{host}{target}/{protocol}"))
    })
}

/// `80` or `3000-3005`, neither end zero.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

/// What [`ports`] reads as this port.
pub fn port_text(port: &Port) -> String {
    let mut text = String::new();
    if !port.host_ip.is_empty() {
        if port.host_ip.contains(':') {
            text.push_str(&format!("[{}]:", port.host_ip));
        } else {
            text.push_str(&format!("{}:", port.host_ip));
        }
    }
    match (port.host_port, port.host_range) {
        (Some(host), _) => text.push_str(&format!("{host}:")),
        (None, Some((first, last))) => text.push_str(&format!("{first}-{last}:")),
        (None, None) if !port.host_ip.is_empty() => text.push(':'),
        (None, None) => {}
    }
    text.push_str(&port.container_port.to_string());
    if port.protocol == Protocol::Udp {
        text.push_str("/udp");
    }
    text
}

pub fn check_image(text: &str) -> Result<String, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("is empty"));
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    if !text.chars().all(is_allowed) || text.starts_with('-') {
        let wrong = Wrong::new(format!("{} is no image name", quoted(text)));
        return Err(wrong.help("use \"[registry/]name[:tag]\" or \"name@sha256:…\""));
    }
    Ok(text.into())
}

pub fn check_volume(text: &str) -> Result<(), Wrong> {
    const OPTIONS: [&str; 14] = [
        "ro",
        "rw",
        "z",
        "Z",
        "nocopy",
        "shared",
        "slave",
        "private",
        "rshared",
        "rslave",
        "rprivate",
        "cached",
        "delegated",
        "consistent",
    ];
    let help = "use \"/host:/container[:ro]\" or \"name:/container\"";
    let wrong = |what: String| Wrong::new(format!("{} {what}", quoted(text))).help(help);
    let mut parts = text.splitn(3, ':');
    let source = parts.next().unwrap_or_default();
    let Some(target) = parts.next() else {
        // A path alone is an anonymous volume.
        return match source.starts_with('/') && source.len() > 1 {
            true => Ok(()),
            false => Err(wrong("names no path in the container".into())),
        };
    };
    if !target.starts_with('/') {
        return Err(wrong("has a container path that is not absolute".into()));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let begins_well = source.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_volume_name = begins_well && source.chars().all(is_name);
    if !source.starts_with('/') && !is_volume_name {
        return Err(wrong("has a host path that is not absolute".into()));
    }
    for option in parts.next().into_iter().flat_map(|part| part.split(',')) {
        if !OPTIONS.contains(&option) {
            return Err(wrong(format!("has the unknown option {}", quoted(option))));
        }
    }
    Ok(())
}

pub fn check_device(text: &str) -> Result<(), Wrong> {
    let is_access = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let fits = match parts.as_slice() {
        [host] => host.starts_with('/'),
        [host, second] => host.starts_with('/') && (second.starts_with('/') || is_access(second)),
        [host, inside, access] => {
            host.starts_with('/') && inside.starts_with('/') && is_access(access)
        }
        _ => false,
    };
    match fits {
        true => Ok(()),
        false => Err(Wrong::new(format!("{} is no device", quoted(text)))
            .help("use \"/dev/kmsg\" or \"/dev/kmsg:/dev/kmsg:rwm\"")),
    }
}

pub fn check_capability(text: &str) -> Result<(), Wrong> {
    let is_allowed = |c: char| c.is_ascii_alphabetic() || c == '_';
    match !text.is_empty() && text.chars().all(is_allowed) {
        true => Ok(()),
        false => Err(Wrong::new(format!("{} is no capability", quoted(text)))
            .help("such as \"NET_ADMIN\" or \"ALL\"")),
    }
}

/// Six bytes: `02:42:ac:11:65:43`.
pub fn check_mac(text: &str) -> Result<String, Wrong> {
    let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let is_unicast = |text: &str| u8::from_str_radix(&text[..2], 16).is_ok_and(|b| b & 1 == 0);
    let bytes = text.split(':');
    match bytes.clone().count() == 6 && bytes.clone().all(is_byte) && is_unicast(text) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(Wrong::new(format!("{} is no MAC address", quoted(text)))
            .help("such as \"02:42:ac:11:65:43\"")),
    }
}

/// `linux/amd64`, `linux/arm/v7`.
pub fn check_platform(text: &str) -> Result<String, Wrong> {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    match text.split('/').count() <= 3 && text.split('/').all(is_part) {
        true => Ok(text.into()),
        false => {
            Err(Wrong::new(format!("{} is no platform", quoted(text)))
                .help("such as \"linux/amd64\""))
        }
    }
}

pub fn check_ip(text: &str) -> Result<(), Wrong> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Wrong::new(format!("{} is no IP address", quoted(text)))),
    }
}

/// CPUs as billionths, exact to a millionth of a CPU.
pub fn nano_cpus(text: &str) -> Result<u64, Wrong> {
    match text.parse::<f64>() {
        Ok(cpus) if (0.01..=4096.0).contains(&cpus) => Ok((cpus * 1e6).round() as u64 * 1000),
        _ => Err(Wrong::new(format!("{} is no number of CPUs", quoted(text)))
            .help("a number from 0.01, such as 0.5 or 2.0")),
    }
}

pub fn cpuset(text: &str) -> Result<String, Wrong> {
    let number = |text: &str| text.parse::<u16>().ok();
    let is_part = |part: &str| match part.split_once('-') {
        Some((first, last)) => match (number(first), number(last)) {
            (Some(first), Some(last)) => first <= last,
            _ => false,
        },
        None => number(part).is_some(),
    };
    match text.split(',').all(is_part) {
        true => Ok(text.into()),
        false => {
            Err(Wrong::new(format!("{} is no list of CPUs", quoted(text)))
                .help("such as \"0-2,5\""))
        }
    }
}

/// signal(7): a name with or without SIG, or a number.
pub fn signal(text: &str) -> Result<String, Wrong> {
    const NAMES: [&str; 18] = [
        "HUP", "INT", "QUIT", "ABRT", "KILL", "USR1", "USR2", "ALRM", "TERM", "CHLD", "CONT",
        "STOP", "TSTP", "TTIN", "TTOU", "WINCH", "PWR", "IO",
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = name
        .strip_prefix("RTMIN+")
        .and_then(|n| n.parse::<u8>().ok());
    let is_number = text.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
    if NAMES.contains(&name) || is_number || realtime.is_some_and(|n| n <= 30) {
        return Ok(text.into());
    }
    Err(Wrong::new(format!("{} is no signal", quoted(text))).help("such as \"SIGTERM\""))
}

#[cfg(test)]
mod tests {
    use super::{port_text, ports, words};

    #[test]
    fn command_lines_split_as_a_shell_splits_words() {
        let cases: [(&str, &[&str]); 8] = [
            ("node a.js", &["node", "a.js"]),
            ("  a\tb  ", &["a", "b"]),
            ("sh -c 'echo \"$X\" b'", &["sh", "-c", "echo \"$X\" b"]),
            (r#"a "b \" c" d\ e"#, &["a", "b \" c", "d e"]),
            (r#""a\nb""#, &["a\\nb"]),
            ("a '' \"\"", &["a", "", ""]),
            ("a'b'\"c\"d", &["abcd"]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
        for text in ["a 'b", "a \"b", "a \\", "\"\\"] {
            assert!(words(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_read_in_every_short_form_and_print_back() {
        let texts = [
            "80",
            "8080:80",
            "127.0.0.1:8080:80/udp",
            "127.0.0.1::80",
            "[::1]:8080:80",
            "53/udp",
        ];
        for text in texts {
            let read = ports(text).unwrap();
            assert_eq!(read.len(), 1);
            assert_eq!(port_text(&read[0]), text);
        }
        let range: Vec<String> = ports("3000-3002:80-82")
            .unwrap()
            .iter()
            .map(port_text)
            .collect();
        assert_eq!(range, ["3000:80", "3001:81", "3002:82"]);
        assert_eq!(ports("9000-9001").unwrap().len(), 2);
        let chosen = ports("127.0.0.1:8000-8010:80/udp").unwrap();
        assert_eq!(
            (chosen[0].host_port, chosen[0].host_range),
            (None, Some((8000, 8010)))
        );
        assert_eq!(port_text(&chosen[0]), "127.0.0.1:8000-8010:80/udp");
        assert_eq!(ports("1-65535:1-65535").unwrap().len(), 65535);
        for text in [
            "", "0", "80:", "x:80", "70000", "80/sctp", "1-2:3-5", "5-4", "host:1:2", "+1", ":",
        ] {
            assert!(ports(text).is_err(), "{text:?}");
        }
    }
}
