//! Units that are gathered while others are computed with: how many are, in which order ranks then do what, and that no bit depends on it.

use std::sync::{Arc, Mutex};
use std::thread;

use sera_crds::values::Sharding;
use sera_trainer::engine::{Engine, Method, Settings};
use sera_trainer::ranks::{Collective, RankError};

use super::group::{Member, on_ranks};
use super::model::{lora, model, settings, uneven};
use super::{Tensors, steps, tensors};

/// What a rank did with the others, and whether the thread that computes did it.
type Log = Arc<Mutex<Vec<(&'static str, bool)>>>;

/// A rank that writes down what it does.
struct Logged {
    member: Member,
    log: Log,
}

impl Logged {
    fn note(&mut self, what: &'static str) -> &mut Member {
        self.log.lock().unwrap().push((what, thread::current().name() != Some("gather")));
        &mut self.member
    }
}

impl Collective for Logged {
    fn rank(&self) -> usize {
        self.member.rank()
    }

    fn world(&self) -> usize {
        self.member.world()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), RankError> {
        self.note("all_reduce").all_reduce(values)
    }

    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<(), RankError> {
        self.note("all_reduce_f64").all_reduce_f64(values)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        self.note("reduce_scatter").reduce_scatter(values, bounds)
    }

    fn all_gather(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        self.note("all_gather").all_gather(values, bounds)
    }

    fn broadcast(&mut self, from: usize, bytes: &mut Vec<u8>) -> Result<(), RankError> {
        self.note("broadcast").broadcast(from, bytes)
    }

    fn barrier(&mut self) -> Result<(), RankError> {
        self.note("barrier").barrier()
    }
}

const STEPS: u32 = 3;
/// How many sequences the rank with the most has a step, of two ranks.
const ROUNDS: usize = 2;

/// What two ranks did in three steps and a look at the loss, the same on each, and what they learnt.
fn done(family: &str, tied: bool, method: &Method, ahead: bool) -> (Vec<(&'static str, bool)>, Tensors) {
    let settings = Settings { sharding: Sharding::Zero3, ahead, ..settings(method.clone()) };
    let mut all = on_ranks(2, |member| {
        let log = Log::default();
        let logged = Box::new(Logged { member, log: Arc::clone(&log) });
        let mut engine = Engine::new(model(family, tied), settings.clone(), logged).unwrap();
        steps(&mut engine, &uneven(), 1, STEPS);
        let mine = super::dealt(&uneven(), engine.ranks().rank(), 2);
        engine.evaluate(&mine).unwrap();
        let log = log.lock().unwrap().clone();
        (log, tensors(&mut engine))
    });
    let first = all.swap_remove(0);
    assert!(all == [first.clone()], "both ranks do the same in the same order");
    first
}

#[test]
fn every_unit_but_a_passs_first_is_gathered_ahead_and_no_bit_depends_on_it() {
    // Of an adapted unit two parts are gathered, and of the others, in which nothing is trained, one.
    for (family, tied, method, first) in
        [("qwen3", true, Method::Full, 1), ("qwen2", false, Method::Full, 1), ("qwen2", true, lora(0.1), 1)]
    {
        let (by_one, expected) = done(family, tied, &method, false);
        let (by_two, tensors) = done(family, tied, &method, true);
        assert!(tensors == expected, "{family}: the bits are those of a training that gathers when it needs");
        let gathers = |log: &[(&str, bool)], computing: bool| {
            log.iter().filter(|(what, by)| *what == "all_gather" && *by == computing).count()
        };
        let passes = STEPS as usize * ROUNDS + ROUNDS;
        assert_eq!(gathers(&by_one, false), 0);
        assert_eq!(gathers(&by_two, true), passes * first, "{family}");
        assert_eq!(
            gathers(&by_two, false) + passes * first,
            gathers(&by_one, true),
            "{family}: none is gathered twice"
        );
    }
}
