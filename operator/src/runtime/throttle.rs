//! The token bucket that keeps this client polite: so many requests a second, with a burst, and a pause when the API server
//! asks for one. Which requests take a token is decided in `client`.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many requests may be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The time after which one more request may be made: a second over the requests a second.
    interval: Duration,
    /// How many requests may be made at once after a quiet time.
    burst: NonZeroU32,
}

impl Limit {
    /// A limit of `qps` requests a second on the long run, and `burst` at once; `None` unless `qps` is a positive number that
    /// a clock can tell from zero and from for ever.
    pub fn new(qps: f64, burst: NonZeroU32) -> Option<Self> {
        let interval = Duration::try_from_secs_f64(qps.recip()).ok().filter(|interval| !interval.is_zero())?;
        interval.checked_mul(burst.get()).map(|_| Self { interval, burst })
    }

    /// One request each `interval`, and `burst` at once.
    pub const fn every(interval: Duration, burst: NonZeroU32) -> Self {
        Self { interval, burst }
    }
}

/// A token bucket kept as one instant: when the bucket will be full again (the generic cell rate algorithm). It reads no clock.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    limit: Limit,
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(limit: Limit, now: Instant) -> Self {
        Self { limit, full_at: now }
    }

    /// Takes the next free token and says from when on it may be used; never before `now`.
    pub fn reserve(&mut self, now: Instant) -> Instant {
        let free = self.next_free(now);
        self.full_at = self.full_at.max(now) + self.limit.interval;
        free
    }

    /// Takes a token if there is one now.
    pub fn try_take(&mut self, now: Instant) -> bool {
        let free = self.next_free(now) <= now;
        if free {
            self.reserve(now);
        }
        free
    }

    /// Gives out nothing before `until`, and no burst right after it: those who wait go one by one.
    pub fn pause(&mut self, until: Instant) {
        self.full_at = self.full_at.max(until + self.span());
    }

    /// When it was last used, as far as that still matters: a bucket that is full at `now` may be forgotten.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    fn next_free(&self, now: Instant) -> Instant {
        (self.full_at.max(now)).checked_sub(self.span()).map_or(now, |free| free.max(now))
    }

    /// How far ahead of the full bucket the next token may lie: the burst, less the token that is asked for.
    fn span(&self) -> Duration {
        self.limit.interval * (self.limit.burst.get() - 1)
    }
}

/// A bucket that requests wait at, in the order in which they came.
#[derive(Debug)]
pub struct Throttle {
    bucket: Mutex<Bucket>,
}

impl Throttle {
    /// A throttle with a full bucket.
    pub fn new(limit: Limit) -> Self {
        Self { bucket: Mutex::new(Bucket::new(limit, Instant::now())) }
    }

    /// Waits for a token, and says how long that took.
    pub async fn wait(&self) -> Duration {
        let now = Instant::now();
        let free = self.with(|bucket| bucket.reserve(now));
        tokio::time::sleep_until(free.into()).await;
        free - now
    }

    /// Holds everybody back for `pause`: the API server said that it has too much to do.
    pub fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        self.with(|bucket| bucket.pause(until));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Bucket) -> T) -> T {
        // A bucket is one instant: it cannot be left half changed.
        change(&mut self.bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(interval_ms: u64, burst: u32) -> Limit {
        Limit::every(Duration::from_millis(interval_ms), NonZeroU32::new(burst).unwrap())
    }

    #[test]
    fn a_burst_passes_at_once_and_the_next_waits_for_its_interval() {
        let now = Instant::now();
        let mut bucket = Bucket::new(limit(50, 3), now);
        let free: Vec<_> = (0..5).map(|_| bucket.reserve(now) - now).collect();
        assert_eq!(free, [0, 0, 0, 50, 100].map(Duration::from_millis));
    }

    #[test]
    fn taking_without_waiting_fails_once_the_bucket_is_empty_and_costs_nothing() {
        let now = Instant::now();
        let mut bucket = Bucket::new(limit(50, 2), now);
        assert_eq!([(); 4].map(|()| bucket.try_take(now)), [true, true, false, false]);
        assert!(!bucket.try_take(now + Duration::from_millis(49)));
        assert!(bucket.try_take(now + Duration::from_millis(50)));
        assert!(!bucket.is_full(now + Duration::from_millis(149)));
        assert!(bucket.is_full(now + Duration::from_millis(150)));
    }

    #[test]
    fn after_a_pause_requests_go_one_by_one() {
        let now = Instant::now();
        let mut bucket = Bucket::new(limit(10, 5), now);
        bucket.pause(now + Duration::from_secs(2));
        let free: Vec<_> = (0..3).map(|_| bucket.reserve(now) - now).collect();
        assert_eq!(free, [2000, 2010, 2020].map(Duration::from_millis));
    }

    #[test]
    fn a_limit_that_a_clock_cannot_measure_is_none() {
        let burst = NonZeroU32::MIN;
        for qps in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e12, 1e-300] {
            assert_eq!(Limit::new(qps, burst), None, "{qps}");
        }
        assert_eq!(Limit::new(20.0, burst), Some(limit(50, 1)));
    }

    #[tokio::test]
    async fn a_throttle_makes_the_request_after_the_burst_wait() {
        let throttle = Throttle::new(limit(40, 1));
        assert!(throttle.wait().await.is_zero());
        let started = Instant::now();
        assert!(throttle.wait().await > Duration::from_millis(20));
        assert!(started.elapsed() > Duration::from_millis(20));
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_its_share_and_nobody_waits_longer_than_the_queue(
            interval in 1u64..200, burst in 1u32..20, gaps in prop::collection::vec(0u64..400, 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(limit(interval, burst), start);
            let mut now = start;
            let mut passed = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                let free = bucket.reserve(now);
                prop_assert!(free >= now);
                let ahead = passed.iter().filter(|at| **at >= now).count();
                prop_assert!(free - now <= Duration::from_millis(interval) * u32::try_from(ahead + 1).unwrap());
                passed.push(free);
            }
            prop_assert!(passed.is_sorted());
            for (index, from) in passed.iter().enumerate() {
                for (beyond_first, to) in passed[index..].iter().enumerate() {
                    let earned = (*to - *from).as_nanos() / Duration::from_millis(interval).as_nanos();
                    prop_assert!((beyond_first as u128) < u128::from(burst) + earned);
                }
            }
        }

        #[test]
        fn waiting_and_taking_agree(interval in 1u64..50, burst in 1u32..10, gaps in prop::collection::vec(0u64..100, 1..100)) {
            let start = Instant::now();
            let mut bucket = Bucket::new(limit(interval, burst), start);
            let mut now = start;
            for gap in gaps {
                now += Duration::from_millis(gap);
                let would_wait = bucket.clone().reserve(now) > now;
                prop_assert_eq!(bucket.try_take(now), !would_wait);
            }
        }
    }
}
