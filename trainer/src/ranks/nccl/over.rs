//! The collectives: which tensor is sent, which is received, and what the ring does meanwhile.

use candle_core::{Device, Error, Tensor};

use super::super::ring::Kind;
use super::super::{Abandon, Collective, JoinError, RankError, Ring};
use super::comm::{Comm, Operation};
use super::padded;
use crate::device::{self, DeviceError};

/// A rank that computes on a GPU.
pub(in super::super) struct Nccl {
    ring: Ring,
    comm: Comm,
}

impl Nccl {
    /// Lets the ranks of a ring, each of which has a GPU of its own, find each other over NCCL.
    pub(in super::super) fn new(mut ring: Ring, device: &Device) -> Result<Self, JoinError> {
        if !device::is_there("nccl") {
            return Err(DeviceError::NoLibrary("nccl").into());
        }
        let refused = |reason: String| JoinError::Nccl(reason);
        let (rank, world) = (ring.rank(), ring.world());
        let mut id = if rank == 0 { Comm::invite().map_err(refused)? } else { Vec::new() };
        ring.broadcast(0, &mut id)?;
        let stream = device.as_cuda_device().map_err(|error| refused(error.to_string()))?.cuda_stream();
        let mut comm = Comm::begin(&id, rank, world, stream).map_err(refused)?;
        ring.carry(Kind::Barrier, &mut comm.meeting())?;
        Ok(Self { ring, comm })
    }

    /// Sends `from` and receives into `to`, which live as long as it takes.
    fn carry(&mut self, kind: Kind, operation: Operation, from: &Tensor, to: &Tensor) -> Result<(), RankError> {
        let mut call = self.comm.call(operation, from, to).map_err(tensor(kind))?;
        self.ring.carry(kind, &mut call)
    }
}

fn tensor(kind: Kind) -> impl Fn(Error) -> RankError {
    move |source| RankError::Tensor { collective: kind.name(), source }
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.ring.rank()
    }

    fn world(&self) -> usize {
        self.ring.world()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), RankError> {
        self.ring.all_reduce(values)
    }

    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<(), RankError> {
        self.ring.all_reduce_f64(values)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        self.ring.reduce_scatter(values, bounds)
    }

    fn all_gather(&mut self, values: &mut [f32], bounds: &[usize]) -> Result<(), RankError> {
        self.ring.all_gather(values, bounds)
    }

    fn all_reduce_tensor(&mut self, values: &Tensor) -> Result<(), RankError> {
        self.carry(Kind::AllReduce, Operation::AllReduce, values, values)
    }

    fn reduce_scatter_tensor(&mut self, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        let (kind, rank) = (Kind::ReduceScatter, self.rank());
        let failed = tensor(kind);
        if padded::is_even(bounds) {
            let own = values.narrow(0, bounds[rank], padded::width(bounds)).map_err(failed)?;
            return self.carry(kind, Operation::ReduceScatter, values, &own);
        }
        let (from, to) = (padded::parts(values, bounds), padded::part(values, bounds, rank));
        let (from, to) = (from.map_err(&failed)?, to.map_err(&failed)?);
        self.carry(kind, Operation::ReduceScatter, &from, &to)?;
        padded::put_part(&to, values, bounds, rank).map_err(failed)
    }

    fn all_gather_tensor(&mut self, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        let (kind, rank) = (Kind::AllGather, self.rank());
        let failed = tensor(kind);
        if padded::is_even(bounds) {
            let own = values.narrow(0, bounds[rank], padded::width(bounds)).map_err(failed)?;
            return self.carry(kind, Operation::AllGather, &own, values);
        }
        let (from, to) = (padded::part(values, bounds, rank), padded::parts(values, bounds));
        let (from, to) = (from.map_err(&failed)?, to.map_err(&failed)?);
        self.carry(kind, Operation::AllGather, &from, &to)?;
        padded::put_parts(&to, values, bounds).map_err(failed)
    }

    fn broadcast(&mut self, from: usize, bytes: &mut Vec<u8>) -> Result<(), RankError> {
        self.ring.broadcast(from, bytes)
    }

    fn barrier(&mut self) -> Result<(), RankError> {
        self.ring.barrier()
    }

    fn abandon(&self) -> Option<Abandon> {
        self.ring.abandon()
    }
}
