//! Facts from instance metadata, IMDSv2 only.
//!
//! One call reads every fact over one token and is done within [`DEADLINE`];
//! when to call again is the caller's business. A fact that the service does
//! not have is absent. It knows nothing of what the facts are for.

use super::Settings;
use super::http;
use crate::dns::Resolver;
use aws_config::imds::client::error::ImdsError as ClientError;
use aws_config::imds::{self, Client};
use aws_config::provider_config::ProviderConfig;
use std::env;
use std::time::Duration;

/// A connect plus a token plus every fact; off EC2 nothing answers and nobody waits for it.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Life of the session token: one call is over long before, and a stale one dies soon.
const TOKEN_TTL: Duration = Duration::from_secs(300);
/// For a connect, and for the first byte of an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Before a fact is asked for the second time, and the last.
const PAUSE: Duration = Duration::from_millis(250);

const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const ENDPOINT_MODE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
const IPV4: &str = "http://169.254.169.254";
const IPV6: &str = "http://[fd00:ec2::254]";

/// Our name for each fact, and where metadata has it.
const FACTS: [(&str, &str); 7] = [
    ("region", "/latest/meta-data/placement/region"),
    ("zone", "/latest/meta-data/placement/availability-zone"),
    ("instance_id", "/latest/meta-data/instance-id"),
    ("instance_type", "/latest/meta-data/instance-type"),
    ("private_ip", "/latest/meta-data/local-ipv4"),
    ("image_id", "/latest/meta-data/ami-id"),
    ("hostname", "/latest/meta-data/local-hostname"),
];
/// Has the account, which no path of its own does.
const IDENTITY: &str = "/latest/dynamic/instance-identity/document";

#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    #[error("instance metadata is switched off by {0}")]
    Disabled(&'static str),
    #[error("cannot use {endpoint} as the endpoint of instance metadata")]
    Endpoint {
        endpoint: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot read {path} from instance metadata at {endpoint}")]
    Read {
        path: &'static str,
        endpoint: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("no complete answer from instance metadata at {endpoint} within {} s", DEADLINE.as_secs())]
    Deadline { endpoint: String },
}

/// What the process environment says of instance metadata.
#[derive(Debug, Default)]
struct Variables {
    disabled: Option<String>,
    endpoint: Option<String>,
    mode: Option<String>,
}

/// Why a path was not read.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the service answered with status {0}")]
    Status(u16),
    #[error("no session token: is instance metadata switched off for this instance?")]
    Token(#[source] ClientError),
    #[error("no answer to the request for a session token (off EC2, or beyond the hop limit)")]
    Unreachable(#[source] ClientError),
    #[error("no answer")]
    Io(#[source] ClientError),
}

/// `(name, value)` pairs: region, zone, instance_id, instance_type, private_ip, account, image_id, hostname.
/// What the service does not have (404) is absent.
///
/// The endpoint is, in this order, the setting, AWS_EC2_METADATA_SERVICE_ENDPOINT,
/// the link-local address of AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE.
pub async fn facts(
    settings: &Settings,
    resolver: &Resolver,
) -> Result<Vec<(String, String)>, ImdsError> {
    let variables = Variables {
        disabled: env::var(DISABLED).ok(),
        endpoint: env::var(ENDPOINT).ok(),
        mode: env::var(ENDPOINT_MODE).ok(),
    };
    read_all(endpoint(settings, variables)?, resolver).await
}

async fn read_all(
    endpoint: String,
    resolver: &Resolver,
) -> Result<Vec<(String, String)>, ImdsError> {
    let service = Service {
        endpoint: &endpoint,
        resolver,
    };
    match tokio::time::timeout(DEADLINE, service.facts()).await {
        Ok(facts) => facts,
        Err(_) => Err(ImdsError::Deadline { endpoint }),
    }
}

fn endpoint(settings: &Settings, variables: Variables) -> Result<String, ImdsError> {
    if !settings.imds {
        return Err(ImdsError::Disabled("cloud.imds = false"));
    }
    let disabled = variables.disabled.unwrap_or_default();
    if disabled.trim().eq_ignore_ascii_case("true") {
        return Err(ImdsError::Disabled("AWS_EC2_METADATA_DISABLED=true"));
    }
    let named = settings.endpoint.clone().or(variables.endpoint);
    Ok(named.unwrap_or_else(|| {
        let mode = variables.mode.unwrap_or_default();
        let address = if mode.eq_ignore_ascii_case("ipv6") {
            IPV6
        } else {
            IPV4
        };
        address.to_owned()
    }))
}

/// The metadata service at one endpoint.
struct Service<'a> {
    endpoint: &'a str,
    resolver: &'a Resolver,
}

impl Service<'_> {
    async fn facts(&self) -> Result<Vec<(String, String)>, ImdsError> {
        let mut client = self.client()?;
        let mut facts = Vec::with_capacity(FACTS.len() + 1);
        for (name, path) in FACTS {
            let value = self.get(&mut client, path).await?;
            let value = value.unwrap_or_default().trim().to_owned();
            if !value.is_empty() {
                facts.push((name.to_owned(), value));
            }
        }
        let document = self.get(&mut client, IDENTITY).await?;
        if let Some(account) = document.as_deref().and_then(account) {
            facts.push(("account".to_owned(), account));
        }
        Ok(facts)
    }

    /// Reads one path; None where the service has no such thing. A refused
    /// token or a fault of the service gets one more try with a new client,
    /// because a client never lets go of the token that it holds.
    async fn get(
        &self,
        client: &mut Client,
        path: &'static str,
    ) -> Result<Option<String>, ImdsError> {
        let mut answer = read(client, path).await;
        if matches!(answer, Err(Failure::Status(401 | 500..))) {
            tokio::time::sleep(PAUSE).await;
            *client = self.client()?;
            answer = read(client, path).await;
        }
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(Failure::Status(404)) => Ok(None),
            Err(failure) => Err(ImdsError::Read {
                path,
                endpoint: self.endpoint.to_owned(),
                source: failure.into(),
            }),
        }
    }

    fn client(&self) -> Result<Client, ImdsError> {
        let http = http::client(self.resolver.clone());
        let config = ProviderConfig::without_region().with_http_client(http);
        let builder = imds::Client::builder()
            .configure(&config)
            .endpoint(self.endpoint)
            .map_err(|source| ImdsError::Endpoint {
                endpoint: self.endpoint.to_owned(),
                source,
            })?;
        Ok(builder
            .max_attempts(1)
            .token_ttl(TOKEN_TTL)
            .connect_timeout(PATIENCE)
            .read_timeout(PATIENCE)
            .build())
    }
}

async fn read(client: &Client, path: &'static str) -> Result<String, Failure> {
    match client.get(path).await {
        Ok(value) => Ok(value.into()),
        // Its own text would print the whole response.
        Err(ClientError::ErrorResponse(answer)) => {
            Err(Failure::Status(answer.response().status().as_u16()))
        }
        Err(ClientError::FailedToLoadToken(context)) => {
            let unreachable = context.is_dispatch_failure();
            let error = ClientError::FailedToLoadToken(context);
            Err(match unreachable {
                true => Failure::Unreachable(error),
                false => Failure::Token(error),
            })
        }
        Err(error) => Err(Failure::Io(error)),
    }
}

/// `accountId` of the instance identity document.
fn account(document: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(document).ok()?;
    Some(document.get("accountId")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests;
