//! How rollouts, verification and the dataset are asked for, in the words of the contract: what of the spec the programs are handed.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::EnvVar;
use sera_crds::{
    batch::SampleRange,
    contract::{
        AgentLimits, BudgetSlice, DatasetPlan, EnvironmentPlan, EvaluationPlan, RolloutPlan, SamplingPlan, SandboxPlan,
        StudentPlan, TokenPrice, VerificationPlan,
    },
    run::{
        Agent, Budget, Dataset, Evaluation, Generation, ModelSource, Price, RolloutSettings, RunSpec, Serve, Teacher,
        TeacherBackend, Training, TrainingStatus,
    },
    values::{ModelScheme, ServingApi, ServingEngine, StoreScheme, ToolCallFormat},
};

use crate::{
    build::{
        Blueprint, EvaluationParts, HostedTeacher, REHEARSAL_MODEL, RehearsalParts, SampleParts, SecretField,
        ServedModel, TeacherParts, TrainingParts, student_url, teacher_url,
    },
    facts::ServerForm,
    names::Owner,
    plan::{EvaluationWork, ServingWork, record::Slice},
};

/// How rollouts are made, by processes of which each may spend `budget`.
pub(super) fn rollout_plan(settings: &RolloutSettings, teacher: &Teacher, budget: BudgetSlice) -> RolloutPlan {
    let Agent {
        max_steps,
        max_output_tokens,
        command_timeout,
        execution_timeout,
        rollout_timeout,
        max_observation_chars,
        max_editor_chars,
    } = settings.agent.clone();
    let environment = &settings.environment;
    RolloutPlan {
        seed: settings.seed,
        instances_per_function: settings.instances_per_function,
        bug_kinds: settings.bug_kinds.clone(),
        agent: AgentLimits {
            max_steps,
            max_output_tokens,
            command_timeout,
            execution_timeout,
            rollout_timeout,
            max_observation_chars,
            max_editor_chars,
        },
        environment: EnvironmentPlan {
            working_dir: environment.working_dir.clone(),
            env: environment.env.iter().map(|variable| (variable.name.to_string(), variable.value.clone())).collect(),
            setup: environment.setup.clone(),
            writable_paths: environment.writable_paths.clone(),
        },
        sandbox: SandboxPlan {
            network: settings.sandbox.network,
            landlock: settings.sandbox.landlock,
            // The sandbox knows the limits of its own container.
            disk_bytes: None,
            memory_bytes: None,
            processes: None,
        },
        sampling: SamplingPlan {
            temperature: teacher.sampling.temperature.to_string(),
            max_output_tokens: teacher.sampling.max_output_tokens,
            context_length: teacher.context_length,
        },
        budget,
    }
}

/// When a trajectory counts; with the student's part where there is one.
pub(super) fn verification_plan(settings: &RolloutSettings, dataset: Option<&Dataset>) -> VerificationPlan {
    VerificationPlan {
        measure: settings.verification.measure,
        threshold: settings.verification.threshold.clone(),
        max_patch_lines: settings.filters.max_patch_lines,
        max_mean_tool_tokens: settings.filters.max_mean_tool_tokens,
        student: dataset.map(|dataset| StudentPlan {
            tool_call_format: dataset.tool_call_format,
            context_length: dataset.context_length,
            min_kept_ratio: dataset.min_kept_ratio.clone(),
        }),
    }
}

/// What is asked of the dataset.
pub(super) fn dataset_plan(generation: &Generation, dataset: &Dataset) -> DatasetPlan {
    DatasetPlan {
        accepted_trajectories: generation.accepted_trajectories,
        first_rollout_share: dataset.first_rollout_share.clone(),
        eval_fraction: dataset.eval_fraction.clone(),
    }
}

/// What tokens cost; cached ones as much as others, where nothing is said of them.
pub(super) fn price(teacher: &Teacher) -> Option<TokenPrice> {
    let Price { input_per_million, cached_input_per_million, output_per_million } = teacher.price.clone()?;
    Some(TokenPrice {
        cached_input_per_million: cached_input_per_million.unwrap_or_else(|| input_per_million.clone()),
        input_per_million,
        output_per_million,
    })
}

/// What may be spent in all.
pub(super) fn budget(budget: Option<&Budget>, teacher: &Teacher) -> BudgetSlice {
    let slice = Slice {
        max_cost: budget.and_then(|budget| budget.max_cost.clone()),
        max_tokens: budget.and_then(|budget| budget.max_total_tokens),
    };
    budget_of(&slice, 1, teacher)
}

/// One of so many equal parts of what may be spent.
pub(super) fn budget_of(slice: &Slice, parts: u32, teacher: &Teacher) -> BudgetSlice {
    BudgetSlice {
        max_cost: slice.max_cost.as_ref().map(|cost| cost.divided(parts)),
        max_tokens: slice.max_tokens.map(|tokens| tokens / u64::from(parts.max(1))),
        price: price(teacher),
        until: None,
    }
}

/// Whom drivers ask: an endpoint, or the teacher that the operator runs for `owner`.
pub(super) fn teacher_parts(teacher: &Teacher, owner: &Owner) -> TeacherParts {
    let secret = |name: String, field| SecretField { name, field };
    match &teacher.backend {
        TeacherBackend::Endpoint(endpoint) => TeacherParts {
            url: endpoint.url.to_string(),
            model: endpoint.model.clone(),
            is_rehearsal: false,
            is_hosted: false,
            credentials: endpoint
                .credentials_secret_ref
                .as_ref()
                .map(|known| secret(known.name.to_string(), "spec.teacher.endpoint.credentialsSecretRef")),
            authority: endpoint
                .ca_secret_ref
                .as_ref()
                .map(|known| secret(known.name.to_string(), "spec.teacher.endpoint.caSecretRef")),
        },
        TeacherBackend::Rehearsal(_) => TeacherParts {
            url: teacher_url(owner),
            model: REHEARSAL_MODEL.to_owned(),
            is_rehearsal: true,
            is_hosted: true,
            credentials: None,
            authority: None,
        },
        TeacherBackend::Serve(service) => TeacherParts {
            url: teacher_url(owner),
            model: model_name(service.model.uri.as_str()),
            is_rehearsal: false,
            is_hosted: true,
            credentials: None,
            authority: None,
        },
    }
}

/// The teacher that the operator runs, where it is one.
pub(super) fn hosted_teacher(teacher: &Teacher, settings: &RolloutSettings) -> Option<HostedTeacher> {
    match &teacher.backend {
        TeacherBackend::Endpoint(_) => None,
        TeacherBackend::Rehearsal(rehearsal) => {
            Some(HostedTeacher::Rehearsal(RehearsalParts { seed: settings.seed, shares: rehearsal.shares.clone() }))
        }
        TeacherBackend::Serve(service) => Some(HostedTeacher::Model(ServedModel {
            engine: service.engine,
            image: service.image.clone(),
            at: Some(service.model.uri.clone()),
            credentials: bucket_credentials(&service.model),
            name: model_name(service.model.uri.as_str()),
            context: Some(teacher.context_length),
            // What most models write; `args` may say another.
            tool_calls: ToolCallFormat::Hermes,
            replicas: service.replicas,
            gpus: service.effective_gpus(),
            nodes: service.nodes_per_replica,
            arguments: service.args.clone(),
            variables: service.env.iter().map(variable).collect(),
        })),
    }
}

/// What the pods of the teacher are made by, where the operator runs it.
pub(super) fn teacher_form(teacher: &Teacher) -> ServerForm {
    match &teacher.backend {
        TeacherBackend::Rehearsal(_) => ServerForm::Rehearsal,
        TeacherBackend::Serve(service) if service.nodes_per_replica > 1 => ServerForm::LeaderWorkerSet,
        TeacherBackend::Serve(_) | TeacherBackend::Endpoint(_) => ServerForm::Deployment,
    }
}

/// How many copies of the teacher the operator runs; none of one that is somewhere else.
pub(super) fn copies(teacher: &Teacher) -> u32 {
    match &teacher.backend {
        TeacherBackend::Endpoint(_) => 0,
        TeacherBackend::Rehearsal(_) => 1,
        TeacherBackend::Serve(service) => service.replicas,
    }
}

/// Whether the operator runs the teacher.
pub(super) fn is_hosted(teacher: &Teacher) -> bool {
    !matches!(teacher.backend, TeacherBackend::Endpoint(_))
}

/// What drivers call a model: the last part of its address.
fn model_name(uri: &str) -> String {
    uri.trim_end_matches('/').rsplit('/').next().unwrap_or(uri).to_owned()
}

fn variable(said: &sera_crds::common::EnvVar) -> EnvVar {
    EnvVar { name: said.name.to_string(), value: Some(said.value.clone()), value_from: None }
}

/// How the student is trained, and by how many pods of what kind.
pub(super) fn training_parts(training: &Training, dataset: &Dataset, so_far: Option<&TrainingStatus>) -> TrainingParts {
    TrainingParts {
        student: training.student.uri.clone(),
        student_credentials: bucket_credentials(&training.student),
        plan: training.plan(dataset.context_length),
        since_attempt: so_far.and_then(|status| status.since_attempt),
        nodes: training.nodes,
        ranks_per_node: training.world_size() / training.nodes.max(1),
        gpus_per_node: training.gpus_per_node,
        start_deadline: training.start_deadline.clone(),
    }
}

/// How the student is served, where it is: by the name of its run.
pub(super) fn served_student(spec: &RunSpec, owner: &Owner) -> Option<ServedModel> {
    let Serve { enabled, engine, image, args, .. } = &spec.serve;
    enabled.then(|| ServedModel {
        engine: *engine,
        image: image.clone(),
        at: None,
        credentials: super::store_credentials(&spec.output).map(|secret| secret.name),
        name: owner.name.clone(),
        context: None,
        tool_calls: spec.dataset.tool_call_format,
        replicas: replicas(spec),
        gpus: spec.serve.effective_gpus(),
        nodes: 1,
        arguments: args.clone(),
        variables: Vec::new(),
    })
}

/// How many tokens of context all three models have at least where they are compared, if the teacher has them: those of the paper's students. Who trains on
/// shorter lines cuts them for want of memory.
const LEAST_COMPARED_CONTEXT: u32 = 32_768;

/// How the student is compared with its base and its teacher, with as much context as it was trained on, where it is: both are served as `spec.serve` says, whether or not it is enabled.
pub(super) fn evaluation_parts(spec: &RunSpec, owner: &Owner) -> Option<EvaluationParts> {
    let Evaluation { enabled, samples, seeds, min_effect } = &spec.evaluation;
    let (rollouts, teacher) = (&spec.generation.rollouts, &spec.teacher);
    let mut plan = rollout_plan(rollouts, teacher, BudgetSlice::default());
    plan.sampling.context_length = teacher.context_length.min(spec.dataset.context_length.max(LEAST_COMPARED_CONTEXT));
    let served = |name: &str| ServedModel {
        engine: spec.serve.engine,
        image: spec.serve.image.clone(),
        at: None,
        credentials: super::store_credentials(&spec.output).map(|secret| secret.name),
        name: name.to_owned(),
        // The model's own limit; the plan's keeps all three alike.
        context: None,
        tool_calls: spec.dataset.tool_call_format,
        replicas: 1,
        gpus: spec.serve.effective_gpus(),
        nodes: 1,
        arguments: spec.serve.args.clone(),
        variables: Vec::new(),
    };
    let base = &spec.training.student;
    enabled.then(|| EvaluationParts {
        plan: EvaluationPlan { samples: *samples, seeds: *seeds, min_effect: min_effect.clone() },
        rollouts: SampleParts {
            batch: owner.name.clone(),
            range: SampleRange { from: 0, count: *samples },
            shard_size: *samples,
            plan,
            slots: rollouts.sandbox.slots,
            environment: rollouts.environment.clone(),
            slot_resources: rollouts.sandbox.resources.clone(),
            teacher: teacher_parts(teacher, owner),
        },
        student: served("student"),
        base: ServedModel {
            at: Some(base.uri.clone()),
            credentials: bucket_credentials(base),
            // What most models write before they are trained on anything else.
            tool_calls: ToolCallFormat::Hermes,
            ..served("base")
        },
    })
}

/// What planning needs to know of that.
pub(super) fn evaluation_work(spec: &RunSpec) -> Option<EvaluationWork> {
    spec.evaluation.enabled.then(|| EvaluationWork { unsupported: unsupported_evaluation(spec) })
}

/// What of an evaluation this release cannot do.
fn unsupported_evaluation(spec: &RunSpec) -> Option<String> {
    let (engine, base) = (spec.serve.engine, &spec.training.student.uri);
    if base.scheme() == ModelScheme::Builtin && engine != ServingEngine::Builtin {
        return Some(format!(
            "spec.evaluation: the student and its base are served by spec.serve.engine, and {base} comes with the engine builtin alone, not with {engine}: \
             set spec.serve.engine to builtin, or spec.evaluation.enabled to false"
        ));
    }
    unread_calls(spec).map(|lacking| format!("{lacking}, or set spec.evaluation.enabled to false"))
}

/// Why the calls of tools that the student has learnt to write would reach its clients as text: by engine and form.
fn unread_calls(spec: &RunSpec) -> Option<String> {
    let (engine, form) = (spec.serve.engine, spec.dataset.tool_call_format);
    let names_a_parser = spec.serve.args.iter().any(|argument| argument.starts_with("--tool-call-parser"));
    match (engine, form) {
        (ServingEngine::Builtin, ToolCallFormat::Xml) => Some(format!(
            "spec.serve.engine: the engine {engine} reads no calls of tools in the form {form} of spec.dataset.toolCallFormat: choose another engine"
        )),
        (ServingEngine::Vllm | ServingEngine::Sglang, ToolCallFormat::Raw) if !names_a_parser => Some(format!(
            "spec.serve.args: how {engine} reads calls of tools in the form {form} of spec.dataset.toolCallFormat is not known: name its \
             --tool-call-parser, and with vLLM --enable-auto-tool-choice too"
        )),
        _ => None,
    }
}

/// What planning needs to know of serving it.
pub(super) fn serving_work(spec: &RunSpec, owner: &Owner) -> Option<ServingWork> {
    spec.serve.enabled.then(|| ServingWork {
        url: student_url(owner),
        model: owner.name.clone(),
        replicas: replicas(spec),
        unsupported: unsupported_serving(&spec.serve).or_else(|| unread_calls(spec)),
    })
}

/// How many copies are served: none while the run is held.
fn replicas(spec: &RunSpec) -> u32 {
    if spec.suspend { 0 } else { spec.serve.replicas }
}

/// What of serving this release cannot do.
fn unsupported_serving(serve: &Serve) -> Option<String> {
    // Of SGLang it is not known here.
    (serve.api.contains(&ServingApi::Anthropic) && serve.engine != ServingEngine::Vllm)
        .then(|| format!("spec.serve.api: of the engines vLLM speaks Anthropic's protocol, not {}", serve.engine))
}

/// What of a teacher that the operator serves it cannot do.
pub(super) fn unsupported_teacher(teacher: &Teacher) -> Option<String> {
    let TeacherBackend::Serve(service) = &teacher.backend else { return None };
    if service.nodes_per_replica > 1 && service.engine == ServingEngine::Builtin {
        return Some(
            "spec.teacher.serve.nodesPerReplica: the engine builtin computes on one node; choose vLLM or SGLang"
                .to_owned(),
        );
    }
    let is_served = matches!(service.model.uri.scheme(), ModelScheme::Store(_));
    (!is_served).then(|| {
        "spec.teacher.serve.model.uri: a model is served from a claim (pvc://claim/path) or a bucket (s3://, gs://, az://); copy it to one".to_owned()
    })
}

/// The Secret that a model in a bucket is read with.
pub(super) fn bucket_credentials(model: &ModelSource) -> Option<String> {
    let is_in_a_bucket = matches!(model.uri.scheme(), ModelScheme::Store(scheme) if scheme != StoreScheme::Pvc);
    model.credentials_secret_ref.as_ref().filter(|_| is_in_a_bucket).map(|secret| secret.name.to_string())
}

/// The claim that the student lies on, where that is not the store's too.
pub(super) fn student_claim(blueprint: &Blueprint) -> Option<String> {
    let (claim, _) = blueprint.counting.as_ref()?.student.as_ref()?.claim()?;
    (blueprint.home.claim() != Some(claim)).then(|| claim.to_owned())
}

/// What of the student this release does not do.
pub(super) fn unsupported_student(student: &ModelSource) -> Option<String> {
    (student.uri.scheme() == ModelScheme::Oci).then(|| {
        "spec.training.student.uri: reading a student from a registry is not part of this release; put the model into a bucket (s3://, gs://, az://) \
         or on a claim (pvc://claim/path)"
            .to_owned()
    })
}

/// The longest time that a budget allows.
pub(super) fn longest(settings: &RolloutSettings) -> Option<SignedDuration> {
    let longest = settings.budget.as_ref()?.max_duration.as_ref()?;
    Some(SignedDuration::try_from(longest.span()).unwrap_or(SignedDuration::MAX))
}
