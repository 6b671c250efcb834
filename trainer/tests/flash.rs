//! Attention by FlashAttention-2 beside attention in chunks, on GPU 0 where `SERA_TEST_CUDA` is 1: each in bf16 beside f64 on the processors. Elsewhere it
//! is refused. No GPU has run it yet.

#![cfg(feature = "flash-attention")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod device;

use candle_core::{DType, Device, Tensor};
use device::device;
use sera_trainer::ops::{Attention, AttentionBy, AttentionError, Segments, attention_bwd, attention_fwd};

/// Numbers that bf16 has, without pattern, in about −2..2.
fn noise(shape: [usize; 3], seed: usize) -> Tensor {
    let value = |at: usize| f32::from(u16::try_from((at * 40_503 + seed * 7919) % 65_521).unwrap()) / 16_380.0 - 2.0;
    let values = (0..shape.iter().product()).map(value).collect();
    Tensor::from_vec(values, shape.as_slice(), &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// |a − b| / |b|.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let gap: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    (gap / b.iter().map(|b| b.powi(2)).sum::<f64>()).sqrt()
}

/// The result and the gradients of q, k and v, of `inputs` (those three and the gradient of the result) in this type and there.
fn attend(inputs: &[Tensor; 4], segments: &Segments, by: AttentionBy, dtype: DType, device: &Device) -> [Tensor; 4] {
    let [q, k, v, gy] = inputs.each_ref().map(|input| input.to_device(device).unwrap().to_dtype(dtype).unwrap());
    let how = Attention::of_head(q.dim(2).unwrap()).on(device).by(by, segments, device).unwrap();
    let attended = attention_fwd(&q, &k, &v, segments, &how).unwrap();
    let (gq, gk, gv) = attention_bwd([&q, &k, &v], &attended, &gy, segments, &how).unwrap();
    [attended.output, gq, gk, gv]
}

#[test]
fn on_a_gpu_it_is_as_near_as_chunks_and_elsewhere_it_is_refused() {
    if device().is_cpu() {
        assert_eq!(AttentionBy::Flash.check_device(device()), Err(AttentionError::NoGpu));
        let segments = Segments::new(&[3]).unwrap();
        assert!(Attention::of_head(64).by(AttentionBy::Flash, &segments, device()).is_err());
        return;
    }
    // Sequences of one token, of a block of 128 and a token more or less, and of several blocks.
    for lengths in [vec![130, 1, 329, 127], vec![128], vec![1, 1, 64, 513]] {
        let (segments, tokens) = (Segments::new(&lengths).unwrap(), lengths.iter().sum());
        for (heads, kv_heads) in [(4, 4), (8, 2), (6, 1)] {
            for size in [64, 96, 128] {
                let shapes = [heads, kv_heads, kv_heads, heads].map(|heads| [tokens, heads, size]);
                let inputs: [Tensor; 4] = std::array::from_fn(|at| noise(shapes[at], at));
                let expected = attend(&inputs, &segments, AttentionBy::Chunked, DType::F64, &Device::Cpu);
                let on_gpu = |by| attend(&inputs, &segments, by, DType::BF16, device());
                let (chunked, flash, again) =
                    (on_gpu(AttentionBy::Chunked), on_gpu(AttentionBy::Flash), on_gpu(AttentionBy::Flash));
                for (at, name) in ["y", "gq", "gk", "gv"].into_iter().enumerate() {
                    let of = format!("{name} of {heads}/{kv_heads} heads of {size}, lines of {lengths:?}");
                    let [chunked, by_flash] = [&chunked, &flash].map(|found| distance(&found[at], &expected[at]));
                    println!("{of}: chunked {chunked:e}, flash {by_flash:e}");
                    assert!(by_flash <= 2.0 * chunked + 1e-3, "{of}: {by_flash:e}, in chunks {chunked:e}");
                    assert_eq!(values(&flash[at]), values(&again[at]), "{of}: another result of the same");
                }
            }
        }
    }
}
