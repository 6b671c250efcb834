//! What the API server was asked a moment ago, and answered: it is not asked the same again in every pass.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use crate::{facts::Uid, plan::sight::ASK_AGAIN};

/// How many answers are remembered; beyond it all are forgotten, which costs a read each.
const REMEMBERED: usize = 4096;

/// The latest answer about each child.
#[derive(Debug)]
pub(super) struct Asked<T>(Arc<Mutex<HashMap<Uid, (Timestamp, T)>>>);

impl<T> Clone for Asked<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Asked<T> {
    /// The answer about this child, unless it is time to ask again.
    pub(super) fn recent(&self, child: &Uid, now: Timestamp) -> Option<T> {
        let answers = self.answers();
        let (asked, answer) = answers.get(child)?;
        (now.duration_since(*asked) < ASK_AGAIN).then(|| answer.clone())
    }

    /// Whether there is an answer about this child, however old.
    pub(super) fn knows(&self, child: &Uid) -> bool {
        self.answers().contains_key(child)
    }

    /// Forgets the answer about this child.
    pub(super) fn forget(&self, child: &Uid) {
        self.answers().remove(child);
    }

    /// Remembers the answer, and gives it back.
    pub(super) fn keep(&self, child: &Uid, now: Timestamp, answer: T) -> T {
        let mut answers = self.answers();
        if answers.len() >= REMEMBERED {
            answers.clear();
        }
        answers.insert(child.clone(), (now, answer.clone()));
        answer
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<Uid, (Timestamp, T)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_a_while_and_for_one_child() {
        let (asked, child) = (Asked::default(), Uid::from("a"));
        let at = |seconds: i64| Timestamp::from_second(1_767_225_600 + seconds).unwrap();
        assert_eq!(asked.recent(&child, at(0)), None);
        assert_eq!(asked.keep(&child, at(0), 7), 7);
        assert_eq!(asked.clone().recent(&child, at(29)), Some(7));
        assert_eq!(asked.recent(&child, at(30)), None);
        assert_eq!(asked.recent(&Uid::from("b"), at(1)), None);
        assert!(asked.knows(&child) && !asked.knows(&Uid::from("b")));
        asked.forget(&child);
        assert!(!asked.knows(&child));
    }
}
