//! Which seed breaks what: the kinds of seeds, in turns, and how each comes to its numbers.

use super::random::Random;
use super::script::{Deed, Fate, Fault, Script, When};

/// About how many calls of work an undisturbed run takes until its student is trained.
const CALLS: u64 = 136;
/// By how many calls and pods what befalls the end of a run comes later: its training, and its evaluation after that.
const LATER: (u64, u64) = (40, 4);
/// How many seeds of a hundred befall the end of a run.
const LATE_PERCENT: u64 = 40;
/// In how many seeds of a hundred the API server is restarted, beside whatever else is broken. All trials of a cluster live through it.
const RESTART_PERCENT: u64 = 5;
/// The most pods of one run that come to harm: beyond it waits between attempts grow to minutes.
const MOST_HARMED: u64 = 3;
/// The furthest that a stale read is behind, in milliseconds.
const FURTHEST_BEHIND: u64 = 3_000;

/// The kinds of seeds, in turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
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
    /// The kind of a seed.
    pub(super) fn of(seed: u64) -> Self {
        FAMILIES[usize::try_from(seed % FAMILIES.len() as u64).unwrap_or_default()]
    }

    /// Whether reads are stale, too.
    const fn reads_the_past(self) -> bool {
        matches!(self, Self::Stale | Self::Everything)
    }

    /// What it is called.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kills => "kills",
            Self::OftenKilled => "often killed",
            Self::Storms => "storms",
            Self::Stale => "stale reads",
            Self::TwoOperators => "two operators",
            Self::Pods => "pods",
            Self::People => "people",
            Self::Everything => "everything",
        }
    }
}

impl Script {
    /// Writes down what a seed says.
    pub(super) fn befall(&mut self, seed: u64) {
        let family = Family::of(seed);
        self.write(family, &mut Random::of(seed, 1));
        // Numbers of their own: seeds that have once found something still say what they said then.
        if family.reads_the_past() {
            self.stale_reads(&mut Random::of(seed, 4));
        }
        if restarts_the_server(seed) {
            self.restarts(&mut Random::of(seed, 5));
        }
        if is_late(seed) {
            self.befall_later();
        }
    }

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

    fn stale_reads(&mut self, random: &mut Random) {
        self.stale_looks = random.percent(50);
        // An operator that has just started reads everything, and from the past it takes it all for the present.
        for _ in 0..random.between(0, 3) {
            let kill = Fault::Kill(random.one_of(When::Before, &[When::After]));
            self.faults.entry(random.between(12, CALLS)).or_insert(kill);
        }
        let share = random.between(20, 70);
        for call in 1..=CALLS + CALLS / 4 {
            if random.percent(share) {
                self.faults.entry(call).or_insert(Fault::Stale(random.millis(100, FURTHEST_BEHIND)));
            }
        }
    }

    fn restarts(&mut self, random: &mut Random) {
        for _ in 0..random.between(1, 3) {
            let when = random.one_of(When::Before, &[When::After]);
            self.faults.insert(random.between(1, CALLS), Fault::Restart(when));
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
}

/// Whether a seed befalls the end of a run.
fn is_late(seed: u64) -> bool {
    Random::of(seed, 2).percent(LATE_PERCENT)
}

/// Whether the API server is restarted.
pub(super) fn restarts_the_server(seed: u64) -> bool {
    Random::of(seed, 9).percent(RESTART_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::script::Trial;

    fn faults(seed: u64) -> impl Iterator<Item = (u64, Fault)> {
        Trial::Seed(seed).script().faults.into_iter()
    }

    #[test]
    fn the_end_of_a_run_has_its_share_of_seeds_and_of_each_kind() {
        for kind in 0..8 {
            let late = (0..100).filter(|turn| is_late(kind + 8 * turn)).count();
            assert!((25..55).contains(&late), "{late} of kind {kind}");
        }
        let latest = |seed| faults(seed).map(|(call, _)| call).max();
        assert!((0..400).filter(|seed| is_late(*seed)).filter_map(latest).any(|call| call > CALLS + LATER.0 / 2));
    }

    #[test]
    fn every_seed_of_stale_reads_and_of_everything_reads_the_past_and_no_other_does() {
        for seed in 0..64 {
            let stale = faults(seed).filter(|(_, fault)| matches!(fault, Fault::Stale(_))).count();
            assert_eq!(stale > 10, matches!(seed % 8, 3 | 7), "seed {seed} has {stale}");
        }
    }

    #[test]
    fn one_seed_in_twenty_of_each_kind_restarts_the_api_server_beside_what_it_breaks_anyway() {
        let is_restart = |fault: &Fault| matches!(fault, Fault::Restart(_));
        for kind in 0..8 {
            let restarting: Vec<u64> =
                (0..400).map(|turn| kind + 8 * turn).filter(|seed| restarts_the_server(*seed)).collect();
            assert!((8..40).contains(&restarting.len()), "{} of kind {kind}", restarting.len());
            assert!(restarting.iter().all(|seed| faults(*seed).any(|(_, fault)| is_restart(&fault))));
        }
        assert!(!(0..400).any(|seed| !restarts_the_server(seed) && faults(seed).any(|(_, fault)| is_restart(&fault))));
    }
}
