//! Asking until something is so. What is asked, and what it means when it never is, is the caller's.

use std::thread;
use std::time::{Duration, Instant};

/// How long to wait between two looks: short against what is waited for (seconds), long against a look (a millisecond).
pub(super) const POLL: Duration = Duration::from_millis(50);

/// Looks until `done`, or until the time is over; says which it was.
pub(super) fn poll_until(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}
