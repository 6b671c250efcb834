//! The report as a page that needs nothing else: no script, no font and no picture from anywhere. What it shows is all in `report.json` and `tasks.jsonl`.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use sera_crds::contract::{
    Comparison, Contestant, DatasetManifest, EvaluationReport, Interval, ModelResult, RolloutKind, TaskResult, Usage,
};
use sera_crds::values::Verdict;
use serde::Serialize;

use super::statistics;
use super::story::Story;

const TEMPLATE: &str = include_str!("page.html");
/// How many tasks are named on either side.
const NAMED: usize = 10;
/// The bars of the histogram: from −1 to 1 in tenths.
const BINS: usize = 20;
/// How many reasons are named.
const REASONS: usize = 6;
/// The height of the highest bar, in the picture's units.
const HEIGHT: f64 = 80.0;

/// What the template is given: texts and numbers that are ready to be shown.
#[derive(Serialize)]
struct Page<'a> {
    report: &'a EvaluationReport,
    verdict: &'static str,
    meaning: String,
    models: Vec<Row<'a>>,
    comparisons: [Beside<'a>; 2],
    bins: Vec<Bin>,
    gained: Vec<Named<'a>>,
    lost: Vec<Named<'a>>,
    origin: Option<Origin<'a>>,
    recall: Vec<Bin>,
    loss: Option<&'a str>,
}

/// What the student was trained on.
#[derive(Serialize)]
struct Origin<'a> {
    lines: u64,
    first: u64,
    second: u64,
    eligible: u64,
    reasons: Vec<(&'a str, u64)>,
}

#[derive(Serialize)]
struct Row<'a> {
    role: &'static str,
    result: &'a ModelResult,
    f1: Interval,
    usage: Usage,
    limits: u64,
}

#[derive(Serialize)]
struct Beside<'a> {
    other: &'static str,
    comparison: &'a Comparison,
}

#[derive(Serialize)]
struct Bin {
    x: usize,
    height: f64,
    from: String,
    to: String,
    count: u64,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    file: &'a str,
    student: f64,
    base: f64,
    teacher: f64,
}

/// The page.
pub(super) fn render(
    report: &EvaluationReport,
    tasks: &[TaskResult],
    story: &Story,
) -> Result<String, minijinja::Error> {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.add_filter("points", |share: f64| format!("{:.1}", 100.0 * share));
    templates.add_filter("signed", |share: f64| format!("{:+.1}", 100.0 * share));
    templates.add_filter("fixed", |number: f64| format!("{number:.2}"));
    templates.add_filter("chance", |p: f64| if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") });
    templates.add_template("page", TEMPLATE)?;
    templates.get_template("page")?.render(Serde(page(report, tasks, story)))
}

fn page<'a>(report: &'a EvaluationReport, tasks: &'a [TaskResult], story: &'a Story) -> Page<'a> {
    let rows = [Contestant::Student, Contestant::Base, Contestant::Teacher].into_iter().filter_map(|model| {
        let result = report.models.get(&model)?;
        let unfinished = result.outcomes.values().sum::<u64>()
            - result.outcomes.get(&sera_crds::contract::RolloutOutcome::Submitted).copied().unwrap_or_default();
        Some(Row { role: model.word(), result, f1: result.f1, usage: result.usage, limits: unfinished })
    });
    let mut named: Vec<(f64, Named<'a>)> = tasks.iter().map(named).collect();
    named.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let bins = bins(named.iter().map(|(difference, _)| *difference));
    let mut lost = Vec::new();
    let mut gained = Vec::new();
    for (difference, task) in named {
        if difference < 0.0 && lost.len() < NAMED {
            lost.push(task);
        } else if difference > 0.0 {
            gained.push(task);
        }
    }
    gained.reverse();
    gained.truncate(NAMED);
    Page {
        report,
        verdict: report.verdict.map_or("No verdict", title),
        meaning: meaning(report),
        models: rows.collect(),
        comparisons: [
            Beside { other: "base", comparison: &report.over_base },
            Beside { other: "teacher", comparison: &report.over_teacher },
        ],
        bins,
        gained,
        lost,
        origin: story.dataset.as_ref().map(origin),
        recall: bars(&story.recall, |bin| format!("{bin}0%")),
        loss: story.loss.as_deref(),
    }
}

fn origin(dataset: &DatasetManifest) -> Origin<'_> {
    let taken = |kind| dataset.taken.get(&kind).copied().unwrap_or_default();
    let mut reasons: Vec<(&str, u64)> =
        dataset.rejected.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    reasons.truncate(REASONS);
    Origin {
        lines: dataset.train_lines + dataset.eval_lines,
        first: taken(RolloutKind::First),
        second: taken(RolloutKind::Second),
        eligible: dataset.eligible.values().sum(),
        reasons,
    }
}

/// A task with its mean scores, and by how much the student's is above its base's.
fn named(task: &TaskResult) -> (f64, Named<'_>) {
    let [student, base, teacher] = [Contestant::Student, Contestant::Base, Contestant::Teacher]
        .map(|model| task.f1.get(&model).map_or(0.0, |scores| statistics::of(scores)));
    let (name, file) = (task.function.name.as_str(), task.function.file.as_str());
    (student - base, Named { name, file, student, base, teacher })
}

/// How many tasks have which difference.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few bins")]
fn bins(differences: impl Iterator<Item = f64>) -> Vec<Bin> {
    let mut counts = [0_u64; BINS];
    for difference in differences {
        let bin = (f64::midpoint(difference, 1.0) * BINS as f64).floor();
        counts[(bin.max(0.0) as usize).min(BINS - 1)] += 1;
    }
    bars(&counts, |bin| format!("{:+.1}", bin as f64 * 2.0 / BINS as f64 - 1.0))
}

/// Bars of these counts; the highest has the whole height.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn bars(counts: &[u64], edge: impl Fn(usize) -> String) -> Vec<Bin> {
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let bar = |(x, count): (usize, &u64)| Bin {
        x,
        height: HEIGHT * *count as f64 / most as f64,
        from: edge(x),
        to: edge(x + 1),
        count: *count,
    };
    counts.iter().enumerate().map(bar).collect()
}

const fn title(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Improved => "Improved",
        Verdict::Regressed => "Regressed",
        Verdict::MatchesTeacher => "Matches its teacher",
        Verdict::ExceedsTeacher => "Exceeds its teacher",
        Verdict::Inconclusive => "Inconclusive",
    }
}

/// What the verdict says, in a sentence with its figures.
fn meaning(report: &EvaluationReport) -> String {
    let points = |share: f64| format!("{:+.1}", 100.0 * share);
    let (base, teacher) = (report.over_base.difference, report.over_teacher.difference);
    let over_base =
        format!("{} points of F1 over its base ({} to {})", points(base.mean), points(base.low), points(base.high));
    let over_teacher = format!(
        "{} points beside its teacher ({} to {})",
        points(teacher.mean),
        points(teacher.low),
        points(teacher.high)
    );
    match report.verdict {
        None if report.contaminated > 0 => format!(
            "{} trajectories that were trained on touch functions that were set aside: what the student knows of them is no skill.",
            report.contaminated
        ),
        None => "No held-out function led to a task: the teacher's own review took none of its changes.".to_owned(),
        Some(Verdict::Improved) => {
            format!("The student gains {over_base}. That it matches its teacher is not shown: {over_teacher}.")
        }
        Some(Verdict::Regressed) => format!("The student is worse than what it was trained from: {over_base}."),
        Some(Verdict::MatchesTeacher | Verdict::ExceedsTeacher) => {
            format!("The student comes to {over_teacher}, and to {over_base}.")
        }
        Some(Verdict::Inconclusive) => format!(
            "The student comes to {over_base} and {over_teacher}. As many tasks find a difference of {} points eight times in ten; a smaller one asks for more.",
            points(report.over_base.detects).trim_start_matches('+')
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sera_crds::contract::{CONTRACT_VERSION, EvaluationPlan, FileDigest, FunctionRef, RolloutOutcome};

    use super::*;

    pub(crate) fn report(verdict: Option<Verdict>) -> EvaluationReport {
        let interval = |mean: f64| Interval { mean, low: mean - 0.05, high: mean + 0.05 };
        let model = |name: &str, mean: f64| ModelResult {
            model: name.to_owned(),
            attempts: 6,
            f1: interval(mean),
            recall: mean,
            half_found: mean,
            submitted: 0.9,
            file_found: 0.8,
            place_found: 0.7,
            outcomes: BTreeMap::from([(RolloutOutcome::Submitted, 5), (RolloutOutcome::StepLimit, 1)]),
            reasked: 2,
            usage: Usage { calls: 60, prompt_tokens: 1000, cached_tokens: 900, completion_tokens: 100 },
        };
        let comparison = |mean: f64| Comparison { difference: interval(mean), p: 0.01, detects: 0.081, snr: Some(1.5) };
        EvaluationReport {
            version: CONTRACT_VERSION,
            rehearsal: false,
            plan: EvaluationPlan { samples: 3, seeds: 2, min_effect: "0.05".parse().unwrap() },
            tried: 3,
            tasks: 2,
            files: 2,
            details: FileDigest { name: "tasks.jsonl".into(), bytes: 1, sha256: "a".repeat(64) },
            models: BTreeMap::from([
                (Contestant::Student, model("student <7B>", 0.4)),
                (Contestant::Base, model("base", 0.3)),
                (Contestant::Teacher, model("teacher", 0.6)),
            ]),
            over_base: comparison(0.1),
            over_teacher: comparison(-0.2),
            floor: 0.02,
            contaminated: u64::from(verdict.is_none()),
            unchecked: 0,
            verdict,
        }
    }

    fn tasks() -> Vec<TaskResult> {
        [("gains", 0.9, 0.2), ("loses", 0.1, 0.5)]
            .map(|(name, student, base)| TaskResult {
                sample: 0,
                function: FunctionRef { snapshot: 0, file: "src/<a>.py".into(), name: name.into(), lines: (1, 9) },
                f1: BTreeMap::from([
                    (Contestant::Student, vec![student; 2]),
                    (Contestant::Base, vec![base; 2]),
                    (Contestant::Teacher, vec![0.6; 2]),
                ]),
            })
            .to_vec()
    }

    #[test]
    fn the_page_says_the_verdict_and_every_model_and_escapes_what_is_not_ours() {
        let page = render(&report(Some(Verdict::Improved)), &tasks(), &Story::default()).unwrap();
        for text in [
            "Improved",
            "student &lt;7B&gt;",
            "src&#x2f;&lt;a&gt;.py",
            "gains",
            "loses",
            "+10.0 points of F1 over its base (+5.0 to +15.0)",
        ] {
            assert!(page.contains(text), "{text} is not in\n{page}");
        }
        assert!(!page.contains("<7B>") && !page.contains("http://") && !page.contains("<script"), "{page}");
    }

    #[test]
    fn without_a_verdict_the_page_says_why_and_tells_where_the_student_is_from() {
        let story = Story { recall: [0, 0, 0, 0, 0, 7, 0, 0, 0, 21], loss: Some("PHN2Zy8+".into()), dataset: None };
        let page = render(&report(None), &[], &story).unwrap();
        assert!(page.contains("No verdict") && page.contains("1 trajectories that were trained on"), "{page}");
        assert!(page.contains(">21</text>") && page.contains("data:image/svg+xml;base64,PHN2Zy8+"), "{page}");
    }

    #[test]
    fn differences_are_counted_in_tenths_from_end_to_end() {
        let bins = bins([-1.0, -0.05, 0.0, 0.05, 1.0].into_iter());
        let filled: Vec<(usize, u64)> = bins.iter().filter(|bin| bin.count > 0).map(|bin| (bin.x, bin.count)).collect();
        assert_eq!(filled, [(0, 1), (9, 1), (10, 2), (19, 1)]);
        assert!((bins[10].height - HEIGHT).abs() < 1e-9 && bins[10].from == "+0.0");
    }
}
