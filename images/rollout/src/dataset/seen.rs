//! A trajectory as the trainer will see it: turn by turn, in the student's own text, with what of it carries loss. For people to look at.

use sera_crds::contract::Trajectory;

use super::eligibility::{self, Fitted, Unfit};
use super::shape::Shape;
use super::student::Student;

/// A trajectory for a student.
pub(crate) struct Seen {
    pub(crate) turns: Vec<SeenTurn>,
    /// How many of the turns are left after the cut.
    pub(crate) kept: usize,
}

/// A turn of it. The three texts together are what the template writes.
pub(crate) struct SeenTurn {
    pub(crate) role: String,
    pub(crate) tokens: usize,
    pub(crate) trained_tokens: usize,
    pub(crate) before: String,
    /// What carries loss.
    pub(crate) written: String,
    pub(crate) after: String,
}

impl Seen {
    /// Looks at a trajectory; the error says why it becomes no line.
    pub(crate) fn of(trajectory: &Trajectory, student: &Student) -> Result<Self, String> {
        let unfit = |unfit: Unfit| unfit.to_string();
        let fitted = Self::fit(trajectory, student).map_err(unfit)?;
        if fitted.is_too_short(student) {
            let policy = student.policy();
            return Err(format!(
                "of its {} messages {} are left within {} tokens, and a share of {} must be",
                fitted.running.len(),
                fitted.kept,
                policy.context_length,
                policy.min_kept_ratio
            ));
        }
        Self::read(&fitted, student).map_err(unfit)
    }

    fn fit(trajectory: &Trajectory, student: &Student) -> Result<Fitted, Unfit> {
        eligibility::fit(&Shape::of(trajectory)?, student)
    }

    fn read(fitted: &Fitted, student: &Student) -> Result<Self, Unfit> {
        let text = &fitted.rendering.text;
        let loss = student.chat.tokens(&fitted.rendering, |_| true)?.loss;
        let mut turns = Vec::new();
        let mut counted = 0;
        for (position, turn) in fitted.rendering.turns.iter().enumerate() {
            let written = turn.written.clone().unwrap_or(turn.whole.end..turn.whole.end);
            turns.push(SeenTurn {
                role: fitted.formatted.messages[position].role.clone(),
                tokens: fitted.running[position] - counted,
                trained_tokens: loss[counted..fitted.running[position]].iter().filter(|loss| **loss).count(),
                before: text[turn.whole.start..written.start].to_owned(),
                after: text[written.end..turn.whole.end].to_owned(),
                written: text[written].to_owned(),
            });
            counted = fitted.running[position];
        }
        Ok(Self { turns, kept: fitted.kept })
    }
}
