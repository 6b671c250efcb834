//! The dataset stage: verified trajectories become lines to train on. What a student makes of one trajectory is decided in `eligibility`, which the
//! verification asks too; which of them are taken, in `selection`.

mod eligibility;
mod format;
mod leak;
mod shape;
mod sketch;
mod student;
mod truncation;

pub(crate) use eligibility::{StudentJudgement, student_judgement};
pub(crate) use student::{Student, StudentError};
