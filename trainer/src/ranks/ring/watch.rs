//! Watches over the ranks, on a thread of its own, so that a long computation is no silence. Rank 0 hears all others, and they hear rank 0; what
//! becomes of the group is rank 0's word, or, where rank 0 itself is lost, everybody's own. Each rank also beats to its left neighbour: that two
//! machines do not reach each other any more is found though both reach rank 0.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};

use super::super::RankError;
use super::super::wait::{is_ready, until, wait};
use super::super::words::{Line, WordError};
use super::UNHEARD;
use super::fate::{Bell, Fate, Report, Shared, quieten};

/// How many times a rank is heard within the time after which it counts as silent.
const BEATS: u32 = 10;
/// How long a rank that leaves waits for the others to take its last word.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the watching threads tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Word {
    /// I am here.
    Beat,
    /// I have seen this; is it so?
    Report(Report),
    /// It is so.
    Fate(Fate),
    /// I leave after so many collectives.
    Leave { count: u64 },
    /// That rank has left after so many.
    Left { rank: usize, count: u64 },
}

/// How it is watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// After how long a silence a rank is lost.
    pub(super) silence: Duration,
    /// What is done when the computing thread does not come to hear that a rank was lost.
    pub(super) abandon: Option<fn(&RankError)>,
}

/// A rank at the other end of a line.
struct Peer {
    rank: usize,
    line: Line,
    heard: Instant,
    left: bool,
}

/// The connections to the neighbours beside those that the numbers go over.
pub(super) struct Beside {
    /// To the left neighbour.
    pub(super) left: TcpStream,
    /// From the right one, whose number this is.
    pub(super) right: TcpStream,
    pub(super) right_rank: usize,
}

/// The watching thread.
pub(super) struct Watch {
    rank: usize,
    left: TcpStream,
    /// The right neighbour, when it was heard, and its connection, until that closes.
    right: Option<(usize, Instant, TcpStream)>,
    peers: Vec<Peer>,
    shared: Arc<Shared>,
    bell: Bell,
    limits: Limits,
    next_beat: Instant,
    /// What was reported, and when to believe it: by then, a rank that has died is known by its own line.
    suspicions: VecDeque<(Instant, Fate)>,
    closing: Option<Instant>,
}

impl Watch {
    /// Of rank 0, with the lines to all others; of another, with its line to rank 0.
    pub(super) fn new(
        rank: usize,
        lines: Vec<(usize, Line)>,
        beside: Beside,
        shared: Arc<Shared>,
        bell: Bell,
        limits: Limits,
    ) -> Self {
        let heard = Instant::now();
        let Beside { left, right, right_rank } = beside;
        let right = Some((right_rank, heard, right));
        let peers = lines.into_iter().map(|(rank, line)| Peer { rank, line, heard, left: false }).collect();
        let suspicions = VecDeque::new();
        Self { rank, left, right, peers, shared, bell, limits, next_beat: heard, suspicions, closing: None }
    }

    /// Watches until this rank leaves.
    pub(super) fn run(mut self) {
        while !self.is_over() {
            self.sleep();
            self.listen();
            self.listen_to_the_right();
            self.look_for_silence();
            self.do_errands();
            self.believe();
            self.beat();
            self.abandon();
        }
    }

    fn interval(&self) -> Duration {
        self.limits.silence / BEATS
    }

    fn is_over(&self) -> bool {
        self.closing.is_some_and(|since| self.peers.is_empty() || since.elapsed() > FAREWELL)
    }

    /// When there is something to do, even if nothing is heard.
    fn next_turn(&self) -> Instant {
        let farewell = self.closing.map(|since| since + FAREWELL);
        let suspicion = self.suspicions.front().map(|(when, _)| *when);
        [farewell, suspicion].into_iter().flatten().fold(self.next_beat, Instant::min)
    }

    fn sleep(&self) {
        let mut fds = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.peers.iter().map(|peer| PollFd::new(peer.line.stream().as_fd(), PollFlags::POLLIN)));
        fds.extend(self.right.iter().map(|(_, _, stream)| PollFd::new(stream.as_fd(), PollFlags::POLLIN)));
        // It fails only where memory does, and then the next beat is soon enough.
        let _ = wait(&mut fds, Some(until(self.next_turn())));
        if is_ready(&fds[0]) {
            quieten(&self.bell);
        }
    }

    /// Takes in all that has come. Silence is judged afterwards: a rank that was stopped itself finds the others' beats waiting.
    fn listen(&mut self) {
        let mut news = Vec::new();
        let mut gone = Vec::new();
        for peer in &mut self.peers {
            match hear(&mut peer.line, &mut news, peer.rank) {
                Ok(true) => peer.heard = Instant::now(),
                Ok(false) => {}
                Err(error) => gone.push((peer.rank, error)),
            }
        }
        for (rank, word) in news {
            self.take(rank, word);
        }
        for (rank, error) in gone {
            self.part(rank, &error);
        }
    }

    /// That the connection has closed says nothing: the neighbour may have left. If it has died, its line says so.
    fn listen_to_the_right(&mut self) {
        let Some((_, heard, stream)) = &mut self.right else { return };
        let mut beats = [0; 64];
        match stream.read(&mut beats) {
            Ok(0) => self.right = None,
            Ok(_) => *heard = Instant::now(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.right = None,
        }
    }

    fn take(&mut self, from: usize, word: Word) {
        match word {
            Word::Beat => {}
            Word::Report(report) => self.consider(report),
            Word::Fate(fate) => self.decide(fate),
            Word::Leave { count } => self.left(from, count),
            Word::Left { rank, count } => self.left(rank, count),
        }
    }

    fn left(&mut self, rank: usize, count: u64) {
        self.peers.iter_mut().filter(|peer| peer.rank == rank).for_each(|peer| peer.left = true);
        self.shared.leave(rank, count);
        if self.rank == 0 {
            self.tell_all(&Word::Left { rank, count });
        }
    }

    /// A line has ended: after a farewell that is as it should be.
    fn part(&mut self, rank: usize, error: &WordError) {
        let Some(at) = self.peers.iter().position(|peer| peer.rank == rank) else { return };
        let peer = self.peers.swap_remove(at);
        if !peer.left && self.closing.is_none() {
            let reason = match error {
                WordError::Closed => "its connection closed: it died, or was killed".to_owned(),
                other => other.to_string(),
            };
            self.decide(Fate::Lost { rank, reason });
        }
    }

    fn look_for_silence(&mut self) {
        let (own, silence) = (self.rank, self.limits.silence);
        if let Some((rank, _, _)) = self.right.take_if(|(_, heard, _)| heard.elapsed() > silence) {
            let seconds = silence.as_secs_f32();
            let reason = format!("nothing has come from it to rank {own} for {seconds} s");
            self.report(Report { fate: Fate::Lost { rank, reason }, certain: false });
        }
        let silent = |peer: &&Peer| !peer.left && peer.heard.elapsed() > self.limits.silence;
        let Some(rank) = self.peers.iter().find(silent).map(|peer| peer.rank) else { return };
        if self.closing.is_none() {
            let seconds = self.limits.silence.as_secs_f32();
            self.decide(Fate::Lost {
                rank,
                reason: format!("no sign of life for {seconds} s: it hangs, or cannot be reached"),
            });
        }
    }

    /// Says what has become of the group; the first word stands, and rank 0 tells it to all.
    fn decide(&mut self, fate: Fate) {
        if self.shared.is_decided() {
            return;
        }
        if self.rank == 0 {
            self.tell_all(&Word::Fate(fate.clone()));
        }
        self.shared.decide(fate);
    }

    fn do_errands(&mut self) {
        let errands = self.shared.errands();
        for report in errands.reports {
            self.report(report);
        }
        if let Some(count) = errands.closing.filter(|_| self.closing.is_none()) {
            let word = if self.rank == 0 { Word::Left { rank: 0, count } } else { Word::Leave { count } };
            self.tell_all(&word);
            for peer in &self.peers {
                let _ = peer.line.stream().shutdown(Shutdown::Write);
            }
            self.closing = Some(Instant::now());
        }
    }

    /// Lets rank 0 judge what this rank has seen.
    fn report(&mut self, report: Report) {
        match self.peers.first() {
            Some(judge) if self.rank != 0 && !judge.left => {
                // Where it cannot be told, the line has failed, and that is heard of next.
                let _ = judge.line.say(&Word::Report(report));
            }
            _ => self.consider(report),
        }
    }

    fn consider(&mut self, report: Report) {
        if report.certain {
            self.decide(report.fate);
        } else {
            self.suspicions.push_back((Instant::now() + self.interval(), report.fate));
        }
    }

    fn believe(&mut self) {
        while self.suspicions.front().is_some_and(|(when, _)| until(*when).is_zero()) {
            if let Some((_, fate)) = self.suspicions.pop_front() {
                self.decide(fate);
            }
        }
    }

    fn beat(&mut self) {
        if !until(self.next_beat).is_zero() {
            return;
        }
        self.next_beat = Instant::now() + self.interval();
        if self.closing.is_none() {
            self.tell_all(&Word::Beat);
            // Where it fails, the neighbour finds out when it reads.
            let _ = (&self.left).write(&[0]);
        }
    }

    /// A line that fails here is found to have failed when it is read.
    fn tell_all(&self, word: &Word) {
        for peer in self.peers.iter().filter(|peer| !peer.left) {
            let _ = peer.line.say(word);
        }
    }

    /// A rank that computes for minutes would end minutes after the others.
    fn abandon(&self) {
        let Some(abandon) = self.limits.abandon else { return };
        if let Some(error) = self.shared.unheard(self.limits.silence / UNHEARD) {
            abandon(&error);
        }
    }
}

/// Takes in what has come on this line; whether anything had.
fn hear(line: &mut Line, news: &mut Vec<(usize, Word)>, from: usize) -> Result<bool, WordError> {
    let mut any = false;
    loop {
        // What came before the end is heard before it.
        let filled = line.fill();
        while let Some(word) = line.next()? {
            news.push((from, word));
        }
        match filled {
            Ok(true) => any = true,
            Ok(false) => return Ok(any),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::testing::connected;
    use super::*;

    /// What rank 0 of two says has become of the group, where rank 1 is heard at its line and the connection beside is as it is left here.
    fn fate_where(neighbour: impl FnOnce(TcpStream) -> Option<TcpStream>) -> Option<String> {
        let silence = Duration::from_secs(1);
        let (near_line, far_line) = connected();
        let (left, _left_of_other) = connected();
        let (right, right_of_other) = connected();
        let _kept = neighbour(right_of_other);
        let (shared, _callers, bell) = Shared::new(0, 2).unwrap();
        let shared = Arc::new(shared);
        let lines = vec![(1, Line::new(near_line).unwrap())];
        let beside = Beside { left, right, right_rank: 1 };
        let limits = Limits { silence, abandon: None };
        let watch = Watch::new(0, lines, beside, Arc::clone(&shared), bell, limits);
        let watch = thread::spawn(move || watch.run());
        let other = Line::new(far_line).unwrap();
        let latest = Instant::now() + 4 * silence;
        while !shared.is_decided() && !until(latest).is_zero() {
            other.say(&Word::Beat).unwrap();
            thread::sleep(Duration::from_millis(50));
        }
        let fate = shared.is_decided().then(|| shared.error().to_string());
        shared.close(0);
        drop(other);
        watch.join().unwrap();
        fate
    }

    #[test]
    fn a_neighbour_that_is_not_reached_is_found_though_it_lives() {
        let fate = fate_where(Some).unwrap();
        assert!(fate.contains("rank 1 of 2 was lost"), "{fate}");
        assert!(fate.contains("nothing has come from it to rank 0"), "{fate}");
    }

    #[test]
    fn a_connection_that_was_closed_is_no_loss_before_something_is_wanted_of_it() {
        assert_eq!(fate_where(|_| None), None);
    }
}
