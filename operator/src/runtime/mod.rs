//! What any operator needs, and nothing about SERA: a client with manners, leader election, health, metrics, logs, traces,
//! events, backoff and an orderly end. What is done with them is the domain's.

pub mod advice;
pub mod backlog;
pub mod backoff;
pub mod client;
pub mod events;
pub mod gate;
pub mod lease;
pub mod logs;
pub mod metrics;
pub mod passes;
pub mod readiness;
pub mod server;
pub mod shutdown;
pub mod startup;
pub mod throttle;
pub mod traces;

use std::sync::Arc;

use crate::config::Config;

/// What controllers are given. Clones share everything.
#[derive(Clone)]
pub struct Runtime {
    /// The client: throttled, counted, and fenced, so that it writes only while this replica leads.
    pub client: kube::Client,
    /// What was set from outside.
    pub config: Arc<Config>,
    /// Where everything is measured.
    pub metrics: metrics::Metrics,
    /// Where events are left.
    pub events: events::EventPublisher,
    /// Who leads.
    pub leadership: lease::Leadership,
    /// What is still missing at the start.
    pub readiness: readiness::Readiness,
    /// Who asks for the end.
    pub shutdown: shutdown::Shutdown,
}
