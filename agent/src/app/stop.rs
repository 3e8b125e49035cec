//! The order of stopping, with a deadline and the names of those who are late.

use super::rooms::Rooms;
use crate::host::notify::Notify;
use crate::host::sockets;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

/// Kept back from the deadline for rooms to end after outputs were told to.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Closes the inputs, lets outputs drain, then ends. Containers run on.
pub async fn stop(mut rooms: Rooms, notify: &Notify) -> anyhow::Result<()> {
    let deadline = Instant::now() + rooms.settings.agent.stop_timeout;
    rooms.intake.cancel();
    notify.status("stopping: draining log outputs");
    if !all_ended(&mut rooms, deadline - LAST_WORDS).await {
        rooms.drain.cancel();
        if !all_ended(&mut rooms, deadline).await {
            let late: Vec<&str> = rooms.running.iter().map(String::as_str).collect();
            warn!(
                late = late.join(", "),
                "stopped at the deadline, buffered records stay on disk"
            );
            return Ok(());
        }
    }
    // Not if another agent listens there by now.
    if let Err(error) = sockets::remove_stale(&rooms.settings.agent.control) {
        debug!(%error, "control socket's file stays");
    }
    info!("stopped");
    Ok(())
}

async fn all_ended(rooms: &mut Rooms, deadline: Instant) -> bool {
    while !rooms.running.is_empty() {
        if timeout_at(deadline, rooms.ended()).await.is_err() {
            return false;
        }
    }
    true
}
