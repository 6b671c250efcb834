//! What must hold after every step of a walk.

use super::world::{FIRST, SAMPLES};
use crate::plan::{
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
    if folded.through > 0 {
        assert_eq!(folded.totals.attempted, SAMPLES * u64::from(folded.through), "a batch is folded in twice, or not");
        assert_eq!(u64::from(folded.samples), SAMPLES * u64::from(folded.through));
        assert_eq!(folded.totals.accepted_first, FIRST * u64::from(folded.through));
    }
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
    let (Some(old), Some(new)) = (&before.generation, &after.generation) else {
        assert!(before.generation.is_none(), "what was counted is forgotten");
        return;
    };
    assert!(new.folded.through >= old.folded.through, "what is folded in comes out again");
    assert!(new.totals.attempted >= old.totals.attempted && new.totals.tokens >= old.totals.tokens);
    for batch in old.batches.iter().filter(|batch| batch.number > new.folded.through) {
        assert!(new.batches.iter().any(|known| known.number == batch.number), "batch {} is lost", batch.number);
    }
}
