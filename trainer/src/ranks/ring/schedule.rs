//! Which pieces a rank sends to its right neighbour and receives from its left one, in which order. A schedule follows from the world's size, the
//! rank and the bounds alone; how bytes are moved is `wire`'s.
//!
//! Sums are made along the ranks: rank 0 sends its values to rank 1, which adds its own and sends on, and so forth: `((x0 + x1) + x2) + …`, for
//! every value, whatever its place, the length or the bounds. The last rank has the sums, and they travel on around the ring: to all, or as far as
//! their owner. Pieces follow each other closely, so that all ranks work at once. Over a connection go at most twice the bytes of the values: for an
//! `all_reduce` little more than on rings whose sums begin everywhere, for a `reduce_scatter` about twice as many. That is the price of one order.

use std::ops::Range;

use super::frame::{MAX_PIECE, Stage};
use super::payload::Take;

/// Some of the elements, which travel together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) number: u32,
    pub(super) range: Range<usize>,
    /// Which segment of the bounds they are in.
    owner: usize,
}

/// A piece that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Departure {
    pub(super) piece: Piece,
    pub(super) stage: Stage,
    /// How many arrivals there must have been before.
    pub(super) after: usize,
}

/// A piece that is to be received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) piece: Piece,
    pub(super) stage: Stage,
    pub(super) how: Take,
}

/// A rank's part in a collective.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) departures: Vec<Departure>,
    pub(super) arrivals: Vec<Arrival>,
}

/// Where a rank is on the ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) rank: usize,
    pub(super) world: usize,
}

/// Cuts the segments into pieces of elements that have `width` bytes. There is one at least: ranks that exchange nothing would not find out that they
/// have diverged.
pub(super) fn pieces(bounds: &[usize], width: usize) -> Vec<Piece> {
    let most = (MAX_PIECE / width).max(1);
    let mut ranges = Vec::new();
    for (owner, ends) in bounds.windows(2).enumerate() {
        ranges.extend((ends[0]..ends[1]).step_by(most).map(|from| (owner, from..ends[1].min(from + most))));
    }
    if ranges.is_empty() {
        ranges.push((0, 0..0));
    }
    ranges.into_iter().zip(0..).map(|((owner, range), number)| Piece { number, range, owner }).collect()
}

impl Seat {
    /// Sums for all.
    pub(super) fn all_reduce(self, pieces: &[Piece]) -> Schedule {
        // The last rank that is told is the one before the last, whose sums they are.
        self.reduce(pieces, |_| Some(self.world.saturating_sub(2)))
    }

    /// Sums for the owners.
    pub(super) fn reduce_scatter(self, pieces: &[Piece]) -> Schedule {
        self.reduce(pieces, |piece| Some(piece.owner).filter(|owner| owner + 1 < self.world))
    }

    /// Sums, each told from rank 0 on to the rank that is named, if one is.
    fn reduce(self, pieces: &[Piece], told_to: impl Fn(&Piece) -> Option<usize>) -> Schedule {
        let last = self.world - 1;
        // Between a rank and the next, sums are made and told at once. The sums follow so far behind the parts that none has to wait for them.
        let mixed = |from: usize| {
            let delay = self.world;
            let mut link = Vec::new();
            for turn in 0..pieces.len() + delay {
                link.extend(pieces.get(turn).map(|piece| (piece, Stage::Partial)));
                let told = turn.checked_sub(delay).and_then(|turn| pieces.get(turn));
                link.extend(
                    told.filter(|piece| told_to(piece).is_some_and(|to| to > from)).map(|piece| (piece, Stage::Whole)),
                );
            }
            link
        };
        let closing = || pieces.iter().filter(|piece| told_to(piece).is_some()).map(|piece| (piece, Stage::Whole));
        let comes: Vec<_> = if self.rank == 0 { closing().collect() } else { mixed(self.rank - 1) };
        let goes: Vec<_> = if self.rank == last { closing().collect() } else { mixed(self.rank) };
        let mut came = Came::default();
        let arrivals = comes.into_iter().map(|(piece, stage)| {
            came.note(piece, stage);
            let how = if stage == Stage::Partial { Take::Add } else { Take::Put };
            Arrival { piece: piece.clone(), stage, how }
        });
        let arrivals = arrivals.collect();
        let departures = goes.into_iter().map(|(piece, stage)| {
            let needed = if self.rank == last { Stage::Partial } else { stage };
            Departure { piece: piece.clone(), stage, after: came.after(piece, needed) }
        });
        Schedule { departures: departures.collect(), arrivals }
    }

    /// Every segment from its owner to all others.
    pub(super) fn all_gather(self, pieces: &[Piece]) -> Schedule {
        let before = |distance: usize| (self.rank + self.world - distance) % self.world;
        let of = |owner: usize| pieces.iter().filter(move |piece| piece.owner == owner);
        let arrivals = (1..self.world).flat_map(|distance| of(before(distance))).map(|piece| Arrival {
            piece: piece.clone(),
            stage: Stage::Whole,
            how: Take::Put,
        });
        let own = of(self.rank).map(|piece| (piece, 0));
        let others = (1..self.world - 1).flat_map(|distance| of(before(distance))).zip(1..);
        let departures = own.chain(others);
        let departures =
            departures.map(|(piece, after)| Departure { piece: piece.clone(), stage: Stage::Whole, after });
        Schedule { departures: departures.collect(), arrivals: arrivals.collect() }
    }

    /// All pieces from one rank to all others.
    pub(super) fn broadcast(self, from: usize, pieces: &[Piece], stage: Stage) -> Schedule {
        let distance = (self.rank + self.world - from) % self.world;
        let arrivals =
            pieces.iter().filter(|_| distance > 0).map(|piece| Arrival { piece: piece.clone(), stage, how: Take::Put });
        let after = |count: usize| if distance == 0 { 0 } else { count };
        let departures = pieces.iter().zip(1..).filter(|_| distance + 1 < self.world).map(|(piece, count)| Departure {
            piece: piece.clone(),
            stage,
            after: after(count),
        });
        Schedule { departures: departures.collect(), arrivals: arrivals.collect() }
    }
}

/// At which place of the order each piece came.
#[derive(Debug, Default)]
struct Came {
    count: usize,
    partial: Vec<usize>,
    whole: std::collections::HashMap<u32, usize>,
}

impl Came {
    /// The next to come.
    fn note(&mut self, piece: &Piece, stage: Stage) {
        self.count += 1;
        if stage == Stage::Partial {
            self.partial.push(self.count);
        } else {
            self.whole.insert(piece.number, self.count);
        }
    }

    /// How many came up to this one, or none where it does not come from elsewhere.
    fn after(&self, piece: &Piece, stage: Stage) -> usize {
        let at = if stage == Stage::Partial {
            usize::try_from(piece.number).ok().and_then(|number| self.partial.get(number))
        } else {
            self.whole.get(&piece.number)
        };
        at.copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs all ranks' schedules with no buffer between them: whether they come to their end, and with which values.
    fn simulate(schedules: &[Schedule], mut values: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, String> {
        let world = schedules.len();
        let mut progress = vec![(0, 0); world];
        loop {
            let mut moved = false;
            for (rank, schedule) in schedules.iter().enumerate() {
                let right = (rank + 1) % world;
                let Some(departure) = schedule.departures.get(progress[rank].0) else { continue };
                if departure.after > progress[rank].1 {
                    continue;
                }
                let arrival = schedules[right].arrivals.get(progress[right].1).ok_or("nobody waits for it")?;
                if (&arrival.piece, arrival.stage) != (&departure.piece, departure.stage) {
                    return Err(format!("{departure:?} where {arrival:?} is waited for"));
                }
                for at in departure.piece.range.clone() {
                    let came = values[rank][at];
                    let value = &mut values[right][at];
                    *value = if arrival.how == Take::Add { *value + came } else { came };
                }
                progress[rank].0 += 1;
                progress[right].1 += 1;
                moved = true;
            }
            let done = |(rank, schedule): (usize, &Schedule)| {
                progress[rank] == (schedule.departures.len(), schedule.arrivals.len())
            };
            if schedules.iter().enumerate().all(done) {
                return Ok(values);
            }
            if !moved {
                return Err(format!("all wait for each other at {progress:?}"));
            }
        }
    }

    /// Bounds with pieces enough that they cannot all be on their way at once.
    fn worlds() -> impl Strategy<Value = (Vec<usize>, usize)> {
        (2usize..8).prop_flat_map(|world| {
            let segments = prop::collection::vec(0usize..12, world);
            segments.prop_map(|segments| {
                let mut bounds = vec![0];
                bounds.extend(segments.iter().scan(0, |sum, segment| {
                    *sum += segment;
                    Some(*sum)
                }));
                (bounds, 4)
            })
        })
    }

    /// Rank r's values: such that sums in another order have other bits.
    fn values(rank: usize, length: usize) -> Vec<f32> {
        (0..length).map(|at| [1.0e8, 1.0, -1.0e8, 0.1, 3.0e7, -0.7, 1.0e-3][(rank + at) % 7]).collect()
    }

    fn sum(world: usize, length: usize) -> Vec<f32> {
        let mut sum = values(0, length);
        for rank in 1..world {
            sum.iter_mut().zip(values(rank, length)).for_each(|(sum, value)| *sum += value);
        }
        sum
    }

    proptest! {
        #[test]
        fn every_rank_gets_the_sums_in_the_order_of_the_ranks((bounds, per_piece) in worlds()) {
            let (world, length) = (bounds.len() - 1, bounds[bounds.len() - 1]);
            let pieces = pieces(&bounds, MAX_PIECE / per_piece);
            let seats = || (0..world).map(|rank| Seat { rank, world });
            let start: Vec<_> = (0..world).map(|rank| values(rank, length)).collect();

            let all: Vec<_> = seats().map(|seat| seat.all_reduce(&pieces)).collect();
            let reduced = simulate(&all, start.clone()).map_err(TestCaseError::fail)?;
            prop_assert!(reduced.iter().all(|values| *values == sum(world, length)));

            let scattered: Vec<_> = seats().map(|seat| seat.reduce_scatter(&pieces)).collect();
            let scattered = simulate(&scattered, start).map_err(TestCaseError::fail)?;
            for (rank, values) in scattered.iter().enumerate() {
                let own = bounds[rank]..bounds[rank + 1];
                prop_assert_eq!(&values[own.clone()], &sum(world, length)[own]);
            }

            let gathered: Vec<_> = seats().map(|seat| seat.all_gather(&pieces)).collect();
            let gathered = simulate(&gathered, scattered).map_err(TestCaseError::fail)?;
            prop_assert_eq!(gathered, reduced);
        }

        #[test]
        fn a_broadcast_comes_to_all((bounds, per_piece) in worlds(), from in 0usize..8) {
            let (world, length) = (bounds.len() - 1, bounds[bounds.len() - 1]);
            let from = from % world;
            let pieces = pieces(&[0, length], MAX_PIECE / per_piece);
            let schedules: Vec<_> =
                (0..world).map(|rank| Seat { rank, world }.broadcast(from, &pieces, Stage::Whole)).collect();
            let start = (0..world).map(|rank| values(rank, length)).collect();
            let told = simulate(&schedules, start).map_err(TestCaseError::fail)?;
            prop_assert!(told.iter().all(|values| *values == self::values(from, length)));
        }

        #[test]
        fn pieces_are_all_of_it_and_none_crosses_a_bound((bounds, per_piece) in worlds()) {
            let pieces = pieces(&bounds, MAX_PIECE / per_piece);
            let mut at = 0;
            for piece in &pieces {
                prop_assert_eq!(piece.range.start, at);
                prop_assert!(piece.range.len() <= per_piece && piece.range.end <= bounds[piece.owner + 1]);
                prop_assert!(bounds[piece.owner] <= piece.range.start);
                at = piece.range.end;
            }
            prop_assert_eq!(at, bounds[bounds.len() - 1]);
        }
    }

    #[test]
    fn nothing_is_one_empty_piece() {
        assert_eq!(pieces(&[0, 0, 0], 4), [Piece { number: 0, range: 0..0, owner: 0 }]);
    }
}
