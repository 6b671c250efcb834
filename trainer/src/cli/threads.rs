//! How many threads compute, settled before anything does.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::available_parallelism;

use super::failure::Failure;

/// What rayon and candle look at. Where it is not set, candle reads the system's list of processors again at every matrix product.
const THREADS: &str = "RAYON_NUM_THREADS";

/// Has this process say how many threads compute, by replacing itself with one that does where nobody has; and has the thread that it runs on take part
/// in all parallel work, so that nothing is handed over to others and waited for.
pub(super) fn settle() -> Result<(), Failure> {
    let Some(threads) = std::env::var(THREADS).ok() else { return again() };
    let threads = threads.parse().unwrap_or(0);
    // With a single thread the pool has one of its own: work that other threads ask for would wait for this one.
    if threads > 1 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global();
        pool.map_err(|error| Failure::internal(format!("threads cannot be started: {error}")))?;
    }
    Ok(())
}

fn again() -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::internal(format!("this program cannot start itself: {error}"));
    let threads = available_parallelism().map_or(1, usize::from);
    let program = std::env::current_exe().map_err(failed)?;
    Err(failed(Command::new(program).args(std::env::args_os().skip(1)).env(THREADS, threads.to_string()).exec()))
}
