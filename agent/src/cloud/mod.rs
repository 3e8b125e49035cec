//! EC2 around the host: instance metadata by IMDSv2. Holds no policy.

mod http;
pub mod imds;

/// What `[cloud]` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Ask instance metadata at all. Default true; AWS_EC2_METADATA_DISABLED=true wins.
    pub imds: bool,
    /// Other endpoint than the link-local one, for tests and proxies: `http://127.0.0.1:1338`.
    pub endpoint: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            imds: true,
            endpoint: None,
        }
    }
}
