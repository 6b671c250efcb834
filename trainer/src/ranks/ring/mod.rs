//! A ring of ranks over TCP, for CPUs: it exists so that sharded training runs in tests and rehearsals, and on a few machines without GPUs. How the
//! ranks find each other is the rendezvous's.
//!
//! Every rank sends to its right neighbour and receives from its left one. Sums are made in the order of the ranks, `((x0 + x1) + x2) + …`, for
//! every value alike: neither its place, nor the length, the bounds or the collective changes a bit of them.

#[cfg(any(feature = "nccl", test))]
mod carried;
mod fate;
mod frame;
mod payload;
mod schedule;
#[cfg(test)]
mod testing;
mod watch;
mod wire;

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

#[cfg(feature = "nccl")]
pub(super) use carried::Carried;
#[cfg(feature = "nccl")]
pub(super) use frame::Kind;

use super::words::Line;
use super::{Abandon, Collective, Options, RankError};
use fate::{Fate, Report, Shared};
#[cfg(not(feature = "nccl"))]
use frame::Kind;
use frame::Stage;
use payload::{Bytes, Payload};
use schedule::{Piece, Schedule, Seat, pieces};
use watch::{Beside, Limits, Watch};
use wire::{Stop, Task, Wire};

/// The most bytes of a broadcast: more than any model has weights.
const MAX_BROADCAST: u64 = 1 << 40;
/// How many bytes of it are planned at once, so that no memory is taken for what was announced and has not come.
const STRETCH: usize = 1 << 26;
/// What part of a silence the computing thread has to hear of a loss by itself.
const UNHEARD: u32 = 4;

/// The connections of a rank.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) left: TcpStream,
    pub(super) right: TcpStream,
    /// A second one to each, left and right. What goes against the stream of numbers does so here: a connection that is closed with bytes unread is
    /// reset, and takes with it what has not arrived yet.
    pub(super) beside: (TcpStream, TcpStream),
    /// Rank 0's to all others, or another's to rank 0.
    pub(super) lines: Vec<(usize, Line)>,
}

/// A rank of two or more, on a ring.
#[derive(Debug)]
pub struct Ring {
    wire: Wire,
    shared: Arc<Shared>,
    watch: Option<JoinHandle<()>>,
    number: u64,
    patience: Duration,
    abandon: Option<Abandon>,
}

impl Ring {
    pub(super) fn new(rank: usize, world: usize, links: Links, options: &Options) -> io::Result<Self> {
        for stream in [&links.left, &links.right, &links.beside.0, &links.beside.1] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        let (shared, callers_bell, watchs_bell) = Shared::new(rank, world)?;
        let shared = Arc::new(shared);
        let limits = Limits { silence: options.silence, abandon: options.abandon };
        let (left, right) = links.beside;
        let beside = Beside { left, right, right_rank: (rank + 1) % world };
        let watch = Watch::new(rank, links.lines, beside, Arc::clone(&shared), watchs_bell, limits);
        let watch = thread::Builder::new().name("ranks".to_owned()).spawn(move || watch.run())?;
        let seat = Seat { rank, world };
        let wire = Wire::new(seat, links.left, links.right, callers_bell, Arc::clone(&shared));
        // Every other rank's silence is known by then.
        let patience = options.silence + options.silence / 4;
        let abandon = options.abandon.map(|how| Abandon { after: options.silence / UNHEARD, how });
        Ok(Self { wire, shared, watch: Some(watch), number: 0, patience, abandon })
    }

    /// Does a collective: its number is counted, and what goes wrong is judged.
    fn perform(&mut self, kind: Kind, part: impl FnOnce(&mut Wire, u64) -> Result<(), Stop>) -> Result<(), RankError> {
        if !self.shared.begin(kind.name(), self.number) {
            return Err(self.shared.error());
        }
        match part(&mut self.wire, self.number) {
            Ok(()) => {
                self.number += 1;
                self.shared.end();
                Ok(())
            }
            Err(Stop::Told) => Err(self.shared.error()),
            Err(Stop::Seen(report)) => Err(self.shared.judge(report, self.patience)),
        }
    }

    /// A collective over pieces of values.
    fn over<P: Payload>(
        &mut self,
        kind: Kind,
        mut payload: P,
        bounds: &[usize],
        schedule: impl FnOnce(Seat, &[Piece]) -> Schedule,
    ) -> Result<(), RankError> {
        self.perform(kind, |wire, number| {
            if let Some(fault) = fault_of(bounds, payload.total(), wire.seat.world) {
                return Err(misuse(kind, number, wire.seat.rank, payload.total(), fault));
            }
            let schedule = schedule(wire.seat, &pieces(bounds, P::WIDTH));
            let total = bytes_of(payload.total() * P::WIDTH);
            wire.run(Task { kind, number, total }, &schedule, &mut payload)
        })
    }
}

impl Collective for Ring {
    fn rank(&self) -> usize {
        self.wire.seat.rank
    }

    fn world(&self) -> usize {
        self.wire.seat.world
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), RankError> {
        let bounds = undivided(values.len(), self.world());
        self.over(Kind::AllReduce, values, &bounds, Seat::all_reduce)
    }

    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<(), RankError> {
        let bounds = undivided(values.len(), self.world());
        self.over(Kind::AllReduceF64, values, &bounds, Seat::all_reduce)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        self.over(Kind::ReduceScatter, values, bounds, Seat::reduce_scatter)
    }

    fn all_gather(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        self.over(Kind::AllGather, values, bounds, Seat::all_gather)
    }

    fn broadcast(&mut self, from: usize, bytes: &mut Vec<u8>) -> Result<(), RankError> {
        self.perform(Kind::Broadcast, |wire, number| broadcast(wire, number, from, bytes))
    }

    fn barrier(&mut self) -> Result<(), RankError> {
        let bounds = undivided(0, self.world());
        self.over(Kind::Barrier, &mut [] as &mut [f32], &bounds, Seat::all_reduce)
    }

    fn abandon(&self) -> Option<Abandon> {
        self.abandon
    }
}

/// First how many bytes there are, then they.
fn broadcast(wire: &mut Wire, number: u64, from: usize, bytes: &mut Vec<u8>) -> Result<(), Stop> {
    let (kind, seat) = (Kind::Broadcast, wire.seat);
    if from >= seat.world {
        let fault = format!("rank {from} of {} ranks is to send", seat.world);
        return Err(misuse(kind, number, seat.rank, bytes.len(), fault));
    }
    let mut told = if seat.rank == from { bytes_of(bytes.len()).to_le_bytes().to_vec() } else { Vec::new() };
    let mut length = Bytes { bytes: &mut told, total: size_of::<u64>() };
    let schedule = seat.broadcast(from, &pieces(&[0, length.total], 1), Stage::Length);
    // Who sends stands for how many bytes that is, so that ranks that wait for different ones find out.
    wire.run(Task { kind, number, total: bytes_of(from) }, &schedule, &mut length)?;
    let told = told.first_chunk().map_or(0, |told| u64::from_le_bytes(*told));
    let Some(total) = usize::try_from(told).ok().filter(|_| told <= MAX_BROADCAST) else {
        let reason = format!("it announced a broadcast of {told} bytes, where {MAX_BROADCAST} are the most");
        return Err(Stop::Seen(Report { fate: Fate::Lost { rank: from, reason }, certain: true }));
    };
    if seat.rank != from {
        bytes.clear();
    }
    let mut payload = Bytes { bytes, total };
    for start in (0..total).step_by(STRETCH) {
        let stretch = [start, total.min(start.saturating_add(STRETCH))];
        let schedule = seat.broadcast(from, &pieces(&stretch, 1), Stage::Whole);
        wire.run(Task { kind, number, total: told }, &schedule, &mut payload)?;
    }
    Ok(())
}

impl Drop for Ring {
    /// Leaves: the others go on to the end of what was begun, and hear of it if they begin more.
    fn drop(&mut self) {
        self.shared.close(self.number);
        if let Some(watch) = self.watch.take() {
            // It does not panic; and if it did, the others would find this rank silent.
            let _ = watch.join();
        }
    }
}

fn bytes_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The bounds of what belongs to nobody in particular: all of it is in the first segment.
fn undivided(length: usize, world: usize) -> Vec<usize> {
    let mut bounds = vec![length; world + 1];
    bounds[0] = 0;
    bounds
}

/// What is wrong with bounds, if anything is.
fn fault_of(bounds: &[usize], length: usize, world: usize) -> Option<String> {
    let right = bounds.len() == world + 1 && bounds.first() == Some(&0) && bounds.last() == Some(&length);
    (!right || !bounds.is_sorted()).then(|| {
        let (count, last) = (bounds.len(), bounds.last().copied().unwrap_or(0));
        format!("{count} bounds up to {last}, where {} that do not fall have to go from 0 to {length}", world + 1)
    })
}

/// A call that no rank can answer: the others are told, as they would wait for it.
fn misuse(kind: Kind, number: u64, rank: usize, length: usize, fault: String) -> Stop {
    let ours = format!("{} number {number} of {length} values", kind.name());
    Stop::Seen(Report { fate: Fate::Diverged { rank, theirs: fault, own: rank, ours }, certain: true })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::frame::{Frame, HEADER};
    use super::testing::connected;
    use super::*;

    /// What rank 0 of two sees in a collective for which its neighbour sends these bytes and closes the connection.
    fn seen(sent: &[u8], part: impl FnOnce(&mut Wire) -> Result<(), Stop>) -> Fate {
        let (left, mut left_of_other) = connected();
        let (right, _right_of_other) = connected();
        let (shared, bell, _watchs) = Shared::new(0, 2).unwrap();
        let mut wire = Wire::new(Seat { rank: 0, world: 2 }, left, right, bell, Arc::new(shared));
        left_of_other.write_all(sent).unwrap();
        drop(left_of_other);
        match part(&mut wire) {
            Err(Stop::Seen(report)) => report.fate,
            other => panic!("{other:?}"),
        }
    }

    fn gather(wire: &mut Wire) -> Result<(), Stop> {
        let pieces = pieces(&[0, 1, 2], 4);
        let task = Task { kind: Kind::AllGather, number: 5, total: 8 };
        wire.run(task, &wire.seat.all_gather(&pieces), &mut &mut [1.0f32, 2.0][..])
    }

    fn header(kind: Kind, stage: Stage, total: u64, piece: u32, length: u32) -> [u8; HEADER] {
        Frame { kind, stage, number: 5, total, piece, length }.encode()
    }

    #[test]
    fn bytes_that_are_no_frame_end_the_group_and_name_who_sent_them() {
        let fate = seen(&[7; 64], gather);
        assert!(
            matches!(&fate, Fate::Lost { rank: 1, reason } if reason.contains("a frame that begins with")),
            "{fate:?}"
        );
        let long = header(Kind::AllGather, Stage::Whole, 8, 1, u32::MAX);
        let fate = seen(&long, gather);
        assert!(matches!(&fate, Fate::Lost { rank: 1, reason } if reason.contains("4294967295 bytes")), "{fate:?}");
    }

    #[test]
    fn a_frame_that_ends_early_is_a_connection_that_closed() {
        let sent = header(Kind::AllGather, Stage::Whole, 8, 1, 4);
        for end in [0, 1, HEADER - 1, HEADER] {
            let fate = seen(&sent[..end], gather);
            assert!(
                matches!(&fate, Fate::Lost { rank: 1, reason } if reason.contains("its connection closed")),
                "{fate:?}"
            );
        }
    }

    #[test]
    fn a_frame_of_something_else_is_told_beside_what_was_expected() {
        let fate = seen(&header(Kind::Barrier, Stage::Whole, 0, 0, 0), gather);
        let Fate::Diverged { rank: 1, theirs, own: 0, ours } = fate else { panic!("{fate:?}") };
        assert!(theirs.starts_with("barrier number 5") && ours.starts_with("all_gather number 5"), "{theirs}, {ours}");
    }

    #[test]
    fn no_memory_is_taken_for_bytes_that_are_announced_and_do_not_come() {
        let announced =
            |length: u64| [&header(Kind::Broadcast, Stage::Length, 1, 0, 8)[..], &length.to_le_bytes()].concat();
        let mut bytes = vec![1];
        let fate = seen(&announced(u64::MAX), |wire| broadcast(wire, 5, 1, &mut bytes));
        assert!(
            matches!(&fate, Fate::Lost { rank: 1, reason } if reason.contains("announced a broadcast")),
            "{fate:?}"
        );
        let fate = seen(&announced(MAX_BROADCAST), |wire| broadcast(wire, 5, 1, &mut bytes));
        assert!(matches!(&fate, Fate::Lost { rank: 1, reason } if reason.contains("closed")), "{fate:?}");
        assert!(bytes.is_empty() && bytes.capacity() < 1024);
    }
}
