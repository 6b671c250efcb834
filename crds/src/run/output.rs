//! `spec.{evaluation,output,serve,ttl}`: how the student is judged, where everything is kept and for how long, and
//! whether the student is served.

use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{SecretRef, rule::short_arguments},
    values::{Duration, ImageRef, Ratio, ReclaimPolicy, ServingApi, ServingEngine, StoreUri, literal},
};

/// How the student is compared with its base and its teacher, on functions that training never saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Evaluation {
    /// Whether the student is evaluated at all. Default: true.
    pub enabled: bool,
    /// How many held-out functions are tried, 1 to 10000; fewer where there are fewer. 200 find a gain of 8 points
    /// eight times in ten, 64 one time in three. Default: 200.
    #[schemars(range(min = 1, max = 10_000))]
    pub samples: u32,
    /// How often each is tried with another decoding seed, 1 to 32. Default: 3.
    #[schemars(range(min = 1, max = 32))]
    pub seeds: u32,
    /// The smallest difference of mean F1 that matters to you, a decimal string from "0" to "1". Default: "0.05".
    pub min_effect: Ratio,
}

/// Where a run keeps its data, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Output {
    /// The store: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or `pvc://claim/path` on a
    /// ReadWriteMany claim. Files go to `<store>/<namespace>/<name>/<uid>/`. Absent: the platform's `runDefaults.store`
    /// or `runDefaults.claim`; without those it is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreUri>,
    /// The Secret with the store's credentials, as environment variables: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_REGION`, `AWS_ENDPOINT_URL`; `GOOGLE_SERVICE_ACCOUNT_KEY`; `AZURE_STORAGE_ACCOUNT_NAME`,
    /// `AZURE_STORAGE_ACCOUNT_KEY`. Absent: the platform's, where `store` is absent too; else the pods' own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// What becomes of the data when this object is deleted: Retain or Delete. With Delete the object stays until a Job
    /// has deleted its own folder in the store; where its namespace is deleted too, the data is kept. Can be changed at
    /// any time, also while the object is being deleted. Default: Retain.
    pub reclaim_policy: ReclaimPolicy,
}

/// Whether and how the student is served when it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("self.engine != 'builtin' || !has(self.gpusPerReplica) || self.gpusPerReplica == 0")
        .message("the engine builtin computes on CPUs: leave gpusPerReplica out, or choose vLLM or SGLang")
        .field_path(".gpusPerReplica"),
    short_arguments("args"),
]))]
pub struct Serve {
    /// Whether the student is served. Default: false.
    pub enabled: bool,
    /// The serving engine: vLLM, SGLang, or builtin (the project's own, for small models). Default: vLLM.
    pub engine: ServingEngine,
    /// The engine's image. Absent: the image that the operator's chart names for the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// How many copies are served, 0 to 256. Default: 1.
    #[schemars(range(min = 0, max = 256))]
    pub replicas: u32,
    /// How many GPUs one copy is spread over, 0 (CPU) to 16. Absent: 1, and 0 with the engine builtin.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16))]
    pub gpus_per_replica: Option<u32>,
    /// The protocols that are spoken: OpenAI, Anthropic (by which Claude Code can drive the model), or both. Default:
    /// OpenAI.
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub api: Vec<ServingApi>,
    /// Arguments added to the engine's command line; at most 32 of at most 1024 characters, and
    /// 4096 together. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1_024)), extend("x-kubernetes-list-type" = "atomic"))]
    pub args: Vec<String>,
}

/// How long children stay that are done: each Job with its pods from its own end on, and the last two batches from the
/// run's; never the run itself nor what serves. Data in the store is not touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Ttl {
    /// How long after success; "0s" is at once. Default: "24h".
    pub after_succeeded: Duration,
    /// How long after failure; "0s" is at once. Default: "168h".
    pub after_failed: Duration,
}

impl Serve {
    /// How many GPUs one copy is spread over: those that are named, or what the engine takes.
    pub fn effective_gpus(&self) -> u32 {
        self.gpus_per_replica.unwrap_or(u32::from(self.engine != ServingEngine::Builtin))
    }
}

impl Default for Evaluation {
    fn default() -> Self {
        Self { enabled: true, samples: 200, seeds: 3, min_effect: literal("0.05") }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self { store: None, credentials_secret_ref: None, reclaim_policy: ReclaimPolicy::Retain }
    }
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            enabled: false,
            engine: ServingEngine::Vllm,
            image: None,
            replicas: 1,
            gpus_per_replica: None,
            api: vec![ServingApi::OpenAi],
            args: Vec::new(),
        }
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self { after_succeeded: literal("24h"), after_failed: literal("168h") }
    }
}
