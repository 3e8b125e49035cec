//! Images: what a reference says, and what is on this host.

use super::error::{Cause, Error};
use bollard::models::ImageInspect;

/// Where a name without a registry comes from.
pub const DOCKER_HUB: &str = "docker.io";

/// An image reference taken apart: `host:5000/team/app:1.2@sha256:…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// With its registry where one is written, without tag and digest.
    pub name: &'a str,
    pub tag: Option<&'a str>,
    /// `sha256:…`
    pub digest: Option<&'a str>,
}

/// An image on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    pub id: String,
    /// `name@sha256:…`, as registries gave them; none for an image made here.
    pub digests: Vec<String>,
}

impl<'a> Reference<'a> {
    pub fn of(image: &'a str) -> Reference<'a> {
        let (rest, digest) = match image.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (image, None),
        };
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last..].rfind(':') {
            Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
            None => (rest, None),
        };
        Reference { name, tag, digest }
    }

    /// What a pull asks for. A digest says more than a tag; without either
    /// Docker would fetch every tag there is, so `latest` is asked for, as its
    /// own client does.
    pub fn wanted(&self) -> &'a str {
        self.digest.or(self.tag).unwrap_or("latest")
    }

    /// The registry's host, with its port: the first part of the name where it
    /// can be one, as Docker itself decides.
    pub fn registry(&self) -> &'a str {
        match self.name.split_once('/') {
            Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => first,
            _ => DOCKER_HUB,
        }
    }
}

impl Local {
    pub(super) fn of(found: ImageInspect) -> Local {
        Local {
            id: found.id.unwrap_or_default(),
            digests: found.repo_digests.unwrap_or_default(),
        }
    }

    /// The digest under which the registry of `name` knows it.
    pub fn digest_of(&self, name: &str) -> Option<&str> {
        let short = name.strip_prefix("docker.io/").unwrap_or(name);
        let short = short.strip_prefix("library/").unwrap_or(short);
        let known = self.digests.iter().filter_map(|one| one.split_once('@'));
        known
            .filter(|(known, _)| *known == name || *known == short)
            .map(|(_, digest)| digest)
            .next()
    }

    pub fn has_digest(&self, digest: &str) -> bool {
        let known = self.digests.iter().filter_map(|one| one.split_once('@'));
        known.map(|(_, known)| known).any(|known| known == digest)
    }
}

/// A reference becomes part of a URL path: only what references are made of passes.
pub(super) fn check_reference(image: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    let dotted = image.split('/').any(|part| part == "." || part == "..");
    if !image.is_empty() && image.chars().all(plain) && !dotted {
        return Ok(());
    }
    let cause = Cause::Answer {
        status: 400,
        message: "not an image reference".into(),
    };
    Err(Error::new("use image", image, cause))
}

#[cfg(test)]
mod tests {
    use super::{Local, Reference, check_reference};

    #[test]
    fn a_reference_is_split_at_its_tag_not_at_its_port() {
        let cases = [
            ("app", "app", "latest", "docker.io"),
            ("team/app:1", "team/app", "1", "docker.io"),
            ("host:5000/app", "host:5000/app", "latest", "host:5000"),
            ("host:5000/app:1.2", "host:5000/app", "1.2", "host:5000"),
            ("localhost/app", "localhost/app", "latest", "localhost"),
            ("app@sha256:00ff", "app", "sha256:00ff", "docker.io"),
            (
                "r.example/app:1.2@sha256:00ff",
                "r.example/app",
                "sha256:00ff",
                "r.example",
            ),
        ];
        for (image, name, wanted, registry) in cases {
            let reference = Reference::of(image);
            let found = (reference.name, reference.wanted(), reference.registry());
            assert_eq!(found, (name, wanted, registry), "{image}");
        }
    }

    #[test]
    fn a_digest_is_known_by_the_registry_that_gave_it() {
        let local = Local {
            id: String::new(),
            digests: vec!["a.example/app@sha256:1".into(), "app@sha256:2".into()],
        };
        assert_eq!(local.digest_of("a.example/app"), Some("sha256:1"));
        assert_eq!(local.digest_of("docker.io/library/app"), Some("sha256:2"));
        assert_eq!(local.digest_of("b.example/app"), None);
        assert!(local.has_digest("sha256:2") && !local.has_digest("sha256:3"));
    }

    #[test]
    fn a_reference_cannot_leave_its_place_in_the_url() {
        for bad in [
            "",
            "../containers/x",
            "a/../b",
            "a b",
            "a?b=c",
            "a#b",
            "a%2f",
        ] {
            assert!(check_reference(bad).is_err(), "{bad}");
        }
        assert!(check_reference("host:5000/team/app_x:1.2-rc.1").is_ok());
    }
}
