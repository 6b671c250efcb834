//! What the collectives compute.

use proptest::prelude::*;
use sera_trainer::ranks::{Collective, RankError};

use crate::world::{every_rank, options};

const WORLDS: [usize; 5] = [1, 2, 3, 4, 7];
const LENGTHS: [usize; 6] = [0, 1, 5, 1001, 65_537, 1_000_003];

/// Rank r's values, of many magnitudes: a sum in another order has other bits.
fn values(rank: usize, length: usize) -> Vec<f32> {
    (0..length)
        .map(|at| {
            let mixed = (at * 7 + rank + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let sign = if mixed & 1 == 0 { 1.0 } else { -1.0 };
            let fraction = f32::from(u16::try_from(mixed >> 20 & 0xffff).unwrap()) / 65_536.0;
            sign * (1.0 + fraction) * 2f32.powi(i32::try_from(mixed >> 40 & 31).unwrap() - 16)
        })
        .collect()
}

fn sum(world: usize, length: usize) -> Vec<f32> {
    let mut sum = values(0, length);
    for rank in 1..world {
        sum.iter_mut().zip(values(rank, length)).for_each(|(sum, value)| *sum += value);
    }
    sum
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// As even as it goes, the remainder at the end.
fn even(length: usize, world: usize) -> Vec<usize> {
    (0..=world).map(|rank| length * rank / world).collect()
}

#[test]
fn every_rank_gets_the_sum_in_the_order_of_the_ranks_to_the_bit() {
    for world in WORLDS {
        let found = every_rank(world, &options(), |ranks| {
            LENGTHS.map(|length| {
                let mut values = values(ranks.rank(), length);
                ranks.all_reduce(&mut values).unwrap();
                values
            })
        });
        for of_rank in found {
            for (length, found) in LENGTHS.into_iter().zip(of_rank) {
                assert!(bits(&found) == bits(&sum(world, length)), "{length} values, {world} ranks");
            }
        }
    }
}

#[test]
fn two_runs_have_the_same_bits_in_f64_too() {
    let run = || {
        every_rank(4, &options(), |ranks| {
            let mut values: Vec<f64> =
                values(ranks.rank(), 40_001).into_iter().map(|value| f64::from(value) / 3.0).collect();
            ranks.all_reduce_f64(&mut values).unwrap();
            values.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        })
    };
    let (first, second) = (run(), run());
    assert!(first == second);
    assert!(first.iter().all(|of_rank| *of_rank == first[0]));
}

#[test]
fn sums_that_are_scattered_and_gathered_are_those_that_all_get() {
    for world in WORLDS {
        for length in LENGTHS {
            let bounds = even(length, world);
            let found = every_rank(world, &options(), |ranks| {
                let mut values = values(ranks.rank(), length);
                ranks.reduce_scatter(&mut values, &bounds).unwrap();
                let own = bounds[ranks.rank()]..bounds[ranks.rank() + 1];
                let scattered = values[own.clone()].to_vec();
                // What is not this rank's is not to be used.
                values
                    .iter_mut()
                    .enumerate()
                    .filter(|(at, _)| !own.contains(at))
                    .for_each(|(_, value)| *value = f32::NAN);
                ranks.all_gather(&mut values, &bounds).unwrap();
                (scattered, values)
            });
            let sum = sum(world, length);
            for (rank, (scattered, gathered)) in found.iter().enumerate() {
                assert!(
                    bits(scattered) == bits(&sum[bounds[rank]..bounds[rank + 1]]),
                    "rank {rank} of {world}, {length}"
                );
                assert!(bits(gathered) == bits(&sum), "rank {rank} of {world}, {length}");
            }
        }
    }
}

#[test]
fn everybody_gets_anybodys_bytes() {
    let told = every_rank(3, &options(), |ranks| {
        let own = vec![u8::try_from(ranks.rank()).unwrap() + 1; 300_000 * ranks.rank()];
        [0, 1, 2].map(|from| {
            let mut bytes = own.clone();
            ranks.broadcast(from, &mut bytes).unwrap();
            bytes
        })
    });
    for of_rank in told {
        assert!(of_rank == [vec![], vec![2; 300_000], vec![3; 600_000]]);
    }
}

#[test]
fn more_than_all_buffers_hold_goes_through() {
    let length = 12_000_000;
    let found = every_rank(2, &options(), |ranks| {
        let mut values = vec![1.5f32; length];
        ranks.all_reduce(&mut values).unwrap();
        values.iter().all(|value| value.to_bits() == 3f32.to_bits())
    });
    assert_eq!(found, [true, true]);
}

#[test]
fn a_broadcast_of_more_than_is_planned_at_once_comes_whole() {
    // Just above the 64 MiB of a stretch.
    let sent: Vec<u8> = (0..(1usize << 26) + 300_001).map(|at| u8::try_from(at / 7 % 251).unwrap()).collect();
    let came = every_rank(3, &options(), |ranks| {
        let mut bytes = if ranks.rank() == 1 { sent.clone() } else { Vec::new() };
        ranks.broadcast(1, &mut bytes).unwrap();
        bytes == sent
    });
    assert_eq!(came, [true; 3]);
}

/// One of the collectives, with what it is about.
#[derive(Debug, Clone)]
enum Step {
    Reduce(usize),
    Reduce64(usize),
    Scatter(Vec<usize>),
    Gather(Vec<usize>),
    Broadcast(usize, usize),
    Barrier,
}

fn steps(world: usize) -> impl Strategy<Value = Vec<Step>> {
    let bounds = move || {
        prop::collection::vec(0usize..70_000, world - 1).prop_map(|mut inner| {
            inner.sort_unstable();
            let last = inner.last().map_or(1234, |last| last + 17);
            [vec![0], inner, vec![last]].concat()
        })
    };
    let step = prop_oneof![
        (0usize..150_000).prop_map(Step::Reduce),
        (0usize..5_000).prop_map(Step::Reduce64),
        bounds().prop_map(Step::Scatter),
        bounds().prop_map(Step::Gather),
        (0..world, 0usize..600_000).prop_map(|(from, length)| Step::Broadcast(from, length)),
        Just(Step::Barrier),
    ];
    prop::collection::vec(step, 1..12)
}

/// What a rank gets that it may use, as bits.
fn take(step: &Step, ranks: &mut dyn Collective) -> Result<Vec<u64>, RankError> {
    let rank = ranks.rank();
    let wide = |values: &[f32]| values.iter().map(|value| u64::from(value.to_bits())).collect();
    Ok(match step {
        Step::Reduce(length) => {
            let mut values = values(rank, *length);
            ranks.all_reduce(&mut values)?;
            wide(&values)
        }
        Step::Reduce64(length) => {
            let mut values: Vec<f64> = values(rank, *length).into_iter().map(f64::from).collect();
            ranks.all_reduce_f64(&mut values)?;
            values.iter().map(|value| value.to_bits()).collect()
        }
        Step::Scatter(bounds) => {
            let mut values = values(rank, bounds[bounds.len() - 1]);
            ranks.reduce_scatter(&mut values, bounds)?;
            wide(&values[bounds[rank]..bounds[rank + 1]])
        }
        Step::Gather(bounds) => {
            let mut values = values(rank, bounds[bounds.len() - 1]);
            ranks.all_gather(&mut values, bounds)?;
            wide(&values)
        }
        Step::Broadcast(from, length) => {
            let mut bytes = vec![u8::try_from(rank).unwrap(); if rank == *from { *length } else { 3 }];
            ranks.broadcast(*from, &mut bytes)?;
            bytes.into_iter().map(u64::from).collect()
        }
        Step::Barrier => {
            ranks.barrier()?;
            Vec::new()
        }
    })
}

/// What rank `rank` must get.
fn expected(step: &Step, rank: usize, world: usize) -> Vec<u64> {
    let wide = |values: &[f32]| values.iter().map(|value| u64::from(value.to_bits())).collect();
    match step {
        Step::Reduce(length) => wide(&sum(world, *length)),
        Step::Reduce64(length) => {
            let all: Vec<_> = (0..world).map(|rank| values(rank, *length)).collect();
            (0..*length)
                .map(|at| {
                    let of = |rank: usize| f64::from(all[rank][at]);
                    (1..world).fold(of(0), |sum, rank| sum + of(rank)).to_bits()
                })
                .collect()
        }
        Step::Scatter(bounds) => wide(&sum(world, bounds[bounds.len() - 1])[bounds[rank]..bounds[rank + 1]]),
        Step::Gather(bounds) => (0..world)
            .flat_map(|owner| {
                let of_owner = values(owner, bounds[owner + 1]);
                of_owner[bounds[owner]..].iter().map(|value| u64::from(value.to_bits())).collect::<Vec<_>>()
            })
            .collect(),
        Step::Broadcast(from, length) => vec![u64::try_from(*from).unwrap(); *length],
        Step::Barrier => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn any_sequence_of_collectives_gives_what_each_gives(
        (world, steps) in (2usize..5).prop_flat_map(|world| (Just(world), steps(world))),
    ) {
        let found = every_rank(world, &options(), |ranks| {
            steps.iter().map(|step| take(step, ranks).unwrap()).collect::<Vec<_>>()
        });
        for (rank, of_rank) in found.iter().enumerate() {
            for (step, found) in steps.iter().zip(of_rank) {
                prop_assert!(*found == expected(step, rank, world), "rank {} of {} in {:?}", rank, world, step);
            }
        }
    }
}
