//! What to do next about the lease, as a pure function of what was seen of it and when, by the monotonic clock of this process.
//! It reads no clock and holds no client; `elector` does what it says.

use std::time::{Duration, Instant};

/// The periods of an election. `lease > renew_deadline > retry` holds for every value of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    renew_deadline: Duration,
    retry: Duration,
}

/// Periods that do not make an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the lease's duration ({lease:?}, whole seconds) must be longer than the renew deadline ({renew_deadline:?}), and that longer \
     than twice the retry period ({retry:?})"
)]
pub struct BadTiming {
    lease: Duration,
    renew_deadline: Duration,
    retry: Duration,
}

impl Timing {
    /// `lease`: how long others wait after the last change that they saw of a lease that is held. `renew_deadline`: how long
    /// after its last renewal the leader goes on writing; what lies between the two is there for writes on their way.
    /// `retry`: between two renewals, or two looks at another's lease.
    ///
    /// # Errors
    /// [`BadTiming`] unless `lease > renew_deadline > 2 × retry > 0` (one lost renewal must not cost the lease), and `lease` is
    /// a whole number of seconds, as the record holds it.
    pub fn new(lease: Duration, renew_deadline: Duration, retry: Duration) -> Result<Self, BadTiming> {
        let whole_seconds = lease.subsec_nanos() == 0 && i32::try_from(lease.as_secs()).is_ok();
        if whole_seconds && lease > renew_deadline && renew_deadline > retry * 2 && !retry.is_zero() {
            Ok(Self { lease, renew_deadline, retry })
        } else {
            Err(BadTiming { lease, renew_deadline, retry })
        }
    }

    /// How long others wait for a leader that fell silent.
    pub fn lease(self) -> Duration {
        self.lease
    }

    /// Between two renewals.
    pub fn retry(self) -> Duration {
        self.retry
    }

    /// Until when a leader that renewed at `renewed` (the moment before the request was sent) may write.
    pub fn deadline(self, renewed: Instant) -> Instant {
        renewed + self.renew_deadline
    }
}

/// What is known of the lease object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// Nothing, or a write was sent and its fate is not known.
    Unknown,
    /// There is none.
    Absent,
    /// It reads so.
    Present(Record),
}

/// The lease as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Who holds it; `None` when it was released.
    pub holder: Option<String>,
    /// How long its holder asks others to wait; `None` when the record does not say.
    pub duration: Option<Duration>,
    /// When this process first saw this version of the object. The times in the record are another machine's, and not used.
    pub since: Instant,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Read the lease.
    Read,
    /// Make the lease, held by us.
    Create,
    /// Write ourselves as the holder over the version seen; `new_holder` when the last holder was not us.
    Take {
        /// Whether this counts as a transition.
        new_holder: bool,
    },
    /// Write a new renewal over the version seen.
    Renew,
    /// Nothing before this instant; a replica that does not lead reads the lease then.
    Wait(Instant),
    /// Stop writing at once: we do not lead any more.
    StepDown(Loss),
}

/// Why leadership was lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Loss {
    /// The API server did not take a renewal in time.
    #[error("the lease could not be renewed in time")]
    Expired,
    /// Another replica holds it.
    #[error("the lease is held by {0}")]
    Taken(String),
    /// Somebody removed the lease, or its holder.
    #[error("the lease was taken away from us by hand")]
    Removed,
}

/// What the replica `me` does at `now`, having seen `sighting`, and having sent its last successful renewal at `renewed`
/// (`None`: it does not lead).
pub(super) fn decide(now: Instant, me: &str, timing: Timing, sighting: &Sighting, renewed: Option<Instant>) -> Action {
    match renewed {
        Some(renewed) => lead(now, me, timing, sighting, renewed),
        None => follow(now, me, timing, sighting),
    }
}

fn lead(now: Instant, me: &str, timing: Timing, sighting: &Sighting, renewed: Instant) -> Action {
    if now >= timing.deadline(renewed) {
        return Action::StepDown(Loss::Expired);
    }
    match sighting {
        Sighting::Unknown => Action::Read,
        Sighting::Absent | Sighting::Present(Record { holder: None, .. }) => Action::StepDown(Loss::Removed),
        Sighting::Present(Record { holder: Some(holder), .. }) if holder != me => {
            Action::StepDown(Loss::Taken(holder.clone()))
        }
        Sighting::Present(_) if now >= renewed + timing.retry => Action::Renew,
        Sighting::Present(_) => Action::Wait(renewed + timing.retry),
    }
}

fn follow(now: Instant, me: &str, timing: Timing, sighting: &Sighting) -> Action {
    let record = match sighting {
        Sighting::Unknown => return Action::Read,
        Sighting::Absent => return Action::Create,
        Sighting::Present(record) => record,
    };
    match &record.holder {
        None => Action::Take { new_holder: true },
        // Our own write whose answer was lost, or our container's, that ended before this one was started.
        Some(holder) if holder == me => Action::Take { new_holder: false },
        Some(_) => {
            let free = record.since + record.duration.unwrap_or(timing.lease);
            if now >= free { Action::Take { new_holder: true } } else { Action::Wait(free.min(now + timing.retry)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "operator-1_aaaa";
    const OTHER: &str = "operator-2_bbbb";

    fn timing() -> Timing {
        Timing::new(seconds(15), seconds(10), seconds(2)).unwrap()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn held_by(holder: &str, since: Instant) -> Sighting {
        Sighting::Present(Record { holder: Some(holder.to_owned()), duration: Some(seconds(15)), since })
    }

    #[test]
    fn a_replica_that_knows_nothing_reads_and_makes_a_lease_that_is_absent() {
        let now = Instant::now();
        assert_eq!(decide(now, ME, timing(), &Sighting::Unknown, None), Action::Read);
        assert_eq!(decide(now, ME, timing(), &Sighting::Absent, None), Action::Create);
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let now = Instant::now();
        let released = Sighting::Present(Record { holder: None, duration: Some(seconds(1)), since: now });
        assert_eq!(decide(now, ME, timing(), &released, None), Action::Take { new_holder: true });
    }

    #[test]
    fn anothers_lease_is_looked_at_again_each_retry_and_taken_when_it_did_not_change_for_its_duration() {
        let seen = Instant::now();
        let held = held_by(OTHER, seen);
        assert_eq!(decide(seen, ME, timing(), &held, None), Action::Wait(seen + seconds(2)));
        assert_eq!(decide(seen + seconds(14), ME, timing(), &held, None), Action::Wait(seen + seconds(15)));
        assert_eq!(decide(seen + seconds(15), ME, timing(), &held, None), Action::Take { new_holder: true });
    }

    #[test]
    fn a_holder_that_asked_for_a_longer_time_gets_it() {
        let seen = Instant::now();
        let held =
            Sighting::Present(Record { holder: Some(OTHER.to_owned()), duration: Some(seconds(60)), since: seen });
        assert_eq!(decide(seen + seconds(59), ME, timing(), &held, None), Action::Wait(seen + seconds(60)));
        assert_eq!(decide(seen + seconds(60), ME, timing(), &held, None), Action::Take { new_holder: true });
    }

    #[test]
    fn a_lease_in_our_own_name_is_taken_again_without_waiting_and_without_a_transition() {
        let now = Instant::now();
        assert_eq!(decide(now, ME, timing(), &held_by(ME, now), None), Action::Take { new_holder: false });
    }

    #[test]
    fn a_leader_renews_each_retry_period_and_reads_when_the_fate_of_a_renewal_is_not_known() {
        let renewed = Instant::now();
        let held = held_by(ME, renewed);
        assert_eq!(decide(renewed, ME, timing(), &held, Some(renewed)), Action::Wait(renewed + seconds(2)));
        assert_eq!(decide(renewed + seconds(2), ME, timing(), &held, Some(renewed)), Action::Renew);
        assert_eq!(decide(renewed + seconds(2), ME, timing(), &Sighting::Unknown, Some(renewed)), Action::Read);
    }

    #[test]
    fn a_leader_steps_down_at_its_deadline_whatever_it_sees() {
        let renewed = Instant::now();
        for sighting in [Sighting::Unknown, Sighting::Absent, held_by(ME, renewed), held_by(OTHER, renewed)] {
            let action = decide(renewed + seconds(10), ME, timing(), &sighting, Some(renewed));
            assert_eq!(action, Action::StepDown(Loss::Expired), "{sighting:?}");
        }
    }

    #[test]
    fn a_leader_steps_down_when_the_lease_is_anothers_or_was_taken_away() {
        let now = Instant::now();
        let released = Sighting::Present(Record { holder: None, duration: None, since: now });
        assert_eq!(
            decide(now, ME, timing(), &held_by(OTHER, now), Some(now)),
            Action::StepDown(Loss::Taken(OTHER.to_owned()))
        );
        assert_eq!(decide(now, ME, timing(), &Sighting::Absent, Some(now)), Action::StepDown(Loss::Removed));
        assert_eq!(decide(now, ME, timing(), &released, Some(now)), Action::StepDown(Loss::Removed));
    }

    #[test]
    fn periods_that_make_no_election_do_not_parse() {
        for (lease, renew_deadline, retry) in [(10, 10, 2), (15, 15, 2), (15, 10, 5), (15, 10, 0), (0, 0, 0)] {
            assert!(
                Timing::new(seconds(lease), seconds(renew_deadline), seconds(retry)).is_err(),
                "{lease} {renew_deadline} {retry}"
            );
        }
        assert!(Timing::new(Duration::from_millis(1500), seconds(1), Duration::from_millis(200)).is_err());
        assert!(Timing::new(seconds(15), seconds(10), seconds(2)).is_ok());
    }
}
