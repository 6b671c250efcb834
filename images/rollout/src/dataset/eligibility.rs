//! What a student makes of one trajectory: the part of its eligibility that needs tokens, or its text. Outcomes, patches and measures are judged by the
//! verification, which calls this.

use sera_chat::{ChatError, Conversation, Rendering};
use sera_crds::contract::{Fraction, Rejection, Trajectory};

use super::format::{self, FormatError, Formatted};
use super::leak;
use super::shape::{Exchange, Misshapen, Shape};
use super::sketch::Sketch;
use super::student::Student;
use super::truncation;

/// How many bytes of text count as one token where there is no student whose tokenizer would know. English and code have three to five.
const BYTES_A_TOKEN: usize = 4;

/// What was found out about a trajectory; what could not be found out is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StudentJudgement {
    /// The first of `ToolOutputTooLong`, `Malformed`, `TooLong` and `Secret` that applies.
    pub(crate) rejected: Option<Rejection>,
    /// What exactly is wrong, for the log. Never a secret.
    pub(crate) detail: Option<String>,
    /// The mean length of its tool outputs, in tokens, rounded up.
    pub(crate) mean_tool_tokens: Option<u32>,
    /// The length of what is left after the cut, in the student's tokens.
    pub(crate) tokens: Option<u32>,
    /// How many of its messages are left after the cut, and how many there were.
    pub(crate) kept: Option<(u32, u32)>,
    /// A sketch of what the assistant wrote in those, for near-duplicates.
    pub(crate) sketch: Option<String>,
}

/// Why a trajectory cannot be made into a line for a student.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error(transparent)]
    Shape(#[from] Misshapen),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The template does not write a message down as it is.
    #[error("the student's chat template changes message {0}, so that what is trained would not be what was said")]
    Altered(usize),
    /// A text would be read as a token that ends turns.
    #[error("message {position} spells out the special token {token}")]
    SpecialToken {
        /// The message.
        position: usize,
        /// The token.
        token: String,
    },
}

/// A trajectory as a line for a student, and as the student's own text.
pub(super) struct Fitted {
    pub(super) formatted: Formatted,
    pub(super) rendering: Rendering,
    /// How many tokens there are up to the end of each message.
    pub(super) running: Vec<usize>,
    /// How many messages are left after the cut.
    pub(super) kept: usize,
}

impl Fitted {
    /// Whether so little is left after the cut that it becomes no line.
    pub(super) fn is_too_short(&self, student: &Student) -> bool {
        let share = Fraction { matched: self.kept as u64, total: self.running.len() as u64 };
        self.kept == 0 || !share.meets(&student.policy().min_kept_ratio)
    }
}

/// Judges a trajectory. Without a student (a batch alone) tokens are estimated, the kept ratio is not looked at, and only the shape is.
pub(crate) fn student_judgement(
    trajectory: &Trajectory,
    max_mean_tool_tokens: u32,
    student: Option<&Student>,
) -> StudentJudgement {
    let judged = match student {
        Some(student) => judge(trajectory, max_mean_tool_tokens, student),
        None => Shape::of(trajectory).map(|shape| judge_alone(&shape, max_mean_tool_tokens)).map_err(Unfit::Shape),
    };
    judged.unwrap_or_else(|unfit| StudentJudgement {
        rejected: Some(Rejection::Malformed),
        detail: Some(unfit.to_string()),
        ..StudentJudgement::default()
    })
}

fn judge(trajectory: &Trajectory, max_mean_tool_tokens: u32, student: &Student) -> Result<StudentJudgement, Unfit> {
    let shape = Shape::of(trajectory)?;
    let fitted = fit(&shape, student)?;
    let frame = student.chat.count(&frame(student)?)?;
    let running = &fitted.running;
    let read = (1..running.len()).filter(|position| !fitted.formatted.messages[*position].train);
    let read = read.map(|position| (running[position] - running[position - 1]).saturating_sub(frame));
    let mean_tool_tokens = mean(&shape, read);
    let (kept, all) = (fitted.kept, running.len());
    let words = Words::of(&shape, kept);
    let mut judgement = StudentJudgement {
        mean_tool_tokens: Some(mean_tool_tokens),
        tokens: Some(narrow(kept.checked_sub(1).map_or(0, |last| running[last]))),
        kept: Some((narrow(kept), narrow(all))),
        sketch: Some(words.sketch()),
        ..StudentJudgement::default()
    };
    judgement.reject(mean_tool_tokens > max_mean_tool_tokens, Rejection::ToolOutputTooLong);
    judgement.reject(fitted.is_too_short(student), Rejection::TooLong);
    judgement.look_for_secrets(&words);
    Ok(judgement)
}

fn judge_alone(shape: &Shape<'_>, max_mean_tool_tokens: u32) -> StudentJudgement {
    let answers = shape.exchanges.iter().filter_map(|exchange| exchange.answer);
    let read = answers.map(|answer| format::tool_response(answer.content).len());
    let read = std::iter::once(shape.task.len()).chain(read);
    let mean_tool_tokens = mean(shape, read.map(|bytes| bytes.div_ceil(BYTES_A_TOKEN)));
    let words = Words::of(shape, shape.messages());
    let mut judgement = StudentJudgement {
        mean_tool_tokens: Some(mean_tool_tokens),
        sketch: Some(words.sketch()),
        ..StudentJudgement::default()
    };
    judgement.reject(mean_tool_tokens > max_mean_tool_tokens, Rejection::ToolOutputTooLong);
    judgement.look_for_secrets(&words);
    judgement
}

impl StudentJudgement {
    fn reject(&mut self, applies: bool, reason: Rejection) {
        if applies && self.rejected.is_none() {
            self.rejected = Some(reason);
        }
    }

    fn look_for_secrets(&mut self, words: &Words<'_>) {
        if self.rejected.is_none()
            && let Some(kind) = words.secret()
        {
            self.rejected = Some(Rejection::Secret);
            self.detail = Some(format!("it has {kind} in it"));
        }
    }
}

/// What is said in the part of a trajectory that is kept, whatever format it will be written in.
struct Words<'a> {
    /// The task, and what tools answered.
    read: Vec<&'a str>,
    thinking: Vec<&'a str>,
    /// The calls' arguments, as JSON.
    calls: Vec<String>,
}

impl<'a> Words<'a> {
    /// `kept`: how many messages are left, of which two stand before the first exchange and two are an exchange; the last answer is not among them.
    fn of(shape: &Shape<'a>, kept: usize) -> Self {
        let exchanges = &shape.exchanges[..shape.exchanges.len().min(kept.saturating_sub(1) / 2)];
        let answers = exchanges.iter().rev().skip(1).rev().filter_map(|exchange| exchange.answer);
        Self {
            read: std::iter::once(shape.task).chain(answers.map(|answer| answer.content)).collect(),
            thinking: exchanges.iter().map(|exchange| exchange.thinking).collect(),
            calls: exchanges.iter().map(|exchange| sera_chat::to_json(&exchange.call.arguments)).collect(),
        }
    }

    /// What the assistant wrote, in one order.
    fn written(&self) -> impl Iterator<Item = &str> {
        self.thinking.iter().copied().chain(self.calls.iter().map(String::as_str))
    }

    fn sketch(&self) -> String {
        Sketch::of(self.written()).encode()
    }

    fn secret(&self) -> Option<&'static str> {
        self.written().chain(self.read.iter().copied()).find_map(leak::find)
    }
}

/// Writes a trajectory down for a student and cuts it, if it can be trained as it will be served.
pub(super) fn fit(shape: &Shape<'_>, student: &Student) -> Result<Fitted, Unfit> {
    let policy = student.policy();
    let formatted = format::format(shape, policy.tool_call_format, &student.chat)?;
    let mut conversation = Conversation::new(&formatted.messages);
    if formatted.tool_json.is_some() {
        conversation = conversation.with_tools(shape.tools);
    }
    for (position, message) in formatted.messages.iter().enumerate() {
        let texts = [Some(message.content.as_str()), message.reasoning_content.as_deref()];
        if let Some(token) = texts.into_iter().flatten().find_map(|text| student.chat.special_token_in(text)) {
            return Err(Unfit::SpecialToken { position, token: token.to_owned() });
        }
    }
    let rendering = student.chat.turns(&conversation)?;
    for (position, message) in formatted.messages.iter().enumerate() {
        let turn = &rendering.text[rendering.turns[position].whole.clone()];
        let texts = [Some(message.content.as_str()), message.reasoning_content.as_deref()];
        if !texts.into_iter().flatten().all(|text| turn.contains(text)) {
            return Err(Unfit::Altered(position));
        }
    }
    let running = student.chat.running_counts(&rendering)?;
    let answers: Vec<bool> = formatted.messages.iter().map(|message| message.train).collect();
    let kept = truncation::kept(&running, &answers, policy.context_length as usize);
    Ok(Fitted { formatted, rendering, running, kept })
}

/// What the template puts around a user's message.
fn frame(student: &Student) -> Result<String, ChatError> {
    let opening = [("system", "-"), ("user", "")]
        .map(|(role, content)| std::collections::BTreeMap::from([("role", role), ("content", content)]));
    let rendering = student.chat.turns(&Conversation::new(&opening))?;
    Ok(rendering.text[rendering.turns[1].whole.clone()].to_owned())
}

/// The mean of what the assistant had to read, as the paper's code takes it: the task counts, what comes from the submit's review on does not, and it is
/// divided by half the number of messages, rounded down.
fn mean(shape: &Shape<'_>, read: impl Iterator<Item = usize>) -> u32 {
    let reviewed = |exchange: &Exchange<'_>| exchange.answer.is_some_and(|answer| answer.review);
    let before = shape.exchanges.iter().position(reviewed).unwrap_or(shape.exchanges.len());
    let total: usize = read.take(1 + before).sum();
    narrow(total.div_ceil((shape.messages() / 2).max(1)))
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use sera_crds::contract::Message;
    use sera_crds::values::ToolCallFormat;
    use serde_json::json;

    use super::*;
    use crate::dataset::testing::{answer, student, trajectory, turn};

    /// More tool output than any trajectory here has.
    const MANY: u32 = 1_000_000;

    fn judged(trajectory: &Trajectory, context_length: u32) -> StudentJudgement {
        student_judgement(trajectory, MANY, Some(&student(ToolCallFormat::Hermes, context_length)))
    }

    fn tokens(trajectory: &Trajectory) -> u32 {
        judged(trajectory, MANY).tokens.unwrap()
    }

    #[test]
    fn a_conversation_one_token_below_the_limit_is_whole_and_one_at_it_is_cut() {
        let trajectory = trajectory(20);
        let total = tokens(&trajectory);
        let whole = judged(&trajectory, total + 1);
        assert_eq!((whole.rejected, whole.tokens, whole.kept), (None, Some(total), Some((45, 45))));
        let cut = judged(&trajectory, total);
        assert_eq!((cut.rejected, cut.kept), (None, Some((43, 45))));
        assert!(cut.tokens.unwrap() < total);
    }

    #[test]
    fn too_little_left_and_a_first_exchange_over_the_limit_are_refused() {
        let trajectory = trajectory(20);
        let half = judged(&trajectory, tokens(&trajectory) / 2);
        assert_eq!(half.rejected, Some(Rejection::TooLong));
        assert!(half.kept.unwrap().0 > 3);
        let nothing = judged(&trajectory, 30);
        assert_eq!(
            (nothing.rejected, nothing.tokens, nothing.kept),
            (Some(Rejection::TooLong), Some(0), Some((0, 45)))
        );
    }

    #[test]
    fn the_mean_of_tool_outputs_counts_the_task_stops_at_the_review_and_is_divided_by_half_the_messages() {
        let trajectory = trajectory(2);
        let student = student(ToolCallFormat::Hermes, MANY);
        let Message::User { content: task } = &trajectory.messages[1] else { panic!("the second message is the task") };
        let outputs = [3, 5].map(|position| match &trajectory.messages[position] {
            Message::Tool { content, .. } => format::tool_response(content),
            _ => panic!("an exchange has an answer"),
        });
        let total: usize = outputs.iter().chain([task]).map(|text| student.chat.count(text).unwrap()).sum();
        // Nine messages: 2 + 2 × 2, the first submit, its review, the second.
        let expected = u32::try_from(total.div_ceil(4)).unwrap();
        assert_eq!(student_judgement(&trajectory, MANY, Some(&student)).mean_tool_tokens, Some(expected));
        let at = |limit| student_judgement(&trajectory, limit, Some(&student)).rejected;
        assert_eq!((at(expected), at(expected - 1)), (None, Some(Rejection::ToolOutputTooLong)));
    }

    #[test]
    fn what_would_be_trained_in_another_way_than_it_was_said_is_malformed() {
        let mut no_thinking = trajectory(1);
        no_thinking.messages[2] = turn("call-0", " ", "bash", json!({}));
        let mut special = trajectory(1);
        special.messages[3] = answer("call-0", "a chat template has <|im_end|> in it");
        for (trajectory, detail) in [(no_thinking, "neither thinking nor text"), (special, "<|im_end|>")] {
            let judged = judged(&trajectory, MANY);
            assert_eq!(judged.rejected, Some(Rejection::Malformed));
            assert!(judged.detail.unwrap().contains(detail));
        }
    }

    #[test]
    fn a_task_that_looks_like_an_observation_is_no_real_user_turn_and_is_malformed() {
        let mut trajectory = trajectory(1);
        trajectory.messages[1] = Message::User { content: "<tool_response>\nx\n</tool_response>".to_owned() };
        assert_eq!(judged(&trajectory, MANY).rejected, Some(Rejection::Malformed));
    }

    #[test]
    fn a_secret_is_found_in_what_is_kept_and_is_not_shown() {
        let planted = format!("ghp_{}", "aB3".repeat(12));
        let mut trajectory = trajectory(20);
        trajectory.messages[3] = answer("call-0", &format!("export TOKEN={planted}"));
        let early = judged(&trajectory, MANY);
        assert_eq!(
            (early.rejected, early.detail.as_deref()),
            (Some(Rejection::Secret), Some("it has a GitHub personal token in it"))
        );
        assert!(!format!("{early:?}").contains(&planted));

        let raw = student_judgement(&trajectory, MANY, Some(&student(ToolCallFormat::Raw, MANY)));
        assert_eq!(raw.rejected, Some(Rejection::Secret));

        // After the cut, nobody learns it.
        let mut late = self::trajectory(20);
        late.messages[41] = answer("call-19", &format!("export TOKEN={planted}"));
        assert_eq!(judged(&late, MANY).rejected, Some(Rejection::Secret));
        let mut before = self::trajectory(20);
        before.messages.truncate(41);
        let cut = judged(&late, tokens(&before) + 1);
        assert_eq!((cut.rejected, cut.kept), (None, Some((41, 45))));
    }

    #[test]
    fn without_a_student_tokens_are_estimated_and_nothing_is_cut() {
        let alone = student_judgement(&trajectory(20), MANY, None);
        assert_eq!((alone.rejected, alone.kept, alone.tokens), (None, None, None));
        assert!(alone.sketch.is_some());
        let long = {
            let mut trajectory = trajectory(1);
            trajectory.messages[3] = answer("call-0", &"x".repeat(4 * 3 * 600));
            trajectory
        };
        assert_eq!(student_judgement(&long, 600, None).rejected, Some(Rejection::ToolOutputTooLong));
        let mut secret = trajectory(1);
        secret.messages[3] = answer("call-0", &format!("ghp_{}", "aB3".repeat(12)));
        assert_eq!(student_judgement(&secret, MANY, None).rejected, Some(Rejection::Secret));
    }

    #[test]
    fn the_order_of_reasons_is_that_of_the_contract() {
        let mut trajectory = trajectory(20);
        trajectory.messages[3] = answer("call-0", &format!("ghp_{}", "aB3".repeat(12)));
        let student = student(ToolCallFormat::Hermes, 30);
        assert_eq!(student_judgement(&trajectory, 1, Some(&student)).rejected, Some(Rejection::ToolOutputTooLong));
        assert_eq!(student_judgement(&trajectory, MANY, Some(&student)).rejected, Some(Rejection::TooLong));
    }
}
