//! Facts from instance metadata, IMDSv2 only.

use super::Settings;
use crate::dns::Resolver;
use std::time::Duration;

/// A connect plus a token plus every fact; off EC2 nothing answers and nobody waits for it.
pub const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    #[error("instance metadata is switched off by {0}")]
    Disabled(&'static str),
    #[error("cannot read {path} from instance metadata at {endpoint}")]
    Read {
        path: &'static str,
        endpoint: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// `(name, value)` pairs: region, zone, instance_id, instance_type, private_ip, account, image_id, hostname.
/// What the service does not have (404) is absent.
pub async fn facts(
    _settings: &Settings,
    _resolver: &Resolver,
) -> Result<Vec<(String, String)>, ImdsError> {
    todo!()
}
