//! Who this host is: names such as `region` or `instance_id`, each with its source.
//!
//! `app` fills the facts: what `[node]` in the config says wins, then EC2
//! metadata, then the host itself. Rooms hold a `watch::Receiver<Arc<Facts>>`
//! and see later arrivals; a fact that is not known yet is absent, never "".

use std::collections::BTreeMap;
use std::fmt;

/// Where a fact came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `[node]` in the configuration.
    Config,
    /// EC2 instance metadata, IMDSv2.
    Metadata,
    /// The running host: uname.
    Host,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Config => "config",
            Source::Metadata => "metadata",
            Source::Host => "host",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub value: String,
    pub source: Source,
}

/// All facts known so far, by name: `region`, `zone`, `instance_id`,
/// `instance_type`, `private_ip`, `hostname`, and any key of `[node]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<String, Fact>);

impl Facts {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|fact| fact.value.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Fact)> {
        self.0.iter().map(|(name, fact)| (name.as_str(), fact))
    }

    /// Adds what a source knows. What an earlier source said stays.
    pub fn learn(&mut self, source: Source, found: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in found {
            self.0.entry(name).or_insert(Fact { value, source });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, Source};

    #[test]
    fn the_first_source_to_speak_wins() {
        let mut facts = Facts::default();
        facts.learn(Source::Config, [("region".into(), "eu-west-1".into())]);
        facts.learn(
            Source::Metadata,
            [
                ("region".into(), "us-east-1".into()),
                ("instance_id".into(), "i-1".into()),
            ],
        );
        assert_eq!(facts.get("region"), Some("eu-west-1"));
        assert_eq!(facts.get("instance_id"), Some("i-1"));
        assert_eq!(facts.get("zone"), None);
    }
}
