//! One pass over one object: observe, plan, build and apply, report. Here the steps meet, and here what they could not do becomes a wait.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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
use tracing::{Instrument, Span, field::Empty};

use super::{telemetry::Telemetry, wakes::path_of};
use crate::{
    apply::{self, Applier},
    facts::Uid,
    names::Kind,
    observe::{self, Observer},
    plan::{self, Plan, settle},
    report::{self, Reporter},
    runtime::{
        advice,
        backoff::Backoff,
        lease::{Leadership, LeadershipLost},
        passes::{Outcome, Passes},
        traces::spans,
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
    let object = path_of(subject.namespace().as_deref(), &subject.name_any());
    passer.passes.backlog().begun(&object, Instant::now());
    let Some(term) = passer.leadership.term() else { return Ok(Action::await_change()) };
    let span = words_of_line(S::KIND, &object);
    // Boxed: it is large, and most of the time there is none.
    let wait = term.run(Box::pin(passer.pass(&*subject, &span).instrument(span.clone()))).await??;
    Ok(passer.again(object, Some(wait)))
}

/// What lines of the log say about the pass that they come from. The stage is known once there is a plan, and the number tells one pass from the next.
fn words_of_line(kind: Kind, object: &str) -> Span {
    static PASSES: AtomicU64 = AtomicU64::new(1);
    let pass = PASSES.fetch_add(1, Ordering::Relaxed);
    tracing::info_span!("pass", kind = kind.noun(), object, pass, stage = Empty)
}

/// When to try again after a pass that failed.
#[allow(clippy::needless_pass_by_value)] // the signature is kube's
pub(super) fn after_error<S: Subject>(subject: Arc<S>, error: &Error, passer: Arc<Passer>) -> Action {
    let wait = match error {
        Error::LeadershipLost(_) | Error::Report(report::Error::Gone) => None,
        _ => Some(passer.backoff.next(&subject.uid().unwrap_or_default(), Instant::now())),
    };
    passer.again(path_of(subject.namespace().as_deref(), &subject.name_any()), wait)
}

impl Passer {
    /// What the scheduler is told at the end of a pass over `object`: when to make another one, unless something asks for it before.
    fn again(&self, object: String, wait: Option<Duration>) -> Action {
        self.passes.backlog().ended(object, wait, Instant::now());
        wait.map_or_else(Action::await_change, Action::requeue)
    }

    async fn pass<S: Subject>(&self, subject: &S, line: &Span) -> Result<Duration, Error> {
        let pass = self.passes.begin(&subject.namespace().unwrap_or_default(), &subject.name_any());
        let result = Box::pin(self.steps(subject, line)).instrument(pass.span()).await;
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
        result.map(|(_, wait)| wait)
    }

    async fn steps<S: Subject>(&self, subject: &S, line: &Span) -> Result<(Outcome, Duration), Error> {
        let owner = subject.owner();
        if self.written.is_behind(&owner.uid, subject.meta().resource_version.as_deref()) {
            return Ok((Outcome::Waiting, CATCH_UP));
        }
        let now = whole_seconds(Timestamp::now());
        let run = subject.awaited_run().and_then(|name| self.runs.get(&ObjectRef::new(name).within(&owner.namespace)));
        let gathered = self.observer.observe(subject, run, now).instrument(spans::step("observe")).await?;
        let plan = spans::step("plan").in_scope(|| plan::plan(&gathered.observed, now));
        if let Some((stage, _)) = plan.record.progress {
            line.record("stage", stage.as_str());
        }
        if plan.hold != gathered.observed.reclaim.held {
            self.applier.hold(subject, plan.hold).instrument(spans::step("apply")).await?;
            self.written.over(&owner.uid, subject.resource_version());
            // The cache brings what was written, and with it the next pass; or the object is gone.
            return Ok((Outcome::Waiting, RESYNC));
        }
        let made = Box::pin(self.applier.apply(&plan, subject, &owner, gathered.blueprint.as_ref()));
        let made = made.instrument(spans::step("apply")).await?;
        let plan = settle::settle(plan, made, &gathered.observed, now);
        let before = &gathered.observed.record;
        let reported = self.reporter.report(subject, before, &plan.record).instrument(spans::step("report"));
        if reported.await? {
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

fn next_look(plan: &Plan, now: Timestamp) -> Duration {
    let wait = plan.look_again.map(|time| Duration::try_from(time.duration_since(now)).unwrap_or(Duration::ZERO));
    wait.map_or(RESYNC, |wait| wait.min(RESYNC))
}
