//! What can happen in a walk, and how often it does.

use proptest::prelude::*;
use sera_crds::contract::FailureClass;

use super::means::{Means, means};

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub(super) enum Happening {
    /// A leader reads the object's newest version into its cache.
    SeesObject(usize),
    /// A leader reads the newest Jobs, pods, batches and teachers into its cache.
    SeesChildren(usize),
    /// A leader plans from its cache.
    Plans(usize),
    /// A leader carries out what it planned last, and writes status.
    Acts(usize),
    /// A leader carries out what it planned last, and dies before it writes status.
    Dies(usize),
    /// The Job at work ends well; with or without its last words.
    Succeeds { silently: bool },
    /// The Job at work fails.
    Fails(FailureClass),
    /// A pod of the Job at work is taken away: with its node, by the scheduler, or by somebody who stops it.
    IsDisrupted(usize),
    /// A pod of the gang at work finds no room, or its image cannot be pulled.
    IsHeldUp { for_want_of_room: bool },
    /// All pods of the gang at work have started.
    Starts,
    /// The gang's queue takes the Job back, or admits it again.
    TogglesQueue,
    /// Rank 0 says how far it is.
    Tells(u32),
    /// Somebody deletes the Job at work; its pods take their time.
    IsDeleted,
    /// A batch is done: the one at this place among those that are not.
    BatchIsDone(usize),
    /// Somebody deletes a batch.
    BatchIsDeleted(usize),
    /// What is being deleted is gone, but for the pods of batches that were at work.
    Vanishes,
    /// Nothing is left of the pods of batches that are gone.
    PodsAreGone,
    /// The teacher answers.
    TeacherAnswers,
    /// The teacher answers nobody any more, and its drivers say so.
    TeacherFails,
    /// Somebody deletes the teacher.
    TeacherIsDeleted,
    /// The student answers, or does not any more.
    StudentAnswers(bool),
    /// Somebody deletes the student.
    StudentIsDeleted,
    /// The owner wants the student served, or no longer.
    TogglesServing,
    /// The owner suspends or resumes.
    TogglesSuspend,
    /// The owner breaks or repairs the spec.
    TogglesMistake,
    /// The owner asks for another try.
    Retries,
    /// The owner edits the policy, as far as it is not locked.
    EditsPolicy,
    /// The owner edits what a run may use, as far as that is not locked.
    EditsMeans(Means),
    /// The owner wants another number of copies of the teacher, and of the student where that is served.
    EditsReplicas,
    /// The owner wants the data to go with the object, or no longer.
    TogglesReclaim,
    /// Somebody deletes the object; Kubernetes may collect its children first.
    IsToGo { collected: bool },
    /// Kubernetes has collected the children of an object that is being deleted.
    IsCollected,
    /// Somebody deletes the namespace, and with it all that is in it.
    NamespaceGoes,
    /// Somebody makes an object of the name of one that is gone.
    IsRecreated,
    /// Kubernetes has found what is left of the one that is gone.
    WhatIsLeftGoes,
    /// Time passes.
    Waits(i64),
}

/// What a leader does time and again.
fn leading() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let leader = 0..2_usize;
    prop_oneof![
        8 => leader.clone().prop_map(SeesObject),
        8 => leader.clone().prop_map(SeesChildren),
        12 => leader.clone().prop_map(Plans),
        12 => leader.prop_map(Acts),
    ]
}

pub(super) fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let class =
        prop_oneof![Just(FailureClass::Configuration), Just(FailureClass::Unavailable), Just(FailureClass::Internal)];
    prop_oneof![
        40 => leading(),
        2 => (0..2_usize).prop_map(Dies),
        4 => any::<bool>().prop_map(|silently| Succeeds { silently }),
        2 => class.prop_map(Fails),
        2 => (0..3_usize).prop_map(IsDisrupted),
        1 => any::<bool>().prop_map(|for_want_of_room| IsHeldUp { for_want_of_room }),
        2 => Just(Starts),
        1 => Just(TogglesQueue),
        2 => (0..96_u32).prop_map(Tells),
        2 => Just(IsDeleted),
        6 => (0..3_usize).prop_map(BatchIsDone),
        1 => (0..4_usize).prop_map(BatchIsDeleted),
        4 => Just(Vanishes),
        2 => Just(PodsAreGone),
        4 => Just(TeacherAnswers),
        1 => Just(TeacherFails),
        1 => Just(TeacherIsDeleted),
        2 => Just(TogglesSuspend),
        2 => Just(TogglesMistake),
        2 => Just(Retries),
        1 => Just(EditsPolicy),
        1 => means().prop_map(EditsMeans),
        1 => Just(EditsReplicas),
        4 => (1_i64..400).prop_map(Waits),
    ]
}

/// What happens while a run trains: seldom an end that is good, so that walks get as far as the last attempt that may fail.
pub(super) fn happening_to_a_training() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        40 => leading(),
        1 => (0..2_usize).prop_map(Dies),
        6 => prop_oneof![Just(FailureClass::Configuration), Just(FailureClass::Internal)].prop_map(Fails),
        6 => (0..3_usize).prop_map(IsDisrupted),
        1 => any::<bool>().prop_map(|for_want_of_room| IsHeldUp { for_want_of_room }),
        2 => Just(Starts),
        8 => Just(Vanishes),
        1 => prop_oneof![
            any::<bool>().prop_map(|silently| Succeeds { silently }),
            Just(IsDeleted),
            Just(TogglesQueue),
            Just(TogglesSuspend),
            Just(TogglesMistake),
            Just(Retries),
            (0..96_u32).prop_map(Tells),
        ],
        8 => (1_i64..400).prop_map(Waits),
    ]
}

/// What happens to a run that has its model.
pub(super) fn happening_to_a_student() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        40 => leading(),
        2 => (0..2_usize).prop_map(Dies),
        4 => any::<bool>().prop_map(StudentAnswers),
        2 => Just(StudentIsDeleted),
        2 => Just(TogglesServing),
        1 => Just(EditsReplicas),
        2 => Just(TogglesSuspend),
        1 => Just(TogglesMistake),
        1 => Just(Retries),
        4 => Just(Vanishes),
        4 => (1_i64..400).prop_map(Waits),
    ]
}

/// What happens to an object that is deleted some time.
pub(super) fn happening_to_the_end() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        60 => happening(),
        2 => Just(TogglesReclaim),
        1 => any::<bool>().prop_map(|collected| IsToGo { collected }),
        3 => Just(IsCollected),
    ]
}
