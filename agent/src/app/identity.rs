//! Fills the facts: config first, then EC2 metadata, then the host itself.

use crate::backoff::Backoff;
use crate::chain::Chain;
use crate::cloud;
use crate::cloud::imds::{self, ImdsError};
use crate::dns::Resolver;
use crate::facts::{Facts, Source};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Off EC2 the metadata endpoint stays silent; ask again ever more rarely.
const RETRY: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(600));

type Pairs = Vec<(String, String)>;

/// What each source has said so far, and the facts made of it.
#[derive(Clone)]
pub struct Identity {
    sources: Arc<Mutex<Sources>>,
    facts: watch::Sender<Arc<Facts>>,
}

#[derive(Default)]
struct Sources {
    config: Pairs,
    metadata: Pairs,
    host: Pairs,
}

impl Identity {
    pub fn new(config: Pairs) -> Identity {
        let uname = rustix::system::uname();
        let hostname = uname.nodename().to_string_lossy().into_owned();
        let identity = Identity {
            sources: Arc::new(Mutex::new(Sources {
                config,
                metadata: Pairs::new(),
                host: vec![("hostname".into(), hostname)],
            })),
            facts: watch::Sender::new(Arc::default()),
        };
        identity.change(|_| ());
        identity
    }

    pub fn facts(&self) -> watch::Receiver<Arc<Facts>> {
        self.facts.subscribe()
    }

    /// What `[node]` says now.
    pub fn set_config(&self, config: Pairs) {
        self.change(|sources| sources.config = config);
    }

    fn set_metadata(&self, metadata: Pairs) {
        self.change(|sources| sources.metadata = metadata);
    }

    fn change(&self, edit: impl FnOnce(&mut Sources)) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut sources);
        let mut facts = Facts::default();
        facts.learn(Source::Config, sources.config.clone());
        facts.learn(Source::Metadata, sources.metadata.clone());
        facts.learn(Source::Host, sources.host.clone());
        self.facts.send_if_modified(|current| {
            let changed = **current != facts;
            *current = Arc::new(facts);
            changed
        });
    }

    /// Asks metadata until it has answered once or `stop`.
    pub async fn learn_metadata(
        self,
        settings: cloud::Settings,
        resolver: Resolver,
        stop: CancellationToken,
    ) {
        for attempt in 0u32.. {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = imds::facts(&settings, &resolver) => asked,
            };
            match asked {
                Ok(metadata) => {
                    info!(facts = metadata.len(), "instance metadata read");
                    self.set_metadata(metadata);
                    break;
                }
                Err(error @ ImdsError::Disabled(_)) => {
                    debug!(error = %Chain(&error), "no instance metadata");
                    break;
                }
                Err(error) if attempt == 0 => {
                    info!(error = %Chain(&error), "no instance metadata yet, asking again in the background");
                }
                Err(error) => debug!(attempt, error = %Chain(&error), "no instance metadata"),
            }
            let pause = tokio::time::sleep(RETRY.jittered(attempt, fastrand::f64()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = pause => (),
            }
        }
        // A task that ends looks like a failed room: this one has done its work and waits.
        stop.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn config_wins_over_metadata_and_host_and_a_reload_shows() {
        let identity = Identity::new(vec![("region".into(), "eu-west-1".into())]);
        let mut facts = identity.facts();
        identity.set_metadata(vec![
            ("region".into(), "us-east-1".into()),
            ("instance_id".into(), "i-1".into()),
        ]);
        assert_eq!(facts.borrow_and_update().get("region"), Some("eu-west-1"));
        assert_eq!(facts.borrow().get("instance_id"), Some("i-1"));
        assert!(facts.borrow().get("hostname").is_some());
        identity.set_config(vec![]);
        assert!(facts.has_changed().unwrap());
        assert_eq!(facts.borrow().get("region"), Some("us-east-1"));
    }
}
