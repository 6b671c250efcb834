//! What programs said last, by Job, and the pace that follows from what they said before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use crate::facts::{Live, LiveTraining, Uid};

/// What was heard last, by Job. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<HashMap<Uid, Known>>>);

/// What is known of a Job.
#[derive(Debug, Clone, Copy)]
struct Known {
    live: Live,
    /// The first step that was seen to follow another, and when: what a training's pace is counted from.
    mark: Option<(u32, Timestamp)>,
}

impl Board {
    /// What the programs of a Job said last.
    pub fn of(&self, job: &Uid) -> Option<Live> {
        self.lock().get(job).map(|known| known.live)
    }

    /// Notes what was heard in a round that ended `now`, and forgets the Jobs that nobody was heard of; returns those that there is news of.
    pub(super) fn note(&self, heard: HashMap<Uid, Live>, now: Timestamp) -> Vec<Uid> {
        let mut known = self.lock();
        let mut news = Vec::new();
        let mut next = HashMap::with_capacity(heard.len());
        for (job, live) in heard {
            let before = known.get(&job).copied();
            let after = Known::after(before, live, now);
            if before.is_none_or(|before| before.live != after.live) {
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
    fn after(before: Option<Self>, live: Live, now: Timestamp) -> Self {
        let Live::Training(live) = live else { return Self { live, mark: None } };
        let known = before.and_then(|before| Some((before.live.training()?, before.mark)));
        let (mark, eta) = match known {
            None => (None, None),
            // Its pods were started again within the Job, and went on from a checkpoint.
            Some((before, _)) if live.step < before.step => (None, None),
            // The same word is no news, and makes no other time of it.
            Some((before, mark)) if live.step == before.step => (mark, before.eta),
            Some((_, None)) => (Some((live.step, now)), None),
            Some((_, Some(mark))) => (Some(mark), end(mark, live, now)),
        };
        Self { live: Live::Training(LiveTraining { eta, ..live }), mark }
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
    use crate::facts::LiveRollouts;

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
        let heard = |done| {
            HashMap::from([(
                Uid::from("a"),
                Live::Rollouts(LiveRollouts { samples: 9, done, tokens: 1, silence: None }),
            )])
        };
        assert_eq!(board.note(heard(1), at(0)), ["a".into()]);
        assert_eq!(board.note(heard(1), at(5)), []);
        assert_eq!(board.note(heard(2), at(10)), ["a".into()]);
        assert_eq!(
            board.of(&"a".into()),
            Some(Live::Rollouts(LiveRollouts { samples: 9, done: 2, tokens: 1, silence: None }))
        );
        board.note(HashMap::new(), at(15));
        assert_eq!(board.of(&"a".into()), None);
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
