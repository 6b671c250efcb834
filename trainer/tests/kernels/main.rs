//! The kernels for GPUs (`trainer/kernels`), compiled as C++ and run by a processor: the very sources and launches that a GPU gets, each thread a fiber,
//! with every access of memory checked; against what the composed operations make of the same tensors. What that cannot show: how fast a GPU is, its
//! own `expf` and `logf`, and that NVIDIA's compiler and driver do with them what a C++ compiler does. It needs `g++` with its sanitizers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod checks;
mod compared;
#[path = "../device/mod.rs"]
mod device;
mod emulator;

use candle_core::{Device, Result, Tensor};
use checks::Check;
use device::device;
use emulator::Emulator;
use sera_trainer::ops::kernels::{Buffer, Gpu, Kernel, Plan, Runner};

/// Fails where a kernel does not do what the composed operations do, and where it still does with any of these changes to its sources. On a GPU, where
/// tests compute on one, the kernel is the program's own, and nothing is changed.
fn proves(kernel: Kernel, check: Check, changes: &[(&str, &str, &str)]) {
    if !device().is_cpu() {
        return check(&Fetched(device())).unwrap_or_else(|error| panic!("{kernel}: {error}"));
    }
    check(&Emulator::of(kernel)).unwrap_or_else(|error| panic!("{kernel}: {error}"));
    for (number, change) in changes.iter().enumerate() {
        assert!(check(&Emulator::changed(kernel, number, *change)).is_err(), "{kernel} passes with {change:?}");
    }
}

/// A GPU, for tensors of the host.
struct Fetched<'d>(&'d Device);

impl Runner for Fetched<'_> {
    fn run(&self, plan: &Plan) -> Result<Vec<Tensor>> {
        let there = plan.to_device(self.0)?;
        let made = Gpu.run(&there)?;
        for pair in plan.buffers().iter().zip(there.buffers()) {
            if let (Buffer::Changed(here), Buffer::Changed(there)) = pair {
                here.slice_set(&there.to_device(&Device::Cpu)?, 0, 0)?;
            }
        }
        made.iter().map(|tensor| tensor.to_device(&Device::Cpu)).collect()
    }
}

#[test]
fn rms_norm_is_that_of_the_composed_operations() {
    let changes = [
        ("rms_norm.cu", "* share + eps)", "* share)"),
        ("rms_norm.cu", "widened(rounded<T>(values[i] * scale))", "values[i] * scale"),
        ("rms_norm.cu", "values[i] * scale * along) * scale;", "values[i] * along) * scale;"),
        ("rms_norm.cu", "y < blockDim.y; y++", "y + 1 < blockDim.y; y++"),
        ("rms_norm.cu", "begin + slice < rows ? begin + slice : rows", "begin + slice"),
        ("common.cuh", "  // What the call before left there has been read.\n  __syncthreads();\n", ""),
        ("common.cuh", "reinterpret_cast<size_t>(first) % (PACK * sizeof(T)) == 0 && ", ""),
    ];
    proves(Kernel::RmsNorm, checks::rms_norm, &changes);
}

#[test]
fn rope_is_that_of_the_composed_operations() {
    let changes = [
        ("rope.cu", "turn * sine[i]", "sine[i]"),
        ("rope.cu", "row / heads * half", "row * half"),
        ("rope.cu", "half % PACK == 0 && ", ""),
    ];
    proves(Kernel::Rope, checks::rope, &changes);
}

#[test]
fn swiglu_is_that_of_the_composed_operations() {
    let changes = [
        ("swiglu.cu", "(1.0f - sigmoid)", "(1.0f + sigmoid)"),
        (
            "swiglu.cu",
            "widened(rounded<T>(gates[i] / (1.0f + expf(-gates[i]))))",
            "gates[i] / (1.0f + expf(-gates[i]))",
        ),
        (
            "common.cuh",
            "for (Count at = whole * PACK + thread; at < count;",
            "for (Count at = whole * PACK + thread; at <= count;",
        ),
    ];
    proves(Kernel::Swiglu, checks::swiglu, &changes);
}

#[test]
fn cross_entropy_is_that_of_the_composed_operations() {
    let changes = [
        ("cross_entropy.cu", "at + i == target", "at + i == target + 1"),
        ("cross_entropy.cu", "(predicted - peak.largest)", "predicted"),
        ("cross_entropy.cu", "{largest, peak.sum * expf(peak.largest - largest)}", "{largest, peak.sum}"),
        ("cross_entropy.cu", "* (2.0f * z) + 1.0f", "* z + 1.0f"),
        ("cross_entropy.cu", "target < vocabulary ? widened(logits[target]) : nanf(\"\")", "widened(logits[target])"),
        ("cross_entropy.cu", "  __syncthreads();\n  peak = warps[0];", "  peak = warps[0];"),
    ];
    proves(Kernel::CrossEntropy, checks::cross_entropy, &changes);
}

#[test]
fn adamw_is_that_of_the_composed_operations_over_twenty_steps() {
    let changes = [
        ("adamw.cu", " * unroot", ""),
        ("adamw.cu", "* unroot + eps", "* unroot"),
        ("adamw.cu", "w[i] * kept", "w[i]"),
        ("adamw.cu", "g[i] * factor", "g[i]"),
    ];
    proves(Kernel::Adamw, checks::adamw, &changes);
}

#[test]
fn casts_are_those_of_the_composed_operations() {
    let changes = [(
        "common.cuh",
        "__float2bfloat16_rn(value)",
        "{static_cast<uint16_t>(*reinterpret_cast<const uint32_t *>(&value) >> 16)}",
    )];
    proves(Kernel::Casts, checks::casts, &changes);
}
