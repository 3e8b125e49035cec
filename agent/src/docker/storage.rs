//! What takes room on Docker's disk: its root, images and dead containers.

use super::client::Docker;
use super::error::{Cause, Error};
use super::image::check_reference;
use bollard::models::ImageSummary;
use bollard::query_parameters::{
    ListImagesOptions, RemoveContainerOptionsBuilder, RemoveImageOptions,
};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Deadline of a removal: a disk that is full is often slow as well.
pub const REMOVE_DEADLINE: Duration = Duration::from_secs(120);

/// An image as a list shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// `sha256:…`
    pub id: String,
    /// `name:tag`, as Docker's own tools show them.
    pub tags: Vec<String>,
    /// `name@sha256:…`
    pub digests: Vec<String>,
    /// Layers that it shares with others included. Unit: bytes.
    pub size: u64,
}

impl Docker {
    /// `DockerRootDir`: where the daemon keeps images and containers, in its
    /// own mount namespace. Errors: as of any call.
    pub async fn root(&self) -> Result<PathBuf, Error> {
        const CALL: &str = "ask for the root directory of docker";
        let client = self.client(CALL, "").await?;
        let info = self
            .call(CALL, "", self.short(), async { client.info().await })
            .await?;
        let root = info.docker_root_dir.filter(|root| root.starts_with('/'));
        root.map(PathBuf::from)
            .ok_or_else(|| Error::new(CALL, "", Cause::Other("the answer has none".into())))
    }

    /// All images that have a name or no children.
    pub async fn images(&self) -> Result<Vec<Stored>, Error> {
        let client = self.client("list images", "").await?;
        let found = self
            .call("list images", "", self.short() * 2, async {
                client.list_images(None::<ListImagesOptions>).await
            })
            .await?;
        Ok(found.into_iter().map(Stored::of).collect())
    }

    /// When an image last was pulled, made or tagged on this host; None where
    /// Docker does not know, or has no such image.
    pub async fn image_tagged_at(&self, id: &str) -> Result<Option<SystemTime>, Error> {
        let client = self.client("inspect image", id).await?;
        check_reference(id)?;
        let answer = self
            .call("inspect image", id, self.short(), async {
                client.inspect_image(id).await
            })
            .await;
        let found = match answer {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let tagged = found.metadata.and_then(|metadata| metadata.last_tag_time);
        Ok(tagged.as_deref().and_then(super::container::time))
    }

    /// Removes one name of an image, and the image with its last one; by id an
    /// image that has no name. Says whether layers went. Errors:
    /// [`Error::is_conflict`] when a container, dead or alive, uses it;
    /// [`Error::is_not_found`].
    pub async fn remove_image(&self, reference: &str) -> Result<bool, Error> {
        let client = self.client("remove image", reference).await?;
        check_reference(reference)?;
        let done = self
            .call("remove image", reference, REMOVE_DEADLINE, async {
                client
                    .remove_image(reference, None::<RemoveImageOptions>, None)
                    .await
            })
            .await?;
        Ok(done.iter().any(|one| one.deleted.is_some()))
    }

    /// Removes a container that does not run, and its anonymous volumes. Errors:
    /// [`Error::is_conflict`] when it runs.
    pub async fn remove_dead(&self, id: &str) -> Result<(), Error> {
        let client = self.client("remove dead container", id).await?;
        let options = RemoveContainerOptionsBuilder::new().v(true).build();
        self.call("remove dead container", id, REMOVE_DEADLINE, async {
            client.remove_container(id, Some(options)).await
        })
        .await
    }
}

impl Stored {
    fn of(found: ImageSummary) -> Stored {
        let named = |all: Vec<String>| -> Vec<String> {
            // What has lost its name is listed as `<none>:<none>`.
            all.into_iter().filter(|one| !one.contains('<')).collect()
        };
        Stored {
            id: found.id,
            tags: named(found.repo_tags),
            digests: named(found.repo_digests),
            size: u64::try_from(found.size).unwrap_or_default(),
        }
    }
}
