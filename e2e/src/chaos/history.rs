//! The course of a run's status as it is seen from outside: what must never go back does not.

use std::sync::Arc;

use futures::TryStreamExt;
use kube::Client;
use kube::api::DynamicObject;
use kube::core::Resource;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;
use tokio::sync::watch;

use super::course::Course;
use super::deeds::runs;
use super::field::RUN;

/// What of `status.generation` never falls.
const NEVER_FALL: [&str; 5] = ["attempted", "tokens", "cachedTokens", "outputTokens", "cost"];

/// Follows the run for as long as it is polled, and hands on what it is now.
pub(super) async fn follow(course: Arc<Course>, client: Client, now: watch::Sender<Option<DynamicObject>>) {
    let api = runs(&client, &course.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={RUN}"));
    let mut events = std::pin::pin!(kube::runtime::watcher(api, config).default_backoff().applied_objects());
    loop {
        match events.try_next().await {
            Ok(Some(run)) => {
                if let Some(before) = now.borrow().as_ref().filter(|before| before.meta().uid == run.meta().uid) {
                    compare(&course, before, &run);
                }
                now.send_replace(Some(run));
            }
            Ok(None) => return,
            // The API server is being restarted.
            Err(_) => {}
        }
    }
}

fn compare(course: &Course, before: &DynamicObject, after: &DynamicObject) {
    let (before, after) = (&before.data["status"], &after.data["status"]);
    for figure in NEVER_FALL {
        let [was, is] = [before, after].map(|status| number(&status["generation"][figure]));
        if is < was {
            course.wrong(format!("generation.{figure} falls from {was} to {is}"));
        }
    }
    for (stage, was) in before["attempts"].as_object().into_iter().flatten() {
        let is = &after["attempts"][stage];
        if is.as_u64() < was.as_u64() {
            course.wrong(format!("attempts of {stage} fall from {was} to {is}"));
        }
    }
    for (artifact, was) in before["artifacts"].as_object().into_iter().flatten() {
        if after["artifacts"][artifact] != *was {
            course.wrong(format!("the artifact {artifact} changes from {was} to {}", after["artifacts"][artifact]));
        }
    }
    if after["phase"] == "Stalled" {
        course.hears(&words(after));
    }
    let phase = |status: &Value| status["phase"].as_str().unwrap_or_default().to_owned();
    if phase(before) != phase(after) {
        course.note(&format!("the run is {} now: {}", phase(after), words(after)));
    }
}

/// A figure, which may be a decimal string; one that is not there is nothing.
pub(super) fn number(figure: &Value) -> f64 {
    figure.as_f64().or_else(|| figure.as_str()?.parse().ok()).unwrap_or_default()
}

/// What a status says of the whole, in words.
pub(super) fn words(status: &Value) -> String {
    let ready = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let said = |key: &str| ready.and_then(|ready| ready[key].as_str()).unwrap_or("nothing").to_owned();
    format!("{}: {}", said("reason"), said("message"))
}
