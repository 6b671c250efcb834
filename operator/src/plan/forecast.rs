//! What the rest of generation will take at the yield and pace of the samples that are folded in, and whether the target can still be met. It is made
//! anew when a batch is folded in or all samples are judged anew, and at no other time, so that status does not change with the clock.

use jiff::{SignedDuration, Timestamp};
use sera_crds::values::Usd;

use super::{
    RunWork,
    record::{Folded, Forecast, Generation},
    totals,
};

/// After how many samples their yield is believed enough to give up by it.
const CREDIBLE_SAMPLES: u64 = 100;

/// How many samples are needed in all, what they will have cost, and when they will be there, for a generation that began then. None while nothing
/// is known of one of the kinds.
pub(super) fn of(
    generation: &Generation,
    work: &RunWork,
    began: Option<Timestamp>,
    now: Timestamp,
) -> Option<Forecast> {
    let Generation { folded, paused, .. } = generation;
    let done = u64::from(folded.samples);
    let needed = kinds(folded, work)
        .into_iter()
        .map(|kind| kind.needed(done))
        .try_fold(done, |most, needed| Some(most.max(needed?)))?;
    // What was adopted has taken neither time nor money.
    let (own, adopted) = (done - u64::from(folded.adopted).min(done), u64::from(folded.adopted));
    let to_pay = needed.saturating_sub(adopted);
    let cost = folded.totals.cost.as_ref().and_then(|cost| scaled(cost.millionths(), to_pay, own));
    let finish = began.and_then(|began| {
        let worked = now.duration_since(began).as_secs() - i64::try_from(paused.seconds).ok()?;
        let left = scaled(u64::try_from(worked).ok()?, needed - done, own)?;
        now.checked_add(SignedDuration::from_secs(i64::try_from(left).ok()?)).ok()
    });
    Some(Forecast { samples: totals::within(needed), cost: cost.map(Usd::of_so_many_millionths), finish })
}

/// Why the target will not be met by `maxSamples` even if the rest does far better than what is there, in numbers; none while it may.
pub(super) fn despair(folded: &Folded, work: &RunWork) -> Option<String> {
    let done = u64::from(folded.samples);
    let is_hopeless = |kind: &Kind| kind.at_best(done, work.max_samples.into()).is_some_and(|best| best < kind.wanted);
    if done < CREDIBLE_SAMPLES || done >= u64::from(work.max_samples) {
        return None;
    }
    let [first, second] = kinds(folded, work);
    (is_hopeless(&first) || is_hopeless(&second)).then(|| {
        let best = |kind: &Kind| kind.at_best(done, work.max_samples.into()).unwrap_or_default().min(kind.wanted);
        format!(
            "{} samples can at best give about {} first and {} second of them",
            work.max_samples,
            best(&first),
            best(&second)
        )
    })
}

/// One of the two kinds of trajectory: how many there are, and how many are wanted.
struct Kind {
    found: u64,
    wanted: u64,
}

impl Kind {
    /// How many samples it takes at the yield of the first `done`; none where they gave nothing.
    fn needed(&self, done: u64) -> Option<u64> {
        if self.found >= self.wanted {
            return Some(done);
        }
        let samples = (u128::from(self.wanted) * u128::from(done)).div_ceil(u128::from(self.found).max(1));
        (self.found > 0).then(|| u64::try_from(samples).unwrap_or(u64::MAX))
    }

    /// How many `all` samples give if the yield of the first `done` was bad luck: three standard deviations of a Poisson count above what was found,
    /// and five at least (nothing found in n samples leaves room for three in n, at 95%).
    fn at_best(&self, done: u64, all: u64) -> Option<u64> {
        let optimistic = self.found + (3 * self.found.isqrt()).max(5);
        scaled(optimistic, all, done)
    }
}

/// First and second trajectories.
fn kinds(folded: &Folded, work: &RunWork) -> [Kind; 2] {
    let (first, second) = work.shares();
    let totals = &folded.totals;
    [Kind { found: totals.accepted_first, wanted: first }, Kind { found: totals.accepted_second, wanted: second }]
}

/// `amount` × `by` / `of`; none where `of` is nothing, or it is too much.
fn scaled(amount: u64, by: u64, of: u64) -> Option<u64> {
    let scaled = (u128::from(amount) * u128::from(by)).checked_div(of.into())?;
    u64::try_from(scaled).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sera_crds::run::GenerationTotals;

    use super::*;
    use crate::plan::{
        Work,
        record::Paused,
        tests::{at, intent},
    };

    /// A run that wants 640 first and 384 second trajectories of at most 20,480 samples.
    fn work() -> RunWork {
        let Some(Work::Run(work)) = intent().work else { unreachable!() };
        RunWork { accepted: 1_024, max_samples: 20_480, ..*work }
    }

    fn found(samples: u32, first: u64, second: u64) -> Generation {
        let cost = Some("5.12".parse().unwrap());
        let totals =
            GenerationTotals { accepted_first: first, accepted_second: second, cost, ..GenerationTotals::default() };
        Generation { folded: Folded { through: 1, samples, totals, ..Folded::default() }, ..Generation::default() }
    }

    #[test]
    fn the_rarer_kind_says_how_many_samples_it_takes_and_cost_and_time_follow() {
        let mut generation = found(256, 128, 48);
        generation.paused = Paused { seconds: 100, since: None };
        let forecast = of(&generation, &work(), Some(at(0)), at(612)).unwrap();
        // 384 of the second kind at 48 in 256; 5.12 dollars and 512 seconds bought 256.
        assert_eq!(
            forecast,
            Forecast { samples: 2_048, cost: Some("40.96".parse().unwrap()), finish: Some(at(612 + 3_584)) }
        );
    }

    #[test]
    fn what_was_adopted_took_neither_time_nor_money() {
        let mut generation = found(256, 128, 48);
        generation.folded.adopted = 128;
        let forecast = of(&generation, &work(), Some(at(0)), at(512)).unwrap();
        // The other 128 took 512 seconds and 5.12 dollars, and 1,792 more are needed.
        let (cost, finish) = ("76.8".parse().unwrap(), at(512 + 4 * 1_792));
        assert_eq!(forecast, Forecast { samples: 2_048, cost: Some(cost), finish: Some(finish) });
        generation.folded.adopted = 256;
        let forecast = of(&generation, &work(), Some(at(0)), at(512)).unwrap();
        assert_eq!(forecast, Forecast { samples: 2_048, cost: None, finish: None }, "nothing of its own yet");
    }

    #[test]
    fn nothing_is_foretold_while_one_kind_has_not_been_seen_and_no_less_than_there_is_afterwards() {
        assert_eq!(of(&found(256, 128, 0), &work(), None, at(0)), None);
        assert_eq!(of(&Generation::default(), &work(), None, at(0)), None);
        assert_eq!(of(&found(256, 640, 384), &work(), None, at(0)).unwrap().samples, 256);
    }

    #[test]
    fn a_yield_is_despaired_of_only_when_even_luck_would_not_help_and_never_by_a_few_samples() {
        // Nothing in 99 samples says little; nothing in 273 leaves room for five in as many, 375 in all.
        assert_eq!(despair(&found(99, 0, 0).folded, &work()), None);
        assert_eq!(despair(&found(256, 100, 0).folded, &work()), None);
        let despaired = despair(&found(273, 100, 0).folded, &work()).unwrap();
        assert_eq!(despaired, "20480 samples can at best give about 640 first and 375 second of them");
        let enough = RunWork { max_samples: 40_960, ..work() };
        assert_eq!(despair(&found(273, 100, 0).folded, &enough), None, "more samples are allowed");
    }

    proptest! {
        #[test]
        fn whoever_is_on_the_way_to_the_target_is_never_despaired_of(
            samples in 1_u32..20_480, accepted in 0_u64..20_480,
        ) {
            let work = work();
            let generation = found(samples, accepted, accepted);
            if let Some(forecast) = of(&generation, &work, None, at(0)) && forecast.samples <= work.max_samples.into() {
                prop_assert_eq!(despair(&generation.folded, &work), None);
            }
        }
    }
}
