//! A model of several replicas that elect a leader over a lossy network, run against `machine::decide`: whatever is delayed,
//! lost or stopped, no two may write at once, and after the faults end somebody leads.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::machine::{Action, Record, Sighting, Timing, decide};

/// A tick of the model.
const TICK: Duration = Duration::from_millis(100);

/// The lease object at the API server: one register that takes a write only over the version that the writer saw.
#[derive(Clone, Debug, Default)]
struct Server {
    version: u64,
    holder: Option<usize>,
    exists: bool,
}

/// What happens to one request: ticks to the server and back; a leg of `None` is lost.
type Fate = (Option<u8>, Option<u8>);

/// A replica's luck: what happens to its requests, and the ticks from which on it is stopped, and for how many.
type Plan = (Vec<Fate>, Vec<(u16, u16)>);

#[derive(Clone, Debug)]
enum Request {
    Read,
    Write { over: Option<u64> },
}

#[derive(Clone, Debug)]
struct InFlight {
    request: Request,
    sent: u64,
    arrives: Option<u64>,
    answered: Option<u64>,
    gives_up: u64,
    answer: Option<Answer>,
}

#[derive(Clone, Debug)]
enum Answer {
    Seen { version: Option<u64>, holder: Option<usize> },
    Written { version: u64 },
    Refused,
}

struct Replica {
    name: String,
    sighting: Sighting,
    version: Option<u64>,
    renewed: Option<Instant>,
    busy: Option<InFlight>,
    /// Requests that were given up and are still on their way.
    adrift: Vec<InFlight>,
    idle_until: Instant,
    fates: Vec<Fate>,
    stopped: Vec<(u16, u16)>,
}

struct Model {
    timing: Timing,
    start: Instant,
    server: Server,
    replicas: Vec<Replica>,
}

impl Model {
    fn new(plans: Vec<Plan>) -> Self {
        let start = Instant::now();
        let replica = |(index, (fates, stopped)): (usize, Plan)| Replica {
            name: index.to_string(),
            sighting: Sighting::Unknown,
            version: None,
            renewed: None,
            busy: None,
            adrift: Vec::new(),
            idle_until: start,
            fates,
            stopped,
        };
        let seconds = Duration::from_secs;
        let timing = Timing::new(seconds(15), seconds(10), seconds(2)).unwrap();
        Self {
            timing,
            start,
            server: Server::default(),
            replicas: plans.into_iter().enumerate().map(replica).collect(),
        }
    }

    fn at(&self, tick: u64) -> Instant {
        self.start + TICK * u32::try_from(tick).unwrap()
    }

    /// Who may write: as the gate has it, by the deadline alone, stopped or not.
    fn writers(&self, tick: u64) -> Vec<usize> {
        let now = self.at(tick);
        let may_write = |replica: &Replica| replica.renewed.is_some_and(|renewed| now < self.timing.deadline(renewed));
        (0..self.replicas.len()).filter(|index| may_write(&self.replicas[*index])).collect()
    }

    fn step(&mut self, tick: u64) {
        for index in 0..self.replicas.len() {
            self.serve(index, tick);
            let stopped =
                |(from, length): &(u16, u16)| (u64::from(*from)..u64::from(*from) + u64::from(*length)).contains(&tick);
            if !self.replicas[index].stopped.iter().any(stopped) {
                self.hear(index, tick);
                self.act(index, tick);
            }
        }
    }

    /// The server's side: a request arrives even when its sender is stopped or has given it up.
    fn serve(&mut self, index: usize, tick: u64) {
        let replica = &mut self.replicas[index];
        for flight in replica.busy.iter_mut().chain(&mut replica.adrift).filter(|flight| flight.arrives == Some(tick)) {
            let version = self.server.exists.then_some(self.server.version);
            flight.answer = Some(match flight.request {
                Request::Read => Answer::Seen { version, holder: self.server.holder },
                Request::Write { over } if over == version => {
                    self.server = Server { version: self.server.version + 1, holder: Some(index), exists: true };
                    Answer::Written { version: self.server.version }
                }
                Request::Write { .. } => Answer::Refused,
            });
        }
    }

    fn hear(&mut self, index: usize, tick: u64) {
        let (now, start) = (self.at(tick), self.start);
        let replica = &mut self.replicas[index];
        let Some(flight) =
            replica.busy.take_if(|flight| flight.answered.is_some_and(|at| at <= tick) || flight.gives_up <= tick)
        else {
            return;
        };
        if flight.arrives.is_some_and(|at| at > tick) {
            replica.adrift.push(flight.clone());
        }
        let heard = flight.answered.is_some_and(|at| at <= tick);
        match flight.answer.filter(|_| heard) {
            Some(Answer::Seen { version, holder }) => {
                let known_since = match &replica.sighting {
                    Sighting::Present(record) if replica.version == version => record.since,
                    _ => now,
                };
                replica.sighting = match version {
                    None => Sighting::Absent,
                    Some(_) => Sighting::Present(Record {
                        holder: holder.map(|holder| holder.to_string()),
                        duration: None,
                        since: known_since,
                    }),
                };
                replica.version = version;
            }
            Some(Answer::Written { version }) => {
                replica.renewed = Some(start + TICK * u32::try_from(flight.sent).unwrap());
                replica.version = Some(version);
                replica.sighting =
                    Sighting::Present(Record { holder: Some(replica.name.clone()), duration: None, since: now });
            }
            Some(Answer::Refused) | None => replica.sighting = Sighting::Unknown,
        }
    }

    fn act(&mut self, index: usize, tick: u64) {
        let (now, timing) = (self.at(tick), self.timing);
        let replica = &mut self.replicas[index];
        if replica.renewed.is_some_and(|renewed| now >= timing.deadline(renewed)) {
            // The elector gives up a renewal at its deadline; what it sent may still arrive.
            replica.renewed = None;
        }
        if replica.busy.is_some() || now < replica.idle_until {
            return;
        }
        let request = match decide(now, &replica.name, timing, &replica.sighting, replica.renewed) {
            Action::Read => Request::Read,
            Action::Create => Request::Write { over: None },
            Action::Take { .. } | Action::Renew => Request::Write { over: replica.version },
            Action::Wait(until) => {
                replica.idle_until = until;
                if replica.renewed.is_none() {
                    replica.send(Request::Read, tick + ticks(until.saturating_duration_since(now)));
                }
                return;
            }
            Action::StepDown(_) => {
                replica.renewed = None;
                replica.sighting = Sighting::Unknown;
                return;
            }
        };
        replica.send(request, tick);
    }
}

impl Replica {
    fn send(&mut self, request: Request, tick: u64) {
        let (there, back) = self.fates.pop().unwrap_or((Some(1), Some(1)));
        let arrives = there.map(|ticks| tick + 1 + u64::from(ticks));
        let answered = arrives.zip(back).map(|(at, ticks)| at + u64::from(ticks));
        self.busy = Some(InFlight { request, sent: tick, arrives, answered, gives_up: tick + 50, answer: None });
    }
}

fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis().div_ceil(TICK.as_millis())).unwrap()
}

/// Half of the requests go through at once; of the rest each leg may take up to six seconds, or be lost.
fn fate() -> impl Strategy<Value = Fate> {
    let leg = || prop_oneof![3 => (0u8..60).prop_map(Some), 1 => Just(None)];
    prop_oneof![1 => Just((Some(0), Some(0))), 1 => (leg(), leg())]
}

fn plan() -> impl Strategy<Value = Plan> {
    (prop::collection::vec(fate(), 0..120), prop::collection::vec((0u16..3000, 1u16..600), 0..4))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn two_replicas_never_write_at_once_and_when_the_faults_end_one_leads(plans in prop::collection::vec(plan(), 1..4)) {
        let mut model = Model::new(plans);
        for tick in 0..4000 {
            model.step(tick);
            let writers = model.writers(tick);
            prop_assert!(writers.len() <= 1, "{writers:?} write at tick {tick}");
        }
        for replica in &mut model.replicas {
            replica.fates.clear();
            replica.stopped.clear();
        }
        for tick in 4000..4400 {
            model.step(tick);
        }
        prop_assert_eq!(model.writers(4400).len(), 1);
    }
}
