//! The steps of a training, from where the newest checkpoint left them to the model: one learning rate, one batch and one look at the clock each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Device;
use sera_crds::contract::{CONTRACT_VERSION, MethodPlan, TrainingPlan, TrainingProgress};

use super::beside::Stop;
use super::display::Display;
use super::error::TrainingError;
use super::inputs::Inputs;
use super::losses::{Format, Losses, Point};
use super::machine::Available;
use super::meter::Meter;
use super::out::Out;
use super::publish::{self, Published};
use super::sources::Sources;
use super::watch::Watch;
use super::{fit, plan as plans, resume, utilisation};
use crate::bucket::Shipment;
use crate::checkpoint::{Attempt, Kept, Moment, Sums};
use crate::data::{Order, share};
use crate::device;
use crate::durable;
use crate::engine::{Engine, Line, Settings, StepReport, Turn};
use crate::ops::AttentionBy;
use crate::optim::Schedule;
use crate::ranks::Collective;

/// How far it has come, for whoever looks into the folder.
const PROGRESS: &str = "progress.json";
/// How often it is written at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How many times the loss over the lines set aside is looked at, unless asked otherwise: each time costs a forward pass over a fiftieth of the data.
const EVALUATIONS: u32 = 20;
/// How much of the tokens a second follows the last step: lines differ in length by orders of magnitude, and a person wants to read a number.
const LATEST: f64 = 0.2;

/// A training to carry out.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is read.
    pub sources: Sources,
    /// Where `checkpoints`, `adapter`, `model` and the losses go.
    pub out: Out,
    /// How it is trained.
    pub plan: TrainingPlan,
    /// What this rank computes on.
    pub device: Device,
    /// How it computes attention.
    pub attention: AttentionBy,
    /// The number of this attempt.
    pub attempt: u32,
    /// The first attempt by this plan: checkpoints of earlier ones that are of another plan are passed over.
    pub since_attempt: u32,
    /// Every how many steps the loss over the lines set aside is looked at; none: twenty times in all.
    pub eval_every: Option<u32>,
    /// Every how many steps a checkpoint is written, beside `checkpointEvery`.
    pub checkpoint_steps: Option<u32>,
    /// How many steps may be left out: those whose loss or gradients are no numbers, or whose loss is far above what it was.
    pub skipped: u32,
    /// Whether units that are divided are gathered while the one before them is computed with: see [`Settings`](crate::engine::Settings).
    pub ahead: bool,
    /// What a rank's device computes at most, in operations a second; none: what is known of a GPU of that name.
    pub peak: Option<f64>,
    /// What this rank may use of the memory.
    pub memory: Available,
}

/// How a training shows itself and how it is told to stop.
#[derive(Debug)]
pub struct Around {
    /// What others can ask for.
    pub meter: Arc<Meter>,
    /// Whether it was told to stop.
    pub stop: Stop,
    /// What a person sees.
    pub display: Display,
}

/// A training under way.
struct Run<'a> {
    request: &'a Request,
    around: &'a Around,
    inputs: &'a Inputs,
    order: Order,
    schedule: Schedule,
    watch: Watch,
    checkpoints: Kept,
    engine: Engine,
    losses: Losses,
    sums: Sums,
    eval_every: u32,
    /// Whether this is rank 0, which writes what there is one of.
    first: bool,
    checkpoint: Option<u32>,
    checkpointed: Instant,
    /// Whether one is to be written, and waits while the one before it is not complete.
    is_owed: bool,
    shown: Option<Instant>,
    /// The progress on its way to a bucket.
    told: Option<Shipment>,
}

/// Trains, or goes on with it, or finds that it is done. Every rank calls it with the same request.
pub fn run(request: &Request, mut ranks: Box<dyn Collective>, around: &Around) -> Result<Published, TrainingError> {
    let device = &request.device;
    let published = publish::find(&request.out, &request.plan, device)?;
    let planned = plans::settings(&request.plan, device)?;
    let mut settings = Settings { attention: request.attention, ahead: request.ahead, ..planned };
    let places = request.sources.bring(ranks.as_mut())?;
    not_stopped(around, ranks.as_mut())?;
    let inputs = Inputs::read(&places, &request.plan, device)?;
    if let Some(published) = published {
        let published = published.of(&inputs, &request.out)?;
        tracing::info!(manifest = published.artifact.path, "the model is there already");
        return Ok(published);
    }
    let order =
        Order::new(inputs.train.lines.len(), request.plan.global_batch, request.plan.epochs, request.plan.seed)?;
    fit::into_memory(&inputs, &request.plan, &mut settings, device, ranks.world(), request.memory)?;
    let steps = order.steps();
    tracing::info!(
        lines = inputs.train.lines.len(),
        too_long = inputs.too_long(),
        trained_tokens = inputs.train.trained_tokens(),
        steps,
        world = ranks.world(),
        device = device::name(device),
        attention = ?request.attention,
        "begins"
    );
    let mut engine = Engine::of::<_, TrainingError>(inputs.student.unread(device), settings, device, ranks)?;
    let rank = engine.ranks().rank();
    let attempt = Attempt { number: request.attempt, since: request.since_attempt, origin: inputs.origin.clone() };
    let mut checkpoints = request.out.checkpoints(rank, attempt);
    let resumed = resume::newest(&mut checkpoints, &mut engine)?;
    not_stopped(around, engine.ranks())?;
    let first = rank == 0;
    let path = first.then(|| request.out.path("losses.jsonl"));
    let folder = request.out.path("");
    let write = |source| TrainingError::Write { path: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(write)?;
    let losses = Losses::from(resumed.losses, path).map_err(write)?;
    let schedule = plans::schedule(&request.plan, steps);
    let watch = Watch { skipped: request.skipped, warm_up: schedule.warm_up };
    let eval_every = request.eval_every.unwrap_or(steps / EVALUATIONS).max(1);
    around.meter.update(|at| {
        at.progress = TrainingProgress {
            version: CONTRACT_VERSION,
            step: resumed.step,
            total_steps: steps,
            loss: resumed.sums.loss,
            eval_loss: resumed.sums.eval_loss,
            checkpoint: resumed.checkpoint,
            peak_learning_rate: schedule.peak,
            warmup_steps: schedule.warm_up,
            ..TrainingProgress::default()
        };
        at.skipped = resumed.sums.skipped;
    });
    let mut run = Run {
        request,
        around,
        inputs: &inputs,
        order,
        schedule,
        watch,
        checkpoints,
        engine,
        losses,
        sums: resumed.sums,
        eval_every,
        first,
        checkpoint: resumed.checkpoint,
        checkpointed: Instant::now(),
        is_owed: false,
        shown: None,
        told: None,
    };
    for step in resumed.step + 1..=steps {
        run.step(step)?;
    }
    run.finish()
}

/// Ends all ranks before the first step where any was told to stop: what was fetched, read or gone on from took its time, and a step and a checkpoint
/// that change nothing would take more.
fn not_stopped(around: &Around, ranks: &mut dyn Collective) -> Result<(), TrainingError> {
    let mut stops = [if around.stop.is_asked_for() { 1.0 } else { 0.0 }];
    ranks.all_reduce_f64(&mut stops)?;
    if stops == [0.0] { Ok(()) } else { Err(TrainingError::NotBegun) }
}

impl Run<'_> {
    fn step(&mut self, step: u32) -> Result<(), TrainingError> {
        let begun = Instant::now();
        let (rate, steps) = (self.schedule.rate(step), self.schedule.steps);
        let batch = self.order.batch(step);
        let lines = &self.inputs.train.lines;
        let mine = self.mine(lines, &batch);
        let limit = self.watch.limit(step, &self.sums);
        let turn = Turn { step, taken: step - self.sums.skipped, rate, limit };
        let report = self.engine.step_as(turn, &mine)?;
        self.watch.after(step, &report, &mut self.sums, || {
            batch.iter().map(|line| format!("`{}`", lines[*line].id)).collect::<Vec<_>>().join(", ")
        })?;
        let took = begun.elapsed();
        if step.is_multiple_of(self.eval_every) || step == steps {
            self.evaluate(step)?;
        }
        let eval_loss = self.sums.eval_loss.filter(|_| self.sums.evaluated == Some(step));
        let point = point(step, rate, &report, eval_loss);
        let kept = self.losses.add(&point);
        kept.map_err(|source| TrainingError::Write { path: self.request.out.path("losses.jsonl"), source })?;
        self.measure(&batch, took);
        self.show(&point, &report, took);
        let stops = self.keep(step)?;
        if stops && step < steps {
            return Err(TrainingError::Interrupted { step, total: steps });
        }
        Ok(())
    }

    /// This rank's lines of a batch.
    fn mine(&mut self, lines: &[Line], batch: &[usize]) -> Vec<Line> {
        let (rank, world) = (self.engine.ranks().rank(), self.engine.ranks().world());
        let mine = share(batch, |line| lines[line].ids.len(), rank, world);
        mine.into_iter().map(|line| lines[line].clone()).collect()
    }

    /// Looks at the loss over the lines set aside, where there are any. A model that is better than any before it is to have a checkpoint.
    #[allow(clippy::cast_precision_loss, reason = "fewer than 2^53 tokens")]
    fn evaluate(&mut self, step: u32) -> Result<(), TrainingError> {
        let Some(eval) = &self.inputs.eval else { return Ok(()) };
        let all: Vec<usize> = (0..eval.lines.len()).collect();
        let mine = self.mine(&eval.lines, &all);
        let found = self.engine.evaluate(&mine)?;
        self.is_owed |= self.sums.evaluate(step, found.loss_sum / found.trained as f64);
        Ok(())
    }

    /// Writes a checkpoint if it is time for one, or if any rank was told to stop, and says whether one was: all ranks decide the same. While one is
    /// on its way to a bucket, the next waits for it; only at the end the steps do.
    fn keep(&mut self, step: u32) -> Result<bool, TrainingError> {
        let due = self.first && self.checkpointed.elapsed() >= self.request.plan.checkpoint_every.span();
        let [stops, due] = [self.around.stop.is_asked_for(), due].map(|vote| if vote { 1.0 } else { 0.0 });
        let [done, failed] = self.checkpoints.vote();
        let mut votes = [stops, due, done, failed];
        self.engine.ranks().all_reduce_f64(&mut votes)?;
        let [stops, due, done, failed] = votes;
        let complete = self.checkpoints.turn([done, failed], self.engine.ranks())?;
        self.completed(complete);
        let (stops, ends) = (stops > 0.0, step == self.schedule.steps);
        let counted = self.request.checkpoint_steps.is_some_and(|every| step.is_multiple_of(every.max(1)));
        self.is_owed |= due > 0.0 || counted;
        if stops || ends || (self.is_owed && !self.checkpoints.is_under_way()) {
            let complete = self.checkpoints.finish(self.engine.ranks())?;
            self.completed(complete);
            self.write_checkpoint(step)?;
        }
        if stops || ends {
            let complete = self.checkpoints.finish(self.engine.ranks())?;
            self.completed(complete);
        }
        Ok(stops)
    }

    fn write_checkpoint(&mut self, step: u32) -> Result<(), TrainingError> {
        let total_steps = self.schedule.steps;
        let moment = Moment { step, total_steps, sums: &self.sums, losses: self.losses.text() };
        let (state, ranks) = self.engine.keeping();
        let complete = self.checkpoints.write(moment, &state, ranks)?;
        (self.is_owed, self.checkpointed) = (false, Instant::now());
        self.completed(complete);
        Ok(())
    }

    /// Takes note of a checkpoint that is complete.
    fn completed(&mut self, step: Option<u32>) {
        let Some(step) = step else { return };
        self.checkpoint = Some(step);
        self.around.meter.update(|at| at.progress.checkpoint = Some(step));
        if self.first && self.told.as_ref().is_none_or(Shipment::is_over) {
            let progress = serde_json::to_vec(&self.around.meter.progress()).unwrap_or_default();
            self.told = self.request.out.tell(PROGRESS, progress);
        }
    }

    /// Which part of the ranks' peak a step over these lines used.
    #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
    fn measure(&mut self, batch: &[usize], took: Duration) {
        let request = self.request;
        let known = || utilisation::peak(&device::name(&request.device));
        let Some(peak) = request.peak.or_else(known) else { return };
        let frozen = matches!(request.plan.method, MethodPlan::Lora(_));
        let lines = batch.iter().map(|line| &self.inputs.train.lines[*line]);
        let operations = utilisation::operations(self.inputs.student.config(), frozen, lines);
        let could = peak * self.engine.ranks().world() as f64 * took.as_secs_f64();
        self.around.meter.update(|at| at.mfu = Some(operations / could));
    }

    /// Tells whoever looks.
    #[allow(clippy::cast_precision_loss, reason = "fewer than 2^53 tokens")]
    fn show(&mut self, point: &Point, report: &StepReport, took: Duration) {
        let seconds = took.as_secs_f64().max(1e-9);
        let speed = report.tokens as f64 / seconds;
        let checkpoint = self.checkpoint;
        self.around.meter.update(|at| {
            let before = at.progress.tokens_per_second;
            at.progress.tokens_per_second = if before > 0.0 { before + LATEST * (speed - before) } else { speed };
            at.progress.step = point.step;
            at.progress.loss = point.loss.or(at.progress.loss);
            at.progress.eval_loss = self.sums.eval_loss;
            at.progress.gradient_norm = point.gradient_norm;
            at.progress.learning_rate = point.learning_rate;
            at.progress.checkpoint = checkpoint;
            at.step_seconds = seconds;
            at.skipped = self.sums.skipped;
        });
        if !self.first {
            return;
        }
        let progress = self.around.meter.progress();
        self.around.display.step(&progress, point.skipped.as_deref());
        if self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_EVERY) || point.step == self.schedule.steps {
            self.shown = Some(Instant::now());
            self.write_progress(&progress);
        }
    }

    /// Losing it loses nothing, so that it ends nothing either.
    fn write_progress(&self, progress: &TrainingProgress) {
        let path = self.request.out.path(PROGRESS);
        let written = serde_json::to_vec(progress).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|json| durable::write(&path, &json)) {
            tracing::warn!("{} cannot be written: {error}", path.display());
        }
    }

    fn finish(mut self) -> Result<Published, TrainingError> {
        self.around.display.finish();
        if let Some(told) = &mut self.told {
            self.request.out.wait(told);
        }
        if self.first {
            for (format, name) in Format::ALL {
                let path = self.request.out.path(name);
                self.losses.draw(format, &path).map_err(|source| TrainingError::Write { path, source })?;
            }
            self.write_progress(&self.around.meter.progress());
        }
        let done = (self.schedule.steps, &self.sums);
        publish::publish(&self.request.out, &mut self.engine, self.inputs, &self.request.plan, done)
    }
}

fn point(step: u32, learning_rate: f64, report: &StepReport, eval_loss: Option<f64>) -> Point {
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    Point {
        step,
        loss: finite(report.loss).filter(|_| report.skipped.is_none()),
        gradient_norm: finite(report.gradient_norm),
        learning_rate,
        trained_tokens: report.trained,
        eval_loss,
        skipped: report.skipped.clone(),
    }
}
