//! Collectives that something beside the ring carries, such as NCCL: the ring counts them and watches over the ranks while they are under way, so that one
//! that is lost ends them as it ends the ring's own. What carries them is not said here.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::super::{Collective, RankError};
use super::Ring;
use super::fate::{Fate, Report};
use super::frame::Kind;
use super::wire::Stop;

/// How often a collective is asked in a row before the thread sleeps between: most end within microseconds.
const EAGER: u32 = 2000;
/// How long it sleeps then; short beside what takes long.
const PAUSE: Duration = Duration::from_micros(50);

/// A collective that is carried elsewhere.
pub(in super::super) trait Carried {
    /// Whether it has come to its end; begins it when asked first. Or why it never will.
    fn is_done(&mut self) -> Result<bool, String>;

    /// Lets go of it: another rank is lost, and it would not end.
    fn abort(&mut self);
}

impl Ring {
    /// Waits for a collective of this kind to end, as long as the group stands; aborted where it does not.
    pub(in super::super) fn carry(&mut self, kind: Kind, carried: &mut impl Carried) -> Result<(), RankError> {
        let (shared, rank) = (Arc::clone(&self.shared), self.rank());
        let ended = self.perform(kind, |_, _| {
            let mut asked = 0;
            loop {
                match carried.is_done() {
                    Ok(true) => return Ok(()),
                    Ok(false) if !shared.stands() => return Err(Stop::Told),
                    Ok(false) if asked < EAGER => {
                        asked += 1;
                        thread::yield_now();
                    }
                    Ok(false) => thread::sleep(PAUSE),
                    // It may have failed because another was lost first, which rank 0 knows.
                    Err(reason) => {
                        return Err(Stop::Seen(Report { fate: Fate::Lost { rank, reason }, certain: false }));
                    }
                }
            }
        });
        if ended.is_err() {
            carried.abort();
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::super::super::{Master, Options, Place, rendezvous};
    use super::*;

    /// One that ends, fails or never ends after so many questions.
    struct After {
        asked: u32,
        ends: Option<Result<(), String>>,
        aborted: bool,
    }

    impl Carried for After {
        fn is_done(&mut self) -> Result<bool, String> {
            self.asked += 1;
            match &self.ends {
                Some(end) if self.asked > 3 => end.clone().map(|()| true),
                _ => Ok(false),
            }
        }

        fn abort(&mut self) {
            self.aborted = true;
        }
    }

    fn carried(ends: Option<Result<(), String>>) -> After {
        After { asked: 0, ends, aborted: false }
    }

    /// Two ranks, each on a thread.
    fn pair(zero: impl FnOnce(Ring) + Send, one: impl FnOnce(Ring) + Send) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let join = |rank: usize| {
            let master = Master { host: "127.0.0.1".into(), port };
            let options = Options { silence: Duration::from_secs(2), ..Options::default() };
            rendezvous::ring(&Place { rank, world: 2, local_rank: rank, master }, &options).unwrap()
        };
        thread::scope(|scope| {
            scope.spawn(|| one(join(1)));
            zero(join(0));
        });
    }

    #[test]
    fn one_that_ends_is_counted_among_the_rings_own() {
        let part = |mut ring: Ring| {
            ring.carry(Kind::AllGather, &mut carried(Some(Ok(())))).unwrap();
            let mut sum = [1.0f64];
            ring.all_reduce_f64(&mut sum).unwrap();
            assert!((sum[0] - 2.0).abs() < 1e-12);
        };
        pair(part, part);
    }

    #[test]
    fn a_rank_that_leaves_ends_what_would_never_end_and_is_named_with_the_collective() {
        let begun = Instant::now();
        let waits = |mut ring: Ring| {
            let mut endless = carried(None);
            let error = ring.carry(Kind::ReduceScatter, &mut endless).unwrap_err().to_string();
            assert!(error.starts_with("rank 1 of 2 was lost in reduce_scatter number 0"), "{error}");
            assert!(endless.aborted);
        };
        pair(waits, drop);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn one_that_fails_ends_the_group_with_its_words() {
        let failing = |mut ring: Ring| {
            let mut broken = carried(Some(Err("NCCL says: unhandled system error".to_owned())));
            let error = ring.carry(Kind::AllReduce, &mut broken).unwrap_err().to_string();
            assert!(
                error.contains("rank 1 of 2 was lost in all_reduce") && error.contains("unhandled system"),
                "{error}"
            );
            assert!(broken.aborted);
        };
        let waits = |mut ring: Ring| {
            let error = ring.carry(Kind::AllReduce, &mut carried(None)).unwrap_err().to_string();
            assert!(
                error.contains("rank 1 of 2 was lost in all_reduce") && error.contains("unhandled system"),
                "{error}"
            );
        };
        pair(waits, failing);
    }
}
