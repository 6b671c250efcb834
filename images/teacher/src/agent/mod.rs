//! The rehearsal teacher's mind: a function from a conversation to the next answer. It holds nothing between requests; whatever it needs it reads from
//! the messages, so that any replica can answer any request, and the same conversation always gets the same answer.

mod answers;
mod ask;
mod conversation;
mod describe;
mod finding;
mod mentions;
mod observation;
mod patch;
mod rollout;
mod session;
mod shell;
mod symptoms;
mod thoughts;
mod toolbox;

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::draw::Draw;
use crate::protocol::ChatRequest;
use conversation::Conversation;
use toolbox::{Action, Spoken, Toolbox};

pub(crate) use ask::Asked;
#[cfg(test)]
pub(crate) use finding::defined;

/// What the teacher says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) thinking: String,
    pub(crate) text: String,
    pub(crate) calls: Vec<Said>,
}

/// A tool call, as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) id: String,
    pub(crate) name: String,
    /// A JSON object, written out.
    pub(crate) arguments: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}})
    }
}

/// In which shares second rollouts make the change of the first: whole, in part, or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shares {
    full: f64,
    partial: f64,
}

/// What is wrong with shares.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum SharesError {
    /// A part that is not `name=number`.
    #[error("\"{0}\" is no share: write full=0.6,partial=0.3,miss=0.1")]
    Part(String),
    /// They do not add up.
    #[error("shares add up to 1, and these add up to {0}")]
    Sum(f64),
}

impl FromStr for Shares {
    type Err = SharesError;

    fn from_str(text: &str) -> Result<Self, SharesError> {
        let (mut full, mut partial, mut miss) = (0.0, 0.0, 0.0);
        for part in text.split(',') {
            let wrong = || SharesError::Part(part.to_owned());
            let (name, number) = part.trim().split_once('=').ok_or_else(wrong)?;
            let number: f64 = number.parse().ok().filter(|number| (0.0..=1.0).contains(number)).ok_or_else(wrong)?;
            match name {
                "full" => full = number,
                "partial" => partial = number,
                "miss" => miss = number,
                _ => return Err(wrong()),
            }
        }
        let sum = full + partial + miss;
        if (sum - 1.0_f64).abs() > 1e-6 { Err(SharesError::Sum(sum)) } else { Ok(Self { full, partial }) }
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "full={},partial={},miss={:.6}", self.full, self.partial, 1.0 - self.full - self.partial)
    }
}

/// How the teacher behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Behaviour {
    /// What its choices are drawn from.
    pub(crate) seed: u64,
    /// How second rollouts end.
    pub(crate) shares: Shares,
    /// The share of self-reviews that it answers with no.
    pub(crate) refusals: f64,
    /// The share of first rollouts that find nothing to change.
    pub(crate) abstentions: f64,
    /// The share of rollouts that look on and on, and never submit.
    pub(crate) lingering: f64,
}

/// A program that answers as an agent would.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Teacher {
    behaviour: Behaviour,
    draw: Draw,
}

impl Teacher {
    pub(crate) const fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, draw: Draw::new(behaviour.seed) }
    }

    /// What comes next in a conversation, and what it was taken for.
    pub(crate) fn answer(&self, request: &ChatRequest) -> (Asked, Answer) {
        let conversation = Conversation::new(request);
        let toolbox = Toolbox::read(request.callable(), &conversation);
        let asked = Asked::of(&conversation, &toolbox);
        let answer = match &asked {
            Asked::First(_) | Asked::Second => rollout::next(self, &asked, &conversation, &toolbox),
            Asked::Review => answers::review(self, &conversation),
            Asked::PullRequest(tag) => describe::pull_request(self, &conversation, tag.as_deref()),
            Asked::Other => answers::other(),
        };
        (asked, answer)
    }

    /// A call that does no harm, where calls can be made.
    pub(crate) fn spare_call(&self, request: &ChatRequest) -> Option<Said> {
        let toolbox = Toolbox::read(request.callable(), &Conversation::new(request));
        match toolbox.speak(&Action::Run("pwd".to_owned())) {
            Spoken::Call { name, arguments } => {
                let id = format!("call_{:016x}s", self.draw.number("spare", &[&request.messages.len().to_string()]));
                Some(Said { id, name, arguments: Value::Object(arguments).to_string() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_add_up() {
        let shares: Shares = "full=0.6,partial=0.3,miss=0.1".parse().unwrap();
        assert_eq!(shares.to_string(), "full=0.6,partial=0.3,miss=0.100000");
        assert_eq!("full=1".parse(), Ok(Shares { full: 1.0, partial: 0.0 }));
        assert_eq!("full=0.5".parse::<Shares>(), Err(SharesError::Sum(0.5)));
        assert!(matches!("full:1".parse::<Shares>(), Err(SharesError::Part(_))));
        assert!(matches!("full=2".parse::<Shares>(), Err(SharesError::Part(_))));
    }
}
