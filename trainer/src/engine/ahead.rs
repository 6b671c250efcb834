//! Gathers that are begun before their values are needed: while one unit is computed with, a thread brings the next one's. Every rank begins the same
//! gathers at the same places, and whatever else ranks do together waits for one that is under way: their order is the same everywhere, and so is
//! every bit. Of a tensor on a device the thread is told up to which point the device makes its values; what is computed comes after that point.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;

use candle_core::Tensor;

use super::flat::Flat;
use crate::model::Unit as Id;
use crate::ranks::{Abandon, Collective, Point, RankError};

/// Values to be gathered, and what of them is which rank's.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) values: Flat,
    pub(super) bounds: Vec<usize>,
}

/// The ranks, and at most one unit whose parts are on their way or have come.
pub(super) struct Ahead {
    /// Away while the thread gathers with them.
    ranks: Option<Box<dyn Collective>>,
    rank: usize,
    world: usize,
    /// None where there is none to be had: then gathers are done at once.
    thread: Option<Thread>,
    begun: Option<Begun>,
    ready: Option<(Id, Vec<Part>)>,
}

/// The thread that gathers.
struct Thread {
    asked: Sender<Asked>,
    done: Receiver<Done>,
}

/// The ranks again, and what was gathered.
type Done = (Box<dyn Collective>, Result<Vec<Part>, RankError>);

struct Asked {
    ranks: Box<dyn Collective>,
    parts: Vec<Part>,
    /// Where the device has the parts' values.
    point: Point,
    /// Closed when its end is waited for.
    awaited: Receiver<()>,
}

struct Begun {
    unit: Id,
    bytes: usize,
    /// What closes when it is let go.
    awaited: Sender<()>,
}

impl Ahead {
    pub(super) fn new(ranks: Box<dyn Collective>) -> Self {
        let (rank, world) = (ranks.rank(), ranks.world());
        let thread = if world > 1 { Thread::start() } else { None };
        Self { ranks: Some(ranks), rank, world, thread, begun: None, ready: None }
    }

    /// Begins to gather a unit's parts, which the calling thread has made. Every rank calls it, between the same two collectives.
    pub(super) fn begin(&mut self, unit: Id, parts: Vec<Part>) -> Result<(), RankError> {
        let point = self.settled()?.point()?;
        let Some(ranks) = self.ranks.take() else { return Err(self.gone()) };
        let bytes = bytes_of(&parts);
        let (closes, awaited) = channel();
        let asked = Asked { ranks, parts, point, awaited };
        let refused = match &self.thread {
            Some(thread) => thread.asked.send(asked).err().map(|refused| refused.0),
            None => Some(asked),
        };
        if let Some(Asked { mut ranks, parts, point, .. }) = refused {
            let gathered = gather(&mut *ranks, parts, &point);
            self.ranks = Some(ranks);
            self.ready = Some((unit, gathered?));
        } else {
            self.begun = Some(Begun { unit, bytes, awaited: closes });
        }
        Ok(())
    }

    /// A unit's parts, if they were begun ahead; waits for them. What was begun for another unit is let go.
    pub(super) fn take(&mut self, unit: Id) -> Result<Option<Vec<Part>>, RankError> {
        self.settle()?;
        Ok(self.ready.take().filter(|(ready, _)| *ready == unit).map(|(_, parts)| parts))
    }

    /// Bytes of what is on its way or has come.
    pub(super) fn bytes(&self) -> usize {
        let ready = self.ready.as_ref().map_or(0, |(_, parts)| bytes_of(parts));
        self.begun.as_ref().map_or(ready, |begun| begun.bytes)
    }

    /// Waits for what is on its way.
    fn settle(&mut self) -> Result<(), RankError> {
        let Some(Begun { unit, awaited, .. }) = self.begun.take() else { return Ok(()) };
        drop(awaited);
        match self.thread.as_ref().and_then(|thread| thread.done.recv().ok()) {
            Some((ranks, gathered)) => {
                self.ranks = Some(ranks);
                self.ready = Some((unit, gathered?));
                Ok(())
            }
            None => Err(self.gone()),
        }
    }

    /// The ranks, with nothing on its way.
    fn settled(&mut self) -> Result<&mut dyn Collective, RankError> {
        self.settle()?;
        let gone = self.gone();
        match &mut self.ranks {
            Some(ranks) => Ok(&mut **ranks),
            None => Err(gone),
        }
    }

    /// What there is to say where the thread has taken the ranks with it.
    fn gone(&self) -> RankError {
        let (rank, world, collective) = (self.rank, self.world, "all_gather");
        RankError::Lost { rank, world, collective, number: 0, reason: "its thread that gathers has ended".to_owned() }
    }
}

impl Drop for Ahead {
    /// Ranks leave in order: not in the middle of what was begun.
    fn drop(&mut self) {
        // Whoever lets an engine go after an error has had it.
        let _ = self.settle();
    }
}

impl Thread {
    fn start() -> Option<Self> {
        let (asked, asks) = channel::<Asked>();
        let (finished, done) = channel();
        let run = move || {
            for Asked { mut ranks, parts, point, awaited } in asks {
                let abandon = ranks.abandon();
                let gathered = gather(&mut *ranks, parts, &point);
                if let (Err(error), Some(abandon)) = (&gathered, abandon) {
                    end_unless(&awaited, error, abandon);
                }
                if finished.send((ranks, gathered)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("gather".to_owned()).spawn(run).ok().map(|_| Self { asked, done })
    }
}

/// A rank that computes for minutes would hear of the loss of another minutes after the others.
fn end_unless(awaited: &Receiver<()>, error: &RankError, Abandon { after, how }: Abandon) {
    if awaited.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
        how(error);
    }
}

fn gather(ranks: &mut dyn Collective, mut parts: Vec<Part>, point: &Point) -> Result<Vec<Part>, RankError> {
    for Part { values, bounds } in &mut parts {
        values.all_gather_from(point, bounds, ranks)?;
    }
    Ok(parts)
}

fn bytes_of(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.values.bytes()).sum()
}

impl Collective for Ahead {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), RankError> {
        self.settled()?.all_reduce(values)
    }

    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<(), RankError> {
        self.settled()?.all_reduce_f64(values)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        self.settled()?.reduce_scatter(values, bounds)
    }

    fn all_gather(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        self.settled()?.all_gather(values, bounds)
    }

    fn all_reduce_tensor(&mut self, values: &Tensor) -> Result<(), RankError> {
        self.settled()?.all_reduce_tensor(values)
    }

    fn reduce_scatter_tensor(&mut self, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        self.settled()?.reduce_scatter_tensor(values, bounds)
    }

    fn all_gather_tensor(&mut self, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        self.settled()?.all_gather_tensor(values, bounds)
    }

    fn broadcast(&mut self, from: usize, bytes: &mut Vec<u8>) -> Result<(), RankError> {
        self.settled()?.broadcast(from, bytes)
    }

    fn barrier(&mut self) -> Result<(), RankError> {
        self.settled()?.barrier()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use candle_core::{DType, Device};

    use super::super::flat::Home;
    use super::*;

    const HOMES: [Home; 2] = [Home::Host, Home::Device(Device::Cpu)];

    /// One of two ranks, whose gathers wait until they are let go on, and add one to every value.
    struct Held {
        go_on: Receiver<Result<(), RankError>>,
        log: Sender<String>,
        abandon: Option<Abandon>,
    }

    impl Held {
        fn note(&self, what: &str) {
            self.log.send(format!("{what} by {}", thread::current().name().unwrap_or("?"))).unwrap();
        }
    }

    impl Collective for Held {
        fn rank(&self) -> usize {
            0
        }

        fn world(&self) -> usize {
            2
        }

        fn all_reduce(&mut self, _: &mut [f32]) -> Result<(), RankError> {
            self.note("all_reduce");
            Ok(())
        }

        fn all_reduce_f64(&mut self, _: &mut [f64]) -> Result<(), RankError> {
            Ok(())
        }

        fn reduce_scatter(&mut self, _: &mut [f32], _: &[usize]) -> Result<(), RankError> {
            Ok(())
        }

        fn all_gather(&mut self, values: &mut [f32], _: &[usize]) -> Result<(), RankError> {
            self.note("begins");
            self.go_on.recv().unwrap()?;
            values.iter_mut().for_each(|value| *value += 1.0);
            self.note("ends");
            Ok(())
        }

        fn point(&self) -> Result<Point, RankError> {
            self.note("point");
            Ok(Point::default())
        }

        fn all_gather_tensor(&mut self, _: &Tensor, _: &[usize]) -> Result<(), RankError> {
            self.note("waits for all that the device has been told");
            Ok(())
        }

        fn all_gather_tensor_from(&mut self, _: &Point, values: &Tensor, _: &[usize]) -> Result<(), RankError> {
            self.note("begins");
            self.go_on.recv().unwrap()?;
            values.slice_set(&(values + 1.0).unwrap(), 0, 0).unwrap();
            self.note("ends");
            Ok(())
        }

        fn broadcast(&mut self, _: usize, _: &mut Vec<u8>) -> Result<(), RankError> {
            Ok(())
        }

        fn barrier(&mut self) -> Result<(), RankError> {
            Ok(())
        }

        fn abandon(&self) -> Option<Abandon> {
            self.abandon
        }
    }

    type Strings = (Ahead, Sender<Result<(), RankError>>, Receiver<String>);

    fn held(abandon: Option<Abandon>) -> Strings {
        let ((go, go_on), (log, logged)) = (channel(), channel());
        (Ahead::new(Box::new(Held { go_on, log, abandon })), go, logged)
    }

    /// Two parts of three values each; on a device in bf16.
    fn parts(first: f32, home: &Home) -> Vec<Part> {
        let part = |value| {
            let mut values = Flat::zeros(3, DType::BF16, home).unwrap();
            values.put_slice(0, &[value; 3]).unwrap();
            Part { values, bounds: vec![0, 2, 3] }
        };
        [first, first + 10.0].map(part).into()
    }

    fn values(parts: Option<Vec<Part>>) -> Option<Vec<Vec<f32>>> {
        parts.map(|parts| parts.into_iter().map(|part| part.values.into_host().unwrap()).collect())
    }

    fn lost() -> RankError {
        let (rank, world, collective, number) = (1, 2, "all_gather", 7);
        RankError::Lost { rank, world, collective, number, reason: "it was killed".to_owned() }
    }

    #[test]
    fn a_gather_is_under_way_while_its_caller_goes_on_and_what_comes_next_waits_for_its_end() {
        let here = thread::current().name().unwrap().to_owned();
        for (home, width) in HOMES.into_iter().zip([4, 2]) {
            let (mut ahead, go, log) = held(None);
            ahead.begin(Id::Layer(3), parts(1.0, &home)).unwrap();
            assert_eq!(
                log.recv().unwrap(),
                format!("point by {here}"),
                "nothing comes before it that comes later here"
            );
            assert_eq!(log.recv().unwrap(), "begins by gather", "it has begun, and this thread is here");
            assert_eq!(ahead.bytes(), 2 * 3 * width);
            go.send(Ok(())).unwrap();
            go.send(Ok(())).unwrap();
            ahead.all_reduce(&mut [0.0]).unwrap();
            let order: Vec<String> = log.try_iter().collect();
            let all_reduce = format!("all_reduce by {here}");
            assert_eq!(order, ["ends by gather", "begins by gather", "ends by gather", &all_reduce]);
            assert_eq!(ahead.bytes(), 2 * 3 * width);
            assert_eq!(values(ahead.take(Id::Layer(3)).unwrap()), Some(vec![vec![2.0; 3], vec![12.0; 3]]));
            assert_eq!((values(ahead.take(Id::Layer(3)).unwrap()), ahead.bytes()), (None, 0));
        }
    }

    #[test]
    fn what_was_begun_for_another_unit_is_not_taken_for_this_one() {
        let (mut ahead, go, _log) = held(None);
        for _ in 0..2 {
            go.send(Ok(())).unwrap();
        }
        ahead.begin(Id::Layer(0), parts(1.0, &Home::Host)).unwrap();
        assert!(ahead.take(Id::Layer(1)).unwrap().is_none());
    }

    #[test]
    fn a_rank_that_is_lost_meanwhile_is_told_with_the_collective_by_the_next_call() {
        for home in HOMES {
            let (mut ahead, go, _log) = held(None);
            ahead.begin(Id::Head, parts(1.0, &home)).unwrap();
            go.send(Err(lost())).unwrap();
            let error = ahead.barrier().unwrap_err().to_string();
            assert!(error.starts_with("rank 1 of 2 was lost in all_gather number 7: it was killed"), "{error}");
        }
    }

    #[test]
    fn who_computes_on_without_asking_is_ended_and_who_asks_is_not() {
        static ENDED: AtomicBool = AtomicBool::new(false);
        let abandon = |after| Some(Abandon { after, how: |_| ENDED.store(true, Ordering::SeqCst) });
        let (mut ahead, go, _log) = held(abandon(Duration::from_mins(10)));
        ahead.begin(Id::Head, parts(1.0, &Home::Host)).unwrap();
        go.send(Err(lost())).unwrap();
        assert!(ahead.barrier().is_err() && !ENDED.load(Ordering::SeqCst));
        let (mut ahead, go, _log) = held(abandon(Duration::ZERO));
        ahead.begin(Id::Head, parts(1.0, &Home::Device(Device::Cpu))).unwrap();
        go.send(Err(lost())).unwrap();
        while !ENDED.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        assert!(ahead.barrier().is_err());
    }
}
