//! What a batch says of itself, as a person follows it: what is new, how it ended, and what to do then. Pure.

use std::collections::BTreeMap;

use sera_crds::{
    batch::BatchStatus,
    conditions::{self, ConditionType, Reason},
    run::{GenerationTotals, Phase},
};

/// What can be done in the chart's values, by how the reason begins.
const ADVICE: [(&[&str], &str); 4] = [
    (
        &["Store", "ClaimMissing"],
        "the store is that of the chart's value runDefaults, or test.store where that is set; its Secret or claim must be in this namespace",
    ),
    (
        &["ErrImage", "ImagePull", "InvalidImageName", "ImageMismatch"],
        "images are named by the chart's values images and global.imageRegistry, pull secrets of these pods by runDefaults.imagePullSecrets",
    ),
    (
        &["SandboxUnsupported"],
        "where nodes have no Landlock, set the chart's value test.landlock to BestEffort, and so in runs spec.generation.sandbox.landlock",
    ),
    (&["Unschedulable"], "the pods need a node with room for them, and one that their volume can be attached to"),
];

/// What a batch has said so far.
#[derive(Debug, Default)]
pub(super) struct Story {
    status: BatchStatus,
    /// What each condition said last.
    told: BTreeMap<String, String>,
}

impl Story {
    /// Takes in a status, and answers what is new in it, a line each.
    pub(super) fn hear(&mut self, status: BatchStatus) -> Vec<String> {
        let mut news = Vec::new();
        for condition in &status.conditions {
            let says = format!("{}={} {}: {}", condition.type_, condition.status, condition.reason, condition.message);
            // That work goes on is what the stages' own conditions say, and better.
            let is_news = condition.type_ != ConditionType::Reconciling.as_str();
            if self.told.insert(condition.type_.clone(), says.clone()).as_ref() != Some(&says) && is_news {
                news.push(says);
            }
        }
        self.status = status;
        news
    }

    /// Whether nothing has been said yet.
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// How it ended: in success with what was counted, or with the cause and what to do. `None`: it goes on.
    pub(super) fn ending(&self) -> Option<Result<String, String>> {
        let says = |about| conditions::get(&self.status.conditions, about);
        if conditions::is_true(&self.status.conditions, ConditionType::Ready) {
            return Some(self.counted());
        }
        if let Some(stalled) = says(ConditionType::Stalled) {
            return Some(Err(advised(&stalled.reason, &stalled.message)));
        }
        let is_over = self.status.phase == Some(Phase::Failed);
        is_over.then(|| Err(self.last_words()))
    }

    /// Success only with something to show for it: a batch is also Ready whose samples all came to nothing.
    fn counted(&self) -> Result<String, String> {
        let totals = self.status.generation.as_ref().map(|generation| generation.totals.clone()).unwrap_or_default();
        let GenerationTotals { attempted, accepted, tokens, rejected, .. } = &totals;
        if *accepted == 0 {
            let reasons: Vec<String> = rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            return Err(format!(
                "the batch is Ready, but of {attempted} samples no trajectory was accepted (rejected: {}); the logs of the operator may say more",
                if reasons.is_empty() { "none".to_owned() } else { reasons.join(", ") }
            ));
        }
        let store = self.status.store.as_deref().unwrap_or("the store");
        Ok(format!(
            "passed: {attempted} samples, {accepted} trajectories accepted, {tokens} tokens; its files are in {store}"
        ))
    }

    /// What was said last, of one that is given up.
    pub(super) fn last_words(&self) -> String {
        if let Some(failure) = self.status.recent_failures.first() {
            return format!("last failure, in {}: {}", failure.stage, advised(&failure.reason, &failure.message));
        }
        let mut stages = self
            .status
            .conditions
            .iter()
            .filter(|condition| condition.status == "False" && condition.type_ != ConditionType::Ready.as_str());
        let is_idle = |reason: &str| reason == Reason::Pending.as_str();
        match stages.rfind(|condition| !is_idle(&condition.reason)) {
            Some(at) => format!("{} is False, {}", at.type_, advised(&at.reason, &at.message)),
            None => "the batch has not got further than being made".to_owned(),
        }
    }
}

/// A cause with what can be done about it in the chart's values.
fn advised(reason: &str, message: &str) -> String {
    let advice = ADVICE.iter().find(|(beginnings, _)| beginnings.iter().any(|beginning| reason.starts_with(beginning)));
    match advice {
        Some((_, advice)) => format!("{reason}: {message} ({advice})"),
        None => format!("{reason}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(changes: Value) -> BatchStatus {
        let mut whole = json!({"phase": "Running", "conditions": []});
        if let (Some(whole), Value::Object(changes)) = (whole.as_object_mut(), changes) {
            whole.extend(changes);
        }
        serde_json::from_value(whole).unwrap()
    }

    fn condition(about: &str, truth: &str, reason: &str, message: &str) -> Value {
        json!({"type": about, "status": truth, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn story(changes: Value) -> Story {
        let mut story = Story::default();
        story.hear(status(changes));
        story
    }

    #[test]
    fn a_line_is_told_once_and_again_when_it_changes() {
        let mut story = Story::default();
        let working = |message: &str| {
            status(json!({"conditions": [
                condition("Reconciling", "True", "Progressing", message), condition("Snapshotted", "False", "Progressing", message),
            ]}))
        };
        assert!(story.is_empty());
        assert_eq!(story.hear(working("at work")), ["Snapshotted=False Progressing: at work"]);
        assert!(story.hear(working("at work")).is_empty() && !story.is_empty());
        assert_eq!(story.hear(working("half")), ["Snapshotted=False Progressing: half"]);
        assert!(story.ending().is_none());
    }

    #[test]
    fn ready_is_a_success_with_counts_and_a_failure_without_any() {
        let ready = condition("Ready", "True", "Succeeded", "done");
        let counted = |accepted: u64| {
            json!({
                "phase": "Succeeded", "conditions": [ready], "store": "s3://acme/sera/ml/a/1",
                "generation": {"attempted": 2, "accepted": accepted, "tokens": 77_001, "rejected": {"NotSubmitted": 3}},
            })
        };
        let passed = story(counted(4)).ending().unwrap().unwrap();
        assert!(
            passed.contains("2 samples, 4 trajectories accepted, 77001 tokens")
                && passed.contains("s3://acme/sera/ml/a/1"),
            "{passed}"
        );
        let failed = story(counted(0)).ending().unwrap().unwrap_err();
        assert!(failed.contains("NotSubmitted 3"), "{failed}");
    }

    #[test]
    fn what_stands_still_is_a_failure_with_the_cause_and_the_value_to_look_at() {
        for (reason, value) in [
            ("StoreAccessDenied", "test.store"),
            ("ClaimMissing", "runDefaults"),
            ("ErrImagePull", "global.imageRegistry"),
            ("SandboxUnsupported", "test.landlock"),
        ] {
            let stalled = condition("Stalled", "True", reason, "it says no");
            let cause = story(json!({"phase": "Stalled", "conditions": [stalled]})).ending().unwrap().unwrap_err();
            assert!(cause.starts_with(&format!("{reason}: it says no (")) && cause.contains(value), "{cause}");
        }
        let failed = json!({"phase": "Failed", "conditions": [condition("Verified", "False", "AttemptsExhausted", "five failed")]});
        assert!(
            story(failed).ending().unwrap().unwrap_err().contains("Verified is False, AttemptsExhausted: five failed")
        );
    }

    #[test]
    fn who_is_given_up_is_told_by_its_last_failure_or_by_the_stage_that_it_is_in() {
        let waiting = json!({"conditions": [
            condition("Ready", "False", "Progressing", "not yet"), condition("Snapshotted", "True", "Succeeded", "there"),
            condition("RolledOut", "False", "ImagePullBackOff", "no such image"), condition("Verified", "False", "Pending", "later"),
        ]});
        let last = story(waiting.clone()).last_words();
        assert!(last.contains("RolledOut is False, ImagePullBackOff: no such image (images are"), "{last}");
        let mut failed = waiting;
        failed["recentFailures"] = json!([
            {"stage": "Snapshot", "attempt": 2, "time": "2026-01-01T00:00:00Z", "reason": "StoreUnavailable", "message": "no route"},
        ]);
        assert!(
            story(failed).last_words().starts_with("last failure, in Snapshot: StoreUnavailable: no route (the store")
        );
        assert!(Story::default().last_words().contains("not got further"));
    }
}
