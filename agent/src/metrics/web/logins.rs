//! Who may come in: HTTP Basic against bcrypt hashes.
//!
//! bcrypt is slow by design, so good logins are remembered, at most
//! [`REMEMBERED`], under a salted SHA-256 of name, hash and password: neither
//! password nor name stays in memory, and another hash in the file is another
//! key. A bad login always costs a bcrypt, and so does an unknown name, at the
//! cost of the configured ones. One bcrypt runs at a time, in a thread for
//! blocking work: guessing takes no more than one CPU, and no time of those who
//! are known.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use hyper::header::HeaderValue;
use rustls::crypto::ring;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The oldest goes first.
const REMEMBERED: usize = 100;

/// The users of one reading of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    hashes: BTreeMap<String, String>,
    /// What unknown names are compared with; nothing is right for it.
    nobody: String,
}

impl Users {
    /// Hashes have been checked to be bcrypt's.
    pub fn new(hashes: BTreeMap<String, String>) -> Users {
        let costs = hashes
            .values()
            .filter_map(|hash| HashParts::from_str(hash).ok());
        let cost = costs.map(|parts| parts.get_cost()).max().unwrap_or(10);
        // In bcrypt's alphabet a dot is six zero bits: salt and digest of zeros.
        let nobody = format!("$2b${cost:02}${}", ".".repeat(53));
        Users { hashes, nobody }
    }

    pub fn are_none(&self) -> bool {
        self.hashes.is_empty()
    }
}

type Key = [u8; 32];

/// What is remembered between requests, and whose turn it is.
pub struct Logins {
    /// None where the system gave no random bytes: then nothing is remembered.
    salt: Option<Key>,
    good: Mutex<VecDeque<Key>>,
    turn: Arc<Semaphore>,
}

impl Logins {
    pub fn new() -> Logins {
        let mut salt = Key::default();
        let filled = ring::default_provider().secure_random.fill(&mut salt);
        Logins {
            salt: filled.is_ok().then_some(salt),
            good: Mutex::new(VecDeque::new()),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Whether the value of an `Authorization` header names a user and its password.
    pub async fn admit(&self, users: &Users, authorization: Option<&HeaderValue>) -> bool {
        let Some((name, password)) = authorization.and_then(credentials) else {
            return false;
        };
        let known = users.hashes.get(&name);
        let hash = known.unwrap_or(&users.nobody).clone();
        let key = self.key(&name, &hash, &password);
        if let Some(key) = &key
            && known.is_some()
            && self.good().contains(key)
        {
            return true;
        }
        let Ok(turn) = self.turn.clone().acquire_owned().await else {
            return false;
        };
        // The turn ends with the work, even if nobody waits for it any more.
        let check = tokio::task::spawn_blocking(move || {
            let is_right = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(turn);
            is_right
        });
        let is_good = check.await.unwrap_or(false) && known.is_some();
        if let Some(key) = key
            && is_good
        {
            let mut good = self.good();
            if !good.contains(&key) {
                good.push_back(key);
            }
            if good.len() > REMEMBERED {
                good.pop_front();
            }
        }
        is_good
    }

    fn good(&self) -> std::sync::MutexGuard<'_, VecDeque<Key>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each part with its length before it, so that none can run into the next.
    fn key(&self, name: &str, hash: &str, password: &[u8]) -> Option<Key> {
        let mut digest = Sha256::new();
        digest.update(self.salt?);
        for part in [name.as_bytes(), hash.as_bytes(), password] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        Some(digest.finalize().into())
    }
}

/// RFC 7617: `Basic` and base64 of `name:password`.
fn credentials(value: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(text).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    // No user of the file has a name that is not UTF-8; it is as unknown as any.
    let name = String::from_utf8_lossy(&decoded[..colon]).into_owned();
    Some((name, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::{Logins, REMEMBERED, Users, credentials};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hyper::header::HeaderValue;
    use std::time::{Duration, Instant};

    fn basic(name: &str, password: &str) -> HeaderValue {
        let text = STANDARD.encode(format!("{name}:{password}"));
        HeaderValue::from_str(&format!("Basic {text}")).unwrap()
    }

    fn users(list: &[(&str, &str, u32)]) -> Users {
        let hashes = list.iter().map(|(name, password, cost)| {
            ((*name).to_owned(), bcrypt::hash(password, *cost).unwrap())
        });
        Users::new(hashes.collect())
    }

    #[tokio::test]
    async fn the_right_password_is_let_in_and_nothing_else() {
        let users = users(&[("alice", "one:1", 4), ("bob", "two", 4)]);
        let logins = Logins::new();
        for _ in 0..2 {
            assert!(logins.admit(&users, Some(&basic("alice", "one:1"))).await);
            for (name, password) in [
                ("alice", "two"),
                ("alice", ""),
                ("", ""),
                ("carol", "one:1"),
                ("bob", "one:1"),
                ("alice", "one:1\0"),
            ] {
                let header = basic(name, password);
                assert!(
                    !logins.admit(&users, Some(&header)).await,
                    "{name} {password:?}"
                );
            }
        }
        assert!(!logins.admit(&users, None).await);
        assert_eq!(logins.good().len(), 1, "bad logins are not remembered");
        for text in ["Basic", "Basic ???", "Bearer abc", "Basic YWxpY2U="] {
            assert_eq!(credentials(&HeaderValue::from_static(text)), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_login_is_slow_once_and_an_unknown_name_is_slow_each_time() {
        let users = users(&[("alice", "one", 9)]);
        let (right, unknown) = (basic("alice", "one"), basic("carol", "one"));
        // The fastest of a few: a busy machine makes some slower, none faster.
        let fastest = |times: [Duration; 20]| times.into_iter().min().unwrap();
        let mut first = [Duration::MAX; 20];
        let mut second = first;
        let mut stranger = first;
        for n in 0..first.len() {
            let logins = Logins::new();
            let start = Instant::now();
            assert!(logins.admit(&users, Some(&right)).await);
            first[n] = start.elapsed();
            let start = Instant::now();
            assert!(logins.admit(&users, Some(&right)).await);
            second[n] = start.elapsed();
            let start = Instant::now();
            assert!(!logins.admit(&users, Some(&unknown)).await);
            stranger[n] = start.elapsed();
        }
        let (first, second, stranger) = (fastest(first), fastest(second), fastest(stranger));
        assert!(second * 5 < first, "{second:?} after {first:?}");
        assert!(stranger * 3 > first, "{stranger:?} against {first:?}");
    }

    #[tokio::test]
    async fn another_hash_forgets_the_login_and_memory_is_bounded() {
        let logins = Logins::new();
        let right = basic("alice", "one");
        assert!(
            logins
                .admit(&users(&[("alice", "one", 4)]), Some(&right))
                .await
        );
        assert!(
            !logins
                .admit(&users(&[("alice", "new", 4)]), Some(&right))
                .await
        );
        for _ in 0..REMEMBERED + 10 {
            // Each hash has another salt, so each is another login.
            assert!(
                logins
                    .admit(&users(&[("alice", "one", 4)]), Some(&right))
                    .await
            );
        }
        assert_eq!(logins.good().len(), REMEMBERED);
    }
}
