//! Whole passes against an API server that answers as far as a first pass needs it: what their traces say, and what the backlog knows of them.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use clap::Parser;
use kube::runtime::{reflector::store::Writer, watcher::Event};
use sera_crds::{RolloutBatch, defaults::RunDefaults};
use serde_json::json;
use tokio::net::TcpListener;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use super::*;
use crate::{
    cache::Wake,
    collector::Board,
    config::Config,
    controller::{passes, wakes::Wakes},
    defaults::FixedDefaults,
    observe::Caches,
    runtime::{
        client::{Manners, connect},
        events::EventPublisher,
        logs::json_lines,
        metrics::Metrics,
        shutdown::Shutdown,
        traces::tests::{Collector, Seen, traced},
    },
};

fn run() -> SpecializationRun {
    serde_json::from_value(json!({
        "apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun",
        "metadata": {"name": "billing", "namespace": "ml", "uid": "3f2c9a10-1111", "generation": 1, "resourceVersion": "7"},
        "spec": {
            "source": {"git": {"url": "https://github.com/acme/billing.git", "revision": "main"}},
            "teacher": {"rehearsal": {}},
            "generation": {"acceptedTrajectories": 8},
            "training": {"student": {"uri": "pvc://models/Qwen3-8B"}},
            "output": {"store": "s3://acme-ml/sera"},
        },
    }))
    .unwrap()
}

/// What an API server does that has nothing.
#[derive(Clone, Copy, PartialEq)]
enum Conduct {
    /// It takes everything.
    Takes,
    /// It drops whatever status is to say, as fields that its definitions do not have.
    Drops,
    /// It fails whatever it is asked.
    Fails,
}

async fn api_server(conduct: Conduct) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().fallback(answer).with_state(conduct);
    tokio::spawn(axum::serve(listener, routes).into_future());
    address
}

async fn answer(State(conduct): State<Conduct>, request: Request) -> Response {
    let failure = |code: u16, reason: &str| {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        });
        (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response()
    };
    match *request.method() {
        _ if conduct == Conduct::Fails => failure(500, "InternalError"),
        Method::POST => axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap().into_response(),
        Method::PATCH => {
            let mut written = run();
            if conduct == Conduct::Takes {
                written.metadata.resource_version = Some("8".to_owned());
            }
            serde_json::to_string(&written).unwrap().into_response()
        }
        _ => failure(404, "NotFound"),
    }
}

fn passer(api_server: SocketAddr) -> Arc<Passer> {
    let metrics = Metrics::new().unwrap();
    let manners = Manners { throttle: None, gate: None, metrics: metrics.rest() };
    let client = connect(kube::Config::new(format!("http://{api_server}").parse().unwrap()), manners).unwrap();
    let config = Config::try_parse_from(["sera-operator", "--rollout-image=localhost/rollout:1"]).unwrap();
    let defaults = Arc::new(FixedDefaults::new(RunDefaults::default()));
    let events = EventPublisher::start(client.clone(), "operator-1".to_owned(), metrics.events());
    Arc::new(Passer {
        observer: Observer::new(client.clone(), Caches::default(), Board::default(), Arc::clone(&defaults), true),
        applier: Applier::new(client.clone(), defaults, Arc::new(config.images.images()), None),
        reporter: Reporter::new(client, events),
        runs: Writer::default().as_reader(),
        written: Arc::default(),
        leadership: Leadership::unopposed(),
        passes: metrics.passes("run", 8).unwrap(),
        backoff: Backoff::new(),
        telemetry: Telemetry::new(&metrics).unwrap(),
    })
}

/// The spans of one pass.
async fn traced_pass(conduct: Conduct) -> Vec<Seen> {
    let passer = passer(api_server(conduct).await);
    let collector = Collector::start().await;
    let (traces, guard) = traced(collector.endpoint());
    assert_eq!(reconcile(Arc::new(run()), passer).await.is_ok(), conduct != Conduct::Fails);
    drop(guard);
    traces.end().await;
    collector.spans()
}

fn words(spans: &[Seen]) -> Vec<String> {
    spans.iter().map(|span| format!("{}/{}", span.within.join("/"), span.name)).collect()
}

#[tokio::test]
async fn a_pass_is_traced_with_its_steps_and_each_request_in_the_step_that_makes_it() {
    let spans = traced_pass(Conduct::Takes).await;
    assert_eq!(
        words(&spans),
        [
            "pass/observe/GET",
            "pass/observe",
            "pass/plan",
            "pass/apply/POST",
            "pass/apply",
            "pass/report/PATCH",
            "pass/report",
            "/pass"
        ]
    );
    let requests = [&spans[0], &spans[3], &spans[5]];
    let paths = requests.map(|request| request.attributes["url.path"].as_str());
    assert!(paths[0].starts_with("/api/v1/namespaces/ml/configmaps/billing-"), "{paths:?}");
    assert_eq!(
        paths[1..],
        ["/api/v1/namespaces/ml/configmaps", "/apis/sera.dev/v1alpha1/namespaces/ml/specializationruns/billing/status"]
    );
    assert_eq!(requests.map(|request| request.attributes["http.response.status_code"].as_str()), ["404", "200", "200"]);
    assert_eq!(spans.iter().filter(|span| span.is_of_client).count(), 3);
    assert!(spans.iter().all(|span| !span.failed), "to be missing is an answer: {spans:?}");
    assert_eq!(spans[7].attributes["outcome"], "requeue_after");
    let sent = format!("{spans:?}");
    for secret in ["acme/billing.git", "acme-ml", "Qwen3"] {
        assert!(!sent.contains(secret), "what an object says is not sent: {sent}");
    }
}

#[tokio::test]
async fn a_pass_that_fails_and_the_request_that_it_fails_by_are_traced_as_failed() {
    let spans = traced_pass(Conduct::Fails).await;
    assert_eq!(words(&spans), ["pass/observe/GET", "pass/observe", "/pass"]);
    assert_eq!(spans.iter().map(|span| span.failed).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!((&*spans[0].attributes["http.request.resend_count"], &*spans[2].attributes["outcome"]), ("3", "error"));
}

#[tokio::test]
async fn a_line_of_the_log_names_the_object_its_stage_and_the_pass() {
    let written = tempfile::NamedTempFile::new().unwrap();
    let guard = tracing_subscriber::registry().with(json_lines(Arc::new(written.reopen().unwrap()))).set_default();
    let passer = passer(api_server(Conduct::Fails).await);
    for _ in 0..2 {
        assert!(reconcile(Arc::new(run()), Arc::clone(&passer)).await.is_err());
    }
    let span = words_of_line(Kind::Batch, "ml/billing-7");
    span.record("stage", "Rollouts");
    span.in_scope(|| tracing::warn!("it is slow"));
    drop(guard);

    let text = std::fs::read_to_string(written.path()).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warned: Vec<_> = lines.iter().filter(|line| line["level"] == "WARN").map(|line| &line["span"]).collect();
    let objects = warned.iter().map(|span| (&span["kind"], &span["object"], &span["stage"])).collect::<Vec<_>>();
    let of_run = (&json!("run"), &json!("ml/billing"), &serde_json::Value::Null);
    assert_eq!(objects, [of_run, of_run, (&json!("batch"), &json!("ml/billing-7"), &json!("Rollouts"))], "{text}");
    assert!(warned[0]["pass"].as_u64() < warned[1]["pass"].as_u64(), "{text}");
}

#[tokio::test]
async fn an_object_of_whose_status_nothing_is_kept_is_looked_at_again_and_the_log_says_why_once() {
    for (conduct, warnings) in [(Conduct::Takes, 0), (Conduct::Drops, 1)] {
        let written = tempfile::NamedTempFile::new().unwrap();
        let guard = tracing_subscriber::registry().with(json_lines(Arc::new(written.reopen().unwrap()))).set_default();
        let passer = passer(api_server(conduct).await);
        for _ in 0..2 {
            reconcile(Arc::new(run()), Arc::clone(&passer)).await.unwrap();
        }
        drop(guard);
        let is_behind = passer.written.is_behind(&run().owner().uid, Some("7"));
        assert_eq!(is_behind, conduct == Conduct::Takes, "a cache is behind where there is something newer");
        let text = std::fs::read_to_string(written.path()).unwrap();
        assert_eq!(text.matches("definitions are older than this operator").count(), warnings, "{text}");
    }
}

#[tokio::test]
async fn the_backlog_hears_of_requests_passes_and_objects_that_are_gone() {
    let passer = passer(api_server(Conduct::Takes).await);
    let backlog = passer.passes.backlog().clone();
    let mut writer = Writer::<SpecializationRun>::default();
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitApply(run()));
    writer.apply_watcher_event(&Event::InitDone);
    let of_batches = Metrics::new().unwrap().passes("batch", 1).unwrap().backlog().clone();
    let batches = Writer::<RolloutBatch>::default().as_reader();
    let (wakes, queue, _) = Wakes::new((writer.as_reader(), backlog.clone()), (batches, of_batches.clone()));
    for name in ["billing", "gone"] {
        wakes.wake(Wake::One { kind: Kind::Run, namespace: "ml".to_owned(), name: name.to_owned() });
    }
    assert_eq!((backlog.depth(Instant::now()), of_batches.depth(Instant::now())), (2, 0));

    let working = passes(writer.as_reader(), queue.until(&Shutdown::new()), passer, 1);
    let idle = async {
        while backlog.depth(Instant::now() + Duration::from_hours(1)) != 1 || backlog.depth(Instant::now()) != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), idle);
    tokio::select! {
        idle = waited => idle.unwrap(),
        () = working => panic!("passes ended"),
    }
    backlog.forgotten("ml/billing");
    assert_eq!(backlog.depth(Instant::now() + Duration::from_hours(1)), 0, "only the run that is there comes again");
}
