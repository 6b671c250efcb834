//! What must hold after every step of a walk.

use sera_crds::{run::Phase, values::Stage};

use super::{means::yields, world::World};
use crate::plan::{
    Observed, Removable, Work,
    conditions::{ConditionType, Truth},
    record::{Generation, Record},
};

pub(super) fn assert_conditions(record: &Record, observed: i64) {
    let conditions = &record.conditions;
    for kind in [ConditionType::Reconciling, ConditionType::Stalled] {
        assert!(
            conditions.get(kind).is_none_or(|condition| condition.truth == Truth::True),
            "{kind} is there, and not true"
        );
    }
    let (reconciling, stalled) =
        (conditions.holds(ConditionType::Reconciling), conditions.holds(ConditionType::Stalled));
    assert!(!(reconciling && stalled), "both reconciling and stalled");
    let ready = conditions.get(ConditionType::Ready).expect("Ready is always there");
    assert!(!ready.reason.is_empty() && !ready.message.is_empty(), "it does not say why it is not ready");
    assert_eq!(ready.generation, observed, "Ready speaks of another generation than the status as a whole");
    assert!(ready.truth == Truth::False || !(reconciling || stalled), "ready, and something else as well");
}

/// That every batch is counted once, and none is lost.
pub(super) fn assert_counts(generation: &Generation) {
    let folded = &generation.folded;
    let totals = &folded.totals;
    assert_eq!(totals.attempted, u64::from(folded.samples), "what is folded in is not what is counted");
    // Nobody has judged what was taken over before a policy is known.
    let is_judged = folded.adopted == 0 || folded.policy.is_some();
    assert!(!is_judged || (totals.accepted_first, totals.accepted_second) == yields(folded.samples.into()));
    let mut next = (folded.through + 1, folded.samples);
    for batch in &generation.batches {
        assert_eq!((batch.number, batch.from), next, "batches follow one another without a gap");
        next = (batch.number + 1, batch.from + batch.count);
    }
}

/// What a status may never unlearn.
pub(super) fn assert_history(before: &Record, after: &Record) {
    for (stage, old) in &before.attempts {
        let new = after.attempts.get(stage).expect("an attempt was forgotten");
        assert!(new.number >= old.number && new.number <= old.number + 1, "attempts are counted one by one");
        assert!(
            new.number == old.number || old.end.is_some(),
            "an attempt began before the last one's end was written down"
        );
        assert!(old.end.is_none() || new.number > old.number || old.end == new.end, "an attempt ended twice");
    }
    if before.snapshot.is_some() {
        assert_eq!(before.snapshot, after.snapshot, "a snapshot is written once");
    }
    if before.dataset.is_some() {
        assert_eq!(before.dataset, after.dataset, "a dataset is written once");
    }
    if before.model.is_some() {
        assert_eq!(before.model, after.model, "a model is written once");
    }
    if before.report.is_some() {
        assert_eq!(
            (&before.report, &before.evaluation),
            (&after.report, &after.evaluation),
            "a report is written once"
        );
    }
    if before.phase.is_some_and(Phase::is_terminal) && after.phase != before.phase {
        assert!(
            after.observed_generation > before.observed_generation,
            "the API lets no other phase follow {:?}",
            before.phase
        );
    }
    let (Some(old), Some(new)) = (&before.generation, &after.generation) else {
        assert!(before.generation.is_none(), "what was counted is forgotten");
        return;
    };
    assert!(new.folded.through >= old.folded.through, "what is folded in comes out again");
    let counted = old.batches.iter().filter(|batch| batch.number <= new.folded.through).map(|batch| batch.count);
    assert_eq!(new.folded.samples, old.folded.samples + counted.sum::<u32>(), "a batch is folded in twice, or not");
    assert!(new.totals.attempted >= old.totals.attempted && new.totals.tokens >= old.totals.tokens);
    for batch in old.batches.iter().filter(|batch| batch.number > new.folded.through) {
        assert!(new.batches.iter().any(|known| known.number == batch.number), "batch {} is lost", batch.number);
    }
}

/// That only an owner who suspends or deletes takes the teacher away from who asks it.
pub(super) fn assert_nobody_is_bereft(observed: &Observed, removed: Removable) {
    let has_said_so = observed.deleting || observed.intent.as_ref().is_some_and(|intent| intent.suspend);
    let Record { attempts, generation, .. } = &observed.record;
    let is_asked = [Stage::Rollouts, Stage::Evaluation]
        .iter()
        .any(|stage| attempts.get(stage).is_some_and(|attempt| attempt.end.is_none()))
        || generation.as_ref().is_some_and(|generation| !generation.batches.is_empty());
    assert!(removed != Removable::Teacher || has_said_so || !is_asked, "a teacher goes that somebody asks");
}

impl World {
    pub(super) fn assert_invariants(&self) {
        assert!(self.children.at_work().count() <= 1, "two Jobs at work: {:#?}", self.children);
        for (name, times) in &self.made {
            assert!(*times <= 1 + self.deleted_by_hand, "{name} was made {times} times");
        }
        let record = &self.object.record;
        let Some(observed) = record.observed_generation else { return };
        assert!(observed <= self.object.generation);
        assert_conditions(record, observed);
        for stage in [Stage::Snapshot, Stage::Dataset, Stage::Training, Stage::Evaluation] {
            let is_under_way = record.attempts.get(&stage).is_some_and(|attempt| attempt.end.is_none());
            assert!(
                !is_under_way || record.locked.contains(&stage),
                "{stage} is under way, and its part is not locked"
            );
        }
        let is_run = matches!(self.object.intent.work, Some(Work::Run(_)));
        assert!(
            !is_run || !record.conditions.holds(ConditionType::Ready) || record.model.is_some(),
            "ready without a model"
        );
        let comes_after = |stage: Stage, before: ConditionType| {
            assert!(
                !record.attempts.contains_key(&stage) || record.conditions.holds(before),
                "{stage} has begun before {before} holds"
            );
        };
        comes_after(Stage::Rollouts, ConditionType::Snapshotted);
        if matches!(self.object.intent.work, Some(Work::Batch(_))) {
            comes_after(Stage::Verification, ConditionType::RolledOut);
        }
        comes_after(Stage::Dataset, ConditionType::Generated);
        comes_after(Stage::Training, ConditionType::DatasetBuilt);
        comes_after(Stage::Evaluation, ConditionType::Trained);
        if let Some(generation) = &record.generation {
            assert_counts(generation);
        }
    }
}
