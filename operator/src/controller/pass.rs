//! One pass over one object: observe, plan, build and apply, report. Here the steps meet, and here what they could not do becomes a wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{
        controller::Action,
        reflector::{ObjectRef, Store},
    },
};
use sera_crds::{SpecializationRun, run::Phase};
use tracing::Instrument;

use super::telemetry::Telemetry;
use crate::{
    apply::{self, Applier},
    facts::Uid,
    observe::{self, Observer},
    plan::{self, Plan, settle},
    report::{self, Reporter},
    runtime::{
        advice,
        backoff::Backoff,
        lease::{Leadership, LeadershipLost},
        passes::{Outcome, Passes},
    },
    subject::Subject,
};

/// How long an object is left alone where nothing is expected. Watches miss nothing as a rule; this is for the exception.
const RESYNC: Duration = Duration::from_mins(10);
/// How long to wait for the cache to bring what was just written; its event wakes the object before that, as a rule.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Why a pass failed; it is made again after a while.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Gathering failed.
    #[error(transparent)]
    Observe(#[from] observe::Error),
    /// Making or removing children failed.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// Writing status failed.
    #[error(transparent)]
    Report(#[from] report::Error),
    /// Another replica leads now.
    #[error(transparent)]
    LeadershipLost(#[from] LeadershipLost),
}

/// What the passes of one kind share.
pub(super) struct Passer {
    pub(super) observer: Observer,
    pub(super) applier: Applier,
    pub(super) reporter: Reporter,
    pub(super) runs: Store<SpecializationRun>,
    pub(super) written: Arc<Written>,
    pub(super) leadership: Leadership,
    pub(super) passes: Passes,
    pub(super) backoff: Backoff,
    pub(super) telemetry: Telemetry,
}

/// The versions of objects that this process itself has written over. A cache that still shows one of them is behind, and a plan made from it would
/// repeat what was done.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<HashMap<Uid, String>>);

impl Written {
    fn over(&self, uid: &Uid, version: Option<String>) {
        if let Some(version) = version {
            self.lock().insert(uid.clone(), version);
        }
    }

    fn is_behind(&self, uid: &Uid, version: Option<&str>) -> bool {
        version.is_some() && self.lock().get(uid).map(String::as_str) == version
    }

    /// Forgets an object that is gone.
    pub(super) fn forget(&self, uid: &Uid) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a pass over `subject`, where this replica leads.
pub(super) async fn reconcile<S: Subject>(subject: Arc<S>, passer: Arc<Passer>) -> Result<Action, Error> {
    let Some(term) = passer.leadership.term() else { return Ok(Action::await_change()) };
    let object = format!("{}/{}", subject.namespace().unwrap_or_default(), subject.name_any());
    let span = tracing::info_span!("pass", kind = S::KIND.noun(), object);
    // Boxed: it is large, and most of the time there is none.
    term.run(Box::pin(passer.pass(&*subject).instrument(span))).await?
}

/// When to try again after a pass that failed.
#[allow(clippy::needless_pass_by_value)] // the signature is kube's
pub(super) fn after_error<S: Subject>(subject: Arc<S>, error: &Error, passer: Arc<Passer>) -> Action {
    match error {
        Error::LeadershipLost(_) | Error::Report(report::Error::Gone) => Action::await_change(),
        _ => Action::requeue(passer.backoff.next(&subject.uid().unwrap_or_default(), Instant::now())),
    }
}

impl Passer {
    async fn pass<S: Subject>(&self, subject: &S) -> Result<Action, Error> {
        let pass = self.passes.begin();
        let result = Box::pin(self.steps(subject)).await;
        let outcome = match &result {
            Ok((outcome, _)) => *outcome,
            Err(error) if is_expected(error) => Outcome::Waiting,
            Err(_) => Outcome::Failed,
        };
        pass.finish(outcome);
        if let Err(error) = &result {
            let chain = advice::chain(error);
            if is_expected(error) { tracing::debug!("{chain}") } else { tracing::warn!("{chain}") }
        }
        result.map(|(_, action)| action)
    }

    async fn steps<S: Subject>(&self, subject: &S) -> Result<(Outcome, Action), Error> {
        let owner = subject.owner();
        if self.written.is_behind(&owner.uid, subject.meta().resource_version.as_deref()) {
            return Ok((Outcome::Waiting, Action::requeue(CATCH_UP)));
        }
        let now = whole_seconds(Timestamp::now());
        let run = subject.awaited_run().and_then(|name| self.runs.get(&ObjectRef::new(name).within(&owner.namespace)));
        let gathered = self.observer.observe(subject, run, now).await?;
        let plan = plan::plan(&gathered.observed, now);
        if plan.hold != gathered.observed.reclaim.held {
            self.applier.hold(subject, plan.hold).await?;
            self.written.over(&owner.uid, subject.resource_version());
            // The cache brings what was written, and with it the next pass; or the object is gone.
            return Ok((Outcome::Waiting, Action::requeue(RESYNC)));
        }
        let made = Box::pin(self.applier.apply(&plan, subject, &owner, gathered.blueprint.as_ref())).await?;
        let plan = settle::settle(plan, made, &gathered.observed, now);
        let before = &gathered.observed.record;
        if self.reporter.report(subject, before, &plan.record).await? {
            self.written.over(&owner.uid, subject.resource_version());
            self.telemetry.count(S::KIND, before, &plan.record);
        }
        self.backoff.reset(owner.uid.as_str());
        Ok((outcome_of(&plan), next_look(&plan, Timestamp::now())))
    }
}

/// Whether an error is in the nature of optimistic concurrency: somebody was quicker, and the next pass sees what they did.
fn is_expected(error: &Error) -> bool {
    matches!(
        error,
        Error::LeadershipLost(_)
            | Error::Apply(apply::Error::OutOfDate { .. })
            | Error::Report(report::Error::OutOfDate | report::Error::Gone)
    )
}

fn outcome_of(plan: &Plan) -> Outcome {
    match plan.record.phase {
        Some(Phase::Stalled) => Outcome::Stalled,
        Some(Phase::Suspended | Phase::Succeeded | Phase::Failed) => Outcome::Settled,
        Some(Phase::Pending | Phase::Running) | None => Outcome::Waiting,
    }
}

/// The time as statuses hold it: Kubernetes' own times have whole seconds, and a plan must be the same before and after its status was read back.
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn next_look(plan: &Plan, now: Timestamp) -> Action {
    let wait = plan.look_again.map(|time| Duration::try_from(time.duration_since(now)).unwrap_or(Duration::ZERO));
    Action::requeue(wait.map_or(RESYNC, |wait| wait.min(RESYNC)))
}
