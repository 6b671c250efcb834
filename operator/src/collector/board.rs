//! What programs said last, by Job, and the pace that follows from what they said before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use crate::facts::{Live, LiveRollouts, LiveTraining, Uid};

/// What was heard last, by Job. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<HashMap<Uid, Known>>>);

/// What is known of a Job.
#[derive(Debug, Clone, Copy)]
enum Known {
    Rollouts {
        live: LiveRollouts,
        /// The most tokens that were heard of: of a driver that does not answer for once nothing is.
        most: u64,
        /// How often they were seen to grow.
        growths: u32,
    },
    Training {
        live: LiveTraining,
        /// The first step that was seen to follow another, and when: what a training's pace is counted from.
        mark: Option<(u32, Timestamp)>,
    },
}

impl Board {
    /// What the programs of a Job said last.
    pub fn of(&self, job: &Uid) -> Option<Live> {
        self.lock().get(job).copied().map(Known::live)
    }

    /// Notes what was heard in a round that ended `now`, and forgets the Jobs that nobody was heard of; returns those that there is news of.
    pub(super) fn note(&self, heard: HashMap<Uid, Live>, now: Timestamp) -> Vec<Uid> {
        let mut known = self.lock();
        let mut news = Vec::new();
        let mut next = HashMap::with_capacity(heard.len());
        for (job, live) in heard {
            let before = known.get(&job).copied();
            let after = Known::after(before, live, now);
            if before.is_none_or(|before| before.live() != after.live()) {
                news.push(job.clone());
            }
            next.insert(job, after);
        }
        *known = next;
        news
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn live(self) -> Live {
        match self {
            Self::Rollouts { live, .. } => Live::Rollouts(live),
            Self::Training { live, .. } => Live::Training(live),
        }
    }

    fn after(before: Option<Self>, live: Live, now: Timestamp) -> Self {
        match live {
            Live::Rollouts(live) => Self::of_rollouts(before, live),
            Live::Training(live) => Self::of_training(before, live, now),
        }
    }

    fn of_rollouts(before: Option<Self>, live: LiveRollouts) -> Self {
        /// The first time may be that a driver has read what lies in the store.
        const ENOUGH: u32 = 2;
        let (most, growths) = match before {
            Some(Self::Rollouts { most, growths, .. }) if live.tokens > most => {
                (live.tokens, growths.saturating_add(1))
            }
            Some(Self::Rollouts { most, growths, .. }) => (most, growths),
            _ => (live.tokens, 0),
        };
        Self::Rollouts { live: LiveRollouts { gets_on: growths >= ENOUGH, ..live }, most, growths }
    }

    fn of_training(before: Option<Self>, live: LiveTraining, now: Timestamp) -> Self {
        let (mark, eta) = match before {
            Some(Self::Training { live: before, mark }) => match mark {
                // Its pods were started again within the Job, and went on from a checkpoint.
                _ if live.step < before.step => (None, None),
                // The same word is no news, and makes no other time of it.
                mark if live.step == before.step => (mark, before.eta),
                None => (Some((live.step, now)), None),
                Some(mark) => (Some(mark), end(mark, live, now)),
            },
            _ => (None, None),
        };
        Self::Training { live: LiveTraining { eta, ..live }, mark }
    }
}

/// When the last step will be done, to the second.
fn end((step, since): (u32, Timestamp), live: LiveTraining, now: Timestamp) -> Option<Timestamp> {
    let done = i64::from(live.step.checked_sub(step)?);
    let left = i64::from(live.total_steps.saturating_sub(live.step));
    let seconds = now.duration_since(since).as_secs().checked_mul(left)?.checked_div(done)?;
    let end = now.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    Timestamp::from_second(end.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + seconds).unwrap()
    }

    fn training(step: u32) -> HashMap<Uid, Live> {
        let live = LiveTraining { step, total_steps: 100, ..LiveTraining::default() };
        HashMap::from([("t".into(), Live::Training(live))])
    }

    fn eta(board: &Board) -> Option<Timestamp> {
        board.of(&"t".into()).and_then(Live::training).unwrap().eta
    }

    #[test]
    fn only_who_there_is_news_for_is_woken_and_what_ended_is_forgotten() {
        let board = Board::default();
        let said = |done| Live::Rollouts(LiveRollouts { samples: 9, done, tokens: 1, ..LiveRollouts::default() });
        let heard = |done| HashMap::from([(Uid::from("a"), said(done))]);
        assert_eq!(board.note(heard(1), at(0)), ["a".into()]);
        assert_eq!(board.note(heard(1), at(5)), []);
        assert_eq!(board.note(heard(2), at(10)), ["a".into()]);
        assert_eq!(board.of(&"a".into()), Some(said(2)));
        board.note(HashMap::new(), at(15));
        assert_eq!(board.of(&"a".into()), None);
    }

    #[test]
    fn rollouts_get_on_when_more_tokens_are_taken_than_an_earlier_attempt_has_left() {
        let board = Board::default();
        let hear = |tokens| {
            let live = LiveRollouts { tokens, ..LiveRollouts::default() };
            board.note(HashMap::from([("r".into(), Live::Rollouts(live))]), at(0));
            board.of(&"r".into()).unwrap().gets_on()
        };
        assert!(!hear(0), "a driver listens before it looks for what is done");
        assert!(!hear(700), "and finds some");
        assert!(!hear(700));
        assert!(!hear(300), "one of two drivers does not answer in time");
        assert!(!hear(700), "and does again, which is no growth");
        assert!(hear(701));
        assert!(hear(500) && hear(701), "it has got on");
    }

    #[test]
    fn a_training_gets_on_when_steps_are_seen_to_pass() {
        let board = Board::default();
        let hear = |step| {
            board.note(training(step), at(step.into()));
            board.of(&"t".into()).unwrap().gets_on()
        };
        assert!(!hear(0));
        assert!(!hear(48), "which may be its checkpoint's");
        assert!(!hear(48));
        assert!(hear(49));
    }

    #[test]
    fn the_end_follows_from_steps_that_were_seen_to_pass_and_stands_while_there_is_no_other() {
        let board = Board::default();
        board.note(training(10), at(0));
        assert_eq!(eta(&board), None);
        board.note(training(11), at(10));
        assert_eq!(eta(&board), None, "when the step before it ended was not seen");
        assert_eq!(board.note(training(16), at(60)), ["t".into()]);
        assert_eq!(eta(&board), Some(at(60 + 840)), "84 steps at ten seconds each");
        assert_eq!(board.note(training(16), at(65)), [], "or status would be written every few seconds");
        assert_eq!(eta(&board), Some(at(900)));
    }

    #[test]
    fn a_training_that_went_back_to_its_checkpoint_is_timed_anew() {
        let board = Board::default();
        for (step, seconds) in [(10, 0), (11, 10), (16, 60)] {
            board.note(training(step), at(seconds));
        }
        board.note(training(12), at(500));
        assert_eq!(eta(&board), None);
        for (step, seconds) in [(13, 600), (14, 601)] {
            board.note(training(step), at(seconds));
        }
        assert_eq!(eta(&board), Some(at(601 + 86)));
    }
}
