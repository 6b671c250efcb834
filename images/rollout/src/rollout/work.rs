//! How one model works on samples: what every rollout of it is given.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sera_crds::contract::{
    CONTRACT_VERSION, PullRequestRecord, RolloutOutcome, RolloutPlan, RolloutRecord, SampleOutcome, TeacherMark,
};

use super::driver::Driver;
use super::ground::Ground;
use super::ledger::spent_before;
use super::records::{RecordError, Shelf};
use super::sample::{self, Workshop};
use super::{Ledger, RolloutError};
use crate::agent::Agent;
use crate::budget::{Purse, Tally};
use crate::chat::Teacher;
use crate::prompts::Prompts;
use crate::redact::Redactor;
use crate::sampling::Sample;

/// The first patches that were met, by their digest: who had each first.
#[derive(Debug, Default)]
pub(crate) struct Patches(Mutex<BTreeMap<String, u64>>);

impl Patches {
    /// The earlier sample that had the same patch.
    pub(super) fn meet(&self, sha256: &str, sample: u64) -> Option<u64> {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *met.entry(sha256.to_owned()).or_insert(sample);
        (first != sample).then_some(first)
    }
}

/// A model at work.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) plan: &'a RolloutPlan,
    pub(crate) prompts: &'a Prompts,
    pub(crate) driver: &'a Driver,
    pub(crate) ground: &'a Ground<'a>,
    pub(crate) ledger: &'a Ledger,
    /// The model, and its name in records.
    pub(crate) teacher: &'a Teacher,
    pub(crate) mark: &'a TeacherMark,
    /// What its answers are drawn from, where that is not left to the server.
    pub(crate) seed: Option<u64>,
    pub(crate) patches: &'a Patches,
    pub(crate) redactor: &'a Redactor,
}

impl<'a> Work<'a> {
    /// What a rollout about a sample is worked on with; its records go to `shelf`, its calls are counted in `tally`.
    pub(crate) async fn workshop<'b>(
        &'b self,
        sample: &Sample,
        shelf: Shelf<'b>,
        tally: &'b Tally,
    ) -> Result<Workshop<'b>, RolloutError>
    where
        'a: 'b,
    {
        tally.mark(self.mark.rehearsal);
        Ok(Workshop {
            agent: Agent {
                teacher: self.teacher,
                prompts: self.prompts,
                limits: &self.plan.agent,
                context_length: self.plan.sampling.context_length,
                seed: self.seed,
                purse: Purse { budget: &self.driver.budget, tally },
                meter: &self.driver.meter,
            },
            pool: self.ground.pool(),
            tree: self.ground.tree(sample.function.snapshot).await?,
            shelf,
            example: self.ground.example(sample.number),
            max_output_tokens: self.plan.sampling.max_output_tokens,
            teacher: self.mark,
            patches: self.patches,
            ledger: self.ledger,
            redactor: self.redactor,
        })
    }

    /// Brings the sample on a shelf to its end.
    pub(crate) async fn finish(&self, shelf: Shelf<'_>) -> Result<SampleOutcome, RolloutError> {
        let sample = self.ground.sample(shelf.sample)?;
        if self.driver.budget.is_spent() {
            let outcome = out_of_budget(&sample, shelf, mark(self.mark, self.teacher)).await?;
            return Ok(shelf.commit("outcome.json", outcome).await?);
        }
        let tally = self.ledger.tally(shelf.place, shelf.sample);
        sample::finish(self.workshop(&sample, shelf, &tally).await?, &sample).await
    }
}

/// What records say of a model: the name that it was asked for by, and whether somebody said, or its own answers do, that it is a rehearsal.
pub(super) fn mark(said: &TeacherMark, teacher: &Teacher) -> TeacherMark {
    TeacherMark { rehearsal: said.rehearsal || teacher.is_rehearsal(), ..said.clone() }
}

/// The end of a sample that the budget does not reach, with what was committed of it.
async fn out_of_budget(
    sample: &Sample,
    shelf: Shelf<'_>,
    mut teacher: TeacherMark,
) -> Result<SampleOutcome, RecordError> {
    let first = shelf.read::<RolloutRecord>("t1.json").await?;
    let written = shelf.read::<PullRequestRecord>("pr.json").await?;
    let second = shelf.read::<RolloutRecord>("t2.json").await?;
    teacher.rehearsal |= [&first, &second].into_iter().flatten().any(|record| record.teacher.rehearsal);
    Ok(SampleOutcome {
        version: CONTRACT_VERSION,
        sample: sample.number,
        folder: written.as_ref().map_or_else(|| shelf.folder.to_owned(), |written| written.folder.clone()),
        function: sample.function.clone(),
        bug_kinds: sample.bug_kinds.clone(),
        first: first.map_or(RolloutOutcome::Budget, |record| record.outcome),
        pull_request: written.and_then(|written| written.pull_request),
        second: second.map(|record| record.outcome),
        usage: spent_before(shelf).await?,
        teacher,
    })
}
