//! A poor line to a server: a proxy that passes bytes on in both directions and cuts each connection after so many of them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;

/// How much is passed on at once, in bytes.
const PIECE: usize = 16 * 1024;

/// A proxy; its threads end with the process.
pub struct Cutter {
    address: SocketAddr,
    cuts: Arc<AtomicU64>,
}

impl Cutter {
    /// A line to `server` (host and port) on which connection number n is cut after `after(n)` bytes.
    pub fn to(server: &str, after: impl Fn(u64) -> u64 + Send + 'static) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let (address, server) = (listener.local_addr()?, server.to_owned());
        let cuts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cuts);
        std::thread::spawn(move || {
            for (number, client) in (1..).zip(listener.incoming().map_while(Result::ok)) {
                let Ok(server) = TcpStream::connect(&server) else { return };
                let left = Arc::new(AtomicU64::new(after(number)));
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let (left, cuts) = (Arc::clone(&left), Arc::clone(&counted));
                    std::thread::spawn(move || pass(from, to, &left, &cuts));
                }
            }
        });
        Ok(Self { address, cuts })
    }

    /// `http://host:port`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Passes bytes on until one side has no more, or as many have passed as may.
fn pass(mut from: TcpStream, mut to: TcpStream, left: &AtomicU64, cuts: &AtomicU64) {
    let mut piece = [0; PIECE];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        let take = |left: u64| Some(left.saturating_sub(read as u64));
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or_default();
        let may = usize::try_from(before).unwrap_or(usize::MAX).min(read);
        if to.write_all(&piece[..may]).is_err() {
            break;
        }
        if may < read {
            cuts.fetch_add(1, Ordering::Relaxed);
            break;
        }
    }
    // Both halves of both sides: the other direction ends with this one. What is closed already stays so.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
