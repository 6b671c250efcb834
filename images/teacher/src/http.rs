//! What both servers say in one way: refusals in the protocol's shape, and JSON.

use std::time::SystemTime;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The longest request: ten times what the longest context takes.
pub(crate) const LONGEST_REQUEST: usize = 64 << 20;

/// Why there is no answer, and what the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// What clients tell errors apart by, coarsely.
    pub(crate) kind: &'static str,
    /// And finely.
    pub(crate) code: &'static str,
    /// The field that is wrong, if it is one.
    pub(crate) field: Option<String>,
    pub(crate) message: String,
    /// After how many seconds it may be tried again.
    pub(crate) retry_after: Option<u32>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, kind: &'static str, code: &'static str, message: String) -> Self {
        Self { status, kind, code, field: None, message, retry_after: None }
    }

    /// The request is wrong.
    pub(crate) fn invalid(code: &'static str, message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
    }

    /// A field of the request is wrong.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::invalid("invalid_value", message.into()) }
    }

    /// There is no model of this name; `known` says which there are.
    pub(crate) fn no_model(name: &str, known: &str) -> Self {
        let message = format!("there is no model \"{name}\" here: {known}");
        let refusal = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", "model_not_found", message);
        Self { field: Some("model".to_owned()), ..refusal }
    }

    /// The messages, or they and the answer, are too long.
    pub(crate) fn too_long(message: String) -> Self {
        Self { field: Some("messages".to_owned()), ..Self::invalid("context_length_exceeded", message) }
    }

    /// There is too much to do.
    pub(crate) fn overloaded(message: &str, retry_after: u32) -> Self {
        let refusal =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", message.to_owned());
        Self { retry_after: Some(retry_after), ..refusal }
    }

    /// The server failed.
    pub(crate) fn broken(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error", message.to_owned())
    }

    /// It, in the protocol's shape.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.field, "code": self.code}})
    }

    /// The response with this body, which may say more.
    pub(crate) fn response(&self, body: &Value) -> Response {
        let mut response = json_response(self.status, body);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.response(&self.body())
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Metrics, as Prometheus reads them.
pub(crate) fn metrics_response(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
