//! Units that are gathered while others are computed with: how many are, in which order ranks then do what, and that no bit depends on it.

use std::sync::{Arc, Mutex};
use std::thread;

use candle_core::Tensor;
use sera_crds::values::Sharding;
use sera_trainer::engine::{Engine, Method, Residence, Settings};
use sera_trainer::ranks::{Collective, Point, RankError};

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
    fn log(&self, what: &'static str) {
        self.log.lock().unwrap().push((what, thread::current().name() != Some("gather")));
    }

    fn note(&mut self, what: &'static str) -> &mut Member {
        self.log(what);
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

    fn reduce_scatter_tensor(&mut self, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        self.note("reduce_scatter_tensor").reduce_scatter_tensor(values, bounds)
    }

    fn all_gather_tensor(&mut self, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        self.note("all_gather_tensor").all_gather_tensor(values, bounds)
    }

    fn point(&self) -> Result<Point, RankError> {
        self.log("point");
        self.member.point()
    }

    fn all_gather_tensor_from(&mut self, point: &Point, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        self.note("all_gather_tensor_from").all_gather_tensor_from(point, values, bounds)
    }

    fn broadcast(&mut self, from: usize, bytes: &mut Vec<u8>) -> Result<(), RankError> {
        self.note("broadcast").broadcast(from, bytes)
    }

    fn barrier(&mut self) -> Result<(), RankError> {
        self.note("barrier").barrier()
    }
}

const STEPS: u32 = 3;

/// What ranks did in three steps and a look at the loss, the same on each, and what they learnt.
fn done(family: &str, tied: bool, settings: &Settings, world: usize) -> (Vec<(&'static str, bool)>, Tensors) {
    let mut all = on_ranks(world, |member| {
        let log = Log::default();
        let logged = Box::new(Logged { member, log: Arc::clone(&log) });
        let mut engine = Engine::new(model(family, tied), settings.clone(), logged).unwrap();
        steps(&mut engine, &uneven(), 1, STEPS);
        let mine = super::dealt(&uneven(), engine.ranks().rank(), world);
        engine.evaluate(&mine).unwrap();
        let log = log.lock().unwrap().clone();
        (log, tensors(&mut engine))
    });
    let first = all.swap_remove(0);
    assert!(all.iter().all(|other| *other == first), "all ranks do the same in the same order");
    first
}

/// Asserts that ranks which keep what they step there gather every unit ahead but a pass's first, and learn the same to the bit as ranks that gather when
/// they need.
pub(super) fn assert_gathered_ahead(residence: Residence, world: usize) {
    // How many sequences the rank with the most has a step.
    let rounds = if world == 2 { 2 } else { 1 };
    let [needed, ahead, reduced] = match residence {
        Residence::Host => ["all_gather", "all_gather", "reduce_scatter"],
        Residence::Device => ["all_gather_tensor", "all_gather_tensor_from", "reduce_scatter_tensor"],
    };
    // Of an adapted layer two parts are gathered, and of the others, in which nothing is trained, one.
    let cases = [("qwen3", true, Method::Full, 1), ("qwen2", false, Method::Full, 1), ("qwen2", true, lora(0.1), 2)];
    for (family, tied, method, parts) in cases {
        let of = |ahead| {
            let settings = Settings { sharding: Sharding::Zero3, ahead, residence, ..settings(method.clone()) };
            done(family, tied, &settings, world)
        };
        let ((by_one, expected), (by_two, tensors)) = (of(false), of(true));
        let case = format!("{world} × {family}, {residence:?}");
        assert!(tensors == expected, "{case}: the bits are those of a training that gathers when it needs");
        let count = |log: &[(&str, bool)], what: (&str, bool)| log.iter().filter(|done| **done == what).count();
        let passes = (STEPS as usize + 1) * rounds;
        assert_eq!(by_one.iter().filter(|(_, computing)| !computing).count(), 0, "{case}");
        assert_eq!(count(&by_two, (needed, true)), passes, "{case}");
        let gathered = count(&by_two, (ahead, false));
        assert_eq!(gathered + passes, count(&by_one, (needed, true)), "{case}: none is gathered twice");
        // The layer after the one whose gradients are summed first is there already, and only then.
        let before = |log: &[(&str, bool)], gather| {
            count(&log[..log.iter().position(|(what, _)| *what == reduced).unwrap()], gather)
        };
        let first = before(&by_one, (needed, true));
        assert_eq!(before(&by_two, (ahead, false)), first - 1 + parts, "{case}");
        // The thread that computes says how far the device has been told, and the other gathers from there on.
        let begun = by_two.windows(2).filter(|pair| *pair == [("point", true), (ahead, false)]).count();
        assert_eq!(begun, count(&by_two, ("point", true)), "{case}");
    }
}

#[test]
fn every_unit_but_a_passs_first_is_gathered_ahead_and_no_bit_depends_on_it() {
    assert_gathered_ahead(Residence::Host, 2);
}
