//! Which kernels of ours are on. The program says it once, before anything is computed; whoever measures them switches back and forth.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use candle_core::Device;
use clap::ValueEnum;

/// A kernel, or those of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// Root-mean-square normalisation, forward and backward.
    RmsNorm,
    /// Rotary position embedding, forward and backward.
    Rope,
    /// The gated activation, forward and backward.
    Swiglu,
    /// The loss over a chunk of logits, and its gradient in their place.
    CrossEntropy,
    /// A step of the optimizer.
    Adamw,
    /// From f32 to bf16 and back.
    Casts,
}

impl Kernel {
    /// Its name, as it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::RmsNorm => "rms-norm",
            Self::Rope => "rope",
            Self::Swiglu => "swiglu",
            Self::CrossEntropy => "cross-entropy",
            Self::Adamw => "adamw",
            Self::Casts => "casts",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Some of the kernels; by default none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kernels(u8);

impl Kernels {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Those that are in it.
    pub fn iter(self) -> impl Iterator<Item = Kernel> {
        Kernel::value_variants().iter().copied().filter(move |kernel| self.0 & kernel.bit() != 0)
    }

    /// All of them.
    pub fn all() -> Self {
        Kernel::value_variants().iter().copied().collect()
    }
}

impl FromIterator<Kernel> for Kernels {
    fn from_iter<I: IntoIterator<Item = Kernel>>(kernels: I) -> Self {
        Self(kernels.into_iter().fold(0, |bits, kernel| bits | kernel.bit()))
    }
}

impl FromStr for Kernels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = |name: &str| {
            <Kernel as ValueEnum>::from_str(name, false).map_err(|_| {
                format!("`{name}` is none of {}; say some of them with commas between, all or none", Self::all())
            })
        };
        match text {
            "none" => Ok(Self::NONE),
            "all" => Ok(Self::all()),
            names => names.split(',').map(known).collect(),
        }
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Kernel::name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

/// Kernels that there is nothing to run on.
#[derive(Debug, thiserror::Error)]
pub enum KernelsError {
    /// This program has none.
    #[error(
        "kernels ({0}) are for GPUs, and this program is built without CUDA: take one that images/trainer/cuda.sh builds (feature `cuda`), or ask for none"
    )]
    NotBuilt(Kernels),
    /// What is computed on is no GPU.
    #[error("kernels ({0}) are for GPUs, and what is computed on is none: ask for no kernels, or say --device cuda")]
    NoGpu(Kernels),
}

/// A bit a kernel.
static ON: AtomicU8 = AtomicU8::new(0);

/// Switches these kernels on for what this process computes on `device`, and all others off.
pub fn switch(kernels: Kernels, device: &Device) -> Result<(), KernelsError> {
    match kernels {
        Kernels::NONE => {}
        _ if cfg!(not(feature = "cuda")) => return Err(KernelsError::NotBuilt(kernels)),
        _ if !device.is_cuda() => return Err(KernelsError::NoGpu(kernels)),
        _ => {}
    }
    ON.store(kernels.0, Ordering::Relaxed);
    Ok(())
}

/// Those that are on.
pub fn are_on() -> Kernels {
    Kernels(ON.load(Ordering::Relaxed))
}

pub(super) fn is_on(kernel: Kernel) -> bool {
    are_on().0 & kernel.bit() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_asked_for_by_their_names() {
        let some: Kernels = "rope,adamw".parse().unwrap();
        assert_eq!(some.iter().collect::<Vec<_>>(), [Kernel::Rope, Kernel::Adamw]);
        assert_eq!(("all".parse(), "none".parse()), (Ok(Kernels::all()), Ok(Kernels::NONE)));
        assert_eq!(Kernels::all().to_string(), "rms-norm,rope,swiglu,cross-entropy,adamw,casts");
        assert_eq!(Kernels::all().to_string().parse(), Ok(Kernels::all()));
        assert_eq!(Kernels::default().to_string(), "none");
        for wrong in ["", "attention", "rope,", "rope, adamw", "all,rope"] {
            let error = wrong.parse::<Kernels>().unwrap_err();
            assert!(error.contains("cross-entropy") && error.contains("none"), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_is_asked_for_is_refused_on_processors_and_nothing_is_switched_on() {
        let error = switch("rope".parse().unwrap(), &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("(rope)") && error.contains("for GPUs"), "{error}");
        assert!(switch(Kernels::NONE, &Device::Cpu).is_ok());
        assert_eq!(are_on(), Kernels::NONE);
    }
}
