//! A run whose owner asks for more while it works.

use super::{
    generation::{enough, numbers},
    *,
};

#[test]
fn a_target_that_is_raised_when_there_was_enough_takes_more_batches_before_there_is_a_dataset() {
    let mut scene = enough();
    scene.edit(|intent| {
        let Some(Work::Run(work)) = &mut intent.work else { unreachable!() };
        (work.accepted, work.dataset) = (32, digest('3'));
    });
    scene.done(3, 6, 4);
    let plan = scene.pass();
    assert_eq!(numbers(&plan), [4, 5], "18 first and 12 second trajectories are there, and 20 and 12 are wanted");
    assert!(!plan.record.conditions.holds(ConditionType::Generated));
    assert!(!plan.record.attempts.contains_key(&Stage::Dataset));
}
