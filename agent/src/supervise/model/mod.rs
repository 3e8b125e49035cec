//! The real mind against an imagined Docker and clock: random histories, and
//! what must hold at every step and at their end.
//!
//! `MODEL_SEQUENCES` says how many histories are tried (default 1,500);
//! `MODEL_SEED` begins at another one. A failure names its seed.

mod docker;
mod world;

use world::World;

/// Faults and orders in one history.
const STEPS: u32 = 50;

fn setting(name: &str, default: u64) -> u64 {
    let said = std::env::var(name).ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_happens_it_ends_as_wanted_with_at_most_one_and_no_strangers_touched() {
    let n = setting("MODEL_SEQUENCES", 1_500);
    let first = setting("MODEL_SEED", 0);
    let workers = 2;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                for seed in (first..first + n).skip(worker).step_by(workers) {
                    history(seed);
                }
            });
        }
    });
    println!("{n} histories of {STEPS} steps");
}

fn history(seed: u64) {
    let run = std::panic::catch_unwind(|| {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.something_happens();
        }
        world.calm_down();
        world.must_have_converged();
    });
    if let Err(panic) = run {
        eprintln!("history with MODEL_SEED={seed} MODEL_SEQUENCES=1 fails");
        std::panic::resume_unwind(panic);
    }
}
