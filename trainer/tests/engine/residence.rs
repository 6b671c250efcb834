//! That a training whose master weights, moments and gradients are tensors on the model's device, as on a GPU they are, does what one does that has
//! them in the host's memory. The device is the processor here: all is tested but the GPU itself.

use candle_core::{DType, Tensor};
use sera_crds::values::Sharding;
use sera_trainer::engine::{Engine, Method, Residence, Settings};
use sera_trainer::ranks::{Alone, Collective, Point, RankError};

use super::ahead::assert_gathered_ahead;
use super::group::{Member, on_ranks};
use super::model::{dealt, lora, model, settings, short, uneven};
use super::{RATE, SHARDINGS, square_gap, steps, tensors, trained};

/// Asserts that both residences lead to the same place in 20 steps: to within `loss` in the losses and `gap` of the displacement in the weights.
fn assert_alike(settings: &Settings, world: usize, loss: f64, gap: f64) {
    let model = model("qwen3", true);
    let start = tensors(&mut Engine::new(model.clone(), settings.clone(), Box::new(Alone)).unwrap());
    let of = |residence| trained(&model, &Settings { residence, ..settings.clone() }, world, &short());
    let ((expected, host), (reports, device)) = (of(Residence::Host), of(Residence::Device));
    let case = format!("{world} × {:?}, {:?}, clipped at {}", settings.sharding, settings.compute, settings.clip_norm);
    let mut worst: f64 = 0.0;
    for (report, expected) in reports.iter().zip(&expected) {
        worst = worst.max((report.loss - expected.loss).abs());
        let norm = (report.gradient_norm - expected.gradient_norm).abs() / expected.gradient_norm;
        assert!(norm <= 10.0 * loss, "{case}: {report:?} is not {expected:?}");
        assert_eq!((report.clipped, report.trained), (expected.clipped, expected.trained), "{case}");
    }
    let ratio = (square_gap(&host, &device) / square_gap(&start, &host)).sqrt();
    println!("{case}: losses off by {worst:.1e}, gap / displacement {ratio:.1e}");
    assert!(worst <= loss && ratio <= gap, "{case}: {worst:e}, {ratio:e}");
}

#[test]
fn steps_on_the_device_lead_to_where_they_lead_in_the_hosts_memory() {
    for method in [Method::Full, lora(0.1)] {
        for (at, sharding) in SHARDINGS.into_iter().enumerate() {
            // Each way of sharding with and without clipping, and both with full training and adapters.
            for clip_norm in [0.5, f64::INFINITY] {
                let settings = Settings { sharding, clip_norm, ..settings(method.clone()) };
                assert_alike(&settings, 1 + (at + usize::from(clip_norm > 1.0)) % 2, 1e-6, 1e-4);
            }
        }
    }
}

/// What is computed from is rounded to bf16, so that a last digit of a master weight may become a whole step of a rounded one.
#[test]
fn in_bf16_too_they_lead_there() {
    for (method, sharding) in
        [(Method::Full, Sharding::None), (Method::Full, Sharding::Zero3), (lora(0.0), Sharding::Zero2)]
    {
        let settings = Settings { sharding, compute: DType::BF16, ..settings(method) };
        assert_alike(&settings, 2, 1e-3, 2e-2);
    }
}

#[test]
fn more_ranks_than_a_unit_has_values_train_on_the_device() {
    let settings = Settings { sharding: Sharding::Zero3, ..settings(Method::Full) };
    // Of the last normalisation's 33 values, some of these ranks have none.
    assert_alike(&settings, 34, 1e-6, 1e-4);
}

#[test]
fn a_state_is_the_same_wherever_it_was_taken_and_goes_on_to_the_bit() {
    for sharding in SHARDINGS {
        let of = |residence| Settings { sharding, residence, ..settings(lora(0.1)) };
        on_ranks(2, |member| {
            let mut engine = Engine::new(model("qwen3", true), of(Residence::Device), Box::new(member)).unwrap();
            steps(&mut engine, &short(), 1, 2);
            let (state, held) = (engine.state().unwrap(), engine.held());
            let undisturbed = (steps(&mut engine, &short(), 3, 5), tensors(&mut engine));
            engine.restore(&state).unwrap();
            assert!(engine.state().unwrap() == state);
            assert!((steps(&mut engine, &short(), 3, 5), tensors(&mut engine)) == undisturbed, "{sharding:?}");
            assert_eq!(engine.held(), held, "{sharding:?}");
        });
        let held = |residence| {
            on_ranks(2, |member| {
                let mut engine = Engine::new(model("qwen3", true), of(residence), Box::new(member)).unwrap();
                steps(&mut engine, &short(), 1, 2);
                engine.held()
            })
        };
        assert_eq!(held(Residence::Device), held(Residence::Host), "{sharding:?}");
    }
}

#[test]
fn what_was_begun_in_the_hosts_memory_goes_on_on_the_device() {
    let engine = |residence| {
        Engine::new(model("qwen3", true), Settings { residence, ..settings(Method::Full) }, Box::new(Alone)).unwrap()
    };
    let (mut host, mut device) = (engine(Residence::Host), engine(Residence::Device));
    steps(&mut host, &short(), 1, 3);
    device.restore(&host.state().unwrap()).unwrap();
    assert!(tensors(&mut device) == tensors(&mut host));
    let (expected, found) = (steps(&mut host, &short(), 4, 6), steps(&mut device, &short(), 4, 6));
    assert!(expected.iter().zip(&found).all(|(a, b)| (a.loss - b.loss).abs() < 1e-6), "{expected:?} {found:?}");
}

#[test]
fn every_unit_but_a_passs_first_is_gathered_ahead_as_tensors_too_and_no_bit_depends_on_it() {
    for world in [2, 4] {
        assert_gathered_ahead(Residence::Device, world);
    }
}

/// A rank that is lost in the middle of a gather that was begun ahead, after so many of them.
struct Mortal {
    member: Option<Member>,
    gathers: u32,
}

impl Mortal {
    fn member(&mut self) -> Result<&mut Member, RankError> {
        let (rank, world, collective, number) = (1, 2, "all_gather", 0);
        let lost = RankError::Lost { rank, world, collective, number, reason: "it is this one".to_owned() };
        self.member.as_mut().ok_or(lost)
    }
}

impl Collective for Mortal {
    fn rank(&self) -> usize {
        1
    }

    fn world(&self) -> usize {
        2
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), RankError> {
        self.member()?.all_reduce(values)
    }

    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<(), RankError> {
        self.member()?.all_reduce_f64(values)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        self.member()?.reduce_scatter(values, bounds)
    }

    fn all_gather(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        self.member()?.all_gather(values, bounds)
    }

    fn all_gather_tensor_from(&mut self, point: &Point, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        if self.gathers == 0 {
            self.member = None;
        }
        self.gathers = self.gathers.saturating_sub(1);
        self.member()?.all_gather_tensor_from(point, values, bounds)
    }

    fn broadcast(&mut self, from: usize, bytes: &mut Vec<u8>) -> Result<(), RankError> {
        self.member()?.broadcast(from, bytes)
    }

    fn barrier(&mut self) -> Result<(), RankError> {
        self.member()?.barrier()
    }
}

#[test]
fn a_rank_lost_while_tensors_are_gathered_ahead_ends_the_other_who_names_it_and_the_collective() {
    let settings = Settings { sharding: Sharding::Zero3, residence: Residence::Device, ..settings(Method::Full) };
    // Of the forward pass, of the backward pass, and of the next sequence's.
    for gathers in [0, 4, 9] {
        let ended = on_ranks(2, |member| {
            let ranks: Box<dyn Collective> = match member.rank() {
                0 => Box::new(member),
                _ => Box::new(Mortal { member: Some(member), gathers }),
            };
            let mut engine = Engine::new(model("qwen3", true), settings.clone(), ranks).unwrap();
            let mine = dealt(&uneven(), engine.ranks().rank(), 2);
            engine.step(&mine, 1, RATE).unwrap_err().to_string()
        });
        for said in ended {
            assert!(said.starts_with("rank 1 of 2 was lost in all_gather number "), "{gathers}: {said}");
        }
    }
}
