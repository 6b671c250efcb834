//! `spec.generation.{agent,environment,sandbox}`: the limits of one rollout, the image that its commands run in, and
//! what they may do there.

use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{
        EnvVar, Resources,
        rule::{not_above, short_variables},
    },
    values::{ContainerPath, ImageRef, LandlockMode, NetworkMode, Timeout, literal},
};

/// The limits of one rollout. A rollout that reaches one submits what it has: it leaves the dataset, but its patch
/// still seeds the second rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new(not_above("commandTimeout", "executionTimeout"))
        .message("commandTimeout must not be above executionTimeout")
        .field_path(".commandTimeout"),
    Rule::new(not_above("executionTimeout", "rolloutTimeout"))
        .message("executionTimeout must not be above rolloutTimeout")
        .field_path(".executionTimeout"),
]))]
pub struct Agent {
    /// The most model calls of one rollout, 1 to 10000. Default: 115.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_steps: u32,
    /// The longest answer of an agent's call, in tokens, 256 to 131072. Absent: as long as the context allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 256, max = 131_072))]
    pub max_output_tokens: Option<u32>,
    /// The longest time one command may take, at least 1s and at most `executionTimeout`; then it is killed and the
    /// model is told. Three in a row end the rollout. Default: "300s".
    pub command_timeout: Timeout,
    /// The longest time that all commands of a rollout may take together, at least `commandTimeout` and at most
    /// `rolloutTimeout`. Default: "30m".
    pub execution_timeout: Timeout,
    /// The longest time that a rollout may take, model calls included, at least `executionTimeout`. Default: "2h".
    pub rollout_timeout: Timeout,
    /// The most characters of a command's output that the model is shown, 1000 to 10000000. Default: 100000.
    #[schemars(range(min = 1_000, max = 10_000_000))]
    pub max_observation_chars: u32,
    /// The most characters of a file that the editor shows at once, 1000 to 10000000. Default: 16000.
    #[schemars(range(min = 1_000, max = 10_000_000))]
    pub max_editor_chars: u32,
}

/// What commands find around them: an image and some paths in it. Git, Python or a shell are not taken for granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [short_variables("env")]))]
pub struct Environment {
    /// The image in which the repository builds and its tools run. Absent: the image that the operator's chart names,
    /// with a shell and the usual tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// Where the repository lies in every sandbox; what the image has there (built extensions, installed modules) is
    /// kept beside it. Default: "/testbed".
    pub working_dir: ContainerPath,
    /// Environment variables of every command; at most 32, names and values at most 4096 characters together. Default:
    /// none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// A shell script that is run once in each fresh sandbox, in `workingDir`, under the same limits as the model's
    /// commands; at most 4,096 characters. Absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4_096))]
    pub setup: Option<String>,
    /// Who commands run as. Absent: an unprivileged user of the operator's choice, another one in each slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Further directories of the image that commands may write to, such as `/opt/venv`; each sandbox gets its own
    /// copy. At most 8. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub writable_paths: Vec<ContainerPath>,
    /// Whether the image's own files cannot be written to. Default: true.
    pub read_only_root_filesystem: bool,
}

/// A user and a group, by number. Root is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The user's number, 1 to 2147483647.
    #[schemars(range(min = 1, max = 2_147_483_647_u32))]
    pub uid: u32,
    /// The group's number, 1 to 2147483647. Absent: the same as `uid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_u32))]
    pub gid: Option<u32>,
}

/// What the commands of a model may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("self.network != 'Egress' || self.slots == 1")
        .message("network Egress needs slots: 1, since the slots of a pod share its network")
        .field_path(".network"),
]))]
pub struct Sandbox {
    /// How many sandboxes a rollout pod has, and so how many rollouts it works on at once, 1 to 64. Default: 8.
    #[schemars(range(min = 1, max = 64))]
    pub slots: u32,
    /// What commands may reach: None (sockets are refused) or Egress (what the cluster lets the pod reach; only with
    /// one slot). Default: None.
    pub network: NetworkMode,
    /// Whether commands run only under the kernel's Landlock: Required, or BestEffort where nodes lack it (gVisor).
    /// What was achieved is recorded. Default: Required.
    pub landlock: LandlockMode,
    /// The resources of each slot's container. Absent: a tenth of a CPU and 256Mi are asked for, at most 2Gi are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl User {
    /// The group that applies.
    pub fn effective_gid(self) -> u32 {
        self.gid.unwrap_or(self.uid)
    }
}

impl Default for Agent {
    /// The paper's limits, and two hours for the whole of a rollout.
    fn default() -> Self {
        Self {
            max_steps: 115,
            max_output_tokens: None,
            command_timeout: literal("300s"),
            execution_timeout: literal("30m"),
            rollout_timeout: literal("2h"),
            max_observation_chars: 100_000,
            max_editor_chars: 16_000,
        }
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            image: None,
            working_dir: literal("/testbed"),
            env: Vec::new(),
            setup: None,
            user: None,
            writable_paths: Vec::new(),
            read_only_root_filesystem: true,
        }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self { slots: 8, network: NetworkMode::None, landlock: LandlockMode::Required, resources: None }
    }
}
