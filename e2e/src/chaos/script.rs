//! What befalls a run, by its seed: the faults of single calls, of watches and of pods, and what people do meanwhile. All of it is decided before the
//! run begins, in numbers of calls and of pods, so that a seed can be run again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::random::Random;

/// About how many calls of work an undisturbed run takes until its student is trained.
const CALLS: u64 = 136;
/// By how many calls and pods what befalls the end of a run comes later: its training, and its evaluation after that.
const LATER: (u64, u64) = (40, 4);
/// How many seeds of a hundred befall the end of a run.
const LATE_PERCENT: u64 = 40;
/// The most pods of one run that come to harm: beyond it waits between attempts grow to minutes.
const MOST_HARMED: u64 = 3;

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
}

/// The kinds of seeds, in turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Kills,
    OftenKilled,
    Storms,
    Stale,
    TwoOperators,
    Pods,
    People,
    Everything,
}

const FAMILIES: [Family; 8] = [
    Family::Kills,
    Family::OftenKilled,
    Family::Storms,
    Family::Stale,
    Family::TwoOperators,
    Family::Pods,
    Family::People,
    Family::Everything,
];

impl Family {
    fn of(seed: u64) -> Self {
        FAMILIES[usize::try_from(seed % FAMILIES.len() as u64).unwrap_or_default()]
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Kills => "kills",
            Self::OftenKilled => "often killed",
            Self::Storms => "storms",
            Self::Stale => "stale watches",
            Self::TwoOperators => "two operators",
            Self::Pods => "pods",
            Self::People => "people",
            Self::Everything => "everything",
        }
    }
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
        let random = &mut Random::of(self.seed(), 1);
        match self {
            Self::Undisturbed => {}
            Self::Call(call, when) => {
                script.faults.insert(call, Fault::Kill(when));
            }
            Self::Seed(seed) => {
                script.write(Family::of(seed), random);
                if is_late(seed) {
                    script.befall_later();
                }
            }
            Self::Queue(_) => script.is_queued = true,
        }
        script
    }
}

/// Whether a seed befalls the end of a run.
fn is_late(seed: u64) -> bool {
    Random::of(seed, 2).percent(LATE_PERCENT)
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
    fn write(&mut self, family: Family, random: &mut Random) {
        match family {
            Family::Kills => self.kills(random, 6),
            Family::OftenKilled => self.kills_every(random),
            Family::Storms => self.storms(random),
            Family::Stale => self.staleness(random),
            Family::TwoOperators => self.rivals(random),
            Family::Pods => self.harm(random, MOST_HARMED),
            Family::People => self.people(random, 3),
            Family::Everything => {
                self.kills(random, 3);
                self.staleness(random);
                self.harm(random, 1);
                self.people(random, 1);
                if random.percent(50) {
                    self.rivals(random);
                }
                if random.percent(50) {
                    self.storms(random);
                }
            }
        }
    }

    /// Moves all of it towards the end of a run.
    fn befall_later(&mut self) {
        let (calls, pods) = LATER;
        self.faults = self.faults.iter().map(|(call, fault)| (call + calls, *fault)).collect();
        self.fates = self.fates.iter().map(|(pod, fate)| (pod + pods, *fate)).collect();
        self.deeds.iter_mut().for_each(|(call, _)| *call += calls);
    }

    fn kills(&mut self, random: &mut Random, most: u64) {
        for _ in 0..random.between(1, most + 1) {
            // A start of the operator makes calls of its own.
            let call = random.between(1, CALLS + CALLS / 4);
            self.faults.insert(call, Fault::Kill(random.one_of(When::Before, &[When::After])));
        }
    }

    fn kills_every(&mut self, random: &mut Random) {
        // A start alone takes nine calls: with fewer between two kills nothing would ever be done.
        let step = random.between(16, 40);
        for kill in 1..=12 {
            let call = kill * step + random.between(0, 4);
            self.faults.insert(call, Fault::Kill(random.one_of(When::Before, &[When::After])));
        }
    }

    fn storms(&mut self, random: &mut Random) {
        for _ in 0..random.between(1, 4) {
            let (begin, length) = (random.between(1, CALLS), random.between(3, 25));
            let code = random.one_of(409, &[429, 500, 503, 0]);
            for call in begin..begin + length {
                let code = if code == 0 { random.one_of(409, &[429, 500, 503]) } else { code };
                self.faults.entry(call).or_insert(Fault::Refuse(code));
            }
        }
    }

    fn staleness(&mut self, random: &mut Random) {
        self.lag_percent = random.between(5, 40);
        self.cut_watches = random.percent(60).then(|| random.millis(1_500, 8_000));
        for _ in 0..random.between(0, 6) {
            let call = random.between(1, CALLS);
            let when = random.one_of(When::Before, &[When::After]);
            let fault = if random.percent(50) { Fault::Drop(when) } else { Fault::Delay(random.millis(50, 2_500)) };
            self.faults.entry(call).or_insert(fault);
        }
    }

    fn rivals(&mut self, random: &mut Random) {
        self.operators = 2;
        for _ in 0..random.between(1, 3) {
            self.faults.insert(random.between(12, CALLS), Fault::Hold);
        }
        if random.percent(50) {
            self.faults.insert(random.between(12, CALLS), Fault::Kill(When::After));
        }
        for _ in 0..random.between(0, 3) {
            self.deeds.push((random.between(15, CALLS), Deed::StealLease));
        }
    }

    fn harm(&mut self, random: &mut Random, most: u64) {
        for _ in 0..random.between(1, most + 1) {
            let fate = random.one_of(
                Fate::Fails(1),
                &[
                    Fate::Refuses,
                    Fate::Fails(11),
                    Fate::Fails(137),
                    Fate::IsEvicted,
                    Fate::IsDeleted,
                    Fate::IsSilent,
                    Fate::IsSilent,
                ],
            );
            self.fates.insert(random.between(0, 14), fate);
        }
        if random.percent(40) {
            self.deeds.push((random.between(20, CALLS), Deed::DeleteJob));
        }
    }

    fn people(&mut self, random: &mut Random, most: u64) {
        for _ in 0..random.between(1, most + 1) {
            let [long, short] = [random.millis(200, 4_000), random.millis(0, 300)];
            let deed = random.one_of(
                Deed::Suspend(long),
                &[
                    Deed::Suspend(short),
                    Deed::Retry,
                    Deed::EditThreshold,
                    Deed::DeleteJob,
                    Deed::DeleteBatch,
                    Deed::DeleteTeacher,
                    Deed::Recreate,
                ],
            );
            self.deeds.push((random.between(10, CALLS), deed));
        }
    }

    /// Whether what is asked of the run changes on its way, so that other batches may be made than undisturbed.
    pub(super) fn changes_the_question(&self) -> bool {
        self.deeds.iter().any(|(_, deed)| *deed == Deed::EditThreshold)
    }
}

#[cfg(test)]
mod tests {
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
    fn the_end_of_a_run_has_its_share_of_seeds_and_of_each_kind() {
        for kind in 0..8 {
            let late = (0..100).filter(|turn| is_late(kind + 8 * turn)).count();
            assert!((25..55).contains(&late), "{late} of kind {kind}");
        }
        let latest = |seed| Trial::Seed(seed).script().faults.into_keys().max();
        assert!((0..400).filter(|seed| is_late(*seed)).filter_map(latest).any(|call| call > CALLS + LATER.0 / 2));
    }

    #[test]
    fn a_call_that_is_named_is_the_only_one_that_kills() {
        let script = Trial::Call(17, When::After).script();
        assert_eq!(script.faults, BTreeMap::from([(17, Fault::Kill(When::After))]));
    }
}
