//! The quiet time at a walk's end, in which whatever happened before must come to its end.

use sera_crds::run::Phase;

use super::{happening::Happening, world::World};
use crate::plan::{record::Record, tests::at};

/// How many seconds may pass in which nothing is at work.
const LONGEST: i64 = 600;

impl World {
    /// A quiet time, until everything that is asked for is there.
    pub(super) fn calms_down(&mut self) {
        self.calms_down_until(|record| record.phase == Some(Phase::Succeeded));
    }

    /// A time in which nothing goes wrong any more: one leader whose cache is fresh, programs that succeed, and an owner who helps.
    pub(super) fn calms_down_until(&mut self, is_through: impl Fn(&Record) -> bool) {
        let was_held = self.was_held;
        if self.object.intent.suspend {
            self.happens(Happening::TogglesSuspend);
        }
        if !self.object.intent.findings.is_empty() {
            self.happens(Happening::TogglesMistake);
        }
        self.has_its_means_again();
        self.was_held = was_held;
        self.stays_quiet_until(is_through);
    }

    /// The same, with an owner who does nothing but ask for another try. It ends too when the object is gone.
    pub(super) fn stays_quiet_until(&mut self, is_through: impl Fn(&Record) -> bool) {
        for _ in 0..256 {
            if self.deletion.is_over {
                return;
            }
            if self.object.record.phase == Some(Phase::Failed) {
                self.happens(Happening::Retries);
            }
            for happening in [Happening::SeesObject(0), Happening::SeesChildren(0), Happening::Plans(0)] {
                self.happens(happening);
            }
            let (look_again, has_work) = {
                let (_, observed, planned) = self.leaders[0].planned.as_ref().unwrap();
                let has_work = planned.record != observed.record
                    || planned.hold != observed.reclaim.held
                    || !planned.make.is_empty()
                    || !planned.remove.is_empty();
                (planned.look_again, has_work)
            };
            self.happens(Happening::Acts(0));
            self.assert_invariants();
            if is_through(&self.object.record) {
                return;
            }
            let is_at_work = self.children.at_work().next().is_some()
                || self.children.batches.values().any(|batch| batch.result.is_none())
                || self.children.teacher.as_ref().is_some_and(|teacher| teacher.ready == 0 || teacher.deleting)
                || self.children.student.as_ref().is_some_and(|student| !student.complete || student.deleting)
                || self.object.reclaim.collected;
            if !has_work && !is_at_work {
                let look = look_again
                    .expect("nothing to do, nothing at work, and no time to look again: it would sleep for ever");
                let wait = look.duration_since(at(self.now)).as_secs();
                assert!(wait <= LONGEST, "nothing is at work, and it sleeps for {wait} s");
                self.now += wait.max(0);
                // They outlast everything else, and nobody hears of their end.
                self.happens(Happening::PodsAreGone);
            }
            if self.children.at_work().any(|job| job.suspended) {
                self.happens(Happening::TogglesQueue);
            }
            for happening in [
                Happening::WhatIsLeftGoes,
                Happening::Vanishes,
                Happening::IsCollected,
                Happening::TeacherAnswers,
                Happening::StudentAnswers(true),
                Happening::Starts,
                Happening::Succeeds { silently: false },
                Happening::BatchIsDone(0),
            ] {
                self.happens(happening);
            }
        }
        panic!("not through after a quiet time: {:#?}", self.object.record);
    }
}
