//! Images: pulling them, with progress and an eye on silence.

use super::error::{Cause, Error};
use bollard::errors::Error as Bollard;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::{Stream, StreamExt};
use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

/// A pull that says nothing for this long is given up.
const PULL_INACTIVITY: Duration = Duration::from_secs(60);
/// Layers whose progress is kept; an image has at most 127.
const LAYER_LIMIT: usize = 256;

/// A pull under way.
pub struct Pull {
    image: String,
    stream: Pin<Box<dyn Stream<Item = Result<CreateImageInfo, Bollard>> + Send>>,
    layers: HashMap<String, (i64, i64)>,
}

/// How far a pull is, over all layers known so far. Unit: bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

impl Pull {
    pub(super) fn new(client: &bollard::Docker, image: &str) -> Result<Pull, Error> {
        check_reference(image)?;
        let (name, tag) = split(image);
        let mut options = CreateImageOptionsBuilder::new().from_image(name);
        if let Some(tag) = tag {
            options = options.tag(tag);
        }
        Ok(Pull {
            image: image.to_owned(),
            stream: Box::pin(client.create_image(Some(options.build()), None, None)),
            layers: HashMap::new(),
        })
    }

    /// Waits for the next sign of life; None when the image is here. Errors:
    /// the registry's word, or 60 s without one.
    pub async fn next(&mut self) -> Result<Option<Progress>, Error> {
        let answer = tokio::time::timeout(PULL_INACTIVITY, self.stream.next()).await;
        let cause = match answer {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(info))) => return Ok(Some(self.note(info))),
            Ok(Some(Err(error))) => Cause::of(&error),
            Err(_) => Cause::Late(PULL_INACTIVITY),
        };
        Err(Error::new("pull image", &self.image, cause))
    }

    fn note(&mut self, info: CreateImageInfo) -> Progress {
        if let (Some(layer), Some(detail)) = (info.id, info.progress_detail)
            && let (Some(current), Some(total)) = (detail.current, detail.total)
            && info.status.as_deref() == Some("Downloading")
            && (self.layers.len() < LAYER_LIMIT || self.layers.contains_key(&layer))
        {
            self.layers.insert(layer, (current, total));
        }
        let sum = |part: fn(&(i64, i64)) -> i64| -> u64 {
            self.layers
                .values()
                .map(|layer| u64::try_from(part(layer)).unwrap_or_default())
                .sum()
        };
        Progress {
            done: sum(|layer| layer.0),
            total: sum(|layer| layer.1),
        }
    }
}

/// `name`, and the tag or digest to ask for. Without one Docker would fetch
/// every tag there is, so `latest` is asked for, as its own client does.
fn split(image: &str) -> (&str, Option<&str>) {
    if image.contains('@') {
        return (image, None);
    }
    let last = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[last..].rfind(':') {
        Some(colon) => (&image[..last + colon], Some(&image[last + colon + 1..])),
        None => (image, Some("latest")),
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
    use super::{check_reference, split};

    #[test]
    fn a_reference_is_split_at_its_tag_not_at_its_port() {
        assert_eq!(split("app"), ("app", Some("latest")));
        assert_eq!(split("host:5000/app"), ("host:5000/app", Some("latest")));
        assert_eq!(split("host:5000/app:1.2"), ("host:5000/app", Some("1.2")));
        let pinned = "app@sha256:00ff";
        assert_eq!(split(pinned), (pinned, None));
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
