//! The other ranks' part of the rendezvous: they come to rank 0, again and again until it is there, and wait for the table.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use super::super::wait::until;
use super::super::words::{Line, WordError};
use super::{Addresses, Answer, Hello, Options, Place, RendezvousError};

/// How long the first pause between two tries is. Each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long the longest is: a rank that starts late is noticed soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long one try may take to connect. A packet that a firewall swallows shall not take all the time that there is.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Why one try did not succeed.
enum Failure {
    Unresolved(io::Error),
    Unreached(String),
    Refused(String),
}

/// Comes to rank 0: the addresses of all ranks, and the line to it.
pub(super) fn visit(
    place: &Place,
    hello: &Hello,
    options: &Options,
    deadline: Instant,
) -> Result<(Addresses, Line), RendezvousError> {
    let seconds = options.deadline.as_secs();
    let mut pause = FIRST_PAUSE;
    let mut last = String::new();
    loop {
        let failure = match visit_once(place, hello, options.silence, deadline) {
            Ok(table) => return Ok(table),
            Err(failure) => failure,
        };
        let (error, reason) = match failure {
            Failure::Refused(reason) => {
                return Err(RendezvousError::Refused { master: place.master.to_string(), rank: place.rank, reason });
            }
            Failure::Unresolved(error) => {
                let (host, reason) = (place.master.host.clone(), error.to_string());
                (RendezvousError::Unresolved { host, seconds, reason: reason.clone() }, reason)
            }
            Failure::Unreached(reason) => {
                let master = place.master.to_string();
                (RendezvousError::Unreached { master, seconds, reason: reason.clone() }, reason)
            }
        };
        if until(deadline).is_zero() {
            return Err(error);
        }
        if reason != last {
            tracing::info!(master = %place.master, %reason, "waiting for rank 0");
            last = reason;
        }
        thread::sleep(pause.min(until(deadline)));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn visit_once(
    place: &Place,
    hello: &Hello,
    silence: Duration,
    deadline: Instant,
) -> Result<(Addresses, Line), Failure> {
    let found = (place.master.host.as_str(), place.master.port).to_socket_addrs().map_err(Failure::Unresolved)?;
    let mut reason = "the name has no address".to_owned();
    for address in found {
        let limit = CONNECT_LIMIT.min(until(deadline)).max(FIRST_PAUSE);
        match TcpStream::connect_timeout(&address, limit).and_then(Line::new) {
            Ok(line) => return wait_for_table(line, hello, silence, deadline),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(Failure::Unreached(reason))
}

/// Says who this rank is, and waits as long as it hears that it shall.
fn wait_for_table(
    mut line: Line,
    hello: &Hello,
    silence: Duration,
    deadline: Instant,
) -> Result<(Addresses, Line), Failure> {
    let unreached = |error: WordError| Failure::Unreached(error.to_string());
    line.say(hello).map_err(unreached)?;
    loop {
        if until(deadline).is_zero() {
            return Err(Failure::Unreached("it waits for other ranks, which it names".to_owned()));
        }
        // A little longer than rank 0 itself waits, whose word on who is missing is then heard.
        match line.hear(Instant::now() + silence).map_err(unreached)? {
            Answer::Wait => {}
            Answer::Refused { reason } => return Err(Failure::Refused(reason)),
            Answer::Table { addresses } if addresses.len() == hello.world => {
                let host = line.stream().peer_addr().map_err(|error| unreached(error.into()))?;
                return Ok((
                    addresses.into_iter().zip(0..).map(|(at, rank)| seen_from_here(at, rank, host)).collect(),
                    line,
                ));
            }
            Answer::Table { .. } | Answer::Welcome => {
                return Err(Failure::Unreached("it answers what was not asked".to_owned()));
            }
        }
    }
}

/// Rank 0 does not know under which address others reach it, nor those who came to it from its own machine.
fn seen_from_here(address: SocketAddr, rank: usize, host: SocketAddr) -> SocketAddr {
    if rank == 0 || address.ip().is_loopback() { SocketAddr::new(host.ip(), address.port()) } else { address }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_rank_0s_machine_are_found_where_rank_0_is() {
        let at = |address: &str| address.parse::<SocketAddr>().unwrap();
        let host = at("10.0.0.5:29500");
        assert_eq!(seen_from_here(at("[::]:7000"), 0, host), at("10.0.0.5:7000"));
        assert_eq!(seen_from_here(at("127.0.0.1:7001"), 1, host), at("10.0.0.5:7001"));
        assert_eq!(seen_from_here(at("10.0.0.6:7002"), 2, host), at("10.0.0.6:7002"));
    }
}
