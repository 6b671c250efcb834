//! What is counted when somebody asks: how many objects are in each phase, what holds up those that are stalled, and, where it is not switched off, how
//! far each run is. The last are the only metrics with names that users chose, and they are bounded in number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::Store;
use prometheus::{
    GaugeVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use sera_crds::{
    RolloutBatch, SpecializationRun,
    run::{Phase, TrainingStatus},
};

use super::dollars;
use crate::{plan::conditions::ConditionType, subject::Subject};

/// How many runs have gauges of their own; those that are over these many, in no order, have none.
const MOST_RUNS: usize = 200;

/// How many objects there are in each phase, and how far each run is, counted when somebody asks.
#[derive(Clone)]
pub(in crate::controller) struct Census {
    stores: Arc<[(Store<SpecializationRun>, Store<RolloutBatch>)]>,
    objects: IntGaugeVec,
    stalled: IntGaugeVec,
    of_runs: Option<RunGauges>,
    /// Held while it is counted: two that ask at once would count into each other's numbers.
    counting: Arc<Mutex<()>>,
}

/// Gauges with a run's name, for dashboards: the only ones, few, and to be switched off.
#[derive(Clone)]
struct RunGauges {
    info: IntGaugeVec,
    progress: IntGaugeVec,
    batches: IntGaugeVec,
    attempted: IntGaugeVec,
    accepted: IntGaugeVec,
    cost: GaugeVec,
    step: IntGaugeVec,
    loss: GaugeVec,
    pace: IntGaugeVec,
}

impl RunGauges {
    fn new() -> prometheus::Result<Self> {
        let whole = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["namespace", "run"]);
        let real = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["namespace", "run"]);
        let info =
            Opts::new("sera_run_info", "Always 1; says the phase of a run, and the stage at work where there is one");
        Ok(Self {
            info: IntGaugeVec::new(info, &["namespace", "run", "phase", "stage"])?,
            progress: whole("sera_run_progress_percent", "How much of its present stage a run has done")?,
            batches: whole(
                "sera_run_batches_percent",
                "How much of their present stages the batches at work of a run have done, added up",
            )?,
            attempted: whole("sera_run_attempted_samples", "How many samples of a run have their verdicts")?,
            accepted: whole("sera_run_accepted_trajectories", "How many trajectories the dataset of a run would have")?,
            cost: real("sera_run_cost_dollars", "What the teacher's tokens of a run have cost")?,
            step: whole("sera_run_training_step", "The last training step of a run")?,
            loss: real("sera_run_training_loss", "The loss a trained token of a run's last training step")?,
            pace: whole(
                "sera_run_training_tokens_per_second",
                "Tokens that all ranks of a run's training work through in a second",
            )?,
        })
    }

    fn count(&self, run: &SpecializationRun, of_batches: &HashMap<String, i64>) {
        let (record, owner) = (run.record(), run.owner());
        let labels = [owner.namespace.as_str(), owner.name.as_str()];
        let phase = record.phase.unwrap_or(Phase::Pending);
        let (stage, percent) = record.progress.map_or(("", 0), |(stage, percent)| (stage.as_str(), percent));
        self.info.with_label_values(&[labels[0], labels[1], phase.as_str(), stage]).set(1);
        self.progress.with_label_values(&labels).set(percent.into());
        self.batches.with_label_values(&labels).set(of_batches.get(owner.uid.as_str()).copied().unwrap_or_default());
        if let Some(generation) = record.generation {
            self.attempted.with_label_values(&labels).set(whole(generation.totals.attempted));
            self.accepted.with_label_values(&labels).set(whole(generation.totals.accepted));
            if let Some(cost) = &generation.totals.cost {
                self.cost.with_label_values(&labels).set(dollars(cost));
            }
        }
        let Some(TrainingStatus { step, loss, tokens_per_second, .. }) = record.training else { return };
        self.step.with_label_values(&labels).set(step.into());
        if let Some(loss) = loss.and_then(|loss| loss.as_str().parse().ok()) {
            self.loss.with_label_values(&labels).set(loss);
        }
        if let Some(pace) = tokens_per_second {
            self.pace.with_label_values(&labels).set(whole(pace));
        }
    }

    fn reset(&self) {
        let Self { info, progress, batches, attempted, accepted, step, pace, .. } = self;
        [info, progress, batches, attempted, accepted, step, pace].into_iter().for_each(IntGaugeVec::reset);
        self.cost.reset();
        self.loss.reset();
    }

    fn all(&self) -> [&dyn Collector; 9] {
        let Self { info, progress, batches, attempted, accepted, cost, step, loss, pace } = self;
        [info, progress, batches, attempted, accepted, cost, step, loss, pace]
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Census {
    /// A census of the objects in `stores`; with gauges of each run, where those are wanted.
    pub(in crate::controller) fn of(
        stores: Vec<(Store<SpecializationRun>, Store<RolloutBatch>)>,
        gauges_of_runs: bool,
    ) -> prometheus::Result<Self> {
        let objects = Opts::new("sera_objects", "Runs and batches, by phase");
        let stalled = Opts::new("sera_objects_stalled", "Runs and batches that wait for somebody, by what for");
        Ok(Self {
            stores: stores.into(),
            objects: IntGaugeVec::new(objects, &["kind", "phase"])?,
            stalled: IntGaugeVec::new(stalled, &["kind", "reason"])?,
            of_runs: gauges_of_runs.then(RunGauges::new).transpose()?,
            counting: Arc::default(),
        })
    }

    fn count<S: Subject>(&self, store: &Store<S>) {
        for object in store.state() {
            let record = object.record();
            let phase = record.phase.unwrap_or(Phase::Pending);
            self.objects.with_label_values(&[S::KIND.as_str(), phase.as_str()]).inc();
            if let Some(condition) = record.conditions.get(ConditionType::Stalled) {
                self.stalled.with_label_values(&[S::KIND.as_str(), &condition.reason]).inc();
            }
        }
    }

    /// How much the batches at work of each run have done, by the run's uid.
    fn of_batches(&self) -> HashMap<String, i64> {
        let mut percents = HashMap::new();
        for batch in self.stores.iter().flat_map(|(_, batches)| batches.state()) {
            let at_work = batch.status.as_ref().filter(|status| !status.phase.is_some_and(Phase::is_terminal));
            let progress = at_work.and_then(|status| status.progress.as_ref());
            if let (Some(run), Some(progress)) = (batch.controller(), progress) {
                *percents.entry(run.as_str().to_owned()).or_default() += i64::from(progress.percent);
            }
        }
        percents
    }

    /// The runs that have gauges of their own, those first that are not over.
    fn runs(&self) -> impl Iterator<Item = Arc<SpecializationRun>> {
        let mut runs: Vec<_> = self.stores.iter().flat_map(|(runs, _)| runs.state()).collect();
        runs.sort_by_key(|run| run.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_terminal));
        runs.into_iter().take(MOST_RUNS)
    }
}

impl Collector for Census {
    fn desc(&self) -> Vec<&Desc> {
        let of_runs = self.of_runs.iter().flat_map(RunGauges::all).flat_map(Collector::desc);
        [&self.objects, &self.stalled].into_iter().flat_map(Collector::desc).chain(of_runs).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        self.objects.reset();
        self.stalled.reset();
        for (runs, batches) in &*self.stores {
            self.count(runs);
            self.count(batches);
        }
        let mut families = self.objects.collect();
        families.extend(self.stalled.collect());
        if let Some(gauges) = &self.of_runs {
            gauges.reset();
            let of_batches = self.of_batches();
            self.runs().for_each(|run| gauges.count(&run, &of_batches));
            families.extend(gauges.all().into_iter().flat_map(Collector::collect));
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector::store, watcher::Event};
    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::metrics::Metrics;

    fn run(name: &str, status: &Value) -> SpecializationRun {
        serde_json::from_value(json!({
            "apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun",
            "metadata": {"name": name, "namespace": "ml", "uid": format!("uid-of-{name}"), "generation": 1},
            "spec": {
                "source": {"git": {"url": "https://github.com/acme/billing.git"}},
                "teacher": {"rehearsal": {}},
                "generation": {"acceptedTrajectories": 64},
                "training": {"student": {"uri": "builtin://tiny"}},
            },
            "status": status,
        }))
        .unwrap()
    }

    /// What is read of a census of these runs.
    fn read(runs: Vec<SpecializationRun>, gauges_of_runs: bool) -> String {
        let (reader, mut writer) = store();
        writer.apply_watcher_event(&Event::Init);
        runs.into_iter().for_each(|run| writer.apply_watcher_event(&Event::InitApply(run)));
        writer.apply_watcher_event(&Event::InitDone);
        let metrics = Metrics::new().unwrap();
        let (batches, _writer) = store();
        metrics.register(Census::of(vec![(reader, batches)], gauges_of_runs)).unwrap();
        // Twice: what was counted the first time is not added to.
        metrics.text().unwrap();
        metrics.text().unwrap()
    }

    #[test]
    fn a_run_says_where_it_stands_and_what_holds_it_up() {
        let stalled = json!({"phase": "Stalled", "conditions": [{
            "type": "Stalled", "status": "True", "reason": "SecretNotFound", "message": "no Secret git",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        }]});
        let training = json!({
            "phase": "Running", "progress": {"stage": "Training", "percent": 40},
            "training": {"step": 12, "totalSteps": 30, "loss": "1.25", "tokensPerSecond": 800},
        });
        let text = read(vec![run("a", &stalled), run("b", &training), run("c", &json!({}))], true);
        for line in [
            r#"sera_objects{kind="SpecializationRun",phase="Stalled"} 1"#,
            r#"sera_objects{kind="SpecializationRun",phase="Pending"} 1"#,
            r#"sera_objects_stalled{kind="SpecializationRun",reason="SecretNotFound"} 1"#,
            r#"sera_run_info{namespace="ml",phase="Stalled",run="a",stage=""} 1"#,
            r#"sera_run_info{namespace="ml",phase="Running",run="b",stage="Training"} 1"#,
            r#"sera_run_progress_percent{namespace="ml",run="b"} 40"#,
            r#"sera_run_training_step{namespace="ml",run="b"} 12"#,
            r#"sera_run_training_loss{namespace="ml",run="b"} 1.25"#,
            r#"sera_run_training_tokens_per_second{namespace="ml",run="b"} 800"#,
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn without_gauges_of_runs_no_name_is_told() {
        let text = read(vec![run("billing", &json!({"phase": "Running"}))], false);
        assert!(!text.contains("billing") && text.contains("sera_objects{"), "{text}");
    }

    #[test]
    fn runs_that_are_over_make_room_for_those_that_are_not() {
        let over = |number| run(&format!("over-{number}"), &json!({"phase": "Succeeded"}));
        let mut runs: Vec<_> = (0..MOST_RUNS).map(over).collect();
        runs.push(run("at-work", &json!({"phase": "Running"})));
        let text = read(runs, true);
        assert_eq!(text.lines().filter(|line| line.starts_with("sera_run_info{")).count(), MOST_RUNS);
        assert!(text.contains(r#"run="at-work""#));
    }
}
