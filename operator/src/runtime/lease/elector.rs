//! Does what `machine` decides: reads and writes the Lease, opens and shuts the gate for writes, and tells who leads. All times
//! that matter are taken from the monotonic clock, before a request is sent.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams, core::Status};
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Leadership,
    machine::{Action, Loss, Record, Sighting, Timing, decide},
};
use crate::runtime::{advice::explain, gate::Gate};

/// How long the writes in flight have at shutdown. With the release it must fit what `shutdown` grants.
pub(super) const DRAIN: Duration = Duration::from_millis(400);
/// How long the release of the lease may take at shutdown.
const RELEASE: Duration = Duration::from_millis(300);

/// Who stands for election, and how.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The name by which the lease's record knows this process: another for every process that may run at the same time.
    pub identity: String,
    /// The lease's name.
    pub lease_name: String,
    /// The election's periods.
    pub timing: Timing,
}

/// How an election ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// This process did not lead.
    NotLeading,
    /// The lease is free for the next at once.
    Released,
    /// The lease was kept until it expires: a write was still in flight, or the API server did not answer.
    Kept,
}

/// One process' part in the election.
pub struct Elector {
    api: Api<Lease>,
    candidate: Candidate,
    gate: Gate,
    term: watch::Sender<Option<u64>>,
    master: IntGauge,
    view: View,
}

/// What this process knows and has.
struct View {
    sighting: Sighting,
    /// The object behind a sighting that is `Present`: writes are made over this version.
    lease: Option<Lease>,
    renewed: Option<Instant>,
    terms: u64,
    /// The last failure, so that an outage is told once and not every two seconds.
    told: Option<String>,
}

impl Elector {
    /// A candidate for the lease in the namespace of `api`, whose client must not pass `gate` itself; `master` is set to 1
    /// while it leads.
    pub fn new(api: Api<Lease>, candidate: Candidate, gate: Gate, master: IntGauge) -> Self {
        let view = View { sighting: Sighting::Unknown, lease: None, renewed: None, terms: 0, told: None };
        Self { api, candidate, gate, term: watch::Sender::new(None), master, view }
    }

    /// The handle by which controllers ask who leads.
    pub fn leadership(&self) -> Leadership {
        Leadership { current: self.term.subscribe() }
    }

    /// Stands for election until `stop`; then lets the writes in flight end and releases the lease.
    pub async fn run(mut self, stop: CancellationToken) -> Farewell {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.resign().await,
                () = self.turn() => {}
            }
        }
    }

    /// Does the next thing, or waits until there is one. May be dropped at any point: a write whose fate is then not known is
    /// found again by reading.
    async fn turn(&mut self) {
        let Candidate { identity, timing, .. } = &self.candidate;
        match decide(Instant::now(), identity, *timing, &self.view.sighting, self.view.renewed) {
            Action::Wait(until) => {
                tokio::time::sleep_until(until.into()).await;
                if self.view.renewed.is_none() {
                    self.read().await;
                }
            }
            Action::StepDown(loss) => self.step_down(&loss),
            Action::Read => self.read().await,
            Action::Create => self.write(true, false).await,
            Action::Take { new_holder } => self.write(true, new_holder).await,
            Action::Renew => self.write(false, false).await,
        }
    }

    async fn read(&mut self) {
        let (api, name) = (self.api.clone(), self.candidate.lease_name.clone());
        match self.in_time(async move { api.get_opt(&name).await }).await {
            Ok(lease) => self.see(lease),
            Err(failure) => self.pause_after("read", &failure).await,
        }
    }

    /// Writes ourselves as the holder, over the version that was seen, or where there is none.
    async fn write(&mut self, acquire: bool, new_holder: bool) {
        let (api, sent) = (self.api.clone(), Instant::now());
        let lease = self.held(acquire, new_holder);
        let exists = self.view.lease.is_some();
        let name = self.candidate.lease_name.clone();
        let request = async move {
            let params = PostParams::default();
            if exists { api.replace(&name, &params, &lease).await } else { api.create(&params, &lease).await }
        };
        match self.in_time(request).await {
            Ok(lease) => {
                self.see(Some(lease));
                self.lead_since(sent);
            }
            Err(failure) => {
                self.view.sighting = Sighting::Unknown;
                let failure = if exists { failure } else { failure.of_making() };
                self.pause_after("write", &failure).await;
            }
        }
    }

    /// A request may take as long as the leader's time lasts, or a follower's two looks.
    async fn in_time<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        let timing = self.candidate.timing;
        let deadline =
            self.view.renewed.map_or_else(|| Instant::now() + 2 * timing.retry(), |renewed| timing.deadline(renewed));
        // Half of what is left, so that a connection that hangs leaves time for another try.
        let patience = deadline.saturating_duration_since(Instant::now()).div_f64(2.0).max(Duration::from_millis(10));
        match tokio::time::timeout(patience, request).await {
            Ok(answer) => answer.map_err(Failure::Api),
            Err(_) => Err(Failure::Silent),
        }
    }

    fn see(&mut self, lease: Option<Lease>) {
        self.view.told = None;
        let version = |lease: &Option<Lease>| lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let since = match &self.view.sighting {
            Sighting::Present(record) if version(&self.view.lease) == version(&lease) => record.since,
            _ => Instant::now(),
        };
        self.view.sighting =
            lease.as_ref().map_or(Sighting::Absent, |lease| Sighting::Present(record_of(lease, since)));
        self.view.lease = lease;
    }

    fn lead_since(&mut self, sent: Instant) {
        self.gate.open_until(self.candidate.timing.deadline(sent));
        if self.view.renewed.replace(sent).is_none() {
            self.view.terms += 1;
            self.term.send_replace(Some(self.view.terms));
            self.master.set(1);
            tracing::info!(
                identity = self.candidate.identity,
                term = self.view.terms,
                "leading: this replica holds the lease"
            );
        }
    }

    fn step_down(&mut self, loss: &Loss) {
        self.gate.close();
        self.term.send_replace(None);
        self.master.set(0);
        self.view.renewed = None;
        self.view.sighting = Sighting::Unknown;
        tracing::warn!(identity = self.candidate.identity, "not leading any more: {loss}; standing by");
    }

    async fn resign(mut self) -> Farewell {
        self.gate.close();
        let led = self.view.renewed.is_some();
        self.term.send_replace(None);
        self.master.set(0);
        if !self.gate.drained(DRAIN).await {
            tracing::warn!("a write was still in flight at shutdown: the lease is left to expire");
            return Farewell::Kept;
        }
        if !led {
            return Farewell::NotLeading;
        }
        match tokio::time::timeout(RELEASE, self.release()).await {
            Ok(Ok(farewell)) => farewell,
            Ok(Err(error)) => {
                tracing::warn!("the lease could not be released and will expire: {}", explain(&error));
                Farewell::Kept
            }
            Err(_) => {
                tracing::warn!("the lease could not be released within {RELEASE:?} and will expire");
                Farewell::Kept
            }
        }
    }

    /// Frees the lease, if it is still ours. It is read anew: a renewal may have been under way when we were asked to stop.
    async fn release(&mut self) -> kube::Result<Farewell> {
        let lease = self.api.get_opt(&self.candidate.lease_name).await?;
        self.see(lease);
        match &self.view.sighting {
            Sighting::Present(record) if record.holder.as_ref() == Some(&self.candidate.identity) => {
                let name = &self.candidate.lease_name;
                self.api.replace(name, &PostParams::default(), &self.released()).await.map(|_| Farewell::Released)
            }
            _ => Ok(Farewell::NotLeading),
        }
    }

    /// The lease with ourselves as the holder; what others put on the object (labels, say) stays.
    fn held(&self, acquire: bool, new_holder: bool) -> Lease {
        let mut lease = self.view.lease.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.candidate.lease_name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        let now = MicroTime(Timestamp::now());
        spec.holder_identity = Some(self.candidate.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.candidate.timing.lease().as_secs()).ok();
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(new_holder)));
        if acquire {
            spec.acquire_time = Some(now.clone());
        }
        spec.renew_time = Some(now);
        lease
    }

    /// The lease without a holder.
    fn released(&self) -> Lease {
        let mut lease = self.held(false, false);
        if let Some(spec) = &mut lease.spec {
            // An empty holder is how client-go releases; a second is the shortest duration that the API server takes.
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        lease
    }

    /// Tells of a failure, once while it lasts, and waits before the next try.
    async fn pause_after(&mut self, verb: &str, failure: &Failure) {
        let retry = self.candidate.timing.retry();
        if failure.is_race() {
            // Another was faster: to look again soon is right, but never in a tight loop.
            return tokio::time::sleep(retry / 10).await;
        }
        let told = failure.to_string();
        if self.view.told.as_ref() != Some(&told) {
            tracing::warn!("cannot {verb} the lease {}: {told}; trying again", self.candidate.lease_name);
            self.view.told = Some(told);
        }
        tokio::time::sleep(retry / 4).await;
    }
}

/// Why a request for the lease failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", explain(.0))]
    Api(#[source] kube::Error),
    #[error(
        "it is not there, and the operator may not make it: put it back by helm upgrade, or set leaderElection.createLease in the chart's values ({})",
        explain(.0)
    )]
    MayNotMake(#[source] kube::Error),
    #[error("the API server did not answer in time")]
    Silent,
}

impl Failure {
    /// Whether the lease changed under our hands, which is nothing to tell anybody about.
    fn is_race(&self) -> bool {
        let race = |status: &Status| status.is_conflict() || status.is_already_exists();
        matches!(self, Self::Api(kube::Error::Api(status)) if race(status))
    }

    /// The same of a lease that was to be made: to be let do that is another right than the two that are always granted.
    fn of_making(self) -> Self {
        match self {
            Self::Api(kube::Error::Api(status)) if status.is_forbidden() => Self::MayNotMake(kube::Error::Api(status)),
            other => other,
        }
    }
}

fn record_of(lease: &Lease, since: Instant) -> Record {
    let spec = lease.spec.as_ref();
    let duration = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        duration: duration.map(Duration::from_secs),
        since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, reason: &str) -> Failure {
        Failure::Api(kube::Error::Api(Status::failure("leases is refused", reason).with_code(code).boxed()))
    }

    #[test]
    fn who_may_not_make_the_lease_is_told_the_charts_value() {
        let told = refused(403, "Forbidden").of_making().to_string();
        assert!(told.contains("leaderElection.createLease") && told.contains("leases is refused"), "{told}");
    }

    #[test]
    fn another_was_faster_to_make_the_lease_stays_a_race() {
        let failure = refused(409, "AlreadyExists").of_making();
        assert!(failure.is_race() && !failure.to_string().contains("createLease"), "{failure}");
    }
}
