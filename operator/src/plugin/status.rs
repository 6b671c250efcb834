//! What a run or a batch is at, on one page: where it stands and what it waits for, its stages, what generation, training and evaluation have come to, where
//! everything lies, and what failed last.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::{Timestamp, Unit};
use sera_crds::SpecializationRun;
use sera_crds::conditions::{self, ConditionType};
use sera_crds::run::{
    EvaluationStatus, FailureRecord, GenerationStatus, Phase, RunStatus, Score, ServingStatus, TrainingStatus,
};
use sera_crds::values::{Stage, Usd};

use super::connect::Connection;
use super::page::{Page, ago, count, percent, span};
use super::standing::Standing;
use super::target::{Name, Object};
use super::{Error, list};
use crate::names::Kind;

/// How often what is watched is asked for.
const EVERY: Duration = Duration::from_secs(2);
/// Clears the screen and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// The stages of a batch. The first is its own only where it takes a snapshot for itself.
const OF_A_BATCH: [Stage; 3] = [Stage::Snapshot, Stage::Rollouts, Stage::Verification];

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A run by its name, or with its kind: run/NAME or batch/NAME [default: all, a line each]
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    /// Show it again and again, until it is done or cannot go on
    #[arg(long, short, requires = "name")]
    watch: bool,
    /// Of all namespaces; without a name
    #[arg(long, short = 'A', conflicts_with = "name")]
    all_namespaces: bool,
}

impl Arguments {
    pub(super) async fn show(self, connection: &Connection) -> Result<ExitCode, Error> {
        let Some(name) = self.name else {
            print(&list::all(connection, self.all_namespaces).await?)?;
            return Ok(ExitCode::SUCCESS);
        };
        if !self.watch {
            print(&page(&name.find(connection).await?, Timestamp::now()))?;
            return Ok(ExitCode::SUCCESS);
        }
        watch(&name, connection).await
    }
}

async fn watch(name: &Name, connection: &Connection) -> Result<ExitCode, Error> {
    let redraws = std::io::stdout().is_terminal();
    let mut last = None;
    loop {
        let object = name.find(connection).await?;
        let told = Told::of(&object);
        if redraws {
            print(&format!("{CLEAR}{}", told.page(Timestamp::now())))?;
        } else {
            // Where nothing can be redrawn, the clock alone is no news.
            let since = told.since();
            let now = told.page(since);
            if last.as_ref() != Some(&now) {
                print(&format!("{now}\n"))?;
                last = Some(now);
            }
        }
        match told.standing.phase {
            Some(Phase::Succeeded) if told.standing.is_current() => return Ok(ExitCode::SUCCESS),
            Some(Phase::Failed | Phase::Stalled) if told.standing.is_current() => return Ok(ExitCode::FAILURE),
            _ => tokio::time::sleep(EVERY).await,
        }
    }
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The page of an object.
pub(super) fn page(object: &Object, now: Timestamp) -> String {
    Told::of(object).page(now)
}

/// What both kinds tell, and what a run alone does.
struct Told<'a> {
    kind: Kind,
    name: &'a str,
    standing: Standing<'a>,
    stages: &'static [Stage],
    /// How much money generation may come to.
    most_cost: Option<&'a Usd>,
    run: Option<&'a SpecializationRun>,
}

impl<'a> Told<'a> {
    fn of(object: &'a Object) -> Self {
        let (standing, stages, budget, run) = match object {
            Object::Run(run) => {
                let budget = run.spec.generation.rollouts.budget.as_ref();
                (Standing::of_run(run), &Stage::OF_A_RUN[..], budget, Some(&**run))
            }
            Object::Batch(batch) => {
                let budget = batch.spec.generation.as_ref().and_then(|generation| generation.budget.as_ref());
                (Standing::of_batch(batch), &OF_A_BATCH[..], budget, None)
            }
        };
        let most_cost = budget.and_then(|budget| budget.max_cost.as_ref());
        let name = standing.meta.name.as_deref().unwrap_or_default();
        Self { kind: object.kind(), name, standing, stages, most_cost, run }
    }

    /// The last time that anything of it has begun or ended.
    fn since(&self) -> Timestamp {
        let times = self
            .standing
            .times
            .iter()
            .flat_map(|time| [Some(time.started.0), time.finished.as_ref().map(|time| time.0)]);
        times.flatten().max().unwrap_or_default()
    }

    fn page(&self, now: Timestamp) -> String {
        let mut page = Page::default();
        self.head(&mut page);
        page.gap();
        for stage in self.stages {
            if let Some(line) = self.stage(*stage, now) {
                page.line(&line);
            }
        }
        page.gap();
        self.results(&mut page);
        if !self.standing.failures.is_empty() {
            page.gap();
            page.line("What failed last:");
            self.standing.failures.iter().for_each(|failure| page.line(&told_failure(failure, now)));
        }
        if let Some(advice) = self.advice() {
            page.gap();
            page.line(&advice);
        }
        page.into_text()
    }

    fn head(&self, page: &mut Page) {
        let phase = self.standing.phase.map_or("not looked at by the operator yet", Phase::as_str);
        let namespace = self.standing.meta.namespace.as_deref().unwrap_or_default();
        page.line(&format!("{} {} in {namespace}: {phase}", self.kind.noun(), self.name));
        if !self.standing.is_current() && self.standing.phase.is_some() {
            page.line("its spec was changed, and the operator has not looked at it since");
        }
        if let Some(progress) = self.standing.at_work() {
            let eta = progress.eta.as_ref().map(|eta| format!(", done about {}", minute(eta.0))).unwrap_or_default();
            page.line(&format!("{} is {} % done{eta}", progress.stage, progress.percent));
        }
        self.standing.holdups().for_each(|held| page.line(&held));
    }

    /// One line about a stage; none of a stage that is not this object's.
    fn stage(&self, stage: Stage, now: Timestamp) -> Option<String> {
        let condition = self.standing.condition(ConditionType::from(stage));
        let time = self.standing.times.iter().find(|time| time.stage == stage);
        if condition.is_none() && time.is_none() {
            return None;
        }
        let done = conditions::is_true(self.standing.conditions, ConditionType::from(stage));
        let mark = match (done, time) {
            (true, _) => "✓",
            (false, Some(time)) if time.finished.is_none() => "▸",
            (false, Some(_)) => "✗",
            (false, None) => "·",
        };
        let took = time.map_or_else(String::new, |time| {
            span(time.finished.as_ref().map_or(now, |finished| finished.0).duration_since(time.started.0))
        });
        let attempts = self.standing.attempts.and_then(|attempts| attempts.get(&stage)).filter(|number| **number > 1);
        let attempts = attempts.map(|number| format!("attempt {number}: ")).unwrap_or_default();
        let said = condition.map_or("", |condition| &condition.message);
        Some(format!("  {mark} {:<12} {took:>11}   {attempts}{said}", stage.as_str()))
    }

    fn results(&self, page: &mut Page) {
        let Standing { generation, teacher, store, .. } = self.standing;
        if let Some(made) = generation {
            let wanted = self.run.map(|run| run.spec.generation.accepted_trajectories.into());
            generated(page, made, self.kind, wanted);
        }
        page.row("teacher", generation.map_or_else(|| teacher.map(str::to_owned), |made| Some(self.spent(made))));
        let status = self.run.and_then(|run| run.status.as_ref());
        if let Some(status) = status {
            learnt(page, status);
        }
        page.row("store", store.map(str::to_owned));
        if let Some(status) = status {
            stored(page, status);
        }
    }

    /// What the teacher has read and written, and what that came to.
    fn spent(&self, made: &GenerationStatus) -> String {
        let totals = &made.totals;
        let mut said = vec![self.standing.teacher.unwrap_or("no name").to_owned()];
        if totals.tokens > 0 {
            let read = totals.tokens.saturating_sub(totals.output_tokens);
            let cached = percent(totals.cached_tokens, read).map(|share| format!(" ({share} % of them cached)"));
            said.push(format!("{} tokens read{}", count(read), cached.unwrap_or_default()));
            said.push(format!("{} written", count(totals.output_tokens)));
        }
        if let Some(cost) = &totals.cost {
            let most = self.most_cost.map(|most| format!(" of {most}")).unwrap_or_default();
            said.push(format!("{cost}{most} USD"));
        }
        said.join(", ")
    }

    /// What can be done, where it cannot go on by itself.
    fn advice(&self) -> Option<String> {
        let name = match self.kind {
            Kind::Run => self.name.to_owned(),
            Kind::Batch => format!("batch/{}", self.name),
        };
        match self.standing.phase? {
            Phase::Stalled => Some(format!(
                "It goes on by itself when that is put right; `kubectl sera retry {name}` has it look at once."
            )),
            Phase::Failed => Some(format!("When that is put right: `kubectl sera retry {name}`.")),
            Phase::Suspended => Some(format!("`kubectl sera resume {name}` has it go on.")),
            _ => None,
        }
    }
}

fn generated(page: &mut Page, made: &GenerationStatus, kind: Kind, wanted: Option<u64>) {
    let totals = &made.totals;
    let most = made.max_samples.map(|most| format!(" of at most {}", count(most.into()))).unwrap_or_default();
    let forecast = made.forecast.as_ref().map(|forecast| {
        let parts = [
            forecast.samples.map(|samples| format!("{} samples", count(samples))),
            forecast.cost.as_ref().map(|cost| format!("{cost} USD")),
            forecast.finish.as_ref().map(|finish| format!("until {}", minute(finish.0))),
        ];
        format!("; at this pace {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    });
    page.row("samples", format!("{} made{most}{}", count(totals.attempted), forecast.unwrap_or_default()));
    let wanted = wanted.map(|wanted| format!(" of {} trajectories", count(wanted))).unwrap_or_default();
    let recall = totals.recall.as_ref().map(|recall| format!("; mean recall {recall}")).unwrap_or_default();
    let (first, second) = (count(totals.accepted_first), count(totals.accepted_second));
    page.row(
        "accepted",
        format!("{}{wanted}: {first} first rollouts, {second} second ones{recall}", count(totals.accepted)),
    );
    let rejected: Vec<_> = totals.rejected.iter().map(|(why, number)| format!("{} {why}", count(*number))).collect();
    page.row("rejected", rejected.join(", "));
    if kind == Kind::Run {
        let batches: Vec<_> =
            made.batches.iter().map(|batch| format!("{} ({} samples)", batch.number, batch.count)).collect();
        page.row(
            "batches",
            Some(batches.join(", ")).filter(|said| !said.is_empty()).map(|said| format!("at work: {said}")),
        );
    }
}

/// What has come of the student.
fn learnt(page: &mut Page, status: &RunStatus) {
    page.row("training", status.training.as_ref().map(trained));
    page.row("evaluation", status.evaluation.as_ref().and_then(compared));
    let serving = status.serving.as_ref().map(|serving| {
        let ServingStatus { url, model, replicas, ready_replicas } = serving;
        format!("{url} as {model}, {ready_replicas} of {replicas} copies answer")
    });
    page.row("serving", serving);
}

/// Where everything lies.
fn stored(page: &mut Page, status: &RunStatus) {
    let Some(artifacts) = &status.artifacts else { return };
    let snapshot = artifacts.snapshot.as_ref().map(|found| format!("{} (commit {})", found.uri, found.commit));
    page.row("snapshot", snapshot);
    for (label, artifact) in
        [("dataset", &artifacts.dataset), ("model", &artifacts.model), ("report", &artifacts.report)]
    {
        page.row(label, artifact.as_ref().map(|artifact| artifact.uri.clone()));
    }
}

fn trained(training: &TrainingStatus) -> String {
    let mut said = vec![format!("step {} of {}", count(training.step.into()), count(training.total_steps.into()))];
    said.extend(training.loss.as_ref().map(|loss| format!("loss {loss}")));
    said.extend(training.learning_rate.as_ref().map(|rate| format!("learning rate {rate}")));
    said.extend(training.tokens_per_second.map(|tokens| format!("{} tokens/s", count(tokens))));
    said.join(", ")
}

fn compared(found: &EvaluationStatus) -> Option<String> {
    let score = |who: &str, score: &Option<Score>| {
        score.as_ref().map(|score| format!("{who} {} [{}, {}]", score.mean, score.low, score.high))
    };
    let scores = [score("student", &found.student), score("base", &found.base), score("teacher", &found.teacher)];
    let scores: Vec<_> = scores.into_iter().flatten().collect();
    let verdict = found.verdict.map(|verdict| format!(": {verdict}")).unwrap_or_default();
    (!scores.is_empty()).then(|| format!("{}{verdict}", scores.join(", ")))
}

fn told_failure(failure: &FailureRecord, now: Timestamp) -> String {
    let field = failure.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
    let FailureRecord { stage, attempt, time, reason, message, .. } = failure;
    // The message of a failure whose field is named may begin with it already.
    let message = message.strip_prefix(&field).unwrap_or(message);
    format!("  {stage}, attempt {attempt}, {}: {reason}: {field}{message}", ago(time.0, now))
}

/// A time to the minute, in UTC.
fn minute(time: Timestamp) -> String {
    time.round(Unit::Minute).unwrap_or(time).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests;
