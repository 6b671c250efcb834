//! When to try again after an error: its class, and an exponential delay per object with jitter. Delays between the attempts of
//! a stage are no business of this file: those are planned, and stand in status.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The first delay: long enough for a cache to catch up with a conflict, short enough to go unnoticed.
const FIRST: Duration = Duration::from_millis(250);
/// The longest delay: an API server that comes back is used again within a minute.
const LONGEST: Duration = Duration::from_mins(1);
/// How many failing objects are remembered. Beyond it the one that failed longest ago is forgotten and starts anew, which costs
/// a few requests; the memory of a thousand runs that all fail is under 100 KiB.
const REMEMBERED: usize = 4096;

/// What an error means for trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// It may go away by itself: try again, later each time.
    Transient,
    /// A user has to change something: wait for that change.
    User,
    /// Trying again cannot help, and neither can a user.
    Terminal,
}

/// The delays of objects whose passes failed; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failing: Arc<Mutex<HashMap<String, Failing>>>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    failures: u32,
    last: Instant,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one more failure in a row of the object `uid`, and says how long to wait before the next pass.
    pub fn next(&self, uid: &str, now: Instant) -> Duration {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = if let Some(known) = failing.get_mut(uid) {
            *known = Failing { failures: known.failures.saturating_add(1), last: now };
            known.failures
        } else {
            forget_oldest(&mut failing);
            failing.insert(uid.to_owned(), Failing { failures: 1, last: now });
            1
        };
        delay(uid, failures)
    }

    /// Forgets the failures of `uid`: a pass went well, or the object is gone.
    pub fn reset(&self, uid: &str) {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

fn forget_oldest(failing: &mut HashMap<String, Failing>) {
    if failing.len() >= REMEMBERED
        && let Some(oldest) = failing.iter().min_by_key(|(_, known)| known.last).map(|(uid, _)| uid.clone())
    {
        failing.remove(&oldest);
    }
}

/// The delay after so many failures in a row: it doubles up to the longest; the upper half of it is jitter drawn from the uid,
/// so that a thousand objects that fail together do not come back together, and a test sees the same delay twice.
fn delay(uid: &str, failures: u32) -> Duration {
    let doubled = 2u32.checked_pow(failures.saturating_sub(1)).and_then(|factor| FIRST.checked_mul(factor));
    let full = doubled.map_or(LONGEST, |delay| delay.min(LONGEST));
    full / 2 + full.mul_f64(jitter(uid, failures) / 2.0)
}

/// A number in [0, 1) that depends on the object and the attempt alone.
fn jitter(uid: &str, failures: u32) -> f64 {
    let mut hasher = DefaultHasher::new();
    (uid, failures).hash(&mut hasher);
    // 53 bits: the mantissa of an f64 holds them all.
    #[allow(clippy::cast_precision_loss)]
    let fraction = (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64;
    fraction
}

/// The class of an error of the API server or of the way to it. A pass never stalls an object for these: most go away, and a
/// permission that is missing is the administrator's to give, which no event of the object would tell us.
pub fn class_of(error: &kube::Error) -> ErrorClass {
    match error {
        // What we sent is wrong in itself, and will be the next time.
        kube::Error::Api(status) if status.is_invalid() || matches!(status.code, 400 | 413 | 415) => {
            ErrorClass::Terminal
        }
        kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => ErrorClass::Terminal,
        _ => ErrorClass::Transient,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use proptest::prelude::*;

    use super::*;
    use crate::runtime::gate;

    #[test]
    fn delays_double_within_their_jitter_up_to_a_minute() {
        let (backoff, now) = (Backoff::new(), Instant::now());
        for full_ms in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            let delay = backoff.next("3f2c", now);
            let full = Duration::from_millis(full_ms);
            assert!(full / 2 <= delay && delay <= full, "{delay:?} of {full:?}");
        }
    }

    #[test]
    fn a_success_starts_anew_and_leaves_other_objects_alone() {
        let (backoff, now) = (Backoff::new(), Instant::now());
        let first = backoff.next("a", now);
        backoff.next("b", now);
        let second_of_b = Backoff::clone(&backoff).next("b", now);
        backoff.reset("a");
        assert_eq!(backoff.next("a", now), first);
        backoff.reset("a");
        assert_ne!(backoff.next("b", now), second_of_b);
    }

    #[test]
    fn the_same_object_waits_the_same_in_every_process() {
        let now = Instant::now();
        assert_eq!(Backoff::new().next("3f2c", now), Backoff::new().next("3f2c", now + Duration::from_secs(1)));
    }

    #[test]
    fn objects_that_fail_together_come_back_spread_over_the_jitter() {
        let (backoff, now) = (Backoff::new(), Instant::now());
        let mut delays: Vec<_> = (0..1000).map(|object| backoff.next(&format!("uid-{object}"), now)).collect();
        delays.sort_unstable();
        let fullest = delays
            .iter()
            .map(|from| delays.iter().filter(|to| *to >= from && **to < *from + Duration::from_millis(5)).count())
            .max();
        assert!(fullest < Some(80), "{fullest:?} of 1000 within 5 ms of 125; evenly spread are 40");
    }

    #[test]
    fn memory_is_bounded_and_forgets_who_failed_longest_ago() {
        let (backoff, start) = (Backoff::new(), Instant::now());
        for object in 0..REMEMBERED + 10 {
            backoff.next(&format!("uid-{object}"), start + Duration::from_millis(object as u64));
        }
        assert_eq!(backoff.failing.lock().unwrap().len(), REMEMBERED);
        let later = start + Duration::from_hours(1);
        assert!(backoff.next("uid-0", later) <= FIRST, "the oldest starts anew");
        assert!(backoff.next(&format!("uid-{}", REMEMBERED + 9), later) >= FIRST, "the newest goes on");
    }

    #[test]
    fn what_the_api_server_calls_invalid_is_terminal_and_the_rest_is_tried_again() {
        let api = |code, reason: &str| kube::Error::Api(Status::failure("no", reason).with_code(code).boxed());
        assert_eq!(class_of(&api(422, "Invalid")), ErrorClass::Terminal);
        assert_eq!(class_of(&api(400, "BadRequest")), ErrorClass::Terminal);
        for (code, reason) in
            [(403, "Forbidden"), (404, "NotFound"), (409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError")]
        {
            assert_eq!(class_of(&api(code, reason)), ErrorClass::Transient, "{reason}");
        }
        assert_eq!(class_of(&kube::Error::Service(gate::Closed.into())), ErrorClass::Transient);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_zero_never_over_a_minute_and_never_shrinks_by_more_than_its_jitter(uid in "[0-9a-f-]{1,36}", failures in 1u32..u32::MAX) {
            let (this, next) = (delay(&uid, failures), delay(&uid, failures + 1));
            prop_assert!(FIRST / 2 <= this && this <= LONGEST);
            prop_assert!(next * 2 >= this);
            prop_assert!((0.0..1.0).contains(&jitter(&uid, failures)));
        }
    }
}
