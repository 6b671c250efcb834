//! What traces are made of: a span for each pass, within it one for each of its steps, and within those one for each request. They hold names and
//! outcomes, and nothing that an object says. Where nobody wants traces they are disabled, and cost a look at an atomic.

use http::{Method, StatusCode};
use tracing::{Span, field::Empty};

/// By this target spans for traces are told from those that name the pass in a line of the log, and go to traces alone.
pub(crate) const TARGET: &str = "sera_operator::spans";

/// A pass over an object, by the controller that makes it.
pub fn pass(controller: &'static str, namespace: &str, name: &str) -> Span {
    tracing::info_span!(
        target: TARGET,
        "pass",
        kind = controller,
        namespace,
        name,
        outcome = Empty,
        otel.status_code = Empty,
    )
}

/// Notes how a pass ended.
pub fn ended(pass: &Span, outcome: &'static str, failed: bool) {
    pass.record("outcome", outcome);
    if failed {
        pass.record("otel.status_code", "ERROR");
    }
}

/// A step of the pass that is being made.
pub fn step(name: &'static str) -> Span {
    tracing::info_span!(target: TARGET, "step", otel.name = name)
}

/// A request that a pass makes, its repetitions and its wait for a turn included. What watches, the election and Events ask for
/// belongs to no pass, and would only hide the passes in what is collected.
pub fn request(method: &Method, path: &str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = method.as_str(),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method.as_str(),
        http.request.resend_count = Empty,
        http.response.status_code = Empty,
        url.path = path,
    )
}

/// Notes the answer to a request, none where there was none, and how often it was sent.
pub fn answered(request: &Span, code: Option<StatusCode>, sendings: u32) {
    if let Some(code) = code {
        request.record("http.response.status_code", i64::from(code.as_u16()));
    }
    if sendings > 1 {
        request.record("http.request.resend_count", i64::from(sendings - 1));
    }
    // A 404 or a 409 is an answer like any other.
    if code.is_none_or(|code| code.is_server_error()) {
        request.record("otel.status_code", "ERROR");
    }
}
