//! The ring is closed: every rank connects to its right neighbour and takes in its left one.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};

use super::super::wait::{until, wait};
use super::super::words::Line;
use super::{Answer, HELLO_LIMIT, Hello, Options, RendezvousError};

/// The connections to the left and to the right neighbour.
pub(super) fn connect(
    listener: &TcpListener,
    hello: &Hello,
    addresses: &[SocketAddr],
    options: &Options,
) -> Result<(TcpStream, TcpStream), RendezvousError> {
    let deadline = Instant::now() + options.silence;
    let right = (hello.rank + 1) % hello.world;
    let address = addresses.get(right).copied().ok_or_else(|| io::Error::other("the table is too short"))?;
    let unreached = |reason: String| RendezvousError::Neighbour { rank: right, address, reason };
    // It is not waited for an answer before the left neighbour has one: all would wait for all.
    let mut to_right = TcpStream::connect_timeout(&address, options.silence)
        .and_then(Line::new)
        .map_err(|error| unreached(error.to_string()))?;
    to_right.say(hello).map_err(|error| unreached(error.to_string()))?;
    let left = accept(listener, hello, deadline)?.ok_or_else(|| RendezvousError::NoNeighbour {
        rank: (hello.rank + hello.world - 1) % hello.world,
        own: hello.rank,
        seconds: options.silence.as_secs(),
    })?;
    match to_right.hear(deadline) {
        Ok(Answer::Welcome) => Ok((left, to_right.into_stream())),
        Ok(Answer::Refused { reason }) => Err(unreached(reason)),
        Ok(_) => Err(unreached("it answers what was not asked".to_owned())),
        Err(error) => Err(unreached(error.to_string())),
    }
}

/// The left neighbour, if it comes in time. Whoever else comes is sent away.
fn accept(listener: &TcpListener, hello: &Hello, deadline: Instant) -> Result<Option<TcpStream>, RendezvousError> {
    listener.set_nonblocking(true)?;
    let expected = (hello.rank + hello.world - 1) % hello.world;
    while !until(deadline).is_zero() {
        wait(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], Some(until(deadline)))?;
        let Ok((stream, _)) = listener.accept() else { continue };
        let mut line = Line::new(stream)?;
        let Ok(said) = line.hear::<Hello>(deadline.min(Instant::now() + HELLO_LIMIT)) else { continue };
        let objection = hello.objection(&said);
        let objection = objection.or_else(|| {
            (said.rank != expected)
                .then(|| format!("rank {} is not the left neighbour of rank {}", said.rank, hello.rank))
        });
        match objection {
            None => {
                if line.say(&Answer::Welcome).is_ok() {
                    return Ok(Some(line.into_stream()));
                }
            }
            Some(reason) => {
                let _ = line.say(&Answer::Refused { reason });
            }
        }
    }
    Ok(None)
}
