//! The end of a training: the adapter, the merged model and the losses, and the manifest last. Run again, it finds that manifest and changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use sera_crds::contract::{Artifact, CONTRACT_VERSION, FileDigest, MethodPlan, ModelManifest, TrainingPlan};
use sha2::{Digest, Sha256};

use super::error::TrainingError;
use super::inputs::Inputs;
use super::out::Out;
use super::plan as plans;
use crate::checkpoint::Sums;
use crate::engine::{Engine, EngineError};
use crate::files::{self, Adapter, ModelWriter};

/// The longest a file of weights gets, in bytes: what transformers' `save_pretrained` takes.
const MAX_SHARD: u64 = 5_000_000_000;
/// The manifest, relative to what is published.
const MANIFEST: &str = "model/manifest.json";

/// What is published beside the model.
const BESIDE: [&str; 4] = ["losses.jsonl", "loss.svg", "loss.png", "progress.json"];

/// A model that is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Its manifest.
    pub manifest: ModelManifest,
    /// Where that is, and its digest.
    pub artifact: Artifact,
}

/// What was published at `out`, if anything was; something of another plan is refused.
pub(super) fn find(out: &Out, plan: &TrainingPlan, device: &Device) -> Result<Option<Published>, TrainingError> {
    let path = out.named(MANIFEST);
    let Some(content) = out.published(MANIFEST)? else { return Ok(None) };
    let manifest: ModelManifest =
        serde_json::from_slice(&content).map_err(|error| unreadable(&path, error.to_string()))?;
    let digest = |plan| plans::digest(plan, device).map_err(|error| unreadable(&path, error.to_string()));
    if digest(&manifest.plan)? != digest(plan)? {
        return Err(TrainingError::Published { path, what: "plan" });
    }
    let artifact = Artifact { path: MANIFEST.to_owned(), sha256: hex::encode(Sha256::digest(&content)) };
    Ok(Some(Published { manifest, artifact }))
}

impl Published {
    /// The same, found at `out`, if it was made of these inputs; else it is refused.
    pub(super) fn of(self, inputs: &Inputs, out: &Out) -> Result<Self, TrainingError> {
        let what = if self.manifest.base != inputs.base {
            "base model"
        } else if self.manifest.dataset != inputs.dataset {
            "dataset"
        } else {
            return Ok(self);
        };
        Err(TrainingError::Published { path: out.named(MANIFEST), what })
    }
}

/// Publishes the engine's weights; all ranks call it together, and rank 0 writes.
pub(super) fn publish(
    out: &Out,
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
        out.send(&objects(out, &adapter, &files))?;
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
        let json = serde_json::to_vec_pretty(&manifest);
        out.publish(MANIFEST, json.map_err(|error| unreadable(&out.named(MANIFEST), error.to_string()))?)?;
        out.release();
    }
    engine.ranks().barrier()?;
    let missing = || {
        unreadable(
            &out.named(MANIFEST),
            "rank 0 has written it, and it is not here: do all ranks share --out?".to_owned(),
        )
    };
    find(out, plan, engine.device())?.ok_or_else(missing)?.of(inputs, out)
}

/// What goes to where results are kept, before the manifest.
fn objects(out: &Out, adapter: &[FileDigest], model: &[FileDigest]) -> Vec<String> {
    let within = |folder: &str, files: &[FileDigest]| -> Vec<String> {
        files.iter().map(|file| format!("{folder}/{}", file.name)).collect()
    };
    let beside = BESIDE.into_iter().filter(|name| out.path(name).exists()).map(str::to_owned);
    beside.chain(within("adapter", adapter)).chain(within("model", model)).collect()
}

/// All weights, a tensor at a time.
fn whole(out: &Out, engine: &mut Engine, inputs: &Inputs, writes: bool) -> Result<Vec<FileDigest>, TrainingError> {
    let dtype = inputs.student.dtype();
    let writer =
        if writes { Some(ModelWriter::new(&out.path("model"), &inputs.student, dtype, MAX_SHARD)?) } else { None };
    let mut writer = writer.map(|writer| writer.ended_by(inputs.turn_end)).transpose()?;
    engine.trained_tensors::<TrainingError>(&mut |name, tensor| match &mut writer {
        Some(writer) => Ok(writer.add(name, &tensor)?),
        None => Ok(()),
    })?;
    Ok(writer.map(ModelWriter::finish).transpose()?.unwrap_or_default())
}

/// The adapter, and the base with it added.
fn merged(out: &Out, adapter: &Adapter, inputs: &Inputs) -> Result<(Vec<FileDigest>, Vec<FileDigest>), TrainingError> {
    let adapter_files = adapter.write(&out.path("adapter"), &inputs.base_name)?;
    let dtype = inputs.student.dtype();
    let model_files = files::merge(&inputs.student, adapter, inputs.turn_end, &out.path("model"), dtype, MAX_SHARD)?;
    Ok((adapter_files, model_files))
}

/// The pairs of matrices that were trained; none where they are not kept.
fn adapter(engine: &mut Engine, rank: u32, alpha: u32, keep: bool) -> Result<Adapter, TrainingError> {
    let mut halves: BTreeMap<String, [Option<Tensor>; 2]> = BTreeMap::new();
    engine.trained_tensors::<EngineError>(&mut |name, tensor| {
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
