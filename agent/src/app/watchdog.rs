//! Whether systemd's watchdog is fed: only while every loop turns.

use crate::pulse::Pulse;
use tracing::{error, info};

/// What was found the last time.
#[derive(Debug, Default)]
pub struct Watchdog {
    silent: Vec<String>,
}

impl Watchdog {
    /// Names in the log, once, the loops that have fallen silent; none may have.
    pub fn may_be_fed(&mut self, pulse: &Pulse) -> bool {
        let silent = pulse.silent();
        if silent != self.silent {
            if silent.is_empty() {
                info!(loops = self.silent.join(", "), "alive again");
            } else {
                let loops = silent.join(", ");
                error!(loops, "no sign of life, the watchdog is not fed");
            }
            self.silent = silent;
        }
        self.silent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Watchdog;
    use crate::http::{self, Handler, ReplyFuture, Request};
    use crate::listener::{Address, Listener};
    use crate::pulse::Pulse;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::JoinHandle;
    use std::time::Duration;
    use tokio_util::sync::CancellationToken;

    struct Unasked;

    impl Handler for Unasked {
        fn handle(&self, _: Request) -> ReplyFuture {
            Box::pin(std::future::ready(http::text(200, "never asked")))
        }
    }

    fn listener() -> Listener {
        let address = Address::Tcp("127.0.0.1:0".parse().unwrap());
        crate::host::sockets::bind(&address).unwrap()
    }

    /// Serves on a thread of its own, which `hold` stops until its other end is dropped.
    fn serve(pulse: &Pulse, hold: Receiver<()>, stop: CancellationToken) -> JoinHandle<()> {
        let allowance = http::BEAT + Duration::from_millis(500);
        let beat = pulse.register("heartbeat on 127.0.0.1", allowance);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let serve = http::serve(listener(), None, Arc::new(Unasked), beat, stop);
                // What a loop must never do.
                let block = async { hold.recv().unwrap_err() };
                tokio::join!(serve, block);
            });
        })
    }

    #[test]
    fn a_loop_that_is_stuck_is_named_and_nothing_is_fed_until_it_turns() {
        let pulse = Pulse::default();
        let mut watchdog = Watchdog::default();
        let (release, hold): (Sender<()>, _) = channel();
        assert!(watchdog.may_be_fed(&pulse));
        let stop = CancellationToken::new();
        let server = serve(&pulse, hold, stop.clone());
        let other = pulse.register("log writer", Duration::from_secs(600));
        until(|| !watchdog.may_be_fed(&pulse));
        assert_eq!(watchdog.silent, ["heartbeat on 127.0.0.1"]);
        other.beat();
        drop(release);
        until(|| watchdog.may_be_fed(&pulse));
        stop.cancel();
        server.join().unwrap();
    }

    fn until(mut holds: impl FnMut() -> bool) {
        let begun = std::time::Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
