//! A `RolloutBatch` as a subject: one of its own, one that joins a run, or one that a run has made.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use sera_crds::{
    RolloutBatch, SpecializationRun,
    batch::{BatchSpec, BatchStatus, VerificationRecord},
    conditions::{self, ConditionType},
    defaults::{EffectiveBatch, EffectiveRun, RunDefaults, effective_batch, effective_run},
    run::{Phase, RolloutSettings, Teacher},
    validate::validate_batch,
    values::{ModelUri, ReclaimPolicy, Stage, StoreUri},
};

use super::{
    Guide, Subject, Wish, digests, home, run, settings,
    status::{self, SharedStatus, shared_fields},
};
use crate::{
    build::{self, Blueprint, CountingParts, SampleParts},
    facts::{BatchFacts, BatchResult, ServerForm, Trouble},
    names::{Kind, Owner},
    plan::{
        BatchWork, Finding, Hosted, Intent, RunSnapshot, SnapshotIntent, Work, last_moment,
        record::{Record, Slice, Verification},
    },
};

/// How long a batch's finished Jobs are kept: as long as a run's, whose `ttl` says so by default. A batch has no field of its own for it.
const KEEP_SUCCEEDED: SignedDuration = SignedDuration::from_hours(24);
/// The same for Jobs that failed.
const KEEP_FAILED: SignedDuration = SignedDuration::from_hours(168);

shared_fields!(BatchStatus);

impl Subject for RolloutBatch {
    const KIND: Kind = Kind::Batch;

    fn record(&self) -> Record {
        let Some(status) = &self.status else { return Record::default() };
        let verification = status.verification.clone();
        Record {
            snapshot: status.snapshot.as_ref().map(status::snapshot),
            verification: verification.map(|VerificationRecord { measure, threshold, settings, policy, finished }| {
                Verification { measure, threshold, settings, policy, finished: finished.0 }
            }),
            ..status.read()
        }
    }

    fn with_record(&self, record: &Record) -> Self {
        let mut changed = self.clone();
        let status = changed.status.get_or_insert_default();
        status.write(record);
        if let Some(snapshot) = &record.snapshot {
            status.snapshot = Some(status::artifact(snapshot));
        }
        status.verification =
            record.verification.clone().map(|Verification { measure, threshold, settings, policy, finished }| {
                VerificationRecord { measure, threshold, settings, policy, finished: status::time(finished) }
            });
        changed
    }

    fn status_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.status).unwrap_or_default()
    }

    fn wish(&self, defaults: &RunDefaults, guide: &Guide) -> Wish {
        match &self.spec.run_ref {
            Some(run) => of_run(self, run.name.as_str(), guide),
            None => of_its_own(self, defaults),
        }
    }

    fn awaited_run(&self) -> Option<&str> {
        self.spec.run_ref.as_ref().map(|run| run.name.as_str())
    }

    fn reclaims(&self) -> bool {
        let output = self.spec.output.as_ref().filter(|_| self.spec.run_ref.is_none());
        output.is_some_and(|output| output.reclaim_policy == ReclaimPolicy::Delete)
    }
}

/// What the run that made a batch knows of it.
pub fn facts(batch: &RolloutBatch) -> BatchFacts {
    let status = batch.status.as_ref();
    let all = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let is_done = status.is_some_and(|status| status.phase == Some(Phase::Succeeded));
    let said = conditions::get(all, ConditionType::Ready).filter(|_| !is_done);
    let is_ordinary = |reason: &str| ["Pending", "Progressing", "Suspended"].contains(&reason);
    let result = status.filter(|_| is_done).and_then(|status| {
        let settings = status.verification.as_ref()?.settings.clone();
        Some(BatchResult { settings, totals: status.generation.as_ref()?.totals.clone() })
    });
    BatchFacts {
        name: batch.name_any().into(),
        uid: batch.uid().unwrap_or_default().into(),
        controller: batch.controller(),
        deleting: batch.metadata.deletion_timestamp.is_some(),
        stalled: conditions::is_true(all, ConditionType::Stalled),
        trouble: said.filter(|condition| !is_ordinary(&condition.reason)).map(|condition| Trouble {
            reason: condition.reason.as_str().into(),
            message: condition.message.as_str().into(),
        }),
        percent: status.and_then(|status| status.progress.as_ref()).map_or(0, |progress| progress.percent),
        result,
    }
}

/// What a batch wants that names everything itself.
fn of_its_own(batch: &RolloutBatch, defaults: &RunDefaults) -> Wish {
    let spec = &batch.spec;
    let outline = match effective_batch(spec.clone(), defaults) {
        Ok(effective) => {
            let findings = validated(&effective.spec);
            blueprint(batch, &effective).map(|blueprint| (Some(blueprint), findings))
        }
        // One that only reads another's snapshot could do without a store, but for what it makes.
        Err(error) => Err(super::finding(&error)),
    };
    let (blueprint, findings) = outline.unwrap_or_else(|finding| (None, vec![finding]));
    let snapshot = spec.snapshot.as_ref().map(|snapshot| SnapshotIntent::Adopt { folder: snapshot.uri.to_string() });
    let (teacher, rollouts) = (spec.teacher.as_ref(), spec.generation.as_ref());
    let unsupported = teacher.and_then(settings::unsupported_teacher);
    Wish {
        intent: Intent {
            findings,
            unsupported,
            folder: blueprint.as_ref().map(|blueprint| blueprint.home.to_string()).unwrap_or_default(),
            snapshot: snapshot.unwrap_or(SnapshotIntent::Take),
            teacher: teacher.map(|teacher| teacher.display_name().to_owned()),
            hosted: teacher.filter(|teacher| settings::is_hosted(teacher)).map(|_| Hosted::Own),
            teacher_form: teacher.map_or(ServerForm::Deployment, settings::teacher_form),
            copies: teacher.map_or(0, settings::copies),
            start_deadline: rollouts.map_or(SignedDuration::ZERO, start_deadline),
            requests: blueprint.as_ref().map(build::requests),
            work: blueprint
                .as_ref()
                .zip(teacher)
                .and_then(|(blueprint, teacher)| work(blueprint, teacher, false))
                .map(|work| Work::Batch(BatchWork { max_duration: rollouts.and_then(settings::longest), ..work })),
            ..bare_intent(batch)
        },
        blueprint,
    }
}

fn blueprint(batch: &RolloutBatch, effective: &EffectiveBatch) -> Result<Blueprint, Finding> {
    let EffectiveBatch { spec, store, git } = effective;
    let owner = batch.owner();
    let (teacher, rollouts) = (spec.teacher.as_ref(), spec.generation.as_ref());
    let slice = rollouts
        .and_then(|rollouts| rollouts.budget.as_ref())
        .map(|budget| Slice { max_cost: budget.max_cost.clone(), max_tokens: budget.max_total_tokens });
    let longest = rollouts.and_then(settings::longest);
    let until = longest.and_then(|longest| last_moment(&batch.record(), Stage::Rollouts, Some(longest)));
    Ok(Blueprint {
        home: home(store, &owner)?,
        store_credentials: spec.output.as_ref().and_then(super::store_credentials),
        pods: spec.pods.clone().unwrap_or_default(),
        snapshot: spec.source.as_ref().zip(git.as_ref()).map(|(source, git)| super::snapshot_parts(source, git)),
        adoption: None,
        snapshot_at: spec.snapshot.as_ref().map(|snapshot| snapshot.uri.clone()),
        teacher: teacher.zip(rollouts).and_then(|(teacher, rollouts)| settings::hosted_teacher(teacher, rollouts)),
        samples: teacher
            .zip(rollouts)
            .map(|(teacher, rollouts)| samples(batch, rollouts, teacher, &owner, &slice.unwrap_or_default()))
            .map(|samples| samples.until(until)),
        counting: rollouts.map(|rollouts| CountingParts {
            verification: settings::verification_plan(rollouts, None),
            dataset: None,
            student: None,
            student_credentials: None,
            batches: None,
        }),
        training: None,
        evaluation: None,
        serving: None,
    })
}

/// What a batch wants that takes its word from a run. One that the run has made works in the run's folder and asks the run's teacher; one that
/// somebody else has made reads the run's snapshot, and leaves what it makes in a folder of its own, where it is counted by nobody.
fn of_run(batch: &RolloutBatch, name: &str, guide: &Guide) -> Wish {
    let guide = if is_left_behind(batch, guide) { &Guide::Nobody } else { guide };
    let progress = match guide {
        Guide::Nobody => RunSnapshot::NoSuchRun,
        Guide::Run(run, _) => run.record().snapshot.map_or(RunSnapshot::NotYet, |known| RunSnapshot::Ready(known.uri)),
    };
    let known = match guide {
        Guide::Run(run, Some(defaults)) => effective_run(run.spec.clone(), defaults).ok().map(|known| (run, known)),
        _ => None,
    };
    let mut intent = Intent {
        findings: validated(&batch.spec),
        run_generation: match guide {
            Guide::Nobody => None,
            Guide::Run(run, _) => run.metadata.generation,
        },
        snapshot: SnapshotIntent::OfRun { run: name.to_owned(), progress },
        ..bare_intent(batch)
    };
    let Some((run, effective)) = known else { return Wish { intent, blueprint: None } };
    let is_the_runs = batch.controller() == Some(run.owner().uid);
    let teacher = &effective.spec.teacher;
    intent.unsupported = run::unsupported(&effective.spec);
    // A run's own word holds all that it has made.
    intent.suspend |= is_the_runs && run.spec.suspend;
    intent.teacher = Some(teacher.display_name().to_owned());
    let whose = if is_the_runs { Hosted::OfRun } else { Hosted::Own };
    intent.hosted = settings::is_hosted(teacher).then_some(whose);
    intent.teacher_form = settings::teacher_form(teacher);
    intent.copies = settings::copies(teacher);
    intent.start_deadline = start_deadline(&effective.spec.generation.rollouts);
    let blueprint = match joined(batch, run, &effective, is_the_runs) {
        Ok(blueprint) => blueprint,
        Err(finding) => {
            intent.findings.push(finding);
            None
        }
    };
    if let Some(blueprint) = &blueprint {
        intent.folder = blueprint.home.to_string();
        intent.student_claim = settings::student_claim(blueprint);
        intent.requests = Some(build::requests(blueprint));
        intent.work = work(blueprint, teacher, is_the_runs).map(Work::Batch);
    }
    Wish { intent, blueprint }
}

/// Whether another run made the batch that had this name before: Kubernetes takes it away in its own time, and what the new one says is not for it.
fn is_left_behind(batch: &RolloutBatch, guide: &Guide) -> bool {
    let Guide::Run(run, _) = guide else { return false };
    let is_another = |owner: &OwnerReference| Some(&owner.uid) != run.metadata.uid.as_ref();
    batch.controller_reference().is_some_and(|owner| owner.kind == Kind::Run.as_str() && is_another(owner))
}

/// None where the run does not know of the batch, though it made it: not any more, or not yet.
fn joined(
    batch: &RolloutBatch,
    run: &SpecializationRun,
    effective: &EffectiveRun,
    is_the_runs: bool,
) -> Result<Option<Blueprint>, Finding> {
    let EffectiveRun { spec, store, .. } = effective;
    let (owner, run_owner) = (batch.owner(), run.owner());
    let run_home = home(store, &run_owner)?;
    let (home, snapshot_at, slice): (StoreUri, Option<StoreUri>, Slice) = if is_the_runs {
        let Some(slice) = slice_of(batch, run) else { return Ok(None) };
        (run_home, None, slice)
    } else {
        (home(store, &owner)?, Some(run_home), Slice::default())
    };
    let teacher_of = if is_the_runs { &run_owner } else { &owner };
    let rollouts = &spec.generation.rollouts;
    Ok(Some(Blueprint {
        home,
        store_credentials: super::store_credentials(&spec.output),
        pods: batch.spec.pods.clone().unwrap_or_default().over(spec.pods.clone().unwrap_or_default()),
        snapshot: None,
        adoption: None,
        snapshot_at,
        teacher: settings::hosted_teacher(&spec.teacher, rollouts).filter(|_| !is_the_runs),
        samples: Some(samples(batch, rollouts, &spec.teacher, teacher_of, &slice)),
        counting: Some(run::counting(spec)),
        training: None,
        evaluation: None,
        serving: None,
    }))
}

/// What the run lets this batch spend.
fn slice_of(batch: &RolloutBatch, run: &SpecializationRun) -> Option<Slice> {
    let number = run.owner().batch_number(&batch.name_any())?;
    let known = run.record().generation?.batches;
    known.into_iter().find(|known| known.number == number).map(|known| known.slice)
}

fn samples(
    batch: &RolloutBatch,
    rollouts: &RolloutSettings,
    teacher: &Teacher,
    teacher_of: &Owner,
    slice: &Slice,
) -> SampleParts {
    let shards = batch.spec.samples.count.div_ceil(rollouts.shard_size.max(1));
    SampleParts {
        batch: batch.name_any(),
        range: batch.spec.samples,
        shard_size: rollouts.shard_size,
        plan: settings::rollout_plan(rollouts, teacher, settings::budget_of(slice, shards, teacher)),
        slots: rollouts.sandbox.slots,
        environment: rollouts.environment.clone(),
        slot_resources: rollouts.sandbox.resources.clone(),
        teacher: settings::teacher_parts(teacher, teacher_of),
    }
}

fn work(blueprint: &Blueprint, teacher: &Teacher, of_run: bool) -> Option<BatchWork> {
    let (samples, counting) = (blueprint.samples.as_ref()?, blueprint.counting.as_ref()?);
    let student = counting.student.as_ref().map(ModelUri::as_str);
    Some(BatchWork {
        samples: samples.range.count,
        shards: samples.shards(),
        policy: digests::policy(&counting.verification, student),
        price: settings::price(teacher),
        max_duration: None,
        of_run,
    })
}

/// What a batch wants before anything is known but its own words.
fn bare_intent(batch: &RolloutBatch) -> Intent {
    Intent {
        findings: Vec::new(),
        unsupported: None,
        suspend: batch.spec.suspend,
        retry: batch.spec.retry.clone(),
        run_generation: None,
        folder: String::new(),
        snapshot: SnapshotIntent::Take,
        teacher: None,
        hosted: None,
        teacher_form: ServerForm::Deployment,
        copies: 0,
        start_deadline: SignedDuration::ZERO,
        keep_succeeded: KEEP_SUCCEEDED,
        keep_failed: KEEP_FAILED,
        student_claim: None,
        requests: None,
        work: None,
    }
}

fn start_deadline(rollouts: &RolloutSettings) -> SignedDuration {
    SignedDuration::try_from(rollouts.start_deadline.span()).unwrap_or(SignedDuration::MAX)
}

fn validated(spec: &BatchSpec) -> Vec<Finding> {
    validate_batch(spec).into_iter().map(Finding::from).collect()
}
