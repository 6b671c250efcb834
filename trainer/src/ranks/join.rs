//! Meeting the others and agreeing on what is computed on: all on processors, or all on GPUs. How they meet is the rendezvous's.

use candle_core::Device;

use crate::device::DeviceError;

use super::{Alone, Collective, Options, Place, RankError, RendezvousError, rendezvous};

/// Why ranks do not train together.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// They did not meet.
    #[error(transparent)]
    Rendezvous(#[from] RendezvousError),
    /// They lost each other at once.
    #[error(transparent)]
    Ranks(#[from] RankError),
    /// Some compute on GPUs and some do not.
    #[error(
        "{gpus} of {world} ranks compute on GPUs and the others on processors: say --device cuda or --device cpu on all of them"
    )]
    Mixed {
        /// How many have a GPU.
        gpus: usize,
        /// How many ranks there are.
        world: usize,
    },
    /// A library that is not there.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// NCCL does not let them.
    #[error("the ranks' GPUs do not meet: {0}")]
    Nccl(String),
}

/// Meets the others, and is one of them from then on; `device` is what this rank computes on. Between GPUs tensors go by NCCL, where this program has it,
/// and through the hosts' memories otherwise.
pub fn join_on(place: &Place, options: &Options, device: &Device) -> Result<Box<dyn Collective>, JoinError> {
    if place.world == 1 {
        return Ok(Box::new(Alone));
    }
    let mut ring = rendezvous::ring(place, options)?;
    if on_gpus(&mut ring, !device.is_cpu())? {
        return over_gpus(ring, device);
    }
    Ok(Box::new(ring))
}

/// Whether all compute on GPUs; refused where some do and some do not.
fn on_gpus(ranks: &mut dyn Collective, mine: bool) -> Result<bool, JoinError> {
    let mut all = vec![0.0; ranks.world()];
    all[ranks.rank()] = if mine { 1.0 } else { 0.0 };
    ranks.all_reduce_f64(&mut all)?;
    match all.iter().filter(|gpu| **gpu > 0.0).count() {
        0 => Ok(false),
        gpus if gpus == all.len() => Ok(true),
        gpus => Err(JoinError::Mixed { gpus, world: all.len() }),
    }
}

#[cfg(feature = "nccl")]
fn over_gpus(ring: super::Ring, device: &Device) -> Result<Box<dyn Collective>, JoinError> {
    Ok(Box::new(super::nccl::Nccl::new(ring, device)?))
}

#[cfg(not(feature = "nccl"))]
#[allow(clippy::unnecessary_wraps, reason = "with NCCL it can fail")]
fn over_gpus(ring: super::Ring, _: &Device) -> Result<Box<dyn Collective>, JoinError> {
    tracing::warn!(
        "this program is built without NCCL (feature `nccl`): tensors go through the hosts' memories, slowly"
    );
    Ok(Box::new(ring))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::super::Master;
    use super::*;

    /// What two ranks agree on.
    fn agreed(gpus: [bool; 2]) -> Vec<Result<bool, JoinError>> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let part = |rank: usize| {
            let master = Master { host: "127.0.0.1".into(), port };
            let place = Place { rank, world: 2, local_rank: rank, master };
            let mut ring = rendezvous::ring(&place, &Options::default()).unwrap();
            on_gpus(&mut ring, gpus[rank])
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| part(1));
            vec![part(0), other.join().unwrap()]
        })
    }

    #[test]
    fn ranks_that_compute_on_different_kinds_of_devices_are_refused_on_all() {
        assert!(agreed([false, false]).into_iter().all(|gpus| !gpus.unwrap()));
        assert!(agreed([true, true]).into_iter().all(|gpus| gpus.unwrap()));
        for mixed in agreed([false, true]) {
            assert!(mixed.unwrap_err().to_string().starts_with("1 of 2 ranks compute on GPUs"));
        }
    }

    #[test]
    fn one_rank_has_nobody_to_agree_with() {
        let ranks = join_on(&Place::alone(), &Options::default(), &Device::Cpu).unwrap();
        assert_eq!((ranks.rank(), ranks.world()), (0, 1));
    }
}
