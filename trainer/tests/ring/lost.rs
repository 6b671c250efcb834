//! How the group ends when a rank is lost: the ranks are processes, but for one, which is this.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sera_trainer::ranks::{Collective, Options, Place, RankError, join};

use crate::world::{free_port, options, place};

const WORLD: usize = 4;
/// When a rank counts as silent. The default is 20 s, and what is to be shown takes no longer for being shorter.
const SILENCE: Duration = Duration::from_secs(5);
/// How soon all have to end.
const LIMIT: Duration = Duration::from_secs(30);

/// The code of a rank whose group has ended, as the programs' contract has it.
const UNAVAILABLE: i32 = 11;

/// Ranks that are processes, and sum a mebibyte again and again.
struct Others(Vec<(usize, Child)>);

impl Others {
    fn start(ranks: impl Iterator<Item = usize>, world: usize, port: u16) -> Self {
        let start = |rank: usize| {
            let variables = [("RANK", rank), ("WORLD_SIZE", world), ("LOCAL_RANK", rank), ("MASTER_PORT", port.into())];
            let child = Command::new(env!("CARGO_BIN_EXE_sera-trainer"))
                .args(["ring", "--times", "0", "--mebibytes", "1", "--deadline", "60"])
                .args(["--silence", &SILENCE.as_secs().to_string()])
                .envs(variables.map(|(name, number)| (name, number.to_string())))
                .envs([("MASTER_ADDR", "127.0.0.1"), ("SERA_RENDEZVOUS_ID", "a test")])
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn();
            (rank, child.unwrap())
        };
        Self(ranks.map(start).collect())
    }

    /// This process as one of them.
    fn joined(&mut self, place: &Place, options: &Options) -> Box<dyn Collective> {
        join(place, options).unwrap_or_else(|error| {
            let said = self.0.iter_mut().map(|(_, child)| {
                let _ = child.kill();
                said_by(child)
            });
            panic!("{error}; they say {:?}", said.collect::<Vec<_>>())
        })
    }

    fn signal(&self, rank: usize, signal: Signal) {
        let (_, child) = self.0.iter().find(|(other, _)| *other == rank).unwrap();
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    }

    /// How each of them ended and what it said, but for the one that was lost.
    fn endings(mut self, lost: usize) -> Vec<(usize, Option<i32>, String)> {
        let latest = Instant::now() + LIMIT;
        let mut endings = Vec::new();
        for (rank, child) in self.0.iter_mut().filter(|(rank, _)| *rank != lost) {
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                assert!(Instant::now() < latest, "rank {rank} has not ended");
                thread::sleep(Duration::from_millis(20));
            };
            endings.push((*rank, status.code(), said_by(child)));
        }
        endings
    }
}

/// All that it says until it ends.
fn said_by(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

impl Drop for Others {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Does what the others do; in the third round, `event` happens.
fn sum_until_the_end(ranks: &mut dyn Collective, event: impl FnOnce()) -> RankError {
    let mut event = Some(event);
    for round in 0.. {
        let mut values = vec![1.0f32; 1 << 18];
        if let Err(error) = ranks.barrier().and_then(|()| ranks.all_reduce(&mut values)) {
            return error;
        }
        if round == 3
            && let Some(event) = event.take()
        {
            event();
        }
    }
    unreachable!("it sums until the group ends")
}

/// A rank gets this signal, and all others end and say that it was this one.
fn everybody_names_the_one_that_got(signal: Signal) {
    for lost in 0..WORLD {
        let (own, port) = ((lost + 2) % WORLD, free_port());
        let mut others = Others::start((0..WORLD).filter(|rank| *rank != own), WORLD, port);
        let options = Options { silence: SILENCE, ..options() };
        let mut ranks = others.joined(&place(own, WORLD, port), &options);
        let error = sum_until_the_end(&mut *ranks, || others.signal(lost, signal));
        assert!(matches!(error, RankError::Lost { rank, world: WORLD, .. } if rank == lost), "{error}");
        drop(ranks);
        for (rank, code, said) in others.endings(lost) {
            assert_eq!(code, Some(UNAVAILABLE), "rank {rank}: {said}");
            let named = said.contains(&format!("rank {lost} of {WORLD} was lost in"));
            assert!(named && said.lines().count() == 1, "rank {rank} of a world without {lost}: {said}");
        }
    }
}

#[test]
fn a_rank_that_is_killed_ends_all_others_who_name_it() {
    everybody_names_the_one_that_got(Signal::SIGKILL);
}

#[test]
fn a_rank_that_is_stopped_ends_all_others_who_name_it() {
    everybody_names_the_one_that_got(Signal::SIGSTOP);
}

#[test]
fn a_rank_that_computes_is_told_on_another_thread() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let port = free_port();
    let mut others = Others::start(1..2, 2, port);
    let abandon: fn(&RankError) = |error| {
        assert!(error.to_string().contains("rank 1 of 2 was lost in the work before collective number 1"), "{error}");
        TOLD.store(true, Ordering::SeqCst);
    };
    let options = Options { silence: SILENCE, abandon: Some(abandon), ..options() };
    let mut ranks = others.joined(&place(0, 2, port), &options);
    ranks.barrier().unwrap();
    others.signal(1, Signal::SIGKILL);
    let latest = Instant::now() + LIMIT;
    while !TOLD.load(Ordering::SeqCst) {
        assert!(Instant::now() < latest, "it was not told");
        thread::sleep(Duration::from_millis(20));
    }
}
