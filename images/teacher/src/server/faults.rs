//! Faults on request: which answers go wrong, and how. The same conversation goes wrong in the same way on every server, and only the first time that a
//! server sees it, so that trying again helps.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::agent::{Answer, Asked, Said};
use crate::draw::Draw;
use crate::protocol::{ChatRequest, Finish, Role};

/// How an answer goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// It takes long.
    Latency,
    /// 429, with Retry-After.
    RateLimit,
    /// 500.
    ServerError,
    /// It stops half-way, and the connection stays.
    Stall,
    /// The connection ends half-way.
    Reset,
    /// The arguments of its call are no JSON; what has no call is cut off.
    MalformedArguments,
    /// It has two calls.
    TwoCalls,
    /// It has text and no call.
    NoCall,
    /// It has nothing at all.
    Empty,
    /// It ends at a limit.
    Truncated,
}

const NAMES: [(&str, Fault); 10] = [
    ("latency", Fault::Latency),
    ("rate-limit", Fault::RateLimit),
    ("server-error", Fault::ServerError),
    ("stall", Fault::Stall),
    ("reset", Fault::Reset),
    ("malformed-arguments", Fault::MalformedArguments),
    ("two-calls", Fault::TwoCalls),
    ("no-call", Fault::NoCall),
    ("empty", Fault::Empty),
    ("truncated", Fault::Truncated),
];

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FaultRate {
    fault: Fault,
    rate: f64,
}

/// What is wrong with the rates.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum FaultError {
    #[error("\"{0}\" is no rate of a fault: write stall=0.05")]
    Form(String),
    #[error(
        "there is no fault \"{0}\": there are latency, rate-limit, server-error, stall, reset, malformed-arguments, two-calls, no-call, empty and truncated"
    )]
    Unknown(String),
    #[error("the rates of all faults add up to {0}, which is more than 1")]
    Sum(f64),
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, fault)| *fault == self).map_or("", |(name, _)| name)
    }

    /// The answer after the fault.
    pub(super) fn spoil(self, mut answer: Answer, spare: impl Fn() -> Option<Said>) -> (Answer, Finish) {
        match self {
            Self::MalformedArguments => match answer.calls.first_mut() {
                Some(call) => call.arguments = first_half(&call.arguments),
                None => answer.text = first_half(&answer.text),
            },
            Self::TwoCalls if !answer.calls.is_empty() => answer.calls.extend(spare()),
            Self::NoCall => {
                answer.calls.clear();
                "I know what to do next.".clone_into(&mut answer.text);
            }
            Self::Empty => answer = Answer::default(),
            Self::Truncated => {
                let thinking = first_half(&answer.thinking);
                answer = Answer { thinking, text: first_half(&answer.text), calls: Vec::new() };
                return (answer, Finish::Length);
            }
            _ => {}
        }
        super::whole(answer)
    }
}

fn first_half(text: &str) -> String {
    text.chars().take(text.chars().count() / 2).collect()
}

impl FromStr for FaultRate {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let wrong = || FaultError::Form(text.to_owned());
        let (name, rate) = text.split_once('=').ok_or_else(wrong)?;
        let rate: f64 = rate.parse().ok().filter(|rate| (0.0..=1.0).contains(rate)).ok_or_else(wrong)?;
        let (_, fault) =
            NAMES.iter().find(|(known, _)| *known == name).ok_or_else(|| FaultError::Unknown(name.to_owned()))?;
        Ok(Self { fault: *fault, rate })
    }
}

/// The faults that are asked for.
#[derive(Debug)]
pub(crate) struct Faults {
    rates: Vec<FaultRate>,
    draw: Draw,
    latency: Duration,
    seen: Mutex<Seen>,
}

/// The conversations that were seen: the younger ones for certain, the older ones until there are too many.
#[derive(Debug, Default)]
struct Seen {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

/// How many conversations are remembered at least: a day's worth of a busy teacher takes 2 MB.
const REMEMBERED: usize = 100_000;

impl Faults {
    pub(crate) fn new(seed: u64, rates: Vec<FaultRate>, latency: Duration) -> Result<Self, FaultError> {
        let sum: f64 = rates.iter().map(|rate| rate.rate).sum();
        if sum > 1.0 + 1e-9 {
            return Err(FaultError::Sum(sum));
        }
        Ok(Self { rates, draw: Draw::new(seed), latency, seen: Mutex::default() })
    }

    /// How long the fault of that name takes.
    pub(super) const fn latency(&self) -> Duration {
        self.latency
    }

    /// The fault of this answer, if it is to have one.
    pub(super) fn draw(&self, request: &ChatRequest, asked: &Asked) -> Option<Fault> {
        if self.rates.is_empty() {
            return None;
        }
        let text = subject(request, asked);
        if !self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_first(self.draw.number("seen", &[&text])) {
            return None;
        }
        let drawn = self.draw.share("fault", &[&text]);
        let mut bound = 0.0;
        self.rates
            .iter()
            .find(|rate| {
                bound += rate.rate;
                drawn < bound
            })
            .map(|rate| rate.fault)
    }
}

impl Seen {
    fn is_first(&mut self, number: u64) -> bool {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        let known = self.old.contains(&number);
        self.young.insert(number) && !known
    }
}

/// What makes a call the same call when it is tried again: in a rollout, what was said after the last step does not count, for it only asks again.
fn subject(request: &ChatRequest, asked: &Asked) -> String {
    let in_rollout = matches!(asked, Asked::First(_) | Asked::Second);
    let remarks = request.messages.iter().rev().take_while(|message| in_rollout && message.role == Role::User).count();
    let kept = (request.messages.len() - remarks).max(2).min(request.messages.len());
    let messages = request.messages[..kept].iter();
    messages.map(|message| format!("{:?}\u{1f}{}", message.role, message.text())).collect::<Vec<_>>().join("\u{1e}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(step: usize, remarks: usize) -> ChatRequest {
        let mut messages = vec![json!({"role": "system", "content": "s"}), json!({"role": "user", "content": "p"})];
        messages.push(json!({"role": "tool", "content": step.to_string()}));
        messages.extend((0..remarks).map(|_| json!({"role": "user", "content": "once more"})));
        serde_json::from_value(json!({"model": "rehearsal", "messages": messages})).unwrap()
    }

    fn faults(rates: &[&str]) -> Faults {
        Faults::new(5, rates.iter().map(|rate| rate.parse().unwrap()).collect(), Duration::ZERO).unwrap()
    }

    #[test]
    fn faults_happen_at_their_rates_and_not_twice_for_one_call() {
        let faults = faults(&["stall=0.2", "empty=0.1"]);
        let drawn: Vec<Option<Fault>> = (0..1000).map(|step| faults.draw(&request(step, 0), &Asked::Second)).collect();
        let count = |wanted| drawn.iter().filter(|fault| **fault == Some(wanted)).count();
        assert!((150..250).contains(&count(Fault::Stall)) && (60..140).contains(&count(Fault::Empty)), "{drawn:?}");
        assert!((0..1000).all(|step| faults.draw(&request(step, step % 2), &Asked::Second).is_none()));
    }

    #[test]
    fn rates_are_read_and_bounded() {
        assert_eq!("stall=0.5".parse(), Ok(FaultRate { fault: Fault::Stall, rate: 0.5 }));
        assert!(matches!("flood=0.5".parse::<FaultRate>(), Err(FaultError::Unknown(_))));
        assert!(matches!("stall".parse::<FaultRate>(), Err(FaultError::Form(_))));
        let rates = ["stall=0.6", "empty=0.6"].map(|rate| rate.parse().unwrap()).to_vec();
        assert!(matches!(Faults::new(1, rates, Duration::ZERO), Err(FaultError::Sum(_))));
    }

    #[test]
    fn a_spoilt_answer_is_spoilt_in_its_own_way() {
        let call = Said { id: "1".into(), name: "bash".into(), arguments: "{\"command\":\"ls\"}".into() };
        let answer = Answer { thinking: "thinking".into(), text: "text".into(), calls: vec![call.clone()] };
        let spoilt = |fault: Fault| fault.spoil(answer.clone(), || Some(call.clone()));
        assert!(
            serde_json::from_str::<serde_json::Value>(&spoilt(Fault::MalformedArguments).0.calls[0].arguments).is_err()
        );
        assert_eq!(spoilt(Fault::TwoCalls).0.calls.len(), 2);
        assert_eq!((spoilt(Fault::NoCall).0.calls.len(), spoilt(Fault::NoCall).1), (0, Finish::Stop));
        assert_eq!(spoilt(Fault::Empty).0, Answer::default());
        assert_eq!(spoilt(Fault::Truncated).1, Finish::Length);
        assert_eq!(spoilt(Fault::Latency).0, answer);
    }
}
