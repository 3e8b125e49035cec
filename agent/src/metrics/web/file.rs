//! The web configuration file: the format of Prometheus' exporters
//! (exporter-toolkit, docs/web-configuration.md), key by key.
//!
//! Known values that have no meaning here are named in [`File::notes`]; values
//! that ask for more safety than there is are faults.

use crate::metrics::web::yaml::{self, Fault, Map, Node};
use bcrypt::HashParts;
use hyper::header::{HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// bcrypt doubles its work with each step; a login at 16 takes seconds, and one
/// beyond that would outlast every scrape.
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;
/// Beyond this a first login is felt; each login after it comes from memory.
const COMFORTABLE_COST: u32 = 10;

/// Headers that may be set, and the values that each may have; none: any.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

#[derive(Debug)]
pub struct File {
    pub tls: Option<Tls>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Name → bcrypt hash.
    pub users: BTreeMap<String, String>,
    /// What is accepted and does nothing, for the log.
    pub notes: Vec<String>,
}

#[derive(Debug)]
pub struct Tls {
    pub cert: Pem,
    pub key: Pem,
    pub client_ca: Option<Pem>,
    pub client_auth: ClientAuth,
    pub min: Version,
    pub max: Version,
    /// Go's names; empty: all.
    pub cipher_suites: Vec<String>,
    /// Go's names; empty: all.
    pub curves: Vec<String>,
    pub prefers_server_ciphers: bool,
}

/// Where PEM text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    File(PathBuf),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Never asked for.
    No,
    /// Asked for; whatever comes is taken.
    Request,
    /// Some certificate is needed, whoever signed it.
    RequireAny,
    /// None, or one that `client_ca` signed.
    VerifyIfGiven,
    /// One that `client_ca` signed.
    RequireAndVerify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls12,
    Tls13,
}

const CLIENT_AUTH: [(&str, ClientAuth); 7] = [
    ("", ClientAuth::No),
    ("NoClientCert", ClientAuth::No),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireClientCert", ClientAuth::RequireAny),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
];

/// Reads the text of the file at `path`, whose directory relative paths start from.
pub fn read(path: &Path, text: &str) -> Result<File, Fault> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut notes = Vec::new();
    let mut root = yaml::parse(text)?;
    let mut http = root.take_map("http_server_config")?;
    // HTTP/2 is not spoken; a client that may use it falls back to 1.1.
    let _ = http.take("http2").map(|node| node.bool()).transpose()?;
    let headers = headers(http.take_map("headers")?)?;
    http.end()?;
    let users = users(root.take_map("basic_auth_users")?, &mut notes)?;
    let tls = tls(root.take_map("tls_server_config")?, directory, &mut notes)?;
    if let Some(limit) = root.take("rate_limit") {
        return Err(limit.fault("rate_limit is not supported: remove it"));
    }
    root.end()?;
    Ok(File {
        tls,
        headers,
        users,
        notes,
    })
}

fn headers(map: Map) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
    let mut headers = Vec::new();
    for (name, node) in map.entries() {
        let known = HEADERS.iter().find(|(known, _)| *known == name);
        let Some((_, values)) = known else {
            let known: Vec<&str> = HEADERS.iter().map(|(known, _)| *known).collect();
            let text = format!("header {name:?} cannot be set, only {}", known.join(", "));
            return Err(node.fault(text));
        };
        let value = node.text()?;
        if !values.is_empty() && !values.contains(&value) {
            let text = format!("{name} cannot be {value:?}, only {}", values.join(" or "));
            return Err(node.fault(text));
        }
        let no_header = || node.fault(format!("{value:?} cannot be the value of a header"));
        let name = HeaderName::from_str(&name).map_err(|_| no_header())?;
        headers.push((name, HeaderValue::from_str(value).map_err(|_| no_header())?));
    }
    Ok(headers)
}

fn users(map: Map, notes: &mut Vec<String>) -> Result<BTreeMap<String, String>, Fault> {
    let mut users = BTreeMap::new();
    for (name, node) in map.entries() {
        let hash = node.text()?;
        let parts = HashParts::from_str(hash).map_err(|_| {
            node.fault(format!(
                "the password of {name:?} is no bcrypt hash: make one by htpasswd -nBC 10 {name}"
            ))
        })?;
        let cost = parts.get_cost();
        if !COSTS.contains(&cost) {
            let (least, most) = (COSTS.start(), COSTS.end());
            return Err(node.fault(format!(
                "the password of {name:?} has the bcrypt cost {cost}: {least} to {most} can be checked"
            )));
        }
        if cost > COMFORTABLE_COST {
            notes.push(format!(
                "the bcrypt cost {cost} of user {name:?} makes each first login slow; {COMFORTABLE_COST} is common"
            ));
        }
        users.insert(name, hash.to_owned());
    }
    Ok(users)
}

fn tls(mut map: Map, directory: &Path, notes: &mut Vec<String>) -> Result<Option<Tls>, Fault> {
    if map.is_empty() {
        return Ok(None);
    }
    let cert = pem(&mut map, "cert", "cert_file", directory)?;
    let key = pem(&mut map, "key", "key_file", directory)?;
    let client_ca = pem(&mut map, "client_ca", "client_ca_file", directory)?;
    let auth = map.take("client_auth_type");
    let client_auth = match &auth {
        None => ClientAuth::No,
        Some(node) => choice(node, &CLIENT_AUTH)?,
    };
    let min = match map.take("min_version") {
        None => Version::Tls12,
        Some(node) => match node.text()? {
            old @ ("TLS10" | "TLS11") => {
                notes.push(format!(
                    "min_version {old} is taken as TLS12, the oldest spoken"
                ));
                Version::Tls12
            }
            _ => version(&node)?,
        },
    };
    let max = match map.take("max_version") {
        None => Version::Tls13,
        Some(node) => version(&node)?,
    };
    let cipher_suites = texts(map.take("cipher_suites"))?;
    let curves = texts(map.take("curve_preferences"))?;
    let prefers = map.take("prefer_server_cipher_suites");
    let prefers_server_ciphers = prefers.map_or(Ok(true), |node| node.bool())?;
    if let Some(node) = map.take("client_allowed_sans") {
        // Taken and ignored it would let in those whom it shall keep out.
        return Err(node.fault("client_allowed_sans is not supported: remove it"));
    }
    map.end()?;
    let whole = |what: &str| Fault {
        line: 1,
        what: what.to_owned(),
    };
    let nothing = cert.is_none() && key.is_none() && client_ca.is_none() && auth.is_none();
    if nothing {
        return Ok(None);
    }
    let cert = cert.ok_or_else(|| whole("tls_server_config lacks cert_file"))?;
    let key = key.ok_or_else(|| whole("tls_server_config lacks key_file"))?;
    let verifies = matches!(
        client_auth,
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify
    );
    if client_ca.is_some() && client_auth == ClientAuth::No {
        return Err(whole(
            "client_ca_file is there, but client_auth_type does not ask for certificates",
        ));
    }
    if client_ca.is_none() && verifies {
        return Err(whole(
            "client_auth_type verifies certificates, but client_ca_file is missing",
        ));
    }
    if min > max {
        return Err(whole("min_version is above max_version"));
    }
    Ok(Some(Tls {
        cert,
        key,
        client_ca,
        client_auth,
        min,
        max,
        cipher_suites,
        curves,
        prefers_server_ciphers,
    }))
}

/// The file wins over the text, as upstream.
fn pem(map: &mut Map, text: &str, file: &str, directory: &Path) -> Result<Option<Pem>, Fault> {
    let text = map.take(text);
    if let Some(node) = map.take(file) {
        let path = node.text()?;
        if !path.is_empty() {
            return Ok(Some(Pem::File(directory.join(path))));
        }
    }
    text.map(|node| Ok(Pem::Text(node.text()?.to_owned())))
        .transpose()
}

fn version(node: &Node) -> Result<Version, Fault> {
    match node.text()? {
        "TLS10" | "TLS11" => Err(node.fault("TLS below 1.2 is not spoken: use TLS12 or TLS13")),
        _ => choice(
            node,
            &[("TLS12", Version::Tls12), ("TLS13", Version::Tls13)],
        ),
    }
}

fn choice<T: Copy>(node: &Node, choices: &[(&str, T)]) -> Result<T, Fault> {
    let text = node.text()?;
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = choices
        .iter()
        .map(|(word, _)| *word)
        .filter(|word| !word.is_empty())
        .collect();
    Err(node.fault(format!("unknown word {text:?}: use {}", words.join(", "))))
}

fn texts(node: Option<Node>) -> Result<Vec<String>, Fault> {
    let items = node.map_or_else(|| Ok(Vec::new()), Node::list)?;
    items
        .iter()
        .map(|item| Ok(item.text()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{ClientAuth, Pem, Version, read};
    use std::path::Path;

    const HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

    fn refused(text: &str) -> String {
        let fault = read(Path::new("/etc/agent/web.yml"), text).unwrap_err();
        format!("{}: {}", fault.line, fault.what)
    }

    #[test]
    fn every_key_of_the_format_is_read() {
        let text = format!(
            "tls_server_config:\n  cert_file: web.crt\n  key_file: /srv/web.key\n\
             \x20 client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n\
             \x20 min_version: TLS10\n  max_version: TLS13\n\
             \x20 cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n\
             \x20 prefer_server_cipher_suites: false\n  curve_preferences: [CurveP256]\n\
             http_server_config:\n  http2: true\n  headers:\n\
             \x20   X-Frame-Options: deny\n    Strict-Transport-Security: max-age=31536000\n\
             basic_auth_users:\n  alice: {HASH}\n  bob: '{}'\n",
            HASH.replace("$10$", "$14$")
        );
        let file = read(Path::new("/etc/agent/web.yml"), &text).unwrap();
        let tls = file.tls.unwrap();
        assert_eq!(tls.cert, Pem::File("/etc/agent/web.crt".into()));
        assert_eq!(tls.key, Pem::File("/srv/web.key".into()));
        assert_eq!(tls.client_auth, ClientAuth::RequireAndVerify);
        assert_eq!((tls.min, tls.max), (Version::Tls12, Version::Tls13));
        assert!(!tls.prefers_server_ciphers);
        assert_eq!(file.headers.len(), 2);
        assert_eq!(file.users["alice"], HASH);
        assert_eq!(file.notes.len(), 2, "{:?}", file.notes);
    }

    #[test]
    fn a_file_without_tls_keys_asks_for_none() {
        for text in [
            "",
            "tls_server_config:\n",
            "tls_server_config: {min_version: TLS13}\n",
        ] {
            let file = read(Path::new("/etc/web.yml"), text).unwrap();
            assert!(file.tls.is_none() && file.users.is_empty(), "{text}");
        }
    }

    #[test]
    fn faults_name_their_line_and_what_to_do() {
        for (text, expected) in [
            (
                "basic_auth_users:\n  alice: secret\n",
                "2: the password of \"alice\" is no bcrypt hash: make one by htpasswd -nBC 10 alice",
            ),
            (
                "tls_server_config: {cert_file: a}\n",
                "1: tls_server_config lacks key_file",
            ),
            (
                "http_server_config: {headers: {Server: x}}\n",
                "1: header \"Server\" cannot be set, only Strict-Transport-Security, \
                 X-Content-Type-Options, X-Frame-Options, X-XSS-Protection, Content-Security-Policy",
            ),
            (
                "http_server_config: {headers: {X-Frame-Options: allow}}\n",
                "1: X-Frame-Options cannot be \"allow\", only deny or sameorigin",
            ),
            (
                "tls_server_config:\n  certfile: a\n",
                "2: unknown key \"certfile\" in tls_server_config",
            ),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}\n",
                "1: client_ca_file is there, but client_auth_type does not ask for certificates",
            ),
            (
                "tls_server_config: {cert_file: a, key_file: b, max_version: TLS11}\n",
                "1: TLS below 1.2 is not spoken: use TLS12 or TLS13",
            ),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_allowed_sans: [x]}\n",
                "1: client_allowed_sans is not supported: remove it",
            ),
        ] {
            assert_eq!(refused(text), expected, "{text}");
        }
        let costly = format!(
            "basic_auth_users: {{a: '{}'}}\n",
            HASH.replace("$10$", "$31$")
        );
        assert!(refused(&costly).contains("cost 31"), "{}", refused(&costly));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-z_]{1,8}|tls_server_config|headers|[\\[\\]{}:,&*!|>'\"%@`#?~ \n\t-]|é|\u{0}){0,60}") {
            let _ = read(Path::new("/etc/web.yml"), &text);
        }

        #[test]
        fn any_characters_are_read_or_refused(text in "\\PC{0,200}") {
            let _ = read(Path::new("/etc/web.yml"), &text);
        }
    }
}
