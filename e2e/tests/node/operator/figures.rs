//! What a finished run says of itself, beside what lies in its store and what the cluster says of its Jobs and pods.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use sera_crds::SpecializationRun;
use sera_crds::contract::{
    Contestant, EvaluationReport, Interval, Lineage, ModelManifest, RolloutKind, SampleOutcome, Usage, Verdict,
};
use sera_crds::run::{GenerationTotals, RunStatus, Score};
use sera_crds::values::Stage;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::ground::{Ground, made_for, status};
use super::training::folder;

/// What a million tokens cost, in dollars: read, read again, and written.
const PRICE: [(&str, f64); 3] = [("inputPerMillion", 0.6), ("cachedInputPerMillion", 0.11), ("outputPerMillion", 2.2)];
/// What stands between the parts of what the store shows.
const NEXT: &str = "====";
/// How far a share may be off that is written with six digits.
const SHARE: f64 = 1e-6;

/// The price, as a spec has it.
pub(super) fn price() -> Value {
    PRICE.iter().map(|(name, dollars)| ((*name).to_owned(), json!(format!("{dollars:.2}")))).collect()
}

/// Whether the figures of a run that is ready, at [`price`], are those of what it has made.
pub(super) async fn are_true(ground: &Ground, run: &SpecializationRun) -> Result<()> {
    let script = format!(
        "cd {}
         cat rollouts/*/*/outcome.json
         echo {NEXT}
         cat verified/*/*.jsonl
         echo {NEXT}
         cat dataset/lineage.jsonl
         echo {NEXT}
         cat model/manifest.json
         echo
         echo {NEXT}
         cat report/report.json",
        folder(ground, run)?
    );
    let seen = ground.in_store("figures", &script).await?;
    let [outcomes, verdicts, lineage, model, report]: [&str; 5] = seen
        .split(&format!("{NEXT}\n"))
        .collect::<Vec<_>>()
        .try_into()
        .ok()
        .context("the store shows something else")?;
    let (outcomes, verdicts): (Vec<SampleOutcome>, Vec<Verdict>) = (all(outcomes)?, all(verdicts)?);
    let said = status(run)?;
    let totals = &said.generation.as_ref().context("nothing was counted")?.totals;
    spent_as_the_records_say(totals, &outcomes, said.generation.as_ref().map_or(0, |said| said.batches.len()))?;
    judged_as_the_verdicts_say(totals, &verdicts)?;
    accepted_as_the_dataset_has_it(totals, &all(lineage)?)?;
    trained_as_the_manifest_says(said, &serde_json::from_str(model)?)?;
    compared_as_the_report_says(said, &serde_json::from_str(report)?)?;
    for stage in [Stage::Snapshot, Stage::Dataset, Stage::Training, Stage::Evaluation] {
        is_as_the_cluster_says(ground, said, stage).await.with_context(|| format!("of {stage}"))?;
    }
    Ok(())
}

fn all<T: DeserializeOwned>(documents: &str) -> Result<Vec<T>> {
    Ok(serde_json::Deserializer::from_str(documents).into_iter().collect::<Result<_, _>>()?)
}

fn spent_as_the_records_say(totals: &GenerationTotals, outcomes: &[SampleOutcome], batches: usize) -> Result<()> {
    let mut usage = Usage::default();
    outcomes.iter().for_each(|outcome| usage += outcome.usage);
    ensure!(totals.attempted == outcomes.len() as u64 && totals.attempted > 0, "{} of {totals:?}", outcomes.len());
    let tokens = (usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens, usage.completion_tokens);
    ensure!((totals.tokens, totals.cached_tokens, totals.output_tokens) == tokens, "{usage:?} and {totals:?}");
    let counts = [usage.prompt_tokens - usage.cached_tokens, usage.cached_tokens, usage.completion_tokens];
    #[expect(clippy::cast_precision_loss, reason = "they are far below 2^52")]
    let dollars: f64 = counts.iter().zip(PRICE).map(|(count, (_, dollars))| *count as f64 * dollars / 1e6).sum();
    let cost: f64 = totals.cost.as_ref().context("no cost")?.as_str().parse()?;
    // Each batch's share of each kind is rounded to a millionth of a dollar.
    #[expect(clippy::cast_precision_loss, reason = "a few batches")]
    let rounded = 3e-6 * batches.max(1) as f64;
    ensure!(cost > 0.0 && (cost - dollars).abs() <= rounded, "it says ${cost}, and it was ${dollars}: {usage:?}");
    Ok(())
}

fn judged_as_the_verdicts_say(totals: &GenerationTotals, verdicts: &[Verdict]) -> Result<()> {
    let mut rejected: BTreeMap<String, u64> = BTreeMap::new();
    for reason in verdicts.iter().flat_map(|verdict| [verdict.first.rejected, verdict.second.rejected]).flatten() {
        *rejected.entry(format!("{reason:?}")).or_default() += 1;
    }
    ensure!(totals.attempted == verdicts.len() as u64 && totals.rejected == rejected, "{rejected:?} and {totals:?}");
    let measured = verdicts.iter().filter(|verdict| verdict.measures.is_some()).count() as u64;
    ensure!(totals.recall_histogram.iter().sum::<u64>() == measured, "{measured} are measured: {totals:?}");
    Ok(())
}

fn accepted_as_the_dataset_has_it(totals: &GenerationTotals, lineage: &[Lineage]) -> Result<()> {
    let of = |kind: RolloutKind| lineage.iter().filter(|line| line.rollout == kind).count() as u64;
    let (first, second) = (of(RolloutKind::First), of(RolloutKind::Second));
    let said = (totals.accepted, totals.accepted_first, totals.accepted_second);
    ensure!(said == (first + second, first, second) && said.0 > 0, "{first} and {second} lines, and {totals:?}");
    Ok(())
}

fn trained_as_the_manifest_says(said: &RunStatus, model: &ModelManifest) -> Result<()> {
    let training = said.training.as_ref().context("no word on the training")?;
    ensure!((training.step, training.total_steps) == (model.steps, model.steps), "{training:?} and {model:?}");
    let loss: f64 = training.loss.as_ref().context("no loss")?.as_str().parse()?;
    ensure!((loss - model.loss).abs() <= 1e-4 * model.loss.abs().max(1.0), "{loss} and {}", model.loss);
    ensure!(training.learning_rate == Some(model.plan.peak_learning_rate()), "{training:?}");
    ensure!(training.precision.is_some() && model.rehearsal, "{training:?} and {model:?}");
    Ok(())
}

fn compared_as_the_report_says(said: &RunStatus, report: &EvaluationReport) -> Result<()> {
    let evaluation = said.evaluation.as_ref().context("no word on the evaluation")?;
    for model in Contestant::ALL {
        let score = match model {
            Contestant::Student => &evaluation.student,
            Contestant::Base => &evaluation.base,
            Contestant::Teacher => &evaluation.teacher,
        };
        let score = score.as_ref().with_context(|| format!("no score of the {model}"))?;
        ensure!(is(score, report.models[&model].f1)?, "{model}: {score:?} and {:?}", report.models[&model].f1);
    }
    Ok(())
}

fn is(score: &Score, interval: Interval) -> Result<bool> {
    let pairs = [(&score.mean, interval.mean), (&score.low, interval.low), (&score.high, interval.high)];
    for (said, is) in pairs {
        if (said.as_str().parse::<f64>()? - is.clamp(0.0, 1.0)).abs() > SHARE {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The time in which the stage's Jobs were at work is within what status says, and its image is what a pod of it ran.
async fn is_as_the_cluster_says(ground: &Ground, said: &RunStatus, stage: Stage) -> Result<()> {
    let time = said.stage_times.iter().find(|time| time.stage == stage).context("no times")?;
    let finished = time.finished.as_ref().context("it is not over")?;
    let jobs = ground.space.api::<Job>().list(&made_for(stage)).await?.items;
    ensure!(!jobs.is_empty(), "its Jobs are gone already");
    for ended in jobs.iter().filter_map(|job| job.status.as_ref()) {
        // Kubernetes and status both leave out what is less than a second.
        let seconds = time.started.0.as_second()..=finished.0.as_second();
        for moment in [&ended.start_time, &ended.completion_time].into_iter().flatten() {
            ensure!(seconds.contains(&moment.0.as_second()), "{moment:?} is not in {time:?}");
        }
    }
    let pods = ground.space.api::<Pod>().list(&made_for(stage)).await?.items;
    let ran: Vec<String> = pods.iter().flat_map(images_of).collect();
    let told: Vec<&String> = said.images.values().filter(|image| ran.contains(image)).collect();
    ensure!(!told.is_empty() && told.iter().all(|image| image.contains("sha256:")), "{ran:?} and {:?}", said.images);
    Ok(())
}

fn images_of(pod: &Pod) -> Vec<String> {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.image_id.clone()).collect()
}
