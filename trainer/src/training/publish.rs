//! The end of a training: the adapter and the merged model, and the manifest last. Run again, it finds that manifest and changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use sera_crds::contract::{Artifact, CONTRACT_VERSION, FileDigest, MethodPlan, ModelManifest, TrainingPlan};

use super::error::TrainingError;
use super::inputs::Inputs;
use super::plan as plans;
use crate::checkpoint::Sums;
use crate::durable;
use crate::engine::{Engine, EngineError};
use crate::files::{self, Adapter, ModelWriter};

/// The longest a file of weights gets, in bytes: what transformers' `save_pretrained` takes.
const MAX_SHARD: u64 = 5_000_000_000;
/// The manifest, relative to what is published.
const MANIFEST: &str = "model/manifest.json";

/// A model that is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Its manifest.
    pub manifest: ModelManifest,
    /// Where that is, and its digest.
    pub artifact: Artifact,
}

/// What was published at `out`, if anything was; something made in another way is refused.
pub(super) fn find(
    out: &Path,
    plan: &TrainingPlan,
    dataset: Option<&str>,
    device: &Device,
) -> Result<Option<Published>, TrainingError> {
    let path = out.join(MANIFEST);
    let content = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        content => content.map_err(|error| unreadable(&path, error.to_string()))?,
    };
    let manifest: ModelManifest =
        serde_json::from_slice(&content).map_err(|error| unreadable(&path, error.to_string()))?;
    let digest = |plan| plans::digest(plan, device).map_err(|error| unreadable(&path, error.to_string()));
    if digest(&manifest.plan)? != digest(plan)? {
        return Err(TrainingError::Published { path, what: "plan" });
    }
    if dataset.is_some_and(|dataset| dataset != manifest.dataset) {
        return Err(TrainingError::Published { path, what: "dataset" });
    }
    let digest = durable::digest(&path).map_err(|error| unreadable(&path, error.to_string()))?;
    let artifact = Artifact { path: MANIFEST.to_owned(), sha256: digest.sha256 };
    Ok(Some(Published { manifest, artifact }))
}

/// Publishes the engine's weights; all ranks call it together, and rank 0 writes.
pub(super) fn publish(
    out: &Path,
    engine: &mut Engine,
    inputs: &Inputs,
    plan: &TrainingPlan,
    (steps, sums): (u32, &Sums),
) -> Result<Published, TrainingError> {
    let writes = engine.ranks().rank() == 0;
    let (adapter, files) = match &plan.method {
        MethodPlan::Full {} => (Vec::new(), whole(out, engine, inputs, writes)?),
        MethodPlan::Lora(lora) => {
            let adapter = adapter(engine, lora.rank, lora.alpha, writes)?;
            if writes { merged(out, &adapter, inputs)? } else { (Vec::new(), Vec::new()) }
        }
    };
    if writes {
        let manifest = ModelManifest {
            version: CONTRACT_VERSION,
            files,
            adapter,
            dataset: inputs.dataset.clone(),
            base: inputs.base.clone(),
            plan: plan.clone(),
            steps,
            loss: sums.loss.ok_or(TrainingError::NothingLearnt(steps))?,
            eval_loss: sums.eval_loss,
            trained_tokens: sums.trained_tokens,
            too_long: inputs.too_long(),
            rehearsal: inputs.rehearsal,
        };
        let path = out.join(MANIFEST);
        let json = serde_json::to_vec_pretty(&manifest).map_err(|error| unreadable(&path, error.to_string()))?;
        durable::write(&path, &json).map_err(|source| TrainingError::Write { path, source })?;
    }
    engine.ranks().barrier()?;
    let missing = || {
        unreadable(
            &out.join(MANIFEST),
            "rank 0 has written it, and it is not here: do all ranks share --out?".to_owned(),
        )
    };
    find(out, plan, Some(&inputs.dataset), engine.device())?.ok_or_else(missing)
}

/// All weights, a tensor at a time.
fn whole(out: &Path, engine: &mut Engine, inputs: &Inputs, writes: bool) -> Result<Vec<FileDigest>, TrainingError> {
    let dtype = inputs.student.dtype();
    let mut writer =
        if writes { Some(ModelWriter::new(&out.join("model"), &inputs.student, dtype, MAX_SHARD)?) } else { None };
    engine.trained_tensors(&mut |name, tensor| match &mut writer {
        Some(writer) => writer.add(name, &tensor).map_err(|error| taken(name, &error)),
        None => Ok(()),
    })?;
    Ok(writer.map(ModelWriter::finish).transpose()?.unwrap_or_default())
}

/// The adapter, and the base with it added.
fn merged(out: &Path, adapter: &Adapter, inputs: &Inputs) -> Result<(Vec<FileDigest>, Vec<FileDigest>), TrainingError> {
    let base = inputs.student.folder().display().to_string();
    let adapter_files = adapter.write(&out.join("adapter"), &base)?;
    let dtype = inputs.student.dtype();
    let model_files = files::merge(&inputs.student, adapter, &out.join("model"), dtype, MAX_SHARD)?;
    Ok((adapter_files, model_files))
}

/// The pairs of matrices that were trained; none where they are not kept.
fn adapter(engine: &mut Engine, rank: u32, alpha: u32, keep: bool) -> Result<Adapter, TrainingError> {
    let mut halves: BTreeMap<String, [Option<Tensor>; 2]> = BTreeMap::new();
    engine.trained_tensors(&mut |name, tensor| {
        let half = |ending: &str| name.strip_suffix(ending).map(str::to_owned);
        let (module, which) = match (half(".lora_A.weight"), half(".lora_B.weight")) {
            (Some(module), _) => (module, 0),
            (_, Some(module)) => (module, 1),
            _ => return Err(taken(name, &"it is no part of an adapter")),
        };
        if keep {
            halves.entry(module).or_default()[which] = Some(tensor);
        }
        Ok(())
    })?;
    let mut tensors = Vec::with_capacity(halves.len());
    for (module, halves) in halves {
        let [Some(a), Some(b)] = halves else {
            return Err(taken(&module, &"its adapter has one matrix").into());
        };
        tensors.push((module, a, b));
    }
    let mut target_modules: Vec<String> =
        tensors.iter().filter_map(|(module, ..)| module.rsplit('.').next().map(str::to_owned)).collect();
    target_modules.sort();
    target_modules.dedup();
    Ok(Adapter { rank: rank as usize, alpha: f64::from(alpha), target_modules, tensors })
}

fn taken(name: &str, reason: &dyn std::fmt::Display) -> EngineError {
    EngineError::Taken { name: name.to_owned(), reason: reason.to_string() }
}

fn unreadable(path: &Path, problem: String) -> TrainingError {
    TrainingError::Read { path: PathBuf::from(path), problem }
}
