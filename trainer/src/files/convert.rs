//! A model made from another: its weights in one type, or with an adapter added to them. A tensor at a time.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Result as TensorResult, Tensor};
use sera_crds::contract::FileDigest;

use super::adapter::{Adapter, AdapterError};
use super::{FilesError, ModelDir, ModelWriter};

/// Writes `base` to `out` with its weights in `dtype`.
pub fn export(base: &ModelDir, out: &Path, dtype: DType, max_shard: u64) -> Result<Vec<FileDigest>, FilesError> {
    let mut writer = ModelWriter::new(out, base, dtype, max_shard)?;
    for name in base.names() {
        writer.add(name, &base.read(name)?)?;
    }
    writer.finish()
}

/// Writes `base` with `adapter` added to its weights, `W + alpha / rank · B A`, computed in f32 and rounded once. Its files say that answers end with
/// `end` too, with which the adapter has learnt to end its turns.
pub fn merge(
    base: &ModelDir,
    adapter: &Adapter,
    end: Option<u32>,
    out: &Path,
    dtype: DType,
    max_shard: u64,
) -> Result<Vec<FileDigest>, AdapterError> {
    check(base, adapter)?;
    let by_weight = |(module, a, b): &(String, Tensor, Tensor)| (format!("{module}.weight"), (a.clone(), b.clone()));
    let pairs: HashMap<_, _> = adapter.tensors.iter().map(by_weight).collect();
    let mut writer = ModelWriter::new(out, base, dtype, max_shard)?.ended_by(end)?;
    for name in base.names() {
        let weight = base.read(name)?;
        let merged = match pairs.get(name) {
            Some((a, b)) => add(&weight, a, b, adapter.scale()).map_err(FilesError::tensor(name))?,
            None => weight,
        };
        writer.add(name, &merged)?;
    }
    Ok(writer.finish()?)
}

fn add(weight: &Tensor, a: &Tensor, b: &Tensor, scale: f64) -> TensorResult<Tensor> {
    let [weight, a, b] = [weight, a, b].map(|tensor| tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu));
    weight? + (b?.matmul(&a?)? * scale)?
}

/// Whether every layer of the adapter is one of the model's, in its shape.
fn check(base: &ModelDir, adapter: &Adapter) -> Result<(), AdapterError> {
    let shapes: HashMap<_, _> = base.config().tensors().collect();
    for (module, a, b) in &adapter.tensors {
        let expected = vec![b.dims()[0], a.dims()[1]];
        let model = shapes.get(&format!("{module}.weight")).cloned().unwrap_or_default();
        if model != expected {
            return Err(AdapterError::OtherModel { module: module.clone(), adapter: expected, model });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use crate::model::{Batch, Model, hidden_states};
    use crate::ops::finite_differences::{distance, noise};
    use crate::ops::{Lora, Segments};

    fn adapter(module: &str, out: usize, from: usize) -> Adapter {
        let tensor = |shape: &[usize], seed| noise(shape, seed).to_dtype(DType::F32).unwrap();
        let tensors = vec![(module.to_owned(), tensor(&[2, from], 1), tensor(&[out, 2], 2))];
        Adapter { rank: 2, alpha: 3.0, target_modules: vec!["o_proj".to_owned()], tensors }
    }

    fn hidden(model: &Model) -> Tensor {
        let segments = Segments::new(&[4]).unwrap();
        let batch = Batch::new(&model.config, &[1, 5, 2, 9], &[true; 4], segments, DType::F32, &Device::Cpu).unwrap();
        hidden_states(model, &batch).unwrap()
    }

    #[test]
    fn a_merged_model_computes_what_the_adapter_beside_it_does() {
        let (fixture, out) = (Fixture::new("qwen3", true), tempfile::tempdir().unwrap());
        let (base, adapter) = (fixture.whole(), adapter("model.layers.1.self_attn.o_proj", 8, 24));
        merge(&base, &adapter, None, out.path(), DType::F32, u64::MAX).unwrap();
        let mut beside = base.model(DType::F32, &Device::Cpu, false).unwrap();
        let plain = hidden(&beside);
        let (_, a, b) = adapter.tensors[0].clone();
        beside.layers[1].o.lora = Some(Lora { a, b, scale: adapter.scale(), dropout: None });
        let merged = ModelDir::open(out.path()).unwrap().model(DType::F32, &Device::Cpu, false).unwrap();
        assert!(distance(&hidden(&merged), &hidden(&beside)) < 1e-5);
        assert!(distance(&hidden(&merged), &plain) > 1e-2);
    }

    #[test]
    fn an_adapter_of_another_model_is_refused_before_anything_is_written() {
        let (fixture, out) = (Fixture::new("qwen3", true), tempfile::tempdir().unwrap());
        let base = fixture.whole();
        for (module, out_size) in
            [("model.layers.1.self_attn.o_proj", 9), ("model.layers.2.self_attn.o_proj", 8), ("lm_head", 8)]
        {
            let error =
                merge(&base, &adapter(module, out_size, 24), None, out.path(), DType::F32, u64::MAX).unwrap_err();
            assert!(error.to_string().contains(module), "{error}");
        }
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_export_has_every_tensor_rounded_once() {
        let (fixture, out) = (Fixture::new("qwen2", false), tempfile::tempdir().unwrap());
        let base = fixture.sharded();
        export(&base, out.path(), DType::BF16, u64::MAX).unwrap();
        let exported = ModelDir::open(out.path()).unwrap();
        for name in base.names() {
            let expected = base.read_as(name, DType::BF16, &Device::Cpu).unwrap();
            assert!(distance(&exported.read(name).unwrap(), &expected) < f64::MIN_POSITIVE, "{name}");
        }
    }
}
