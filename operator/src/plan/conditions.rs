//! The conditions of an object, by kstatus' rules: `Ready` always, `Reconciling` and `Stalled` only while they are true, one for each stage that
//! was begun. A condition keeps its time for as long as its status stays the same.

use std::collections::BTreeMap;

use jiff::Timestamp;
pub use sera_crds::conditions::{ConditionType, Reason};

/// A condition's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows yet.
    Unknown,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether it holds.
    pub truth: Truth,
    /// A CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The generation that it was judged by.
    pub generation: i64,
    /// Since when its truth has been what it is.
    pub since: Timestamp,
}

/// All conditions of an object, by type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions(BTreeMap<ConditionType, Condition>);

/// What an object as a whole is doing: one of these at any time, and each says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// All is there that was asked for.
    Done(Why),
    /// Going on, or waiting for what passes by itself.
    Reconciling(Why),
    /// Going nowhere without somebody's help.
    Stalled(Why),
    /// Given up: it is tried again only when its owner asks for it.
    Failed(Why),
    /// Held by its owner.
    Suspended(Why),
}

/// A reason and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// A CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// The writer of an object's conditions in one pass: it knows the generation and the time.
#[derive(Debug, Clone, Copy)]
pub struct Pen {
    /// The generation that is judged.
    pub generation: i64,
    /// When.
    pub now: Timestamp,
}

impl Why {
    /// A reason that is part of the API, and a sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason: reason.as_str().to_owned(), message: message.into() }
    }

    /// A reason in the words of a program or of Kubernetes, and a sentence.
    pub fn said(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: camel_case(reason), message: message.into() }
    }
}

impl Standing {
    /// Why it is so.
    pub fn why(&self) -> &Why {
        match self {
            Self::Done(why)
            | Self::Reconciling(why)
            | Self::Stalled(why)
            | Self::Failed(why)
            | Self::Suspended(why) => why,
        }
    }
}

impl Conditions {
    /// One condition.
    pub fn get(&self, kind: ConditionType) -> Option<&Condition> {
        self.0.get(&kind)
    }

    /// Whether a condition is there and true.
    pub fn holds(&self, kind: ConditionType) -> bool {
        self.get(kind).is_some_and(|condition| condition.truth == Truth::True)
    }

    /// All of them, in the order in which they are shown.
    pub fn iter(&self) -> impl Iterator<Item = (ConditionType, &Condition)> {
        self.0.iter().map(|(kind, condition)| (*kind, condition))
    }

    /// Whether a condition is there, whatever it says.
    pub fn contains(&self, kind: ConditionType) -> bool {
        self.0.contains_key(&kind)
    }

    /// Writes one condition; its time stays where its truth does.
    pub fn set(&mut self, pen: Pen, kind: ConditionType, truth: Truth, why: Why) {
        let since = self.0.get(&kind).filter(|before| before.truth == truth).map_or(pen.now, |before| before.since);
        self.0.insert(
            kind,
            Condition { truth, reason: why.reason, message: why.message, generation: pen.generation, since },
        );
    }

    /// Writes what the object as a whole is doing.
    pub fn stand(&mut self, pen: Pen, standing: &Standing) {
        for (kind, present) in [
            (ConditionType::Reconciling, matches!(standing, Standing::Reconciling(_))),
            (ConditionType::Stalled, matches!(standing, Standing::Stalled(_) | Standing::Failed(_))),
        ] {
            if present {
                self.set(pen, kind, Truth::True, standing.why().clone());
            } else {
                self.0.remove(&kind);
            }
        }
        let ready = if matches!(standing, Standing::Done(_)) { Truth::True } else { Truth::False };
        self.set(pen, ConditionType::Ready, ready, standing.why().clone());
    }
}

/// What the API takes as a reason: letters and digits, a capital first. Others' words are made to fit, since a status that is refused tells nothing.
fn camel_case(reason: &str) -> String {
    /// The schema's bound.
    const MOST_CHARS: usize = 128;
    let mut fitting: String = reason.chars().filter(char::is_ascii_alphanumeric).take(MOST_CHARS).collect();
    match fitting.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => {
            fitting.replace_range(..1, &first.to_ascii_uppercase().to_string());
            fitting
        }
        _ => Reason::InternalError.as_str().to_owned(),
    }
}

impl FromIterator<(ConditionType, Condition)> for Conditions {
    fn from_iter<T: IntoIterator<Item = (ConditionType, Condition)>>(conditions: T) -> Self {
        Self(conditions.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pen(seconds: i64) -> Pen {
        Pen { generation: 1, now: Timestamp::from_second(seconds).unwrap() }
    }

    #[test]
    fn reconciling_and_stalled_are_there_only_while_true_and_never_together() {
        let mut conditions = Conditions::default();
        for standing in [
            Standing::Done(Why::new(Reason::Succeeded, "d")),
            Standing::Reconciling(Why::new(Reason::Progressing, "a")),
            Standing::Stalled(Why::said("RevisionNotFound", "b")),
            Standing::Failed(Why::new(Reason::AttemptsExhausted, "e")),
            Standing::Suspended(Why::new(Reason::Suspended, "c")),
        ] {
            conditions.stand(pen(0), &standing);
            assert_eq!(conditions.holds(ConditionType::Reconciling), matches!(standing, Standing::Reconciling(_)));
            let is_stalled = matches!(standing, Standing::Stalled(_) | Standing::Failed(_));
            assert_eq!(conditions.get(ConditionType::Stalled).is_some(), is_stalled);
            assert_eq!(conditions.get(ConditionType::Ready).unwrap().reason, standing.why().reason);
            assert_eq!(conditions.holds(ConditionType::Ready), matches!(standing, Standing::Done(_)));
        }
    }

    #[test]
    fn the_words_of_others_are_made_to_fit_the_api() {
        for (said, fits) in [
            ("ErrImagePull", "ErrImagePull"),
            ("exit 137!", "Exit137"),
            ("", "InternalError"),
            ("9lives", "InternalError"),
        ] {
            assert_eq!(Why::said(said, "").reason, fits);
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_only_its_words_change() {
        let mut conditions = Conditions::default();
        conditions.set(pen(1), ConditionType::Ready, Truth::False, Why::said("A", "a"));
        conditions.set(pen(2), ConditionType::Ready, Truth::False, Why::said("B", "b"));
        assert_eq!(conditions.get(ConditionType::Ready).unwrap().since, pen(1).now);
        conditions.set(pen(3), ConditionType::Ready, Truth::True, Why::said("B", "b"));
        assert_eq!(conditions.get(ConditionType::Ready).unwrap().since, pen(3).now);
    }
}
