//! One sample, from its function to its end: the first rollout with up to three bug kinds, its self-review, the synthetic pull request, the second
//! rollout. Each of them is committed when it is done; run again, what is committed is adopted and the rest is made.

use bytes::Bytes;
use sera_crds::contract::{
    CONTRACT_VERSION, FileDigest, PullRequest, RolloutKind, RolloutOutcome, RolloutRecord, SampleOutcome, StyleExample,
    TeacherMark, Trajectory, Usage,
};
use sera_crds::values::BugKind;

use super::records::{RecordError, Shelf};
use super::work::{Patches, mark};
use super::{Ledger, RolloutError, replay};
use crate::agent::{Agent, AgentError, Ended, Task, tools};
use crate::chat::Conversation;
use crate::checkout::Tree;
use crate::redact::Redactor;
use crate::sampling::Sample;
use crate::sandbox::Pool;

/// What a sample is worked on with.
#[derive(Clone, Copy)]
pub(crate) struct Workshop<'a> {
    pub(super) agent: Agent<'a>,
    pub(super) pool: &'a Pool,
    pub(super) tree: &'a Tree,
    pub(super) shelf: Shelf<'a>,
    pub(super) example: &'a StyleExample,
    /// The longest answer of self-reviews and pull requests, in tokens.
    pub(super) max_output_tokens: u32,
    pub(super) teacher: &'a TeacherMark,
    pub(super) patches: &'a Patches,
    pub(super) ledger: &'a Ledger,
    pub(super) redactor: &'a Redactor,
}

/// A first rollout that counts, and its conversation where it was made just now.
pub(super) struct First {
    pub(super) record: RolloutRecord,
    pub(super) conversation: Option<Conversation>,
    /// What the attempts with other bug kinds took.
    earlier: Usage,
}

/// Brings a sample to its end.
pub(super) async fn finish(workshop: Workshop<'_>, sample: &Sample) -> Result<SampleOutcome, RolloutError> {
    let shelf = workshop.shelf;
    let first = workshop.first(sample).await?;
    let mut usage = first.earlier;
    usage += first.record.usage;
    let mut rehearsal = first.record.teacher.rehearsal;
    let mut outcome = SampleOutcome {
        version: CONTRACT_VERSION,
        sample: sample.number,
        folder: shelf.folder.to_owned(),
        function: sample.function.clone(),
        bug_kinds: sample.bug_kinds.clone(),
        first: first.record.outcome,
        pull_request: None,
        second: None,
        usage,
        teacher: workshop.teacher.clone(),
    };
    if first.record.patch.bytes > 0 && seeds(first.record.outcome) {
        let written = workshop.pull_request(&first, sample).await?;
        outcome.usage += written.usage;
        outcome.folder.clone_from(&written.folder);
        if let Some(pull_request) = &written.pull_request {
            let second = workshop.second(shelf, &written.folder, pull_request, sample).await?;
            outcome.usage += second.usage;
            rehearsal |= second.teacher.rehearsal;
            outcome.second = Some(second.outcome);
        }
        outcome.pull_request = written.pull_request;
    }
    outcome.usage += workshop.ledger.close(shelf).await?;
    // Its last answer may have been the first to say so.
    outcome.teacher = mark(workshop.teacher, workshop.agent.teacher);
    outcome.teacher.rehearsal |= rehearsal;
    Ok(shelf.commit("outcome.json", outcome).await?)
}

/// Whether the patch of a rollout that ended so leads to a second one.
fn seeds(outcome: RolloutOutcome) -> bool {
    use RolloutOutcome::{ContextLimit, OutputLimit, StepLimit, Submitted, TimeLimit};
    matches!(outcome, Submitted | StepLimit | ContextLimit | OutputLimit | TimeLimit)
}

/// Whether another bug kind may do better.
fn tries_another(outcome: RolloutOutcome) -> bool {
    use RolloutOutcome::{Abstained, EmptyPatch, RefusedByReview};
    matches!(outcome, Abstained | EmptyPatch | RefusedByReview)
}

impl Workshop<'_> {
    /// The first rollout: with each bug kind in turn, until one leads to something that passes its own review.
    async fn first(&self, sample: &Sample) -> Result<First, RolloutError> {
        if let Some(record) = self.shelf.read::<RolloutRecord>("t1.json").await? {
            let earlier = self.usage_of_attempts(sample.bug_kinds.len()).await?;
            return Ok(First { record, conversation: None, earlier });
        }
        let mut earlier = Usage::default();
        for (position, kind) in sample.bug_kinds.iter().enumerate() {
            let is_last = position + 1 == sample.bug_kinds.len();
            let attempt = (!is_last).then(|| format!("t1-{}.json", position + 1));
            if let Some(attempt) = &attempt
                && let Some(record) = self.shelf.read::<RolloutRecord>(attempt).await?
            {
                earlier += record.usage;
                continue;
            }
            let (record, conversation) = self.attempt(sample, *kind, position, is_last).await?;
            match attempt {
                Some(attempt) if tries_another(record.outcome) => {
                    earlier += self.shelf.commit(&attempt, record).await?.usage;
                }
                _ => {
                    let made_here = record.folder.clone();
                    let record = self.shelf.commit("t1.json", record).await?;
                    // Another process may have been first, with another conversation.
                    let conversation = (record.folder == made_here).then_some(conversation);
                    self.note_duplicate(sample, &record);
                    return Ok(First { record, conversation, earlier });
                }
            }
        }
        Err(RolloutError::NoBugKinds { sample: sample.number })
    }

    /// One attempt at a first rollout, with its self-review.
    async fn attempt(
        &self,
        sample: &Sample,
        kind: BugKind,
        position: usize,
        is_last: bool,
    ) -> Result<(RolloutRecord, Conversation), RolloutError> {
        let (function, file) = (&sample.function.name, &sample.function.file);
        let text = self.agent.prompts.first(function, file, kind).map_err(AgentError::from)?;
        let key = format!("{}-t1", sample.number);
        let (mut ended, protections) = self.roll_out(&key, RolloutKind::First, text).await?;
        replay::close(&mut ended.conversation, &ended.messages);
        if ended.outcome == RolloutOutcome::Submitted {
            let review = self.review(&key, &ended).await?;
            ended.usage += review.usage;
            (ended.outcome, ended.problem) = (review.outcome, review.problem);
        }
        self.agent.meter.rolled_out(RolloutKind::First, ended.outcome);
        let stem =
            if is_last || !tries_another(ended.outcome) { "1".to_owned() } else { format!("1-{}", position + 1) };
        let conversation = ended.conversation.clone();
        let record = self.record(sample, RolloutKind::First, Some(kind), &stem, ended, protections).await?;
        Ok((record, conversation))
    }

    /// What the attempts took that led to nothing.
    async fn usage_of_attempts(&self, kinds: usize) -> Result<Usage, RecordError> {
        let mut usage = Usage::default();
        for position in 1..kinds {
            match self.shelf.read::<RolloutRecord>(&format!("t1-{position}.json")).await? {
                Some(record) => usage += record.usage,
                None => break,
            }
        }
        Ok(usage)
    }

    /// Runs the agent in a sandbox. One that fails before the agent begins has cost nothing, and another is taken.
    async fn roll_out(&self, key: &str, kind: RolloutKind, text: String) -> Result<(Ended, Vec<String>), RolloutError> {
        let mut lease = self.pool.lend(self.tree.id(), self.tree.archive()).await?;
        let running = self.agent.meter.running();
        tracing::info!(rollout = key, slot = lease.slot.number(), "started");
        let protections = lease.slot.protections().to_vec();
        let ended = self.agent.work(Task { key, kind, text, tree: self.tree }, &mut lease.slot).await;
        self.pool.give_back(lease).await;
        drop(running);
        let ended = ended?;
        tracing::info!(
            rollout = key,
            outcome = ?ended.outcome,
            calls = ended.usage.calls,
            patch_bytes = ended.patch.text.len(),
            problem = ended.problem.as_deref().unwrap_or_default(),
            "ended"
        );
        Ok((ended, protections))
    }

    /// The second rollout: adopted, or made from the text alone, which lies on `written` in `folder`.
    pub(crate) async fn second(
        &self,
        written: Shelf<'_>,
        folder: &str,
        pull_request: &PullRequest,
        sample: &Sample,
    ) -> Result<RolloutRecord, RolloutError> {
        const RECORD: &str = "t2.json";
        if let Some(record) = self.shelf.read(RECORD).await? {
            return Ok(record);
        }
        let text = written.get(folder, &pull_request.text).await?;
        let text = self.agent.prompts.second(&String::from_utf8_lossy(&text)).map_err(AgentError::from)?;
        let key = format!("{}-t2", sample.number);
        let (ended, protections) = self.roll_out(&key, RolloutKind::Second, text).await?;
        self.agent.meter.rolled_out(RolloutKind::Second, ended.outcome);
        let record = self.record(sample, RolloutKind::Second, None, "2", ended, protections).await?;
        Ok(self.shelf.commit(RECORD, record).await?)
    }

    /// Puts the files of a rollout into this process's folder, and makes the record that names them.
    async fn record(
        &self,
        sample: &Sample,
        rollout: RolloutKind,
        bug_kind: Option<BugKind>,
        stem: &str,
        ended: Ended,
        protections: Vec<String>,
    ) -> Result<RolloutRecord, RolloutError> {
        let teacher = mark(self.teacher, self.agent.teacher);
        let trajectory = Trajectory {
            version: CONTRACT_VERSION,
            sample: sample.number,
            rollout,
            rehearsal: teacher.rehearsal,
            tools: tools(self.agent.limits),
            messages: ended.messages,
        };
        let trajectory = self.shelf.put_compressed(&format!("t{stem}.json.zst"), &trajectory).await?;
        let patch: FileDigest = self.shelf.put(&format!("p{stem}.diff"), Bytes::from(ended.patch.text)).await?;
        Ok(RolloutRecord {
            version: CONTRACT_VERSION,
            sample: sample.number,
            rollout,
            folder: self.shelf.folder.to_owned(),
            outcome: ended.outcome,
            problem: ended.problem.map(|problem| self.redactor.apply(&problem)),
            function: sample.function.clone(),
            bug_kind,
            trajectory,
            patch,
            usage: ended.usage,
            retried: ended.retried,
            teacher,
            prompts: self.agent.prompts.digest().to_owned(),
            protections,
        })
    }

    /// Says when a first patch was there before. Whether it counts is for verification, which knows all of the batch: its record has the digest.
    fn note_duplicate(&self, sample: &Sample, record: &RolloutRecord) {
        if record.patch.bytes > 0
            && let Some(earlier) = self.patches.meet(&record.patch.sha256, sample.number)
        {
            self.agent.meter.met_duplicate();
            tracing::info!(sample = sample.number, earlier, "the first patch equals that of an earlier sample");
        }
    }
}
