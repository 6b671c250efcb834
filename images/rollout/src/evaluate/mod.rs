//! The stage `evaluate`: the student, its base and its teacher make the same changes on functions that training never saw, and what they found again is
//! compared. The teacher poses the tasks, by the first half of an ordinary sample; each model then makes fresh attempts. Run again after whatever
//! happened, it adopts what was made and makes the rest; models can be there one after the other.

mod attempts;
mod contamination;
mod error;
mod page;
mod publish;
mod scores;
mod statistics;
mod story;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use sera_crds::contract::{
    CONTRACT_VERSION, Contestant, EvaluationPlan, EvaluationReport, RolloutPlan, StageResult, TaskResult, TeacherMark,
};

use crate::chat::{Setup, Teacher};
use crate::progress::Progress;
use crate::prompts::Prompts;
use crate::redact::Redactor;
use crate::rollout::{self, Driver, Floor, Ground, Ledger, Materials, Patches, READ_AT_ONCE, RecordError, Shelf, Work};
use crate::sampling::Purpose;
use crate::scratch::Scratch;
use crate::store::{self, Store};
use attempts::Attempt;
pub(crate) use error::EvaluationError;
use scores::{Made, Score};
use statistics::{Findings, TaskScores, findings, verdict};
use tasks::Task;

/// What to do, and where everything is.
pub(crate) struct Request {
    /// The run's own folder, and the mounted Secret for it.
    pub(crate) store: String,
    pub(crate) store_credentials: Option<PathBuf>,
    pub(crate) evaluation: EvaluationPlan,
    /// How rollouts are made: as the training's were.
    pub(crate) plan: RolloutPlan,
    /// The models that are there. Those that are not must have made all of their attempts.
    pub(crate) models: BTreeMap<Contestant, Model>,
    pub(crate) floor: Floor,
}

/// A model that is there.
pub(crate) struct Model {
    pub(crate) setup: Setup,
    /// Whether it is a rehearsal.
    pub(crate) rehearsal: bool,
}

/// Makes the report, or finds it.
pub(crate) async fn run(
    request: Request,
    progress: &Progress,
    redactor: &Redactor,
    ledger: &Ledger,
) -> Result<StageResult, EvaluationError> {
    let Request { store, store_credentials, evaluation, plan, models, floor } = request;
    if plan.budget.max_cost.is_some() || plan.budget.max_tokens.is_some() {
        return Err(EvaluationError::Budget);
    }
    let secret = store::secret(store_credentials.as_deref(), redactor)?;
    let store = Store::open(&store, secret.as_ref())?;
    let names = models.iter().map(|(model, there)| (*model, there.setup.model.clone())).collect();
    if let Some(result) = publish::found(&store, &evaluation, &names).await? {
        tracing::info!("the report is in the store already");
        return Ok(result);
    }
    let (mut marks, mut teachers) = (BTreeMap::new(), Vec::new());
    for (model, Model { setup, rehearsal }) in models {
        let mark = TeacherMark { model: setup.model.clone(), rehearsal };
        marks.insert(model, (teachers.len(), mark));
        teachers.push(Teacher::new(setup).map_err(|source| EvaluationError::Setup { model, source })?);
    }
    let driver = Arc::new(Driver::new(teachers, plan.budget.clone())?);
    let serving = driver.listen(floor.listen).await?;
    ledger.begin(&store, &floor.folder);
    store.probe().await?;
    let scratch = Scratch::create(&floor.scratch)?;
    let prompts = Prompts::new(plan.environment.working_dir.as_str(), plan.sandbox.network)?;
    let materials = Materials {
        snapshot: &store,
        plan: &plan,
        purpose: Purpose::Evaluation,
        sandboxes: &floor.sandboxes,
        slots: floor.slots,
        scratch: &scratch,
    };
    let ground = Ground::open(materials, &driver, progress).await?;
    let course = Course {
        store: &store,
        evaluation: &evaluation,
        plan: &plan,
        floor: &floor,
        prompts: &prompts,
        driver: &driver,
        ground: &ground,
        ledger,
        marks: &marks,
        patches: &Patches::default(),
        redactor,
        progress,
    };
    let (tried, tasks) = course.tasks().await?;
    let made = course.attempts(tried, &tasks).await?;
    let found = contamination::look(&store, scratch.path(), progress).await?;
    drop(serving);
    driver.report();
    course.report(tried, &tasks, made, found).await
}

/// The attempts of each model, by the task's position; in the order of tasks and seeds.
type Attempts = BTreeMap<Contestant, Vec<(usize, Made)>>;

/// What the parts of an evaluation share.
#[derive(Clone, Copy)]
struct Course<'a> {
    store: &'a Store,
    evaluation: &'a EvaluationPlan,
    plan: &'a RolloutPlan,
    floor: &'a Floor,
    prompts: &'a Prompts,
    driver: &'a Driver,
    ground: &'a Ground<'a>,
    ledger: &'a Ledger,
    /// The models that are there: which of the driver's each is, and its name in records.
    marks: &'a BTreeMap<Contestant, (usize, TeacherMark)>,
    patches: &'a Patches,
    redactor: &'a Redactor,
    progress: &'a Progress,
}

impl<'a> Course<'a> {
    /// A model at work; where it is not there, what it still has to do is said.
    fn work(&self, model: Contestant, left: usize, what: &'static str) -> Result<Work<'a>, EvaluationError> {
        let (position, mark) = self.marks.get(&model).ok_or(EvaluationError::Absent { model, left, what })?;
        Ok(Work {
            plan: self.plan,
            prompts: self.prompts,
            driver: self.driver,
            ground: self.ground,
            ledger: self.ledger,
            teacher: &self.driver.teachers[*position],
            mark,
            seed: None,
            patches: self.patches,
            redactor: self.redactor,
        })
    }

    fn shelf<'b>(&'b self, place: &'b str, sample: u64) -> Shelf<'b> {
        Shelf { store: self.store, place, sample, folder: &self.floor.folder }
    }

    /// How many held-out functions were tried, and what became tasks.
    async fn tasks(&self) -> Result<(u64, Vec<Task>), EvaluationError> {
        let tried = u64::from(self.evaluation.samples).min(self.ground.samples());
        let shelf = |sample| self.shelf(tasks::PLACE, sample);
        self.driver.meter.expect(tried);
        let open = rollout::adopt(0..tried, shelf, self.driver).await?;
        if !open.is_empty() {
            let work = self.work(Contestant::Teacher, open.len(), "functions to try")?;
            rollout::finish(work, &open, shelf, self.floor.parallel, self.progress).await?;
        }
        let tasks = tasks::chosen(0..tried, shelf).await?;
        tracing::info!(tried, tasks = tasks.len(), "the tasks are known");
        Ok((tried, tasks))
    }

    /// All attempts of all models: those that were made, and those that are made now. A model that is not there holds up none that is.
    async fn attempts(&self, tried: u64, tasks: &[Task]) -> Result<Attempts, EvaluationError> {
        let seeds = self.evaluation.seeds;
        let all = (tasks.len() as u64) * u64::from(seeds) * Contestant::ALL.len() as u64;
        // The teacher's first ones count with their samples.
        self.driver.meter.expect(tried + all - tasks.len() as u64);
        let mut absent = None;
        for model in Contestant::ALL {
            let places = attempts::places(model, seeds);
            let shelf = |task: &Task, seed: u32| self.shelf(&places[seed as usize], task.outcome.sample);
            let mut open: Vec<Attempt> = Vec::new();
            for (attempt, record) in attempts::records(tasks, seeds, shelf).await? {
                if let Some(record) = &record {
                    let asked = self.marks.get(&model).map(|(_, mark)| mark.model.as_str());
                    let place = places[attempt.seed as usize].as_str();
                    EvaluationError::unless_named(asked, &record.teacher.model, model, place)?;
                }
                match record {
                    _ if places[attempt.seed as usize] == tasks::PLACE => {}
                    None => open.push(attempt),
                    Some(record) => {
                        self.driver.meter.attempted(record.outcome);
                        let shelf = shelf(&tasks[attempt.task], attempt.seed);
                        self.driver.budget.spend(rollout::spent_before(shelf).await?);
                    }
                }
            }
            if open.is_empty() {
                continue;
            }
            match self.work(model, open.len(), "attempts to make") {
                Ok(work) => {
                    let written = |task: &Task| self.shelf(tasks::PLACE, task.outcome.sample);
                    let shelves = (written, shelf);
                    attempts::make(work, tasks, &open, shelves, self.floor.parallel, self.progress).await?;
                }
                Err(error) => absent = absent.or(Some(error)),
            }
        }
        match absent {
            Some(error) => Err(error),
            None => self.made(tasks).await,
        }
    }

    /// Every attempt, as the store has it.
    async fn made(&self, tasks: &[Task]) -> Result<Attempts, EvaluationError> {
        let mut all = Attempts::new();
        for model in Contestant::ALL {
            let places = attempts::places(model, self.evaluation.seeds);
            let made = stream::iter(attempts::all(tasks.len(), self.evaluation.seeds))
                .map(|Attempt { task, seed }| {
                    let shelf = self.shelf(&places[seed as usize], tasks[task].outcome.sample);
                    async move { Ok::<_, RecordError>((task, made(shelf).await?)) }
                })
                .buffered(READ_AT_ONCE)
                .try_collect::<Vec<_>>()
                .await?;
            all.insert(model, made);
        }
        Ok(all)
    }

    /// Works the figures out, and publishes them.
    async fn report(
        &self,
        tried: u64,
        tasks: &[Task],
        made: Attempts,
        found: contamination::Contamination,
    ) -> Result<StageResult, EvaluationError> {
        let scored: BTreeMap<Contestant, Vec<Score>> = made
            .iter()
            .map(|(model, made)| (*model, made.iter().map(|(task, made)| Score::of(&tasks[*task], made)).collect()))
            .collect();
        let results = results(tasks, self.evaluation.seeds, &scored);
        let inputs: Vec<TaskScores> = results
            .iter()
            .map(|task| TaskScores { file: task.function.file.clone(), scores: task.f1.clone() })
            .collect();
        let Findings { means, over_base, over_teacher } =
            tokio::task::spawn_blocking(move || findings(&inputs)).await?;
        let mut models = BTreeMap::new();
        for (model, made) in &made {
            let name = made.first().map(|(_, made)| made.record.teacher.model.clone());
            let name = name.or_else(|| self.marks.get(model).map(|(_, mark)| mark.model.clone())).unwrap_or_default();
            models.insert(*model, scores::result(name, means[model], made, &scored[model]));
        }
        let min_effect = self.evaluation.min_effect.to_string().parse().unwrap_or_default();
        let details = publish::details(&results)?;
        let report = EvaluationReport {
            version: CONTRACT_VERSION,
            rehearsal: made.values().flatten().any(|(_, made)| made.record.teacher.rehearsal),
            plan: self.evaluation.clone(),
            tried,
            tasks: tasks.len() as u64,
            files: tasks.iter().map(|task| &task.outcome.function.file).collect::<BTreeSet<_>>().len() as u64,
            details: publish::named(&details),
            models,
            over_base,
            over_teacher,
            floor: scores::floor(tasks, &made[&Contestant::Student]),
            contaminated: found.touching,
            unchecked: found.unchecked,
            verdict: (!tasks.is_empty() && found.touching == 0).then(|| verdict(&over_base, &over_teacher, min_effect)),
        };
        tracing::info!(tasks = report.tasks, verdict = ?report.verdict, "evaluated");
        let story = story::read(self.store).await?;
        publish::publish(self.store, &report, &results, details, &story).await
    }
}

/// An attempt that was made, with its patch.
async fn made(shelf: Shelf<'_>) -> Result<Made, RecordError> {
    let record: sera_crds::contract::RolloutRecord =
        shelf.read("t2.json").await?.ok_or_else(|| shelf.lacks("t2.json"))?;
    let patch = shelf.get(&record.folder, &record.patch).await?;
    // The calls of a task's sample are for posing it too.
    let usage = if shelf.place == tasks::PLACE { record.usage } else { rollout::spent_before(shelf).await? };
    Ok(Made { record, patch, usage })
}

/// What came of each task.
fn results(tasks: &[Task], seeds: u32, scored: &BTreeMap<Contestant, Vec<Score>>) -> Vec<TaskResult> {
    let seeds = seeds as usize;
    tasks
        .iter()
        .enumerate()
        .map(|(position, task)| TaskResult {
            sample: task.outcome.sample,
            function: task.outcome.function.clone(),
            f1: scored
                .iter()
                .map(|(model, scores)| {
                    let own = &scores[position * seeds..(position + 1) * seeds];
                    (*model, own.iter().map(|score| score.f1).collect())
                })
                .collect(),
        })
        .collect()
}
