//! A need that tests begin from.

use sera_crds::contract::MethodPlan;
use sera_crds::values::Sharding;

use super::Need;
use crate::model::Config;

/// What one rank needs on a GPU, in bf16, of a line as long as the paper's.
pub(crate) fn need<'a>(config: &'a Config, method: &'a MethodPlan) -> Need<'a> {
    Need {
        config,
        method,
        sharding: Sharding::None,
        world: 1,
        width: 2,
        tokens: 32_768,
        offload: false,
        on_cpu: false,
        kept: 0,
        flash: None,
    }
}
