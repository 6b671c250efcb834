//! What scores say, and how surely. Tasks of one file are alike, and so are attempts at one task: the bootstrap draws whole files, then decoding seeds.
//! Everything here is a pure function of the scores, and comes to the same on every machine.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sera_crds::contract::{Comparison, Contestant, Interval};
use sera_crds::values::Verdict;

/// How many times scores are drawn anew.
const DRAWS: usize = 10_000;
/// What the draws are drawn from.
const SEED: u64 = 0x5e7a;
/// The share of draws that lies outside of an interval.
const ALPHA: f64 = 0.05;
/// How many standard errors a difference has to be away from nothing to be found eight times in ten by an interval that leaves out [`ALPHA`], and by one
/// that leaves out half of it: 1.960 and 2.241, and 0.842 more.
const POWER: [f64; 2] = [2.802, 3.083];

/// What the models made of one task: a score for each decoding seed.
#[derive(Debug, Clone)]
pub(super) struct TaskScores {
    /// The file whose function it is about.
    pub(super) file: String,
    pub(super) scores: BTreeMap<Contestant, Vec<f64>>,
}

/// What all scores say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Findings {
    pub(super) means: BTreeMap<Contestant, Interval>,
    pub(super) over_base: Comparison,
    pub(super) over_teacher: Comparison,
}

/// Mean scores of each draw, by model.
type Draws = BTreeMap<Contestant, Vec<f64>>;

/// What these scores say; every model has at least one score for each task, and all as many.
pub(super) fn findings(tasks: &[TaskScores]) -> Findings {
    let draws = bootstrap(tasks);
    let means = Contestant::ALL.into_iter().map(|model| {
        let mean = mean(tasks.iter().map(|task| of(&task.scores[&model])));
        (model, interval(mean, &draws[&model], ALPHA))
    });
    let [base, teacher] = [Contestant::Base, Contestant::Teacher].map(|other| Pair::of(tasks, &draws, other));
    let (base_alpha, teacher_alpha) = holm(&base, &teacher);
    Findings {
        means: means.collect(),
        over_base: base.comparison(base_alpha),
        over_teacher: teacher.comparison(teacher_alpha),
    }
}

/// The verdict that the comparisons lead to. That the student is worse than its base outweighs everything else.
pub(super) fn verdict(over_base: &Comparison, over_teacher: &Comparison, min_effect: f64) -> Verdict {
    let (base, teacher) = (over_base.difference, over_teacher.difference);
    if base.high < 0.0 {
        Verdict::Regressed
    } else if teacher.low > 0.0 {
        Verdict::ExceedsTeacher
    } else if teacher.low > -min_effect {
        Verdict::MatchesTeacher
    } else if base.low > 0.0 && base.mean >= min_effect {
        Verdict::Improved
    } else {
        Verdict::Inconclusive
    }
}

/// The student beside another model.
struct Pair {
    difference: f64,
    /// The difference in each draw, the smallest first.
    draws: Vec<f64>,
    p: f64,
    snr: Option<f64>,
}

impl Pair {
    fn of(tasks: &[TaskScores], draws: &Draws, other: Contestant) -> Self {
        let student = Contestant::Student;
        let difference = |task: &TaskScores| of(&task.scores[&student]) - of(&task.scores[&other]);
        let mut paired: Vec<f64> =
            draws[&student].iter().zip(&draws[&other]).map(|(student, other)| student - other).collect();
        paired.sort_by(f64::total_cmp);
        Self {
            difference: mean(tasks.iter().map(difference)),
            p: two_sided(&paired),
            snr: signal_to_noise(tasks, other),
            draws: paired,
        }
    }

    /// Whether the interval that leaves out `alpha` leaves out nothing too.
    fn differs(&self, alpha: f64) -> bool {
        let Interval { low, high, .. } = interval(self.difference, &self.draws, alpha);
        low > 0.0 || high < 0.0
    }

    fn comparison(&self, alpha: f64) -> Comparison {
        Comparison {
            difference: interval(self.difference, &self.draws, alpha),
            p: self.p,
            detects: POWER[usize::from(alpha < ALPHA)] * deviation(&self.draws),
            snr: self.snr,
        }
    }
}

/// What each of two intervals may leave out so that both hold together (Holm): the surer one half, and the other all of it if the first has shown a
/// difference, or else half too.
fn holm(base: &Pair, teacher: &Pair) -> (f64, f64) {
    let half = ALPHA / 2.0;
    let base_is_surer = base.p <= teacher.p;
    let rest = if (if base_is_surer { base } else { teacher }).differs(half) { ALPHA } else { half };
    if base_is_surer { (half, rest) } else { (rest, half) }
}

fn bootstrap(tasks: &[TaskScores]) -> Draws {
    let mut files: BTreeMap<&str, Vec<&TaskScores>> = BTreeMap::new();
    for task in tasks {
        files.entry(&task.file).or_default().push(task);
    }
    let files: Vec<Vec<&TaskScores>> = files.into_values().collect();
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut draws: Draws = Contestant::ALL.into_iter().map(|model| (model, Vec::with_capacity(DRAWS))).collect();
    for _ in 0..DRAWS {
        let mut sums = [0.0; Contestant::ALL.len()];
        let mut count = 0_u32;
        for _ in 0..files.len() {
            for task in &files[below(&mut random, files.len())] {
                count += 1;
                for (sum, model) in sums.iter_mut().zip(Contestant::ALL) {
                    let scores = &task.scores[&model];
                    *sum += mean((0..scores.len()).map(|_| scores[below(&mut random, scores.len())]));
                }
            }
        }
        for (sum, model) in sums.into_iter().zip(Contestant::ALL) {
            draws.entry(model).or_default().push(sum / f64::from(count.max(1)));
        }
    }
    for drawn in draws.values_mut().filter(|drawn| drawn.is_empty()) {
        drawn.push(0.0);
    }
    draws
}

/// A number below `bound`, which is far below 2^32: the product's upper half.
fn below(random: &mut ChaCha8Rng, bound: usize) -> usize {
    let product = u64::from(random.next_u32()) * bound as u64;
    usize::try_from(product >> 32).unwrap_or_default()
}

/// The interval around `mean` that leaves out `alpha` of the draws, half on either side.
fn interval(mean: f64, draws: &[f64], alpha: f64) -> Interval {
    let mut sorted = draws.to_vec();
    sorted.sort_by(f64::total_cmp);
    Interval { mean, low: quantile(&sorted, alpha / 2.0), high: quantile(&sorted, 1.0 - alpha / 2.0) }
}

/// The value below which a share of these lies, straight lines between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * count(last);
    let below = (0..=last).rev().find(|index| count(*index) <= place).unwrap_or_default();
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - count(below))
}

/// How likely draws are as far on the other side of nothing as most are on this one; no draw at all on that side is not nothing.
fn two_sided(draws: &[f64]) -> f64 {
    let share = |beyond: &dyn Fn(f64) -> bool| {
        (1.0 + count(draws.iter().filter(|draw| beyond(**draw)).count())) / (1.0 + count(draws.len()))
    };
    (2.0 * share(&|draw| draw <= 0.0).min(share(&|draw| draw >= 0.0))).min(1.0)
}

/// The difference over its standard deviation between decoding seeds (the paper's rule).
fn signal_to_noise(tasks: &[TaskScores], other: Contestant) -> Option<f64> {
    let seeds = tasks.first()?.scores[&other].len();
    let by_seed: Vec<f64> = (0..seeds)
        .map(|seed| mean(tasks.iter().map(|task| task.scores[&Contestant::Student][seed] - task.scores[&other][seed])))
        .collect();
    let noise = deviation(&by_seed);
    (noise > 0.0).then(|| mean(by_seed.iter().copied()) / noise)
}

/// The mean of one task's scores.
pub(super) fn of(scores: &[f64]) -> f64 {
    mean(scores.iter().copied())
}

/// The mean; 0 of nothing.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut number) = (0.0, 0_usize);
    for value in values {
        sum += value;
        number += 1;
    }
    if number == 0 { 0.0 } else { sum / count(number) }
}

/// The standard deviation of a sample; 0 of fewer than two.
fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = of(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count(values.len() - 1)).sqrt()
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tasks in files of two, with these scores for teacher, student and base.
    fn tasks(number: usize, scores: impl Fn(usize) -> [Vec<f64>; 3]) -> Vec<TaskScores> {
        (0..number)
            .map(|task| TaskScores {
                file: format!("src/{}.py", task / 2),
                scores: Contestant::ALL.into_iter().zip(scores(task)).collect(),
            })
            .collect()
    }

    /// A score that goes up and down from task to task.
    fn wave(task: usize, around: f64) -> f64 {
        around + 0.2 * f64::from(u32::try_from(task * 7 % 11).unwrap() % 5) / 4.0 - 0.1
    }

    fn verdict_of(tasks: &[TaskScores]) -> Verdict {
        let found = findings(tasks);
        verdict(&found.over_base, &found.over_teacher, 0.05)
    }

    #[test]
    fn each_verdict_has_its_scores() {
        for (teacher, student, base, expected) in [
            (0.6, 0.4, 0.2, Verdict::Improved),
            (0.6, 0.2, 0.4, Verdict::Regressed),
            (0.6, 0.6, 0.4, Verdict::MatchesTeacher),
            (0.4, 0.6, 0.3, Verdict::ExceedsTeacher),
            (0.6, 0.3, 0.3, Verdict::Inconclusive),
            (0.6, 0.33, 0.3, Verdict::Inconclusive),
        ] {
            let tasks = tasks(60, |task| [teacher, student, base].map(|around| vec![wave(task, around); 3]));
            assert_eq!(verdict_of(&tasks), expected, "{teacher} {student} {base}");
        }
    }

    #[test]
    fn a_gain_on_few_tasks_is_not_believed() {
        let scores = |task: usize| {
            let student = if task == 0 { 1.0 } else { 0.0 };
            [vec![0.9; 3], vec![student; 3], vec![0.0; 3]]
        };
        assert_eq!(verdict_of(&tasks(4, scores)), Verdict::Inconclusive);
        let found = findings(&tasks(4, scores)).over_base;
        assert!((found.difference.mean - 0.25).abs() < 1e-12 && found.difference.low <= 0.0 && found.detects > 0.25);
    }

    #[test]
    fn tasks_of_one_file_count_for_less_than_tasks_of_many() {
        let scores = |task: usize| [vec![0.5], vec![if task % 4 < 2 { 0.8 } else { 0.1 }], vec![0.3]];
        let apart = tasks(40, scores);
        let mut together = apart.clone();
        // Four tasks that agree, in one file, say as much as one.
        together.iter_mut().enumerate().for_each(|(task, scores)| {
            scores.file = format!("src/{}-{}.py", task % 4 < 2, task / 8);
        });
        let width = |tasks: &[TaskScores]| {
            let Interval { low, high, .. } = findings(tasks).means[&Contestant::Student];
            high - low
        };
        assert!(width(&together) > 1.2 * width(&apart), "{} {}", width(&together), width(&apart));
    }

    #[test]
    fn intervals_are_wider_where_neither_comparison_shows_anything() {
        let flat = tasks(40, |task| [vec![wave(task, 0.5)], vec![wave(task + 3, 0.5)], vec![wave(task + 5, 0.5)]]);
        let found = findings(&flat);
        let draws = bootstrap(&flat);
        let pair = Pair::of(&flat, &draws, Contestant::Base);
        assert_eq!(found.over_base, pair.comparison(ALPHA / 2.0));
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [0.0, 1.0, 2.0, 3.0, 4.0];
        assert!((quantile(&values, 0.5) - 2.0).abs() < 1e-12 && (quantile(&values, 0.1) - 0.4).abs() < 1e-12);
        assert_eq!((quantile(&values, 0.0), quantile(&values, 1.0), quantile(&[], 0.5)), (0.0, 4.0, 0.0));
    }

    #[test]
    fn the_same_scores_always_say_the_same() {
        let tasks = tasks(10, |task| [0.6, 0.5, 0.4].map(|around| vec![wave(task, around), wave(task + 1, around)]));
        assert_eq!(findings(&tasks), findings(&tasks));
        let difference = findings(&tasks).over_base.difference;
        assert!((difference.mean - 0.1).abs() < 1e-9, "{difference:?}");
    }

    #[test]
    fn noise_is_told_from_seeds_and_not_told_from_one() {
        let of = |student: Vec<f64>, base: Vec<f64>| {
            findings(&tasks(6, |_| [vec![0.5; student.len()], student.clone(), base.clone()])).over_base.snr
        };
        assert_eq!(of(vec![0.5], vec![0.4]), None);
        assert_eq!(of(vec![0.5, 0.5], vec![0.4, 0.4]), None, "seeds that agree have no noise");
        let snr = of(vec![0.6, 0.4], vec![0.4, 0.4]).unwrap();
        assert!((snr - 0.5_f64.sqrt()).abs() < 1e-9, "{snr}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn intervals_hold_their_mean_and_stay_within_scores(
            scores in prop::collection::vec(prop::array::uniform3(prop::collection::vec(0.0..=1.0_f64, 2)), 1..12),
        ) {
            let found = findings(&tasks(scores.len(), |task| scores[task].clone()));
            for Interval { mean, low, high } in found.means.values() {
                prop_assert!(0.0 <= *low && *low <= mean + 1e-9 && mean - 1e-9 <= *high && *high <= 1.0 + 1e-12);
            }
            for Comparison { difference, p, detects, .. } in [found.over_base, found.over_teacher] {
                prop_assert!(difference.low <= difference.high && (-1.0..=1.0).contains(&difference.mean));
                prop_assert!(p > 0.0 && p <= 1.0 && detects >= 0.0);
            }
        }
    }
}
