//! `spec.teacher`: the model that makes the trajectories, and what its tokens cost.

use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{
        EnvVar, SecretRef,
        rule::{NUMBER, fits, number, short_arguments, short_variables},
    },
    values::{Decimal, HttpUrl, ImageRef, ModelUri, Ratio, ServingEngine, Usd, literal},
};

/// The teacher: exactly one of `endpoint`, `serve` and `rehearsal`, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("[has(self.endpoint), has(self.serve), has(self.rehearsal)].filter(x, x).size() == 1")
        .message("teacher needs exactly one of endpoint, serve and rehearsal"),
]))]
pub struct Teacher {
    /// Where the teacher's answers come from.
    #[serde(flatten)]
    pub backend: TeacherBackend,
    /// How answers are drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// The longest conversation that the teacher takes, in tokens, prompt and answer together: 1024 to 16777216.
    /// Default: 131072.
    #[serde(default = "context_length")]
    #[schemars(range(min = 1024, max = 16_777_216))]
    pub context_length: u32,
    /// What the teacher's tokens cost, so that `status.generation.cost` and `generation.budget.maxCost` mean money.
    /// Absent: no cost is reported. Can be changed at any time; what was spent is not counted anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// Where the teacher's answers come from; on the wire the variants are fields of `teacher`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TeacherBackend {
    /// A teacher that is served already, by anything that speaks OpenAI's chat completions with tool calls. One of
    /// `endpoint`, `serve`, `rehearsal`.
    Endpoint(TeacherEndpoint),
    /// A teacher that the operator serves for the run, and takes down before training starts. One of `endpoint`,
    /// `serve`, `rehearsal`.
    Serve(TeacherService),
    /// No model: a program that speaks the same protocol and makes small real edits, to try the whole pipeline without
    /// a GPU. One of `endpoint`, `serve`, `rehearsal`.
    Rehearsal(Rehearsal),
}

/// What endpoints call their models.
const MODEL_NAME: &str = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$";

/// A teacher that is served already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("!self.url.matches('/chat/completions/?$')")
        .message("url must be the API's base address, the part before /chat/completions")
        .field_path(".url"),
]))]
pub struct TeacherEndpoint {
    /// The API's base address, the part before `/chat/completions`: `https://host/v1`.
    pub url: HttpUrl,
    /// The model's name as the endpoint knows it; at most 253 characters.
    #[schemars(length(min = 1, max = 253), regex(pattern = MODEL_NAME), extend("x-kubernetes-validations" = [
        fits(MODEL_NAME, "a model's name as the endpoint lists it, without spaces, such as \"GLM-4.6\" or \"zai-org/GLM-4.6\""),
    ]))]
    pub model: String,
    /// The Secret whose key `apiKey` is sent as a bearer token. Absent: the endpoint asks for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// The Secret whose key `ca.crt` holds the authorities (PEM) that the endpoint's certificate is checked against.
    /// Absent: the system's authorities, and `pods` `caSecretRef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretRef>,
}

/// A teacher that the operator serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("!has(self.gpusPerReplica) || self.nodesPerReplica < 1 || self.gpusPerReplica % self.nodesPerReplica == 0")
        .message("gpusPerReplica must be a multiple of nodesPerReplica: every node of a replica has the same number of GPUs")
        .field_path(".gpusPerReplica"),
    Rule::new("self.engine != 'builtin' || !has(self.gpusPerReplica) || self.gpusPerReplica == 0")
        .message("the engine builtin computes on CPUs: leave gpusPerReplica out, or choose vLLM or SGLang")
        .field_path(".gpusPerReplica"),
    Rule::new("!self.model.uri.startsWith('builtin://') || self.engine == 'builtin'")
        .message("a builtin:// model is served by the engine builtin alone")
        .field_path(".engine"),
    short_arguments("args"),
    short_variables("env"),
]))]
pub struct TeacherService {
    /// The serving engine: vLLM, SGLang, or builtin (the project's own, for small models and tests).
    pub engine: ServingEngine,
    /// The engine's image. Absent: the image that the operator's chart names for the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// The model that is served.
    pub model: ModelSource,
    /// How many copies are served, 0 to 256; each rollout sticks to one so that its prompt stays cached. Can be changed
    /// at any time. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 256))]
    pub replicas: u32,
    /// How many GPUs one copy is spread over, 0 (CPU) to 128. Absent: nodesPerReplica, and 0 with the engine builtin.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub gpus_per_replica: Option<u32>,
    /// How many nodes one copy is spread over, 1 to 16, with the same number of GPUs on each. More than one needs vLLM or
    /// SGLang, and LeaderWorkerSet (<https://lws.sigs.k8s.io>) in the cluster: without it the run is `Stalled`. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub nodes_per_replica: u32,
    /// Arguments added to the engine's command line; at most 32 of at most 1024 characters, and
    /// 4096 together. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1_024)), extend("x-kubernetes-list-type" = "atomic"))]
    pub args: Vec<String>,
    /// Environment variables of the engine; at most 32, names and values at most 4096 characters together. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
}

/// A model's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelSource {
    /// Where they lie: `pvc://claim/path`, `s3://bucket/path`, `gs://…`, `az://…`, or as a student `builtin://tiny`.
    /// `oci://registry/repository:tag` is not read by this release: such a run is `Stalled`. Nothing is fetched from a
    /// hub at run time.
    pub uri: ModelUri,
    /// The Secret with the credentials of that place, with the keys of `output.credentialsSecretRef`, or
    /// `.dockerconfigjson` for `oci://`. Absent: the pods' own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// The rehearsal teacher.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rehearsal {
    /// How often its second rollout reproduces the first one's change. Default: six in ten in full, three in part, one
    /// not at all.
    #[serde(default)]
    pub shares: RehearsalShares,
}

/// How a rehearsal's samples end; the shares add up to 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new(add_up_to_one(["full", "partial", "miss"]))
        .message("the shares full, partial and miss must add up to 1 (one that is left out counts as 0)"),
]))]
pub struct RehearsalShares {
    /// The share of samples whose change is reproduced line by line. A decimal string. Default: "0", or "0.6" where no
    /// share is given.
    #[serde(default = "zero")]
    pub full: Ratio,
    /// The share of samples whose change is reproduced in part. A decimal string. Default: "0", or "0.3" where no share
    /// is given.
    #[serde(default = "zero")]
    pub partial: Ratio,
    /// The share of samples whose change is missed. A decimal string. Default: "0", or "0.1" where no share is given.
    #[serde(default = "zero")]
    pub miss: Ratio,
}

/// How the teacher's answers are drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new(number("temperature", "<= 2.0")).message("temperature must be between \"0\" and \"2\"").field_path(".temperature"),
]))]
pub struct Sampling {
    /// The temperature, a decimal string from "0" to "2". Default: "0.6".
    pub temperature: Decimal,
    /// The longest answer of self-review and pull-request calls, in tokens, 256 to 131072. Agent calls are uncapped
    /// unless `generation.agent.maxOutputTokens` says so. Default: 4096.
    #[schemars(range(min = 256, max = 131_072))]
    pub max_output_tokens: u32,
}

/// The price of the teacher's tokens in US dollars a million.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// US dollars for a million input tokens that were not cached. A decimal string.
    pub input_per_million: Usd,
    /// US dollars for a million input tokens that the prefix cache held. A decimal string. Absent: the same as
    /// `inputPerMillion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million: Option<Usd>,
    /// US dollars for a million output tokens. A decimal string.
    pub output_per_million: Usd,
}

impl TeacherService {
    /// How many GPUs one copy is spread over: those that are named, or what the engine takes.
    pub fn effective_gpus(&self) -> u32 {
        let least = if self.engine == ServingEngine::Builtin { 0 } else { self.nodes_per_replica };
        self.gpus_per_replica.unwrap_or(least)
    }
}

impl Teacher {
    /// What status and tables call the teacher: the model's name or address, or `rehearsal`, which is never called a
    /// model.
    pub fn display_name(&self) -> &str {
        match &self.backend {
            TeacherBackend::Endpoint(endpoint) => &endpoint.model,
            TeacherBackend::Serve(service) => service.model.uri.as_str(),
            TeacherBackend::Rehearsal(_) => "rehearsal",
        }
    }
}

impl Default for RehearsalShares {
    fn default() -> Self {
        Self { full: literal("0.6"), partial: literal("0.3"), miss: literal("0.1") }
    }
}

impl Default for Sampling {
    /// The paper's: 0.6, and 4,096 tokens for everything that is not an agent's step.
    fn default() -> Self {
        Self { temperature: literal("0.6"), max_output_tokens: 4096 }
    }
}

/// That shares written as decimal strings add up to 1, but for the rounding of doubles. A share that is no number is
/// refused by its type alone.
fn add_up_to_one(fields: [&str; 3]) -> String {
    let texts = fields.map(|field| format!("self.{field}")).join(", ");
    let sum = fields.map(|field| format!("double(self.{field})")).join(" + ");
    format!("[{texts}].exists(text, !text.matches(r'{NUMBER}')) || ({sum} > 0.9999999 && {sum} < 1.0000001)")
}

fn context_length() -> u32 {
    131_072
}

fn one() -> u32 {
    1
}

fn zero() -> Ratio {
    literal("0")
}
