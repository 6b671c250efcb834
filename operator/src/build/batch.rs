//! A batch that a run makes: nothing but its range of samples and the run's name. All else it takes from the run when its time comes.

use sera_crds::{
    RolloutBatch,
    batch::{BatchSpec, SampleRange},
    common::LocalRef,
};

use super::metadata;
use crate::names::Owner;

/// The batch of this number; none where the run's name is no reference, which the API rules out.
pub fn batch(run: &Owner, number: u32, samples: SampleRange) -> Option<RolloutBatch> {
    let spec = BatchSpec {
        run_ref: Some(LocalRef { name: run.name.parse().ok()? }),
        source: None,
        snapshot: None,
        teacher: None,
        generation: None,
        output: None,
        samples,
        pods: None,
        suspend: false,
        retry: String::new(),
    };
    let mut batch = RolloutBatch::new("", spec);
    batch.metadata = metadata(run, run.batch_name(number), run.labels());
    Some(batch)
}
