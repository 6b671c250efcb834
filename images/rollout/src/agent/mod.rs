//! The agent: a linear loop in which the teacher thinks, calls one tool and sees what came of it, until it submits or a limit is reached. What the
//! task is, and what becomes of the trajectory, is decided in `rollout`.

mod observation;
mod stop;
mod tools;
mod turn;

use std::time::Duration;

use sera_crds::contract::{AgentLimits, Message, RetriedTurns, RolloutKind, RolloutOutcome, Usage};
use sera_sandbox::wire::{CommandEnd, EditOperation};
use tokio::time::Instant;

use crate::budget::Purse;
use crate::chat::{Answer, Ask, ChatError, Conversation, Teacher};
use crate::checkout::{Patch, Tree};
use crate::metrics::Meter;
use crate::prompts::{ABSTAIN, Prompts};
use crate::sandbox::Slot;

pub(crate) use observation::marked;
use stop::Stop;
pub(crate) use stop::{AgentError, outcome_of};
use tools::Tool;
pub(crate) use tools::definitions as tools;
use turn::Turn;

/// How often in a row an answer may be unusable: the third ends the rollout.
const MOST_UNUSABLE: u32 = 3;
/// How many commands in a row may time out: the third ends the rollout.
const MOST_TIMEOUTS: u32 = 3;

/// What an agent works with.
#[derive(Clone, Copy)]
pub(crate) struct Agent<'a> {
    pub(crate) teacher: &'a Teacher,
    pub(crate) prompts: &'a Prompts,
    pub(crate) limits: &'a AgentLimits,
    /// How many tokens the teacher's context holds.
    pub(crate) context_length: u32,
    /// What answers are drawn from, where that is not left to the server.
    pub(crate) seed: Option<u64>,
    pub(crate) purse: Purse<'a>,
    pub(crate) meter: &'a Meter,
}

/// What it is to do, and where.
pub(crate) struct Task<'a> {
    /// The rollout's name: `<sample>-t1`.
    pub(crate) key: &'a str,
    pub(crate) kind: RolloutKind,
    /// What it is told.
    pub(crate) text: String,
    pub(crate) tree: &'a Tree,
}

/// A rollout that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: RolloutOutcome,
    /// What was in the way, where the outcome is a fault.
    pub(crate) problem: Option<String>,
    pub(crate) messages: Vec<Message>,
    /// The same as the teacher's server has them in its cache.
    pub(crate) conversation: Conversation,
    pub(crate) usage: Usage,
    pub(crate) retried: RetriedTurns,
    /// The patch as it stood.
    pub(crate) patch: Patch,
    /// When its time was, or will be, over.
    pub(crate) until: Instant,
}

impl Agent<'_> {
    /// Counts and pays for an answer. Where the budget is kept by counts, a teacher that has none is refused; one that leaves them out now and then is not.
    pub(crate) fn pay(&self, answer: &Answer, took: Duration) -> Result<(), ChatError> {
        self.meter.called(&answer.usage, took);
        self.purse.spend(answer.usage);
        self.purse.tally.mark(self.teacher.is_rehearsal());
        if self.purse.lacks_counts() { Err(ChatError::Uncounted) } else { Ok(()) }
    }

    /// Whether the teacher refuses what every rollout asks for, such as tools.
    async fn is_refused_whatever_it_asks(&self) -> bool {
        self.teacher.refuses_everybody(&tools(self.limits), self.limits.max_output_tokens, self.seed).await
    }

    /// Works on a task in a sandbox that has the task's tree.
    pub(crate) async fn work(&self, task: Task<'_>, slot: &mut Slot) -> Result<Ended, AgentError> {
        let system = self.prompts.system()?;
        let mut conversation = Conversation::new(&tools(self.limits));
        conversation.push_system(&system);
        conversation.push_user(&task.text);
        let messages = vec![Message::System { content: system }, Message::User { content: task.text.clone() }];
        let mut course = Course {
            agent: *self,
            key: task.key,
            kind: task.kind,
            tree: task.tree,
            slot,
            conversation,
            messages,
            usage: Usage::default(),
            retried: RetriedTurns::default(),
            until: Instant::now() + self.limits.rollout_timeout.span(),
            executed: Duration::ZERO,
            timeouts: 0,
            last: Usage::default(),
            reviewed: false,
            handed_in: None,
        };
        let stop = match course.run().await {
            Err(stop) => stop,
            Ok(never) => match never {},
        };
        let (mut outcome, mut problem) = match stop {
            Stop::Ended(outcome, problem) => (outcome, problem),
            Stop::Broken(error) => return Err(error),
        };
        // A limit hands in what is there; a sandbox that is broken has nothing to hand in.
        let patch = match course.handed_in.take() {
            Some(patch) => patch,
            None if outcome == RolloutOutcome::EnvironmentError => Patch::default(),
            None => match task.tree.patch(course.slot).await {
                Ok(patch) => patch,
                Err(error) => {
                    (outcome, problem) = (RolloutOutcome::EnvironmentError, Some(error.to_string()));
                    Patch::default()
                }
            },
        };
        for file in &patch.left_out {
            tracing::warn!(rollout = task.key, "{file} is too large to be part of the patch");
        }
        let Course { messages, conversation, usage, retried, until, .. } = course;
        Ok(Ended { outcome, problem, messages, conversation, usage, retried, patch, until })
    }
}

/// A rollout under way.
struct Course<'a> {
    agent: Agent<'a>,
    key: &'a str,
    kind: RolloutKind,
    tree: &'a Tree,
    slot: &'a mut Slot,
    conversation: Conversation,
    messages: Vec<Message>,
    /// All calls.
    usage: Usage,
    retried: RetriedTurns,
    until: Instant,
    /// How long all commands took.
    executed: Duration,
    /// How many commands in a row timed out.
    timeouts: u32,
    /// The last call without a hint whose answer entered the history.
    last: Usage,
    /// Whether the first submit has shown what there is.
    reviewed: bool,
    /// What the second submit handed in.
    handed_in: Option<Patch>,
}

impl Course<'_> {
    /// One turn after the other; the only way out is a stop.
    async fn run(&mut self) -> Result<std::convert::Infallible, Stop> {
        loop {
            let Turn { tool, call, answer } = self.turn().await?;
            self.conversation.push_answer(&answer, &call);
            self.messages.push(turn::message(&answer, &call));
            let (content, review) = match tool {
                Tool::Bash { command } => (self.execute(&command).await?, false),
                Tool::Edit(operation) => (self.edit(operation).await?, false),
                Tool::Submit => self.submit(&answer).await?,
            };
            // Exactly as long as it is: it is kept until the rollout ends, beside hundreds of others.
            let content = marked(&content);
            self.conversation.push_observation(&call.id, &content);
            self.messages.push(Message::Tool { tool_call_id: call.id, content, review });
        }
    }

    /// Asks until there is an answer with exactly one good tool call. What cannot be used is forgotten: the same is asked again, at last with a hint.
    async fn turn(&mut self) -> Result<Turn, Stop> {
        let mut unusable = 0;
        let mut hint = None;
        loop {
            self.check_limits()?;
            let ask = Ask {
                key: self.key,
                conversation: &self.conversation,
                aside: hint.as_deref(),
                max_output_tokens: self.agent.limits.max_output_tokens,
                seed: self.agent.seed,
                until: self.until,
            };
            let asked = Instant::now();
            let answer = match self.agent.teacher.ask(&ask).await {
                Ok(answer) => answer,
                Err(error) => {
                    return Err(match outcome_of(error, &self.agent).await {
                        Ok((outcome, problem)) => Stop::Ended(outcome, problem),
                        Err(error) => Stop::Broken(error.into()),
                    });
                }
            };
            self.agent.pay(&answer, asked.elapsed()).map_err(|error| Stop::Broken(error.into()))?;
            self.usage += answer.usage;
            self.check_answer(&answer, hint.is_some())?;
            let problem = match Turn::read(answer, self.messages.len()) {
                Ok(turn) => {
                    // A prompt with a hint says nothing of those that follow, which are without it.
                    if hint.is_none() {
                        self.last = turn.answer.usage;
                    }
                    return Ok(turn);
                }
                Err(problem) => problem,
            };
            problem.count(&mut self.retried);
            self.agent.meter.reasked(problem.name());
            tracing::debug!(rollout = self.key, "an answer cannot be used: {problem}");
            unusable += 1;
            if unusable == MOST_UNUSABLE {
                return Err(Stop::fault(RolloutOutcome::TeacherError, &problem));
            }
            hint =
                (unusable + 1 == MOST_UNUSABLE).then(|| self.agent.prompts.again(&problem.to_string())).transpose()?;
        }
    }

    /// What forbids another call.
    fn check_limits(&self) -> Result<(), Stop> {
        let limits = self.agent.limits;
        if self.agent.purse.is_spent() {
            return Err(Stop::at(RolloutOutcome::Budget));
        }
        if self.usage.calls >= u64::from(limits.max_steps) {
            return Err(Stop::at(RolloutOutcome::StepLimit));
        }
        if Instant::now() >= self.until
            || self.executed >= limits.execution_timeout.span()
            || self.timeouts >= MOST_TIMEOUTS
        {
            return Err(Stop::at(RolloutOutcome::TimeLimit));
        }
        // The next prompt has at least what this one had and what was answered.
        if self.last.prompt_tokens + self.last.completion_tokens >= u64::from(self.agent.context_length) {
            return Err(Stop::at(RolloutOutcome::ContextLimit));
        }
        Ok(())
    }

    /// Whether an answer is whole, and one to the whole conversation.
    fn check_answer(&self, answer: &Answer, hinted: bool) -> Result<(), Stop> {
        let usage = answer.usage;
        if answer.cut_off {
            let full = usage.prompt_tokens + usage.completion_tokens >= u64::from(self.agent.context_length);
            return Err(Stop::at(if full { RolloutOutcome::ContextLimit } else { RolloutOutcome::OutputLimit }));
        }
        // Conversations only grow. A server that counts fewer tokens than before has left some out in silence, and answers another question. With a
        // hint it may do so rightly: the hint is the last user message, and templates drop the thinking before that.
        if !hinted && usage.prompt_tokens > 0 && usage.prompt_tokens < self.last.prompt_tokens {
            let problem = format!(
                "the teacher's server counts {} tokens where it counted {} a turn before: it cuts conversations that are too long for it",
                usage.prompt_tokens, self.last.prompt_tokens
            );
            return Err(Stop::Ended(RolloutOutcome::ContextLimit, Some(problem)));
        }
        Ok(())
    }

    async fn execute(&mut self, command: &str) -> Result<String, Stop> {
        let limits = self.agent.limits;
        let left = limits.execution_timeout.span().saturating_sub(self.executed);
        let limit = limits.command_timeout.span().min(left).min(self.until.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        let executed = self.slot.exec(command, limit, limits.max_observation_chars).await?;
        self.agent.meter.executed(begun.elapsed());
        self.executed += begun.elapsed();
        self.timeouts = if executed.end == CommandEnd::TimedOut { self.timeouts + 1 } else { 0 };
        Ok(observation::of_command(&executed, limit, limits.max_observation_chars))
    }

    async fn edit(&mut self, operation: EditOperation) -> Result<String, Stop> {
        let output = self.slot.edit(operation, self.agent.limits.max_editor_chars).await?;
        Ok(observation::capped(&output, self.agent.limits.max_observation_chars))
    }

    /// The first time, shows what there is to hand in; the second time, hands it in. Says whether what is answered is that review.
    async fn submit(&mut self, answer: &Answer) -> Result<(String, bool), Stop> {
        let patch = match self.tree.patch(self.slot).await {
            // It can still be deleted. What is shown then is the first that there is to see.
            Err(error) if error.is_too_large() && !self.reviewed => {
                return Ok((self.agent.prompts.too_large(&error.to_string())?, false));
            }
            patch => patch?,
        };
        if !std::mem::replace(&mut self.reviewed, true) {
            let diff = observation::capped(&patch.shown(), self.agent.limits.max_observation_chars);
            return Ok((self.agent.prompts.submit_review(&diff)?, true));
        }
        let outcome = match (patch.is_empty(), self.kind) {
            (false, _) => RolloutOutcome::Submitted,
            (true, RolloutKind::First) if self.has_abstained(answer) => RolloutOutcome::Abstained,
            (true, _) => RolloutOutcome::EmptyPatch,
        };
        self.handed_in = Some(patch);
        Err(Stop::at(outcome))
    }

    /// Whether the teacher has said that nothing needs a change, with this submit or the first.
    fn has_abstained(&self, answer: &Answer) -> bool {
        let said = |content: &str, reasoning: Option<&str>| {
            content.contains(ABSTAIN) || reasoning.is_some_and(|text| text.contains(ABSTAIN))
        };
        let earlier = self
            .messages
            .iter()
            .any(|message| matches!(message, Message::Assistant { content, .. } if said(content, None)));
        earlier || said(&answer.content, answer.reasoning.as_deref())
    }
}
