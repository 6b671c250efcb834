//! A synthetic pull request that the server cut off: what is whole in it may lack what was to follow, and so none of it is taken.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sera_crds::contract::{PullRequestRecord, RolloutOutcome};
use serde_json::json;

use crate::endpoint::{Reply, answer};
use crate::support::{About, ISSUE, Place, about, sandbox_program, teacher};

/// A text with nothing wrong but its end.
const CUT: &str = "The last element of a ring is followed by nothing at all. I expected the first one there, and I do not see why it should be otherwise.";

fn cut_off() -> Reply {
    let mut answer = answer(&json!({"content": format!("<output>\n{CUT}\n</output>\nAs for the")}));
    answer["choices"][0]["finish_reason"] = "length".into();
    Reply::Json(answer)
}

#[tokio::test]
async fn a_text_that_was_cut_off_is_asked_for_again_with_less_before_it_however_whole_it_looks() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    let teacher = teacher(move |_, request| {
        (about(request) == About::PullRequest).then_some(())?;
        let mut heard = heard.lock().unwrap();
        heard.push(request["messages"].as_array().unwrap().len());
        (heard.len() == 1).then(cut_off)
    })
    .await;
    place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();

    let outcome = place.outcome(0);
    let pull_request = outcome.pull_request.unwrap();
    assert_eq!((pull_request.tries, pull_request.leaks), (2, false));
    assert_eq!(place.file(0, &outcome.folder, "pr.md"), ISSUE);
    assert_eq!((outcome.second, outcome.usage.calls), (Some(RolloutOutcome::Submitted), 12 + 1), "both were paid for");
    let asked = asked.lock().unwrap();
    // Two of the five turns, each a call and its answer.
    assert_eq!((asked.len(), asked[0]), (2, asked[1] + 4), "a shorter conversation leaves more room for the answer");
}

#[tokio::test]
async fn where_every_text_is_cut_off_there_is_none_and_no_second_rollout() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    let texts = Arc::new(AtomicUsize::new(0));
    let counted = texts.clone();
    let teacher = teacher(move |_, request| {
        (about(request) == About::PullRequest).then(|| {
            counted.fetch_add(1, Ordering::SeqCst);
            cut_off()
        })
    })
    .await;
    place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();

    assert_eq!(texts.load(Ordering::SeqCst), 10);
    let (outcome, written) = (place.outcome(0), place.document::<PullRequestRecord>(0, "pr.json").unwrap());
    assert_eq!((outcome.first, outcome.pull_request, outcome.second), (RolloutOutcome::Submitted, None, None));
    assert_eq!((written.pull_request, written.usage.calls, outcome.usage.calls), (None, 10, 5 + 1 + 10));
}
