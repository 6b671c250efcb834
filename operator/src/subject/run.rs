//! A `SpecializationRun` as a subject.

use jiff::SignedDuration;
use sera_crds::{
    SpecializationRun,
    defaults::{EffectiveRun, RunDefaults, effective_run},
    run::{RunSpec, RunStatus, StoredArtifact},
    validate::validate_run,
    values::ReclaimPolicy,
};

use super::{
    Guide, Subject, Wish, digests, home, settings,
    status::{self, SharedStatus, shared_fields},
};
use crate::{
    build::{self, AdoptionParts, Blueprint, CountingParts},
    names::{Kind, Owner},
    plan::{
        Finding, Hosted, Intent, RunWork, SnapshotIntent, TrainingWork, Work,
        record::{Record, Stored},
    },
};

shared_fields!(RunStatus);

impl Subject for SpecializationRun {
    const KIND: Kind = Kind::Run;

    fn record(&self) -> Record {
        let Some(status) = &self.status else { return Record::default() };
        let artifacts = status.artifacts.as_ref();
        let stored =
            |StoredArtifact { uri, sha256 }: &StoredArtifact| Stored { uri: uri.clone(), sha256: sha256.clone() };
        Record {
            locked: status.locked_stages.iter().copied().collect(),
            snapshot: artifacts.and_then(|artifacts| artifacts.snapshot.as_ref()).map(status::snapshot),
            dataset: artifacts.and_then(|artifacts| artifacts.dataset.as_ref()).map(stored),
            model: artifacts.and_then(|artifacts| artifacts.model.as_ref()).map(stored),
            report: artifacts.and_then(|artifacts| artifacts.report.as_ref()).map(stored),
            training: status.training.clone(),
            evaluation: status.evaluation.clone(),
            serving: status.serving.clone(),
            ..status.read()
        }
    }

    fn with_record(&self, record: &Record) -> Self {
        let mut changed = self.clone();
        let status = changed.status.get_or_insert_default();
        status.write(record);
        status.locked_stages = record.locked.iter().copied().collect();
        if let Some(snapshot) = &record.snapshot {
            status.artifacts.get_or_insert_default().snapshot = Some(status::artifact(snapshot));
        }
        if let Some(Stored { uri, sha256 }) = record.dataset.clone() {
            status.artifacts.get_or_insert_default().dataset = Some(StoredArtifact { uri, sha256 });
        }
        if let Some(Stored { uri, sha256 }) = record.model.clone() {
            status.artifacts.get_or_insert_default().model = Some(StoredArtifact { uri, sha256 });
        }
        if let Some(Stored { uri, sha256 }) = record.report.clone() {
            status.artifacts.get_or_insert_default().report = Some(StoredArtifact { uri, sha256 });
        }
        status.evaluation.clone_from(&record.evaluation);
        status.training.clone_from(&record.training);
        status.serving.clone_from(&record.serving);
        changed
    }

    fn status_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.status).unwrap_or_default()
    }

    fn wish(&self, defaults: &RunDefaults, _: &Guide) -> Wish {
        let owner = self.owner();
        let (blueprint, findings) = match effective_run(self.spec.clone(), defaults) {
            Ok(effective) => {
                let findings = validate_run(&effective.spec).into_iter().map(Finding::from);
                match blueprint(&effective, &owner, &self.record()) {
                    Ok(blueprint) => (Some(blueprint), findings.collect()),
                    Err(finding) => (None, findings.chain([finding]).collect()),
                }
            }
            Err(error) => (None, vec![super::finding(&error)]),
        };
        let spec = &self.spec;
        let start_deadline = SignedDuration::try_from(spec.generation.rollouts.start_deadline.span());
        Wish {
            intent: Intent {
                findings,
                unsupported: unsupported(spec),
                suspend: spec.suspend,
                retry: spec.retry.clone(),
                run_generation: None,
                folder: blueprint.as_ref().map(|blueprint| blueprint.home.to_string()).unwrap_or_default(),
                snapshot: SnapshotIntent::Take,
                teacher: Some(spec.teacher.display_name().to_owned()),
                hosted: settings::is_hosted(&spec.teacher).then_some(Hosted::Own),
                teacher_form: settings::teacher_form(&spec.teacher),
                copies: settings::copies(&spec.teacher),
                start_deadline: start_deadline.unwrap_or(SignedDuration::MAX),
                keep_succeeded: super::span(&spec.ttl.after_succeeded),
                keep_failed: super::span(&spec.ttl.after_failed),
                student_claim: blueprint.as_ref().and_then(settings::student_claim),
                requests: blueprint.as_ref().map(build::requests),
                work: Some(Work::Run(Box::new(work(spec, &owner)))),
            },
            blueprint,
        }
    }

    fn awaited_run(&self) -> Option<&str> {
        None
    }

    fn reclaims(&self) -> bool {
        self.spec.output.reclaim_policy == ReclaimPolicy::Delete
    }
}

fn work(spec: &RunSpec, owner: &Owner) -> RunWork {
    let (generation, student) = (&spec.generation, &spec.training.student);
    let verification = settings::verification_plan(&generation.rollouts, Some(&spec.dataset));
    let policy = digests::policy(&verification, Some(student.uri.as_str()));
    RunWork {
        accepted: generation.accepted_trajectories,
        first_share: spec.dataset.first_rollout_share.clone(),
        max_samples: generation.effective_max_samples(),
        batch_size: generation.batch_size,
        parallel: generation.parallel_batches,
        dataset: digests::dataset_digest(&policy, &settings::dataset_plan(generation, &spec.dataset)),
        policy,
        budget: settings::budget(generation.rollouts.budget.as_ref(), &spec.teacher),
        max_duration: settings::longest(&generation.rollouts),
        training: TrainingWork {
            max_attempts: spec.training.max_attempts,
            start_deadline: SignedDuration::try_from(spec.training.start_deadline.span())
                .unwrap_or(SignedDuration::MAX),
            learning_rate: spec.training.effective_learning_rate(),
            precision: spec.training.effective_precision(),
            on_gpus: spec.training.gpus_per_node > 0,
        },
        evaluation: settings::evaluation_work(spec),
        serving: settings::serving_work(spec, owner),
    }
}

fn blueprint(effective: &EffectiveRun, owner: &Owner, record: &Record) -> Result<Blueprint, Finding> {
    let EffectiveRun { spec, store, git } = effective;
    let through = record.generation.as_ref().map_or(0, |generation| generation.folded.through);
    let batches = (through > 0).then(|| owner.batch_names(through));
    Ok(Blueprint {
        home: home(store, owner)?,
        store_credentials: super::store_credentials(&spec.output),
        pods: spec.pods.clone().unwrap_or_default(),
        snapshot: Some(super::snapshot_parts(&spec.source, git)),
        snapshot_at: None,
        adoption: spec.from.as_ref().map(|from| AdoptionParts {
            from: from.uri.clone(),
            repository: git.url.to_string(),
            through: from.through,
            run: owner.name.clone(),
        }),
        teacher: settings::hosted_teacher(&spec.teacher, &spec.generation.rollouts),
        samples: None,
        counting: Some(CountingParts { batches, ..counting(spec) }),
        training: Some(settings::training_parts(&spec.training, &spec.dataset, record.training.as_ref())),
        evaluation: settings::evaluation_parts(spec, owner),
        serving: settings::served_student(spec, owner),
    })
}

/// How a run's samples are counted, those of its batches too.
pub(super) fn counting(spec: &RunSpec) -> CountingParts {
    CountingParts {
        verification: settings::verification_plan(&spec.generation.rollouts, Some(&spec.dataset)),
        dataset: Some(settings::dataset_plan(&spec.generation, &spec.dataset)),
        student: Some(spec.training.student.uri.clone()),
        student_credentials: settings::bucket_credentials(&spec.training.student),
        batches: None,
    }
}

/// What this release does not do, though the spec asks for it: said at once, before anything is spent.
pub(super) fn unsupported(spec: &RunSpec) -> Option<String> {
    settings::unsupported_teacher(&spec.teacher).or_else(|| settings::unsupported_student(&spec.training.student))
}
