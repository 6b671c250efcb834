//! What the teacher is asked beside its rollouts: whether its own work is a valid fix, and to tell that work as a pull request. What an answer to the
//! first says is read in `review`, and whether a text will do is decided in `pull_request`.

use std::time::Duration;

use sera_crds::contract::{
    CONTRACT_VERSION, PullRequest, PullRequestRecord, RolloutOutcome, RolloutRecord, Trajectory, Usage,
};
use tokio::time::Instant;

use super::pull_request::{Flaw, extract, flaw, has_code, leak};
use super::records::RecordError;
use super::review::{Review, verdict};
use super::sample::{First, Workshop};
use super::work::mark;
use super::{RolloutError, replay};
use crate::agent::{AgentError, Ended, outcome_of, tools};
use crate::chat::{Answer, Ask, ChatError, Conversation};
use crate::sampling::Sample;

/// How often a self-review is asked for that cannot be understood.
const REVIEW_TRIES: u32 = 3;
/// How often a pull request is asked for.
const PULL_REQUEST_TRIES: u32 = 10;
/// How long a call outside of a rollout may take in all, with what is tried again.
const CALL_TIME: Duration = Duration::from_mins(30);

/// What a question came to.
enum Reply {
    /// An answer, paid for.
    Answer(Answer),
    /// The teacher will not have this conversation: it is too long, or refused in words that say nothing of its length. A shorter one may do.
    Refused { outcome: RolloutOutcome, problem: Option<String> },
    /// It has no answer for now, and answers others: the same may be asked again.
    Missing,
}

/// What asking for a pull request came to.
#[derive(Default)]
struct Written {
    text: Option<String>,
    tries: u32,
    usage: Usage,
}

impl Workshop<'_> {
    /// How a first rollout that was submitted ends: by whether the teacher takes its own work for a valid fix. What cannot be understood, or does not
    /// fit, is asked again with fewer of the steps; what cannot be understood three times is no yes. Whose teacher refused every time was not
    /// reviewed, and ends as that has it; a teacher that has no answer for now is asked again. Where nothing is left of the budget or of the rollout's
    /// time, that is its end.
    pub(super) async fn review(&self, key: &str, ended: &Ended) -> Result<Review, RolloutError> {
        let question = self.agent.prompts.self_review().map_err(AgentError::from)?;
        let mut usage = Usage::default();
        let mut messages = ended.messages.clone();
        let mut conversation = ended.conversation.clone();
        let (mut tries, mut refused, mut answered) = (0, None, false);
        while tries < REVIEW_TRIES {
            if self.agent.purse.is_spent() {
                return Ok(Review::ended(RolloutOutcome::Budget, usage));
            }
            if Instant::now() >= ended.until {
                return Ok(Review::ended(RolloutOutcome::TimeLimit, usage));
            }
            match self.ask(key, &conversation, &question).await? {
                Reply::Answer(answer) => {
                    answered = true;
                    usage += answer.usage;
                    if let Some(valid) = verdict(&answer.content).filter(|_| !answer.cut_off) {
                        let outcome = if valid { RolloutOutcome::Submitted } else { RolloutOutcome::RefusedByReview };
                        return Ok(Review::ended(outcome, usage));
                    }
                }
                Reply::Refused { outcome, problem } => refused = Some((outcome, problem)),
                Reply::Missing => continue,
            }
            tries += 1;
            conversation = replay::without_first_quarter(&tools(self.agent.limits), &mut messages);
        }
        let (outcome, problem) = refused.filter(|_| !answered).unwrap_or((RolloutOutcome::RefusedByReview, None));
        Ok(Review { outcome, problem, usage })
    }

    /// The synthetic pull request: adopted, or asked for until one will do.
    pub(super) async fn pull_request(&self, first: &First, sample: &Sample) -> Result<PullRequestRecord, RolloutError> {
        const RECORD: &str = "pr.json";
        if let Some(record) = self.shelf.read(RECORD).await? {
            return Ok(record);
        }
        let patch = self.shelf.get(&first.record.folder, &first.record.patch).await?;
        let patch = String::from_utf8_lossy(&patch);
        let Written { text, tries, usage } = self.write(first, &patch).await?;
        let pull_request = match text {
            Some(text) => {
                let leaks = leak(&text, &patch).is_some();
                self.agent.meter.wrote_pull_request(leaks);
                Some(PullRequest { text: self.shelf.put("pr.md", text.into()).await?, tries, leaks })
            }
            None => None,
        };
        let record = PullRequestRecord {
            version: CONTRACT_VERSION,
            sample: sample.number,
            folder: self.shelf.folder.to_owned(),
            pull_request,
            usage,
            rehearsal: first.record.teacher.rehearsal || mark(self.teacher, self.agent.teacher).rehearsal,
        };
        Ok(self.shelf.commit(RECORD, record).await?)
    }

    /// Asks for a text until nothing is wrong with one. Where that does not come, the last one that can be borne is taken. Where the answer does not
    /// fit, which is so after a rollout that filled its context, the first quarter of the steps is left out.
    async fn write(&self, first: &First, patch: &str) -> Result<Written, RolloutError> {
        let key = format!("{}-t1", first.record.sample);
        let example = &self.example.body;
        let request = self.agent.prompts.pull_request(example, has_code(example)).map_err(AgentError::from)?;
        let mut trajectory: Option<Trajectory> = None;
        let mut conversation = match &first.conversation {
            Some(conversation) => conversation.clone(),
            None => replay::conversation(trajectory.insert(self.trajectory(&first.record).await?)),
        };
        let (mut written, mut problem) = (Written::default(), None);
        while written.tries < PULL_REQUEST_TRIES && !self.agent.purse.is_spent() {
            written.tries += 1;
            let request = match &problem {
                None => request.clone(),
                Some(flaw) => format!("{request}\n\nA text that you wrote before was turned down: {flaw}."),
            };
            let answer = match self.ask(&key, &conversation, &request).await? {
                Reply::Missing => continue,
                Reply::Refused { .. } => None,
                Reply::Answer(answer) => {
                    written.usage += answer.usage;
                    Some(answer).filter(|answer| !answer.cut_off)
                }
            };
            let Some(answer) = answer else {
                tracing::debug!(
                    rollout = key,
                    tries = written.tries,
                    "a pull request does not fit: fewer of the steps are shown"
                );
                let trajectory = match &mut trajectory {
                    Some(trajectory) => trajectory,
                    none => none.insert(self.trajectory(&first.record).await?),
                };
                conversation = replay::without_first_quarter(&trajectory.tools, &mut trajectory.messages);
                continue;
            };
            let text = extract(&answer.content);
            let Some(flaw) = text.map_or(Some(Flaw::NoText), |text| flaw(text, patch, example)) else {
                written.text = text.map(str::to_owned);
                return Ok(written);
            };
            tracing::debug!(rollout = key, tries = written.tries, "a pull request is turned down: {flaw}");
            if flaw.is_bearable() {
                written.text = text.map(str::to_owned);
            }
            problem = Some(flaw);
        }
        Ok(written)
    }

    async fn trajectory(&self, record: &RolloutRecord) -> Result<Trajectory, RecordError> {
        self.shelf.get_compressed(&record.folder, &record.trajectory).await
    }

    /// One call beside a rollout.
    async fn ask(&self, key: &str, conversation: &Conversation, question: &str) -> Result<Reply, RolloutError> {
        let begun = Instant::now();
        let ask = Ask {
            key,
            conversation,
            aside: Some(question),
            max_output_tokens: Some(self.max_output_tokens),
            seed: self.agent.seed,
            // No longer than a whole rollout.
            until: begun + CALL_TIME.min(self.agent.limits.rollout_timeout.span()),
        };
        match self.agent.teacher.ask(&ask).await {
            Ok(answer) => {
                self.agent.pay(&answer, begun.elapsed()).map_err(AgentError::from)?;
                Ok(Reply::Answer(answer))
            }
            Err(error) => {
                let is_for_now = matches!(error, ChatError::GivenUp { .. } | ChatError::OutOfTime { .. });
                let (outcome, problem) = outcome_of(error, &self.agent).await.map_err(AgentError::from)?;
                let told = problem.as_deref().unwrap_or_default();
                tracing::warn!(rollout = key, ?outcome, "a question has no answer: {told}");
                Ok(if is_for_now { Reply::Missing } else { Reply::Refused { outcome, problem } })
            }
        }
    }
}
