//! How long a pass takes that finds nothing to do: gathering from the caches, planning, and comparing the outcome with status. Its client answers
//! every request with an error, so that a pass which asked the API server for anything would fail the benchmark instead of slowing it down.
//!
//! `cargo bench --bench pass`; beside it `cargo e2e bench operator` measures passes in the program as it is deployed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use kube::{Client, runtime::watcher::Event};
use sera_crds::{SpecializationRun, defaults::RunDefaults, values::Stage};
use sera_operator::{
    cache::{Children, Sighting},
    collector::Board,
    defaults::FixedDefaults,
    facts::JobFacts,
    observe::{Caches, Observer},
    plan::{self, Make, Plan, settle},
    report,
    subject::Subject,
};

/// How many other runs have a Job in the same caches.
const OTHERS: usize = 1_000;

const RUN: &str = r"
apiVersion: sera.dev/v1alpha1
kind: SpecializationRun
metadata: {name: billing-agent, namespace: ml, uid: 3f2c9a10-1111-2222-3333-444455556666, generation: 1, resourceVersion: '7'}
spec:
  source: {git: {url: 'https://github.com/acme/billing.git', revision: main, credentialsSecretRef: {name: git}}}
  teacher: {endpoint: {url: 'https://teacher.acme.internal/v1', model: GLM-4.6, credentialsSecretRef: {name: teacher}}}
  generation: {acceptedTrajectories: 8000}
  training: {student: {uri: 'pvc://models/Qwen3-8B'}, method: {lora: {rank: 32, alpha: 128}}}
  output: {store: 's3://acme-ml/sera', credentialsSecretRef: {name: s3}}
  pods: {default: {nodeSelector: {pool: cpu}}}
";

fn offline() -> Client {
    let refuse = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other(format!(
            "a pass asked for {}",
            request.uri()
        )))
    });
    Client::new(refuse, "ml")
}

fn job_of(run: &SpecializationRun) -> JobFacts {
    let owner = run.owner();
    JobFacts {
        name: owner.job_name(Stage::Snapshot, 1).into(),
        uid: format!("job-of-{}", owner.uid).into(),
        controller: Some(owner.uid),
        created: Timestamp::UNIX_EPOCH,
        started: Some(Timestamp::UNIX_EPOCH),
        deleting: false,
        suspended: false,
        request: None,
        active: 1,
        ready: 1,
        terminating: 0,
        failed: 0,
        succeeded: 0,
        completions: 1,
        end: None,
    }
}

/// A run whose snapshot is being taken, and the caches that show it among many others.
struct Scene {
    run: SpecializationRun,
    observer: Observer,
}

impl Scene {
    async fn new() -> Self {
        let caches = Caches::default();
        let defaults = Arc::new(FixedDefaults::new(RunDefaults::default()));
        // By way of JSON, as the API server does it: YAML alone would want tags where the API has one-ofs.
        let document: serde_json::Value = serde_yaml::from_str(RUN).unwrap();
        let run: SpecializationRun = serde_json::from_value(document).unwrap();
        for other in 0..OTHERS {
            let mut other_run = run.clone();
            other_run.metadata.uid = Some(format!("{other:08x}-0000"));
            seen(&caches.jobs, job_of(&other_run));
        }
        defaults.fixed(&run.owner().uid);
        let mut scene =
            Self { observer: Observer::new(offline(), caches.clone(), Board::default(), defaults, true), run };
        scene.settle().await;
        seen(&caches.jobs, job_of(&scene.run));
        let (plan, _) = scene.plan().await;
        scene.run = scene.run.with_record(&plan.record);
        scene
    }

    async fn plan(&self) -> (Plan, plan::Observed) {
        let now = Timestamp::UNIX_EPOCH;
        let gathered = self.observer.observe(&self.run, None, now).await.expect("no API call is needed");
        (plan::plan(&gathered.observed, now), gathered.observed)
    }

    /// Makes passes until nothing changes any more, as if every Job could be made.
    async fn settle(&mut self) {
        for _ in 0..4 {
            let (plan, observed) = self.plan().await;
            let made = plan.make.iter().filter_map(|make| match make {
                Make::Job { stage, .. } => Some(settle::Made::Job { stage: *stage, uid: job_of(&self.run).uid }),
                Make::Defaults | Make::Teacher | Make::Student | Make::Batch { .. } => None,
            });
            let plan = settle::settle(plan.clone(), made.collect(), &observed, Timestamp::UNIX_EPOCH);
            self.run = self.run.with_record(&plan.record);
            if plan.record.attempts.values().any(|attempt| attempt.job.is_some()) {
                return;
            }
        }
    }

    async fn pass(&self) {
        let (plan, observed) = self.plan().await;
        assert!(plan.make.is_empty() && plan.remove.is_empty());
        assert!(
            report::changes(&self.run, &observed.record, &plan.record).is_none(),
            "a pass without news changes nothing"
        );
    }
}

fn seen(jobs: &Children<JobFacts>, job: JobFacts) {
    jobs.take_in(Event::Apply(Sighting {
        uid: job.uid.clone(),
        controller: job.controller.clone().unwrap(),
        child: job,
    }));
}

fn passes(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let scene = runtime.block_on(Scene::new());
    criterion.bench_function("a pass without news, among 1,000 runs", |bencher| {
        bencher.to_async(&runtime).iter(|| scene.pass());
    });
    let (_, observed) = runtime.block_on(scene.plan());
    criterion.bench_function("the plan of it alone", |bencher| {
        bencher.iter_batched(
            || observed.clone(),
            |observed| plan::plan(black_box(&observed), Timestamp::UNIX_EPOCH),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, passes);
criterion_main!(benches);
