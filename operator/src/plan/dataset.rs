//! How a run comes by its dataset: by one Job, once there are enough trajectories and the policy can change no more.

use sera_crds::{contract::StageResult, values::Stage};

use super::{
    Given, Plan,
    conditions::{ConditionType, Standing},
    record::Stored,
    task::{self, Task},
};

/// Gets the dataset; none once the run has it.
pub(super) fn get(plan: &mut Plan, given: Given<'_>) -> Option<Standing> {
    if plan.record.conditions.holds(ConditionType::DatasetBuilt) {
        return None;
    }
    let folder = &given.intent.folder;
    let task = Task::of(Stage::Dataset, given.intent);
    task::drive(plan, given, &task, None, |record, result| {
        let StageResult::Dataset { manifest: Some(manifest), accepted_first, accepted_second, .. } = result? else {
            return None;
        };
        let uri = format!("{folder}/{}", manifest.path);
        record.dataset = Some(Stored { uri, sha256: manifest.sha256.parse().ok()? });
        Some(format!("{accepted_first} first and {accepted_second} second trajectories are in the store"))
    })
}
