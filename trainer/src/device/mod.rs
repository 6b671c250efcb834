//! What a rank computes on: the processors, or a GPU of its own, chosen by its number on the node. What is computed is not said here, nor how ranks
//! exchange it.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Device, Error};

use crate::model::Config;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Choice {
    /// A GPU where this program is built for it and one is there, the processors otherwise
    #[default]
    Auto,
    /// The processors
    Cpu,
    /// The GPU with this rank's number on its node
    Cuda,
}

/// A device that is not to be had, or that cannot hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// This program cannot use GPUs.
    #[error(
        "this program is built without CUDA: take one that images/trainer/cuda.sh builds (feature `cuda`), or say --device cpu"
    )]
    NotBuilt,
    /// No driver.
    #[error(
        "no NVIDIA driver is here (libcuda.so.1 cannot be loaded): install it, ask for a GPU in the pod's resources, or say --device cpu"
    )]
    NoDriver,
    /// A library of NVIDIA's that is not there.
    #[error("lib{0}.so of CUDA is not found: put the folder that has it on LD_LIBRARY_PATH")]
    NoLibrary(&'static str),
    /// The driver does not answer.
    #[error("the NVIDIA driver does not work: {0}; does nvidia-smi?")]
    Driver(String),
    /// No GPU at all.
    #[error("an NVIDIA driver is here and no GPU that it shows: see to CUDA_VISIBLE_DEVICES, or say --device cpu")]
    NoDevice,
    /// Fewer GPUs than ranks.
    #[error(
        "LOCAL_RANK is {number}, and there are {count} GPUs, numbered from 0: start a rank a GPU, or see to CUDA_VISIBLE_DEVICES"
    )]
    TooFew {
        /// Which was asked for.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// A GPU that this program has no code for.
    #[error(
        "GPU {number} ({name}) has compute capability {found}, and this program is built for {needed} and above: build it with SERA_CUDA_CAPABILITY={found}, or say --device cpu"
    )]
    Capability {
        /// Which GPU.
        number: usize,
        /// What it is called.
        name: String,
        /// Its compute capability, as 90.
        found: u32,
        /// What is needed.
        needed: u32,
    },
    /// A GPU on which nothing can be computed.
    #[error("GPU {number} computes nothing: {source}; is it in use, or its driver older than CUDA 13.0 (580)?")]
    Unusable {
        /// Which GPU.
        number: usize,
        /// What the first sum said.
        source: Error,
    },
    /// A tensor whose values a kernel could not count.
    #[error("{what} would be a tensor of {values} values, and a GPU's kernels count to {MOST}: {remedy}")]
    TooLarge {
        /// What it is.
        what: String,
        /// How many values.
        values: u128,
        /// What would make it smaller.
        remedy: &'static str,
    },
}

/// The most values of a tensor on a GPU: candle's kernels count them in 32 bits, and beyond that work on the first ones twice, without a word.
pub const MOST: u128 = u32::MAX as u128;

/// The device of the rank with this number on its node.
pub fn open(choice: Choice, local_rank: usize) -> Result<Device, DeviceError> {
    match choice {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Cuda => gpu(local_rank),
        Choice::Auto => match gpu(local_rank) {
            // A GPU that is there and does not work is told: a training on processors in its place would take weeks.
            Err(DeviceError::NotBuilt | DeviceError::NoDriver | DeviceError::NoDevice) => Ok(Device::Cpu),
            found => found,
        },
    }
}

#[cfg(feature = "cuda")]
use cuda::gpu;
#[cfg(feature = "nccl")]
pub(crate) use cuda::is_there;

#[cfg(not(feature = "cuda"))]
fn gpu(_: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt)
}

/// The memory that a device of its own has free, in bytes; none for the processors, which have the host's.
pub fn memory(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::memory(device),
        _ => None,
    }
}

/// How many multiprocessors a GPU has; none for the processors.
pub(crate) fn multiprocessors(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::multiprocessors(device),
        _ => None,
    }
}

/// What a person calls it.
pub fn name(device: &Device) -> String {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::name(device),
        _ => "CPU".to_owned(),
    }
}

/// Refuses weights or gradients that would lie one after the other in a tensor that `device` could not count.
pub fn hold_unit(device: &Device, what: &str, values: usize) -> Result<(), DeviceError> {
    let remedy = "take a smaller student";
    if device.is_cpu() { Ok(()) } else { countable(what, values as u128, remedy) }
}

/// Refuses a sequence whose activations `device` could not count.
pub fn hold_sequence(device: &Device, config: &Config, tokens: usize) -> Result<(), DeviceError> {
    let remedy = "lower `contextLength`";
    if device.is_cpu() { Ok(()) } else { countable("an activation", widest(config) * tokens as u128, remedy) }
}

/// How many values the widest activation has of each token. Scores and logits are not among them: they are computed in chunks that are smaller.
fn widest(config: &Config) -> u128 {
    let queries = config.heads * config.head_dim;
    config.hidden.max(config.intermediate).max(queries) as u128
}

fn countable(what: &str, values: u128, remedy: &'static str) -> Result<(), DeviceError> {
    if values <= MOST { Ok(()) } else { Err(DeviceError::TooLarge { what: what.to_owned(), values, remedy }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::config;

    #[test]
    fn the_processors_are_there_whatever_is_built() {
        assert!(open(Choice::Cpu, 7).unwrap().is_cpu());
        assert_eq!((memory(&Device::Cpu), name(&Device::Cpu)), (None, "CPU".to_owned()));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_program_without_cuda_says_so_and_takes_the_processors_where_it_may_choose() {
        assert!(matches!(open(Choice::Cuda, 0), Err(DeviceError::NotBuilt)));
        assert!(open(Choice::Auto, 0).unwrap().is_cpu());
    }

    #[test]
    fn a_tensor_that_32_bits_do_not_count_is_refused() {
        assert!(countable("the head", MOST, "x").is_ok());
        let error = countable("the head", MOST + 1, "take less").unwrap_err().to_string();
        assert!(error.contains("the head") && error.contains("4294967296") && error.ends_with("take less"), "{error}");
        // The processors' tensors have no such bound.
        assert!(hold_unit(&Device::Cpu, "the head", usize::MAX).is_ok());
    }

    #[test]
    fn the_widest_activation_is_that_of_the_feed_forward_part_or_of_the_queries() {
        let config = config("qwen3", true);
        let widest = widest(&config);
        assert!(widest >= config.intermediate as u128 && widest >= (config.heads * config.head_dim) as u128);
        assert!(hold_sequence(&Device::Cpu, &config, usize::MAX).is_ok());
    }
}
