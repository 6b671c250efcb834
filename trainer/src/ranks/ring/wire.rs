//! Moves the pieces of a schedule: to the right neighbour and from the left one at once, as the sockets allow, so that no rank ever waits for a
//! buffer that another would have to empty first. Between, the thread sleeps.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags};

use super::super::wait::{is_ready, wait};
use super::fate::{Bell, Fate, Report, Shared, quieten};
use super::frame::{Frame, HEADER, Kind, MAX_PIECE, Stage};
use super::payload::Payload;
use super::schedule::{Arrival, Piece, Schedule, Seat};

/// Why a collective did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// Another thread knows.
    Told,
    /// This one has seen it.
    Seen(Report),
}

/// The connections to both neighbours.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) seat: Seat,
    left: TcpStream,
    right: TcpStream,
    bell: Bell,
    shared: Arc<Shared>,
    coming: Vec<u8>,
    going: Vec<u8>,
}

/// Which collective it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    pub(super) kind: Kind,
    pub(super) number: u64,
    /// How many bytes it is about.
    pub(super) total: u64,
}

impl Task {
    fn frame(self, piece: &Piece, stage: Stage, width: usize) -> Frame {
        // A piece has at most `MAX_PIECE` bytes.
        let length = u32::try_from(piece.range.len() * width).unwrap_or(u32::MAX);
        let Self { kind, number, total } = self;
        Frame { kind, stage, number, total, piece: piece.number, length }
    }
}

/// How far a schedule has come.
#[derive(Debug, Default)]
struct Progress {
    departed: usize,
    /// How much of the departing piece has been written.
    written: usize,
    arrived: usize,
    /// How much of the arriving piece has been read.
    read: usize,
}

impl Wire {
    pub(super) fn new(seat: Seat, left: TcpStream, right: TcpStream, bell: Bell, shared: Arc<Shared>) -> Self {
        let buffer = || Vec::with_capacity(HEADER + MAX_PIECE);
        Self { seat, left, right, bell, shared, coming: buffer(), going: buffer() }
    }

    /// Does this rank's part of a collective.
    pub(super) fn run<P: Payload>(&mut self, task: Task, schedule: &Schedule, payload: &mut P) -> Result<(), Stop> {
        let mut progress = Progress::default();
        let Schedule { departures, arrivals } = schedule;
        loop {
            let came = match arrivals.get(progress.arrived) {
                Some(arrival) => self.receive(task, arrival, payload, &mut progress)?,
                None => false,
            };
            let next = departures.get(progress.departed);
            let went = match next.filter(|departure| departure.after <= progress.arrived) {
                Some(departure) => {
                    if progress.written == 0 && self.going.is_empty() {
                        let frame = task.frame(&departure.piece, departure.stage, P::WIDTH);
                        self.going.extend_from_slice(&frame.encode());
                        payload.stage(departure.piece.range.clone(), &mut self.going);
                    }
                    self.send(&mut progress)?
                }
                None => false,
            };
            let (receives, sends) = (progress.arrived < arrivals.len(), progress.departed < departures.len());
            if !receives && !sends {
                return Ok(());
            }
            if !came && !went {
                let may_send = departures.get(progress.departed).is_some_and(|next| next.after <= progress.arrived);
                self.sleep(receives, may_send)?;
            }
        }
    }

    /// Writes what the socket takes of the departing piece; whether it took any.
    fn send(&mut self, progress: &mut Progress) -> Result<bool, Stop> {
        match (&self.right).write(&self.going[progress.written..]) {
            Ok(written) => {
                progress.written += written;
                if progress.written == self.going.len() {
                    self.going.clear();
                    progress.written = 0;
                    progress.departed += 1;
                }
                Ok(true)
            }
            Err(error) if passes(error.kind()) => Ok(false),
            Err(error) => Err(self.broken(self.right_rank(), &format!("its connection failed ({error})"))),
        }
    }

    /// Reads what the socket has of the arriving piece; whether it had any.
    fn receive<P: Payload>(
        &mut self,
        task: Task,
        arrival: &Arrival,
        payload: &mut P,
        progress: &mut Progress,
    ) -> Result<bool, Stop> {
        let expected = task.frame(&arrival.piece, arrival.stage, P::WIDTH);
        let whole = HEADER + arrival.piece.range.len() * P::WIDTH;
        // The header by itself first: only one that is expected is followed by what is expected.
        let wanted = if progress.read < HEADER { HEADER } else { whole };
        self.coming.resize(whole, 0);
        match (&self.left).read(&mut self.coming[progress.read..wanted]) {
            Ok(0) => return Err(self.broken(self.left_rank(), "its connection closed")),
            Ok(read) => progress.read += read,
            Err(error) if passes(error.kind()) => return Ok(false),
            Err(error) => return Err(self.broken(self.left_rank(), &format!("its connection failed ({error})"))),
        }
        if progress.read == HEADER {
            self.check(expected)?;
        }
        if progress.read == whole {
            payload.take(arrival.piece.range.clone(), arrival.how, &self.coming[HEADER..]);
            progress.read = 0;
            progress.arrived += 1;
        }
        Ok(true)
    }

    /// Whether the header that came is the one that had to come.
    fn check(&self, expected: Frame) -> Result<(), Stop> {
        let Some(header) = self.coming.first_chunk() else { return Ok(()) };
        let came = Frame::parse(header).map_err(|error| self.broken(self.left_rank(), &format!("it sent {error}")))?;
        if came == expected {
            return Ok(());
        }
        let fate = Fate::Diverged {
            rank: self.left_rank(),
            theirs: came.to_string(),
            own: self.seat.rank,
            ours: expected.to_string(),
        };
        Err(Stop::Seen(Report { fate, certain: true }))
    }

    /// Waits until a socket has or takes bytes, or the other thread has news.
    fn sleep(&self, receives: bool, sends: bool) -> Result<(), Stop> {
        // Of a connection that nothing is wanted of nothing is heard either: once closed, it would wake this thread again and again.
        let mut fds = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        fds.extend(receives.then(|| PollFd::new(self.left.as_fd(), PollFlags::POLLIN)));
        fds.extend(sends.then(|| PollFd::new(self.right.as_fd(), PollFlags::POLLOUT)));
        wait(&mut fds, None).map_err(|error| self.broken(self.seat.rank, &format!("it cannot wait ({error})")))?;
        if is_ready(&fds[0]) {
            quieten(&self.bell);
            if !self.shared.stands() {
                return Err(Stop::Told);
            }
        }
        Ok(())
    }

    fn broken(&self, rank: usize, reason: &str) -> Stop {
        let reason = format!("{reason}, as rank {} saw", self.seat.rank);
        Stop::Seen(Report { fate: Fate::Lost { rank, reason }, certain: false })
    }

    fn left_rank(&self) -> usize {
        (self.seat.rank + self.seat.world - 1) % self.seat.world
    }

    fn right_rank(&self) -> usize {
        (self.seat.rank + 1) % self.seat.world
    }
}

fn passes(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
