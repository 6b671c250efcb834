//! Worlds of ranks that are threads of this process.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use sera_trainer::ranks::{Collective, Master, Options, Place, join};

/// A port that nobody has: of those that the system gives to no connection of its own accord.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    (0..10_000)
        .map(|_| 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

pub(crate) fn place(rank: usize, world: usize, port: u16) -> Place {
    Place { rank, world, local_rank: rank, master: Master { host: "127.0.0.1".into(), port } }
}

/// Ample for a machine that does other things too.
pub(crate) fn options() -> Options {
    let deadline = Duration::from_mins(1);
    Options { job: "a test".into(), deadline, ..Options::default() }
}

/// What every rank of such a world comes to.
pub(crate) fn every_rank<T: Send>(
    world: usize,
    options: &Options,
    part: impl Fn(&mut dyn Collective) -> T + Sync,
) -> Vec<T> {
    let port = free_port();
    thread::scope(|scope| {
        let ranks: Vec<_> = (0..world)
            .map(|rank| {
                let part = &part;
                scope.spawn(move || part(&mut *join(&place(rank, world, port), options).unwrap()))
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}
