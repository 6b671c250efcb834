//! Whether something that was started is ready, asked once. How long to go on asking is the caller's.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use tokio::time::timeout;

use crate::ask;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Whether the API server says that it is ready.
pub(super) async fn is_api_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    timeout(ANSWER_WITHIN, client.request_text(request)).await.is_ok_and(|answer| answer.is_ok())
}

/// Whether pods without tolerations are scheduled there.
pub(super) fn takes_pods(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
    let tainted = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_some_and(|taints| !taints.is_empty());
    ready && !tainted
}

/// Whether something answers an HTTP request with 200.
pub(super) async fn answers(address: IpAddr, port: u16, path: &str) -> bool {
    timeout(ANSWER_WITHIN, ask::get((address, port).into(), path)).await.is_ok_and(|answer| answer.is_ok())
}
