//! `/progress` and `/metrics` of a driver, for the operator's collector and for Prometheus. Counts only, and nothing can be changed through it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::driver::Driver;

/// The media type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4";

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, driver: Arc<Driver>) {
    let router = Router::new().route("/progress", get(progress)).route("/metrics", get(metrics)).with_state(driver);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("progress and metrics are served no more: {error}");
    }
}

async fn progress(State(driver): State<Arc<Driver>>) -> Response {
    match serde_json::to_vec(&driver.meter.progress(driver.surroundings())) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => failed(&error),
    }
}

async fn metrics(State(driver): State<Arc<Driver>>) -> Response {
    match driver.meter.text(driver.surroundings()) {
        Ok(text) => ([(header::CONTENT_TYPE, PROMETHEUS)], text).into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}
