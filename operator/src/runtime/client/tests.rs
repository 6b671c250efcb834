use std::{
    collections::VecDeque,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use axum::{Router, extract::State, response::IntoResponse};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use tokio::net::TcpListener;

use super::*;
use crate::runtime::{backoff::ErrorClass, backoff::class_of, metrics::Metrics, throttle::Limit};

/// What the server does with one request.
#[derive(Clone, Debug)]
enum Act {
    Answer(u16),
    Busy(&'static str),
    /// No answer ever.
    Hang,
}

#[derive(Clone, Default)]
struct Script(Arc<Mutex<(VecDeque<Act>, Vec<String>)>>);

impl Script {
    fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

/// A server over real HTTP that plays `acts` in turn, then answers with success.
async fn server(acts: impl IntoIterator<Item = Act>) -> (SocketAddr, Script) {
    let script = Script(Arc::new(Mutex::new((acts.into_iter().collect(), Vec::new()))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().fallback(play).with_state(script.clone());
    tokio::spawn(axum::serve(listener, routes).into_future());
    (address, script)
}

async fn play(State(script): State<Script>, request: axum::extract::Request) -> axum::response::Response {
    let agent = request.headers()[header::USER_AGENT].to_str().unwrap().to_owned();
    let act = {
        let mut script = script.0.lock().unwrap();
        script.1.push(format!("{} {agent}", request.method()));
        script.0.pop_front().unwrap_or(Act::Answer(200))
    };
    let list = r#"{"apiVersion":"v1","kind":"ConfigMapList","metadata":{},"items":[]}"#;
    let one = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
    let status = |code: u16| {
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"Status","status":"Failure","message":"no","reason":"X","code":{code}}}"#
        );
        (StatusCode::from_u16(code).unwrap(), body)
    };
    match act {
        Act::Answer(200) if request.method() == Method::GET => list.into_response(),
        Act::Answer(200) => one.into_response(),
        Act::Answer(code) => status(code).into_response(),
        Act::Busy(after) => ([(header::RETRY_AFTER, after)], status(429)).into_response(),
        Act::Hang => std::future::pending().await,
    }
}

struct Setup {
    metrics: RestMetrics,
    gate: Gate,
    api: Api<ConfigMap>,
}

fn setup(address: SocketAddr) -> Setup {
    let (metrics, gate) = (Metrics::new().unwrap().rest(), Gate::closed());
    let limit = Limit::new(1000.0, NonZeroU32::new(100).unwrap()).unwrap();
    let throttle = Some(Arc::new(Throttle::new(limit)));
    let manners = Manners { throttle, gate: Some(gate.clone()), metrics: metrics.clone() };
    let config = Config::new(format!("http://{address}").parse().unwrap());
    let api = Api::namespaced(connect(config, manners).unwrap(), "default");
    Setup { metrics, gate, api }
}

fn config_map() -> ConfigMap {
    ConfigMap {
        metadata: kube::core::ObjectMeta { name: Some("a".to_owned()), ..Default::default() },
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn a_read_is_repeated_after_a_server_s_failure_and_each_sending_is_counted() {
    let (address, script) = server([Act::Answer(503), Act::Answer(500)]).await;
    let Setup { metrics, api, .. } = setup(address);
    api.list(&ListParams::default()).await.unwrap();
    assert_eq!((script.seen().len(), metrics.sent()), (3, 3));
    assert_eq!(script.seen()[0], concat!("GET sera-operator/", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_read_is_given_up_after_four_sendings_and_never_repeated_when_it_was_refused() {
    let (address, script) = server(vec![Act::Answer(503); 9]).await;
    let error = setup(address).api.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 503));
    assert_eq!(script.seen().len(), 4);
    let (address, script) = server([Act::Answer(403)]).await;
    setup(address).api.list(&ListParams::default()).await.unwrap_err();
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test]
async fn a_write_that_may_have_happened_is_never_repeated() {
    let (address, script) = server([Act::Answer(504)]).await;
    let Setup { gate, api, .. } = setup(address);
    gate.open();
    let error = api.create(&PostParams::default(), &config_map()).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 504));
    assert_eq!((script.seen().len(), class_of(&error)), (1, ErrorClass::Transient));
}

#[tokio::test]
async fn a_busy_server_is_obeyed_by_reads_and_writes_and_by_everybody_else_meanwhile() {
    let (address, script) = server([Act::Busy("1")]).await;
    let Setup { gate, api, .. } = setup(address);
    gate.open();
    let started = Instant::now();
    let writing = tokio::spawn({
        let api = api.clone();
        async move { api.create(&PostParams::default(), &config_map()).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    api.list(&ListParams::default()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    writing.await.unwrap().unwrap();
    assert_eq!(script.seen().len(), 3);
}

#[tokio::test]
async fn a_server_that_asks_for_more_patience_than_a_pass_has_is_left_to_the_backoff() {
    let (address, script) = server([Act::Busy("600")]).await;
    let error = setup(address).api.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 429));
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test]
async fn a_write_passes_no_shut_gate_and_a_read_does() {
    let (address, script) = server([]).await;
    let Setup { api, .. } = setup(address);
    api.list(&ListParams::default()).await.unwrap();
    let error = api.create(&PostParams::default(), &config_map()).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Service(cause) if cause.is::<gate::Closed>()), "{error:?}");
    assert_eq!(script.seen().len(), 1, "nothing was sent");
}

#[tokio::test]
async fn a_write_without_an_answer_is_given_up_when_the_lease_may_be_another_s() {
    let (address, script) = server([Act::Hang]).await;
    let Setup { gate, api, .. } = setup(address);
    gate.open_until(Instant::now() + Duration::from_millis(300));
    let started = Instant::now();
    let error = api.create(&PostParams::default(), &config_map()).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Service(cause) if cause.to_string().contains("did not answer")), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(script.seen().len(), 1);
    assert!(gate.drained(Duration::ZERO).await, "it is in flight no more");
}

#[tokio::test]
async fn a_write_is_in_flight_until_it_is_answered() {
    let (address, _) = server([Act::Hang]).await;
    let Setup { gate, api, .. } = setup(address);
    gate.open();
    let writing = tokio::spawn(async move { api.create(&PostParams::default(), &config_map()).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.close();
    assert!(!gate.drained(Duration::from_millis(50)).await);
    writing.abort();
    assert!(gate.drained(Duration::from_secs(5)).await, "a write that is dropped is in flight no more");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_what_to_check() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = setup(address).api.list(&ListParams::default()).await.unwrap_err();
    let told = crate::runtime::advice::explain(&error);
    assert!(told.contains(&format!("cannot reach the API server at {address}")) && told.contains("refused"), "{told}");
}

#[test]
fn watches_are_told_from_reads_by_their_query() {
    let of = |method: &str, uri: &str| Kind::of(&Request::builder().method(method).uri(uri).body(()).unwrap());
    assert_eq!(of("GET", "/api/v1/pods?limit=500&resourceVersion=0"), Kind::Read);
    assert_eq!(of("GET", "/api/v1/pods?&watch=true&timeoutSeconds=290"), Kind::Watch);
    assert_eq!(of("GET", "/api/v1/pods?labelSelector=watch"), Kind::Read);
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        assert_eq!(of(method, "/api/v1/pods?watch=true"), Kind::Write);
    }
}
