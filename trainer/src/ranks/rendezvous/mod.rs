//! How ranks find each other: all come to rank 0, say who they are, and learn where their neighbours listen. What they do afterwards is the ring's.

mod guest;
mod host;
mod neighbours;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use sera_crds::values::Timeout;
use serde::{Deserialize, Serialize};

use super::place::Master;
use super::ring::Links;
use super::{Alone, Collective, Place, RankError, Ring};

/// The version of what ranks say to each other. Ranks of different ones refuse each other.
const PROTOCOL: u32 = 1;
/// How long whoever connects may take to say who it is.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// How ranks meet and when they part.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is the same for all ranks of this attempt and of no other: a rank that says something else is refused.
    pub job: String,
    /// How long the others are waited for: pods start at different times, and their names resolve later still.
    pub deadline: Duration,
    /// After how long a silence a rank is lost. Computing is no silence.
    pub silence: Duration,
    /// Called once, on another thread, when a rank was lost and this one has not come to a collective for a quarter of `silence` since: to end the
    /// process, which may compute for much longer.
    pub abandon: Option<fn(&RankError)>,
}

impl Default for Options {
    /// 15 minutes to meet, as a run's `startDeadline`; 20 seconds of silence, so that all have ended within 30.
    fn default() -> Self {
        let (deadline, silence) = (Duration::from_mins(15), Duration::from_secs(20));
        Self { job: String::new(), deadline, silence, abandon: None }
    }
}

impl Options {
    /// The job is `SERA_RENDEZVOUS_ID`, or what torchrun calls its run (`TORCHELASTIC_RUN_ID`); the deadline is `SERA_START_DEADLINE`, such as `15m`, where
    /// that is set.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let deadline = lookup("SERA_START_DEADLINE").and_then(|text| text.parse::<Timeout>().ok());
        let deadline = deadline.map_or(Self::default().deadline, |deadline| deadline.span());
        let job = lookup("SERA_RENDEZVOUS_ID").or_else(|| lookup("TORCHELASTIC_RUN_ID")).unwrap_or_default();
        // Longer names would not tell more; a word has its bounds.
        Self { job: job.chars().take(256).collect(), deadline, ..Self::default() }
    }
}

/// Why ranks did not meet.
#[derive(Debug, thiserror::Error)]
pub enum RendezvousError {
    /// Another program listens there.
    #[error(
        "MASTER_PORT: port {port} is in use on this machine: end what listens there, or set another one for all ranks"
    )]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// It cannot be listened there.
    #[error("MASTER_PORT: rank 0 cannot listen at port {port}: set another one for all ranks")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The name of rank 0's host is not known.
    #[error(
        "MASTER_ADDR: {host} did not resolve to an address within {seconds} s ({reason}): correct the name, or see to its Service"
    )]
    Unresolved {
        /// The name.
        host: String,
        /// How long it was tried.
        seconds: u64,
        /// What the last try said.
        reason: String,
    },
    /// Rank 0 did not answer.
    #[error(
        "MASTER_ADDR and MASTER_PORT: rank 0 did not answer at {master} within {seconds} s ({reason}): see to rank 0, or correct them"
    )]
    Unreached {
        /// Where.
        master: String,
        /// How long it was tried.
        seconds: u64,
        /// What the last try said.
        reason: String,
    },
    /// Rank 0 does not want this rank.
    #[error("rank 0 at {master} refuses rank {rank}: {reason}")]
    Refused {
        /// Where.
        master: String,
        /// This rank.
        rank: usize,
        /// Its words.
        reason: String,
    },
    /// Not all ranks came.
    #[error("{} of {world} did not come within {seconds} s{last}: look at what they say, or start them", ranks(.missing))]
    Missing {
        /// Which.
        missing: Vec<usize>,
        /// How many there are.
        world: usize,
        /// How long they were waited for.
        seconds: u64,
        /// What was last refused, in brackets, if anything was.
        last: String,
    },
    /// A neighbour was not reached.
    #[error("rank {rank} at {address} was not reached ({reason}): may its pods connect to each other at any port?")]
    Neighbour {
        /// Which.
        rank: usize,
        /// Where it listens.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// A neighbour did not come.
    #[error(
        "rank {rank} did not connect to rank {own} within {seconds} s: may its pods connect to each other at any port?"
    )]
    NoNeighbour {
        /// Which.
        rank: usize,
        /// This rank.
        own: usize,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The system gave no socket or no thread.
    #[error("a socket or a thread of this rank failed ({0}): are there limits on them that are reached?")]
    System(#[from] io::Error),
}

/// `rank 1`, `ranks 1, 3 and 4`, and no more than a line takes.
fn ranks(ranks: &[usize]) -> String {
    const MOST: usize = 16;
    let names: Vec<String> = ranks.iter().take(MOST).map(ToString::to_string).collect();
    match names.split_last() {
        None => "no rank".to_owned(),
        Some((only, [])) => format!("rank {only}"),
        Some(_) if ranks.len() > MOST => format!("ranks {} and {} more", names.join(", "), ranks.len() - MOST),
        Some((last, others)) => format!("ranks {} and {last}", others.join(", ")),
    }
}

/// Meets the others, and is one of them from then on. A rank that has no others needs no meeting.
pub fn join(place: &Place, options: &Options) -> Result<Box<dyn Collective>, RendezvousError> {
    if place.world == 1 {
        return Ok(Box::new(Alone));
    }
    Ok(Box::new(ring(place, options)?))
}

/// Meets the others, of which there is at least one.
pub(super) fn ring(place: &Place, options: &Options) -> Result<Ring, RendezvousError> {
    Ok(Ring::new(place.rank, place.world, meet(place, options)?, options)?)
}

/// Where every rank listens for its left neighbour.
type Addresses = Vec<SocketAddr>;

/// What a rank says of itself when it connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    protocol: u32,
    job: String,
    world: usize,
    rank: usize,
    /// Where its left neighbour finds it.
    port: u16,
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// Others have not come yet.
    Wait,
    /// It may not come in.
    Refused { reason: String },
    /// Where all ranks listen for their left neighbours.
    Table { addresses: Vec<SocketAddr> },
    /// This is the neighbour that was looked for.
    Welcome,
}

impl Hello {
    fn new(place: &Place, options: &Options, port: u16) -> Self {
        Self { protocol: PROTOCOL, job: options.job.clone(), world: place.world, rank: place.rank, port }
    }

    /// Why one who says `other` is not of the same world, if it is not.
    fn objection(&self, other: &Self) -> Option<String> {
        if other.protocol != self.protocol {
            let (theirs, ours) = (other.protocol, self.protocol);
            return Some(format!(
                "it speaks version {theirs} of the ranks' protocol, and this rank {ours}: use one image for all"
            ));
        }
        if other.job != self.job {
            let (theirs, ours) = (&other.job, &self.job);
            return Some(format!(
                "it belongs to the job {theirs:?} and this one to {ours:?} (SERA_RENDEZVOUS_ID): \
                 it is left from another attempt, or one of them is set wrongly"
            ));
        }
        if other.world != self.world {
            let (theirs, ours) = (other.world, self.world);
            return Some(format!(
                "its WORLD_SIZE is {theirs} and rank {}'s is {ours}: set the same for all",
                self.rank
            ));
        }
        (other.rank >= self.world).then(|| format!("its RANK is {} in a world of {}", other.rank, self.world))
    }
}

fn meet(place: &Place, options: &Options) -> Result<Links, RendezvousError> {
    let deadline = Instant::now() + options.deadline;
    let neighbours =
        TcpListener::bind(listening(&place.master, 0)).or_else(|_| TcpListener::bind(v4(&place.master, 0)))?;
    let hello = Hello::new(place, options, neighbours.local_addr()?.port());
    let (addresses, lines) = if place.rank == 0 {
        let listener = listen(&place.master)?;
        host::gather(&listener, &hello, options, deadline)?
    } else {
        let (addresses, line) = guest::visit(place, &hello, options, deadline)?;
        (addresses, vec![(0, line)])
    };
    let (left, right) = neighbours::connect(&neighbours, &hello, &addresses, options)?;
    let beside = neighbours::connect(&neighbours, &hello, &addresses, options)?;
    Ok(Links { left, right, beside, lines })
}

/// Rank 0's own port.
fn listen(master: &Master) -> Result<TcpListener, RendezvousError> {
    let port = master.port;
    let in_use = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    match TcpListener::bind(listening(master, port)) {
        Ok(listener) => Ok(listener),
        Err(error) if in_use(&error) => Err(RendezvousError::PortInUse { port }),
        // A machine without IPv6.
        Err(_) => TcpListener::bind(v4(master, port)).map_err(|source| {
            if in_use(&source) { RendezvousError::PortInUse { port } } else { RendezvousError::Listen { port, source } }
        }),
    }
}

/// Where to listen: where all ranks are on one machine, for it alone.
fn listening(master: &Master, port: u16) -> SocketAddr {
    match loopback(master) {
        Some(address) => SocketAddr::new(address, port),
        None => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
    }
}

fn v4(master: &Master, port: u16) -> SocketAddr {
    SocketAddr::new(loopback(master).unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port)
}

/// The address of this machine alone, if that is what is meant. A machine's own name may resolve to one too, where it means the machine for all.
fn loopback(master: &Master) -> Option<IpAddr> {
    if master.host == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    master.host.parse().ok().filter(IpAddr::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello { protocol: PROTOCOL, job: "run-a2".into(), world: 4, rank: 0, port: 1 }
    }

    #[test]
    fn what_makes_a_rank_a_stranger_is_said() {
        let objection = |other: Hello| hello().objection(&other).unwrap();
        assert_eq!(hello().objection(&Hello { rank: 3, port: 9, ..hello() }), None);
        assert!(objection(Hello { protocol: 7, ..hello() }).contains("version 7"));
        let stale = objection(Hello { job: "run-a1".into(), ..hello() });
        assert!(stale.contains("\"run-a1\"") && stale.contains("\"run-a2\"") && stale.contains("SERA_RENDEZVOUS_ID"));
        assert!(objection(Hello { world: 2, ..hello() }).starts_with("its WORLD_SIZE is 2 and rank 0's is 4"));
        assert!(objection(Hello { rank: 4, ..hello() }).starts_with("its RANK is 4"));
    }

    #[test]
    fn missing_ranks_are_named_in_one_line() {
        assert_eq!(ranks(&[2]), "rank 2");
        assert_eq!(ranks(&[1, 3, 4]), "ranks 1, 3 and 4");
        assert!(ranks(&(1..20).collect::<Vec<_>>()).ends_with("15, 16 and 3 more"));
    }

    #[test]
    fn one_machines_ranks_are_not_open_to_others() {
        let at = |host: &str| listening(&Master { host: host.into(), port: 1 }, 1).ip();
        assert!(at("localhost").is_loopback() && at("127.0.0.1").is_loopback() && at("::1").is_loopback());
        assert!(at("10.1.2.3").is_unspecified() && at("job-0.gang").is_unspecified());
    }

    #[test]
    fn the_longest_table_is_a_word() {
        let address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        let table = Answer::Table { addresses: vec![address; super::super::place::MAX_WORLD] };
        assert!(serde_json::to_vec(&table).unwrap().len() <= super::super::words::MAX_WORD);
    }
}
