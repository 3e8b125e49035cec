//! How full the disk below Docker's root is.

use super::plan::Disk;
use rustix::fs::statvfs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// A local disk answers at once; one that does not is not asked again meanwhile.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    #[error("cannot look at docker's root {path}")]
    Look { path: PathBuf, source: io::Error },
    #[error("no docker keeps its data in {path} as the agent sees it: another mount namespace?")]
    Elsewhere { path: PathBuf },
    #[error("the disk of docker's root {path} does not answer within {DEADLINE:?}")]
    Hangs { path: PathBuf },
}

/// Asks at most one question at a time.
#[derive(Default)]
pub struct Gauge {
    hanging: Option<JoinHandle<Result<Disk, MeasureError>>>,
}

impl Gauge {
    /// statvfs(3) of `root`. Errors: it is not there, is not Docker's, hangs.
    pub async fn measure(&mut self, root: &Path) -> Result<Disk, MeasureError> {
        let path = root.to_owned();
        let mut asked = match self.hanging.take() {
            Some(asked) => asked,
            None => spawn_blocking(move || look(&path)),
        };
        match timeout(DEADLINE, &mut asked).await {
            Ok(Ok(answer)) => answer,
            // The runtime is shutting down.
            Ok(Err(_)) => Err(MeasureError::Hangs { path: root.into() }),
            Err(_) => {
                self.hanging = Some(asked);
                Err(MeasureError::Hangs { path: root.into() })
            }
        }
    }
}

fn look(root: &Path) -> Result<Disk, MeasureError> {
    let failed = |source: io::Error| MeasureError::Look {
        path: root.into(),
        source,
    };
    let found = statvfs(root).map_err(|error| failed(error.into()))?;
    // A directory of that name may be there and not be what the daemon means.
    // Others than root may not look into the right one.
    match std::fs::metadata(root.join("containers")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(MeasureError::Elsewhere { path: root.into() });
        }
        Ok(_) | Err(_) => {}
    }
    let blocks = found.f_blocks.saturating_sub(found.f_bfree);
    Ok(Disk {
        used: blocks.saturating_mul(found.f_frsize),
        available: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::{Gauge, MeasureError, look};
    use std::fs;

    #[tokio::test]
    async fn the_disk_of_a_docker_is_measured_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let bare = look(dir.path());
        assert!(matches!(bare, Err(MeasureError::Elsewhere { .. })));
        let absent = look(&dir.path().join("absent"));
        assert!(matches!(absent, Err(MeasureError::Look { .. })));
        fs::create_dir(dir.path().join("containers")).unwrap();
        let disk = Gauge::default().measure(dir.path()).await.unwrap();
        assert!(disk.used + disk.available > 0);
    }
}
