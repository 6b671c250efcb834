//! The rules of a run that span sections: its name, its locks, and that its status stays.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

use super::MAX_RUN_NAME;
use crate::{
    common::rule::{forbidden, kept_status, name_rule, unchanged},
    values::Stage,
};

/// A part of the spec that cannot be changed once a stage has started.
struct Lock {
    stage: Stage,
    /// Paths below `spec`. The last segment is compared; those before it that may be absent are named in
    /// `OPTIONAL_PARENTS`.
    paths: &'static [&'static str],
    /// What may still be changed nearby, for the message.
    hint: &'static str,
}

/// What locks when. Embedded Kubernetes types have no bounds and so must not be compared; none stands here.
const LOCKS: &[Lock] = &[
    Lock {
        stage: Stage::Snapshot,
        paths: &["source", "from", "output.store", "output.credentialsSecretRef"],
        hint: "create another run for another repository or store",
    },
    Lock {
        stage: Stage::Generation,
        paths: &[
            "teacher.endpoint",
            "teacher.rehearsal",
            "teacher.sampling",
            "teacher.contextLength",
            "teacher.serve.engine",
            "teacher.serve.image",
            "teacher.serve.model",
            "teacher.serve.gpusPerReplica",
            "teacher.serve.nodesPerReplica",
            "teacher.serve.args",
            "teacher.serve.env",
        ],
        hint: "of teacher, price and serve.replicas can still be changed",
    },
    Lock { stage: Stage::Generation, paths: &["training.student"], hint: "trajectories are counted in its tokens" },
    Lock {
        stage: Stage::Generation,
        paths: &[
            "generation.batchSize",
            "generation.shardSize",
            "generation.agent",
            "generation.environment",
            "generation.sandbox",
            "generation.startDeadline",
        ],
        hint: "of generation, parallelBatches and budget can still be changed, and until Dataset starts acceptedTrajectories, maxSamples, verification and filters",
    },
    Lock {
        stage: Stage::Rollouts,
        paths: &["generation.instancesPerFunction", "generation.bugKinds", "generation.seed"],
        hint: "samples are drawn by it, and those that were made stay",
    },
    Lock {
        stage: Stage::Dataset,
        paths: &[
            "generation.acceptedTrajectories",
            "generation.maxSamples",
            "generation.verification",
            "generation.filters",
            "dataset",
        ],
        hint: "create a run that adopts this one's trajectories with spec.from",
    },
    Lock {
        stage: Stage::Training,
        paths: &["training"],
        hint: "create a run that adopts this one's dataset with spec.from",
    },
    Lock {
        stage: Stage::Evaluation,
        paths: &["evaluation"],
        hint: "create a run that adopts this one's dataset with spec.from",
    },
];

/// Every rule at the root of a run.
pub(crate) fn root_rules() -> Vec<ValidationRule> {
    let mut rules = vec![name_rule("run", MAX_RUN_NAME), kept_status(), serve_stays()];
    rules.extend(LOCKS.iter().flat_map(|lock| lock.paths.iter().map(|path| lock.rule(path))));
    rules
}

impl Lock {
    fn rule(&self, path: &str) -> ValidationRule {
        let rule = format!("{} || ({})", unlocked(self.stage), unchanged(&format!("spec.{path}")));
        forbidden(
            rule,
            format!("spec.{path} is locked since the stage {} has started; {}", self.stage, self.hint),
            &format!(".spec.{path}"),
        )
    }
}

/// `teacher.serve` itself neither comes nor goes; its fields have locks of their own, because `replicas` has none.
fn serve_stays() -> ValidationRule {
    let rule =
        format!("{} || has(self.spec.teacher.serve) == has(oldSelf.spec.teacher.serve)", unlocked(Stage::Generation));
    let message = format!(
        "spec.teacher.serve is locked since the stage {} has started; replicas can still be changed",
        Stage::Generation
    );
    forbidden(rule, message, ".spec.teacher.serve")
}

/// That a stage has not started. Plain `has`, because optional types lose their bounds and put such a rule over the
/// cost budget a hundredfold.
fn unlocked(stage: Stage) -> String {
    format!("!(has(oldSelf.status) && has(oldSelf.status.lockedStages) && '{stage}' in oldSelf.status.lockedStages)")
}
