//! When programs are asked, and who is woken by what they say. Each piece of news is a status that is written, so that the pause between two rounds is
//! the shortest time between two of them about one Job.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{Board, Target};
use crate::{
    cache::Wake,
    facts::{Live, Uid},
};

/// The pause on a small cluster.
const SHORTEST: Duration = Duration::from_secs(5);
/// The pause on a large one.
const LONGEST: Duration = Duration::from_secs(30);
/// How many Jobs there may be for each second of the pause, as long as that is not the longest: the status writes of a second, which leaves more than half of
/// the requests that the chart lets an operator make.
const A_SECOND: u64 = 20;

/// How long to wait before the next round, with so many Jobs at work.
fn pause(jobs: usize) -> Duration {
    Duration::from_secs(u64::try_from(jobs).unwrap_or(u64::MAX) / A_SECOND).clamp(SHORTEST, LONGEST)
}

/// Rounds of questions, one after the other.
pub(super) struct Rounds {
    board: Board,
    /// How many Jobs were asked about in the last one.
    jobs: usize,
}

impl Rounds {
    /// The first one is still to come.
    pub(super) fn of(board: Board) -> Self {
        Self { board, jobs: 0 }
    }

    /// How long the programs are left alone before they are asked again.
    pub(super) fn pause(&self) -> Duration {
        pause(self.jobs)
    }

    /// Notes what was `heard` in a round that ended `now`; who is to be woken by it.
    pub(super) fn end(
        &mut self,
        round: Vec<Target>,
        heard: HashMap<Uid, Live>,
        now: Timestamp,
    ) -> impl Iterator<Item = Wake> + use<> {
        self.jobs = round.len();
        let news: HashSet<Uid> = self.board.note(heard, now).into_iter().collect();
        round.into_iter().filter(move |target| news.contains(&target.job)).map(|target| target.wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{collector::Speaker, facts::LiveRollouts, names::Kind};

    #[test]
    fn the_pause_is_five_seconds_and_grows_to_thirty_with_the_jobs_at_work() {
        let seconds = [0, 1, 100, 119, 120, 300, 599, 600, 1_000, usize::MAX].map(|jobs| pause(jobs).as_secs());
        assert_eq!(seconds, [5, 5, 5, 5, 6, 15, 29, 30, 30, 30]);
    }

    fn target(job: usize) -> Target {
        let name = format!("batch-{job}");
        Target {
            job: name.as_str().into(),
            wake: Wake::One { kind: Kind::Batch, namespace: "ml".into(), name },
            urls: Vec::new(),
            speaker: Speaker::Rollouts,
        }
    }

    /// When the owner of the first of so many Jobs is woken within five minutes, in seconds, where all of them have news whenever they are asked.
    fn woken(jobs: usize) -> Vec<u64> {
        let (mut rounds, mut now, mut woken) = (Rounds::of(Board::default()), Duration::ZERO, Vec::new());
        for done in 1.. {
            now += rounds.pause();
            if now > Duration::from_mins(5) {
                break;
            }
            let round: Vec<Target> = (0..jobs).map(target).collect();
            let live = Live::Rollouts(LiveRollouts { samples: 10_000, done, ..LiveRollouts::default() });
            let heard = round.iter().map(|target| (target.job.clone(), live)).collect();
            let first = target(0).wake;
            let wakes = rounds.end(round, heard, Timestamp::UNIX_EPOCH + now);
            woken.extend(wakes.filter(|wake| *wake == first).map(|_| now.as_secs()));
        }
        woken
    }

    #[test]
    fn a_job_that_always_has_news_wakes_its_owner_once_in_a_pause() {
        for (jobs, pause) in [(1, 5), (100, 5), (400, 20), (1_000, 30)] {
            let woken = woken(jobs);
            assert!(woken.windows(2).all(|pair| pair[1] - pair[0] == pause), "{jobs} Jobs: {woken:?}");
            assert!(woken.len() as u64 >= 300 / pause - 1, "{jobs} Jobs: {woken:?}");
        }
    }

    #[test]
    fn who_has_no_news_is_not_woken() {
        let mut rounds = Rounds::of(Board::default());
        let live = Live::Rollouts(LiveRollouts { samples: 9, done: 1, ..LiveRollouts::default() });
        let mut round = || {
            let heard = HashMap::from([(target(0).job, live)]);
            rounds.end(vec![target(0), target(1)], heard, Timestamp::UNIX_EPOCH).collect::<Vec<_>>()
        };
        assert_eq!(round(), [target(0).wake], "the other has said nothing");
        assert_eq!(round(), []);
    }
}
