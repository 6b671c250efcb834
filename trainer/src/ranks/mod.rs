//! How the processes of one training, its ranks, exchange numbers: the few collectives that sharded training needs, and who carries them.

mod alone;
mod join;
pub mod launcher;
#[cfg(any(feature = "nccl", test))]
mod nccl;
mod place;
mod point;
mod rendezvous;
mod ring;
mod staged;
mod wait;
mod words;

pub use alone::Alone;
pub use join::{JoinError, join_on};
pub use place::{Gang, MAX_WORLD, Master, Place, PlaceError};
pub use point::Point;
pub use rendezvous::{Options, RendezvousError, join};
pub use ring::Ring;

use std::time::Duration;

use candle_core::{Error, Tensor};
use staged::staged;

/// A collective that did not come to its end. The group is of no use afterwards: every rank ends, and a restart goes on from the last checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum RankError {
    /// A rank closed its connection, died, or was silent for too long.
    #[error(
        "rank {rank} of {world} was lost in {collective} number {number}: {reason}; every rank ends, and a restart goes on from the last checkpoint"
    )]
    Lost {
        /// The rank that is missed.
        rank: usize,
        /// How many ranks there are.
        world: usize,
        /// What was being done, such as `all_reduce`.
        collective: &'static str,
        /// How many collectives were begun before it.
        number: u64,
        /// How that showed.
        reason: String,
    },
    /// Two ranks are not at the same place: the programs or their inputs differ.
    #[error("rank {rank} does {theirs} where rank {own} does {ours}: do all ranks have the same files and settings?")]
    Diverged {
        /// The other rank.
        rank: usize,
        /// What it does.
        theirs: String,
        /// This rank.
        own: usize,
        /// What this rank does.
        ours: String,
    },
    /// A tensor that could not be brought to where it is carried from, or back.
    #[error("a tensor could not be carried in {collective}: {source}")]
    Tensor {
        /// What was being done.
        collective: &'static str,
        /// Why.
        source: Error,
    },
}

/// What ends a process whose group has come to its end while it computes.
#[derive(Debug, Clone, Copy)]
pub struct Abandon {
    /// How long it may take to hear of it by itself.
    pub after: Duration,
    /// What is done then; see [`Options::abandon`].
    pub how: fn(&RankError),
}

/// What ranks do together. Every rank calls the same collectives in the same order with values of the same lengths. Sums are made in an order that
/// depends on the world size alone, so that a training repeats itself to the bit.
pub trait Collective: Send {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn world(&self) -> usize;

    /// Every rank gets the sum over ranks of every value, with the same bits.
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), RankError>;

    /// The same for the few numbers that want more digits: losses, counts, squares of norms.
    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<(), RankError>;

    /// Rank r gets the sums of `values[bounds[r]..bounds[r + 1]]`, in place; what its other values are afterwards is not said. `bounds` has world + 1
    /// offsets that do not fall, from 0 to the length.
    fn reduce_scatter(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError>;

    /// Every rank gets `values[bounds[r]..bounds[r + 1]]` from rank r, for all r.
    fn all_gather(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError>;

    /// [`all_reduce`](Self::all_reduce) of a tensor of one dimension, in place. Unless it is carried from where it lives, it goes through the host's
    /// memory.
    fn all_reduce_tensor(&mut self, values: &Tensor) -> Result<(), RankError> {
        staged("all_reduce", values, |values| self.all_reduce(values))
    }

    /// [`reduce_scatter`](Self::reduce_scatter) of such a tensor.
    fn reduce_scatter_tensor(&mut self, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        staged("reduce_scatter", values, |values| self.reduce_scatter(values, bounds))
    }

    /// [`all_gather`](Self::all_gather) of such a tensor.
    fn all_gather_tensor(&mut self, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        staged("all_gather", values, |values| self.all_gather(values, bounds))
    }

    /// Marks how far the device that computes has been told what to do. For the thread that has told it.
    fn point(&self) -> Result<Point, RankError> {
        Ok(Point::default())
    }

    /// [`all_gather_tensor`](Self::all_gather_tensor) of values that are there at `point`, by another thread than the one that goes on to tell the device
    /// what to do: that is not waited for where tensors are carried from where they live.
    fn all_gather_tensor_from(&mut self, _: &Point, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        self.all_gather_tensor(values, bounds)
    }

    /// Every rank gets rank `from`'s bytes.
    fn broadcast(&mut self, from: usize, bytes: &mut Vec<u8>) -> Result<(), RankError>;

    /// No rank goes on before all have come here.
    fn barrier(&mut self) -> Result<(), RankError>;

    /// What whoever calls collectives from another thread than the one that computes has to do where one fails and that one does not hear of it.
    fn abandon(&self) -> Option<Abandon> {
        None
    }
}
