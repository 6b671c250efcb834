//! Ranks as threads of one process, over channels. A rank that ends while others wait for it is lost to them at once.

use std::any::Any;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use sera_trainer::ranks::{Collective, RankError};

/// How long a rank is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

type Message = (&'static str, Box<dyn Any + Send>);

/// One of the ranks.
pub(crate) struct Member {
    rank: usize,
    /// To and from each rank, itself included.
    to: Vec<Sender<Message>>,
    from: Vec<Receiver<Message>>,
    done: u64,
}

/// All ranks of a group.
pub(crate) fn members(world: usize) -> Vec<Member> {
    let mut to: Vec<Vec<_>> = (0..world).map(|_| Vec::new()).collect();
    let mut members = Vec::new();
    for rank in 0..world {
        let (senders, from) = (0..world).map(|_| channel()).unzip::<_, _, Vec<_>, Vec<_>>();
        to.iter_mut().zip(senders).for_each(|(to, sender)| to.push(sender));
        members.push(Member { rank, to: Vec::new(), from, done: 0 });
    }
    members.iter_mut().zip(to).for_each(|(member, to)| member.to = to);
    members
}

/// What every rank of a group comes to, each in a thread of its own.
pub(crate) fn on_ranks<T: Send>(world: usize, work: impl Fn(Member) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = members(world).into_iter().map(|member| scope.spawn(move || work(member))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

impl Member {
    /// What every rank has given.
    fn exchange<T: Clone + Send + 'static>(&mut self, collective: &'static str, mine: &T) -> Result<Vec<T>, RankError> {
        let (number, world) = (self.done, self.to.len());
        self.done += 1;
        for to in &self.to {
            // A rank that has gone is found out when its own message does not come.
            let _ = to.send((collective, Box::new(mine.clone())));
        }
        let mut all = Vec::new();
        for (rank, from) in self.from.iter().enumerate() {
            let lost = |reason| RankError::Lost { rank, world, collective, number, reason };
            let (theirs, message) = from.recv_timeout(PATIENCE).map_err(|error| lost(error.to_string()))?;
            let ours = collective.to_owned();
            let diverged = || RankError::Diverged { rank, theirs: theirs.to_owned(), own: self.rank, ours };
            match message.downcast() {
                Ok(message) if theirs == collective => all.push(*message),
                _ => return Err(diverged()),
            }
        }
        Ok(all)
    }
}

impl Collective for Member {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.to.len()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), RankError> {
        let all = self.exchange("all_reduce", &values.to_vec())?;
        values.fill(0.0);
        for theirs in all {
            assert_eq!(theirs.len(), values.len());
            values.iter_mut().zip(theirs).for_each(|(sum, value)| *sum += value);
        }
        Ok(())
    }

    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<(), RankError> {
        let all = self.exchange("all_reduce_f64", &values.to_vec())?;
        values.fill(0.0);
        for theirs in all {
            assert_eq!(theirs.len(), values.len());
            values.iter_mut().zip(theirs).for_each(|(sum, value)| *sum += value);
        }
        Ok(())
    }

    fn reduce_scatter(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        assert_eq!((bounds.len(), bounds[0], bounds[self.world()]), (self.world() + 1, 0, values.len()));
        let all = self.exchange("reduce_scatter", &values.to_vec())?;
        // What is not this rank's is not to be relied on.
        values.fill(f32::NAN);
        let own = bounds[self.rank]..bounds[self.rank + 1];
        values[own.clone()].fill(0.0);
        for theirs in all {
            values[own.clone()].iter_mut().zip(&theirs[own.clone()]).for_each(|(sum, value)| *sum += value);
        }
        Ok(())
    }

    fn all_gather(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        assert_eq!((bounds.len(), bounds[0], bounds[self.world()]), (self.world() + 1, 0, values.len()));
        let all = self.exchange("all_gather", &values.to_vec())?;
        for (theirs, pair) in all.iter().zip(bounds.windows(2)) {
            values[pair[0]..pair[1]].copy_from_slice(&theirs[pair[0]..pair[1]]);
        }
        Ok(())
    }

    fn broadcast(&mut self, from: usize, bytes: &mut Vec<u8>) -> Result<(), RankError> {
        let mut all = self.exchange("broadcast", bytes)?;
        *bytes = all.swap_remove(from);
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), RankError> {
        self.exchange("barrier", &()).map(drop)
    }
}
