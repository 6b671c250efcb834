//! The collectives: which tensor is sent, which is received, and what the ring does meanwhile.

use candle_core::cuda_backend::cudarc::driver::CudaEvent;
use candle_core::{Device, Error, Tensor};

use super::super::ring::Kind;
use super::super::{Abandon, Collective, JoinError, Point, RankError, Ring};
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

    /// Sends `from` and receives into `to`, when the GPU has done what it was told so far.
    fn carry(&mut self, operation: Operation, from: &Tensor, to: &Tensor) -> Result<(), RankError> {
        let now = self.comm.event().map_err(tensor(operation.kind()))?;
        self.carry_from(&now, operation, from, to)
    }

    /// The same from an event on: both tensors are there when it has come to pass.
    fn carry_from(
        &mut self,
        event: &CudaEvent,
        operation: Operation,
        from: &Tensor,
        to: &Tensor,
    ) -> Result<(), RankError> {
        let kind = operation.kind();
        let mut call = self.comm.call(operation, from, to, event).map_err(tensor(kind))?;
        self.ring.carry(kind, &mut call)
    }
}

impl Operation {
    /// What the ring counts it as.
    fn kind(self) -> Kind {
        match self {
            Self::AllReduce => Kind::AllReduce,
            Self::ReduceScatter => Kind::ReduceScatter,
            Self::AllGather => Kind::AllGather,
        }
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
        self.carry(Operation::AllReduce, values, values)
    }

    fn reduce_scatter_tensor(&mut self, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        let rank = self.rank();
        let failed = tensor(Kind::ReduceScatter);
        if padded::is_even(bounds) {
            let own = values.narrow(0, bounds[rank], padded::width(bounds)).map_err(failed)?;
            return self.carry(Operation::ReduceScatter, values, &own);
        }
        let (from, to) = (padded::parts(values, bounds), padded::part(values, bounds, rank));
        let (from, to) = (from.map_err(&failed)?, to.map_err(&failed)?);
        self.carry(Operation::ReduceScatter, &from, &to)?;
        padded::put_part(&to, values, bounds, rank).map_err(failed)
    }

    fn all_gather_tensor(&mut self, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        if padded::is_even(bounds) {
            return self.all_gather_tensor_from(&self.point()?, values, bounds);
        }
        let rank = self.rank();
        let failed = tensor(Kind::AllGather);
        let (from, to) = (padded::part(values, bounds, rank), padded::parts(values, bounds));
        let (from, to) = (from.map_err(&failed)?, to.map_err(&failed)?);
        self.carry(Operation::AllGather, &from, &to)?;
        padded::put_parts(&to, values, bounds).map_err(failed)
    }

    fn point(&self) -> Result<Point, RankError> {
        let event = self.comm.event().map_err(tensor(Kind::AllGather))?;
        Ok(Point { event: Some(event) })
    }

    fn all_gather_tensor_from(&mut self, point: &Point, values: &Tensor, bounds: &[usize]) -> Result<(), RankError> {
        let Some(event) = point.event.as_ref().filter(|_| padded::is_even(bounds)) else {
            return self.all_gather_tensor(values, bounds);
        };
        let own = values.narrow(0, bounds[self.rank()], padded::width(bounds)).map_err(tensor(Kind::AllGather))?;
        self.carry_from(event, Operation::AllGather, &own, values)
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
