//! Rank 0's part of the rendezvous: it takes in who comes, refuses strangers with words, and hands out the table once all are there.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use serde_json::Value;

use super::super::wait::{until, wait};
use super::super::words::{Line, WordError};
use super::{Addresses, Answer, HELLO_LIMIT, Hello, Options, RendezvousError};

/// The most connections that have not said who they are: whatever scans ports shall not take up all memory.
const MAX_STRANGERS: usize = 256;
/// How often those who wait hear that they shall.
const REASSURANCE: Duration = Duration::from_secs(1);

/// One who has connected and said nothing yet.
struct Stranger {
    line: Line,
    since: Instant,
}

/// A rank that has come.
struct Guest {
    rank: usize,
    address: SocketAddr,
    line: Line,
}

struct Host<'a> {
    listener: &'a TcpListener,
    hello: &'a Hello,
    strangers: Vec<Stranger>,
    guests: Vec<Guest>,
    last_refusal: Option<String>,
}

/// Waits for all ranks: the addresses of all, and the lines to all others.
pub(super) fn gather(
    listener: &TcpListener,
    hello: &Hello,
    options: &Options,
    deadline: Instant,
) -> Result<(Addresses, Vec<(usize, Line)>), RendezvousError> {
    listener.set_nonblocking(true)?;
    let (strangers, guests) = (Vec::new(), Vec::new());
    let mut host = Host { listener, hello, strangers, guests, last_refusal: None };
    while host.guests.len() + 1 < hello.world {
        if until(deadline).is_zero() {
            return Err(host.give_up(options.deadline));
        }
        host.sleep(deadline)?;
        host.accept()?;
        host.meet_strangers();
        host.reassure();
    }
    host.seat()
}

impl Host<'_> {
    fn sleep(&self, deadline: Instant) -> Result<(), RendezvousError> {
        let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let lines = self.strangers.iter().map(|stranger| &stranger.line);
        let lines = lines.chain(self.guests.iter().map(|guest| &guest.line));
        fds.extend(lines.map(|line| PollFd::new(line.stream().as_fd(), PollFlags::POLLIN)));
        wait(&mut fds, Some(until(deadline).min(REASSURANCE)))?;
        Ok(())
    }

    fn accept(&mut self) -> Result<(), RendezvousError> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) if self.strangers.len() < MAX_STRANGERS => {
                    self.strangers.push(Stranger { line: Line::new(stream)?, since: Instant::now() });
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // One who went away before it was taken in.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn meet_strangers(&mut self) {
        for mut stranger in std::mem::take(&mut self.strangers) {
            match introduction(&mut stranger.line) {
                Ok(Some(said)) => self.meet(stranger.line, said),
                Ok(None) if stranger.since.elapsed() < HELLO_LIMIT => self.strangers.push(stranger),
                // Whatever it is, it is no rank.
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn meet(&mut self, line: Line, said: Value) {
        let admitted = self.admit(said).and_then(|hello| Ok((hello.rank, address_of(line.stream(), hello.port)?)));
        match admitted {
            Ok((rank, address)) => {
                tracing::info!(rank, %address, "a rank has come");
                self.guests.push(Guest { rank, address, line });
            }
            Err(reason) => {
                tracing::warn!(%reason, "a rank was refused");
                let _ = line.say(&Answer::Refused { reason: reason.clone() });
                self.last_refusal = Some(reason);
            }
        }
    }

    /// Whether one who says this is one of those who are waited for.
    fn admit(&mut self, said: Value) -> Result<Hello, String> {
        let hello = understood(said, self.hello)?;
        if let Some(objection) = self.hello.objection(&hello) {
            return Err(objection);
        }
        let taken = |rank: usize| format!("another process is rank {rank} of this job already: give each its own RANK");
        if hello.rank == 0 {
            return Err(taken(0));
        }
        self.dismiss_the_dead();
        if self.guests.iter().any(|guest| guest.rank == hello.rank) { Err(taken(hello.rank)) } else { Ok(hello) }
    }

    /// A rank that died while it waited may come again.
    fn dismiss_the_dead(&mut self) {
        self.guests.retain_mut(|guest| !matches!(guest.line.fill(), Err(_) | Ok(true)));
    }

    /// Those who wait hear that rank 0 is still there.
    fn reassure(&mut self) {
        self.dismiss_the_dead();
        self.guests.retain(|guest| guest.line.say(&Answer::Wait).is_ok());
    }

    fn give_up(self, waited: Duration) -> RendezvousError {
        let world = self.hello.world;
        let came = |rank: &usize| *rank == 0 || self.guests.iter().any(|guest| guest.rank == *rank);
        let missing = (0..world).filter(|rank| !came(rank)).collect();
        let last = self.last_refusal.map(|reason| format!(" (one was refused: {reason})")).unwrap_or_default();
        let error = RendezvousError::Missing { missing, world, seconds: waited.as_secs(), last };
        for guest in &self.guests {
            let _ = guest.line.say(&Answer::Refused { reason: error.to_string() });
        }
        error
    }

    /// Hands out the table. One who cannot be told any more is found missing on the ring.
    fn seat(mut self) -> Result<(Addresses, Vec<(usize, Line)>), RendezvousError> {
        self.guests.sort_by_key(|guest| guest.rank);
        let own = SocketAddr::new(self.listener.local_addr()?.ip(), self.hello.port);
        let addresses: Vec<_> = std::iter::once(own).chain(self.guests.iter().map(|guest| guest.address)).collect();
        for guest in &self.guests {
            let _ = guest.line.say(&Answer::Table { addresses: addresses.clone() });
        }
        Ok((addresses, self.guests.into_iter().map(|guest| (guest.rank, guest.line)).collect()))
    }
}

/// What one who has connected says of itself, once it has said it.
fn introduction(line: &mut Line) -> Result<Option<Value>, WordError> {
    let filled = line.fill();
    match line.next()? {
        Some(said) => Ok(Some(said)),
        None => filled.map(|_| None),
    }
}

/// The version is looked at first: another one may say all else in other words.
fn understood(said: Value, own: &Hello) -> Result<Hello, String> {
    let protocol = said.get("protocol").and_then(Value::as_u64).and_then(|protocol| u32::try_from(protocol).ok());
    match serde_json::from_value(said) {
        Ok(hello) => Ok(hello),
        Err(error) => {
            let other = protocol.filter(|protocol| *protocol != own.protocol);
            let objection = other.and_then(|protocol| own.objection(&Hello { protocol, ..own.clone() }));
            Err(objection.unwrap_or_else(|| format!("it does not say who it is ({error})")))
        }
    }
}

/// Where a rank listens: on the machine that it comes from.
fn address_of(stream: &TcpStream, port: u16) -> Result<SocketAddr, String> {
    let peer = stream.peer_addr().map_err(|error| format!("its address is not known ({error})"))?;
    Ok(SocketAddr::new(peer.ip().to_canonical(), port))
}
