//! What befalls a run, by its seed: the faults of single calls, of watches and of pods, and what people do meanwhile. All of it is decided before the
//! run begins, in numbers of calls and of pods, so that a seed can be run again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::call::Call;
use super::family::{Family, restarts_the_server};

/// Which run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// Nothing befalls it: what all others are compared with.
    Undisturbed,
    /// What this seed says.
    Seed(u64),
    /// The operator is killed at this call, and at no other.
    Call(u64, When),
    /// Its Jobs wait for a queue, which admits them and takes them back as this seed says.
    Queue(u64),
}

/// When the operator is killed at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the API server gets it.
    Before,
    /// When the API server has answered, and before the operator hears of it.
    After,
}

/// What befalls one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The operator dies.
    Kill(When),
    /// The connection breaks.
    Drop(When),
    /// The API server says no, with this code.
    Refuse(u16),
    /// It takes a while.
    Delay(Duration),
    /// The answer comes only when another operator leads and has written something.
    Hold,
    /// What it reads is answered as by a replica of the API server that is so far behind.
    Stale(Duration),
    /// The API server dies, and comes back: before it gets the call, or when it has answered and nobody has heard of it.
    Restart(When),
}

impl Fault {
    /// Whether it can befall this call, where looks may be stale or not.
    pub(super) fn can_befall(self, call: &Call, stale_looks: bool) -> bool {
        !matches!(self, Self::Stale(_)) || (call.is_read() && (call.is_paged || stale_looks))
    }
}

/// What befalls a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It does its work.
    Works,
    /// Its program ends at once, since its owner must change something, and says so.
    Refuses,
    /// Its program ends with this code, and its work half done.
    Fails(i32),
    /// It is evicted.
    IsEvicted,
    /// Somebody deletes it while it works.
    IsDeleted,
    /// It does its work, and is gone before anybody has heard of it.
    IsSilent,
}

/// What people and other programs do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// The run is suspended for a while.
    Suspend(Duration),
    /// Another try is asked for.
    Retry,
    /// The threshold of verification changes.
    EditThreshold,
    /// A Job is deleted.
    DeleteJob,
    /// A batch is deleted.
    DeleteBatch,
    /// The teacher is deleted.
    DeleteTeacher,
    /// Somebody else writes the Lease.
    StealLease,
    /// The run is deleted, and made again by the same name.
    Recreate,
}

/// What befalls one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    /// The faults of calls, by their number.
    pub(super) faults: BTreeMap<u64, Fault>,
    /// What happens once so many calls were made.
    pub(super) deeds: Vec<(u64, Deed)>,
    /// The fates of pods, by the order in which they come.
    pub(super) fates: BTreeMap<u64, Fate>,
    /// In how many of a hundred cases news of a watch is late.
    pub(super) lag_percent: u64,
    /// After how long watches are cut; none: never.
    pub(super) cut_watches: Option<Duration>,
    /// How many operators there are.
    pub(super) operators: usize,
    /// Whether Jobs wait for a queue.
    pub(super) is_queued: bool,
    /// Whether stale reads are not only the lists that watches go on from, but also what an operator looks at before it acts.
    pub(super) stale_looks: bool,
}

impl Trial {
    /// What kind of trial it is, in a word or two.
    pub(super) fn family(self) -> &'static str {
        match self {
            Self::Undisturbed => "undisturbed",
            Self::Seed(seed) => Family::of(seed).name(),
            Self::Call(_, When::Before) => "killed before a call",
            Self::Call(_, When::After) => "killed after a call",
            Self::Queue(_) => "queue",
        }
    }

    /// Whether it restarts the API server, for all trials that go on at the same time.
    pub fn restarts_the_server(self) -> bool {
        matches!(self, Self::Seed(seed) if restarts_the_server(seed))
    }

    /// The flags of `cargo e2e chaos` that repeat it.
    pub(super) fn flags(self) -> String {
        match self {
            Self::Undisturbed => "--runs 0".to_owned(),
            Self::Seed(seed) => format!("--seed {seed} --runs 1"),
            Self::Call(call, When::Before) => format!("--call {call} --runs 0"),
            Self::Call(call, When::After) => format!("--call {call} --after --runs 0"),
            Self::Queue(seed) => format!("--seed {seed} --runs 0 --queue 1"),
        }
    }

    /// The seed of whatever is left to chance.
    pub(super) fn seed(self) -> u64 {
        match self {
            Self::Undisturbed => 0,
            Self::Seed(seed) | Self::Queue(seed) => seed,
            Self::Call(call, when) => call * 2 + u64::from(when == When::After),
        }
    }

    /// What befalls it.
    pub(super) fn script(self) -> Script {
        let mut script = Script { operators: 1, ..Script::default() };
        match self {
            Self::Undisturbed => {}
            Self::Call(call, when) => {
                script.faults.insert(call, Fault::Kill(when));
            }
            Self::Seed(seed) => script.befall(seed),
            Self::Queue(_) => script.is_queued = true,
        }
        script
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undisturbed => out.write_str("undisturbed"),
            Self::Seed(seed) => write!(out, "seed-{seed}"),
            Self::Call(call, When::Before) => write!(out, "before-call-{call}"),
            Self::Call(call, When::After) => write!(out, "after-call-{call}"),
            Self::Queue(seed) => write!(out, "queue-{seed}"),
        }
    }
}

impl Script {
    /// Whether reads are answered from the past.
    pub(super) fn reads_the_past(&self) -> bool {
        self.faults.values().any(|fault| matches!(fault, Fault::Stale(_)))
    }

    /// Whether what is asked of the run changes on its way, so that other batches may be made than undisturbed.
    pub(super) fn changes_the_question(&self) -> bool {
        self.deeds.iter().any(|(_, deed)| *deed == Deed::EditThreshold)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn a_seed_says_the_same_again() {
        for seed in 0..64 {
            let [one, other] = [Trial::Seed(seed).script(), Trial::Seed(seed).script()];
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
        }
    }

    #[test]
    fn every_seed_breaks_something_and_an_undisturbed_run_is_left_alone() {
        let is_quiet = |script: &Script| {
            script.faults.is_empty() && script.deeds.is_empty() && script.fates.is_empty() && script.lag_percent == 0
        };
        assert!(is_quiet(&Trial::Undisturbed.script()));
        for seed in 0..64 {
            assert!(!is_quiet(&Trial::Seed(seed).script()), "seed {seed} breaks nothing");
        }
    }

    #[test]
    fn only_a_read_of_the_operators_work_can_be_stale() {
        let call = |method: &Method, path: &str| Call::of(method, &path.parse().unwrap());
        let stale = Fault::Stale(Duration::from_secs(1));
        for look in ["/apis/batch/v1/namespaces/ml/jobs?labelSelector=a", "/apis/batch/v1/namespaces/ml/jobs/a"] {
            let look = call(&Method::GET, look);
            assert!(stale.can_befall(&look, true) && !stale.can_befall(&look, false), "{look}");
        }
        assert!(stale.can_befall(&call(&Method::GET, "/apis/batch/v1/namespaces/ml/jobs?limit=500"), false));
        for (method, path) in [
            (Method::POST, "/apis/batch/v1/namespaces/ml/jobs"),
            (Method::GET, "/apis/batch/v1/namespaces/ml/jobs?watch=true"),
            (Method::GET, "/apis/leaderworkerset.x-k8s.io/v1"),
        ] {
            assert!(!stale.can_befall(&call(&method, path), true), "{path}");
            assert!(Fault::Restart(When::Before).can_befall(&call(&method, path), false));
        }
    }

    #[test]
    fn a_call_that_is_named_is_the_only_one_that_kills() {
        let script = Trial::Call(17, When::After).script();
        assert_eq!(script.faults, BTreeMap::from([(17, Fault::Kill(When::After))]));
    }
}
