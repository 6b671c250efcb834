//! Killed at any moment, run again: what is finished is adopted and not asked for twice, and what was under way is made anew.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sera_crds::contract::RolloutOutcome;
use serde_json::json;

use crate::endpoint::{Reply, Then, answer};
use crate::support::{About, Place, about, function, sandbox_program, teacher, text_about};

/// How many samples, and how often the program is killed.
const SAMPLES: u32 = 6;
const KILLS: u32 = 8;

/// What each call was about: the function's name (which the task of each sample has of its own), and the turn.
type Calls = Arc<Mutex<Vec<(String, About)>>>;

/// What is committed of a sample as a whole, and then not asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    First,
    Text,
    Second,
}

impl Step {
    /// All, with the records that are created when they are finished.
    const ALL: [(Self, &str); 3] = [(Self::First, "t1.json"), (Self::Text, "pr.json"), (Self::Second, "t2.json")];

    /// The step that a call belongs to.
    fn of(about: About) -> Self {
        match about {
            About::First(_) | About::Review => Self::First,
            About::PullRequest => Self::Text,
            About::Second(_) => Self::Second,
        }
    }
}

/// The steps that are finished, each with the function that its sample is about.
type Finished = BTreeSet<(Step, String)>;

#[tokio::test]
async fn killed_at_any_moment_and_run_again_no_finished_rollout_and_no_finished_text_is_asked_for_twice() {
    let Some(program) = sandbox_program() else { return };
    let begun = Instant::now();
    let undisturbed = Place::new();
    let calls = Calls::default();
    let log = calls.clone();
    let teacher = teacher(move |_, request| {
        log.lock().unwrap().push((function(request), about(request)));
        (about(request) == About::PullRequest).then(|| Reply::Json(answer(&text_about(&function(request)))))
    })
    .await;
    undisturbed.finish(undisturbed.rollout(&program, &teacher.url, SAMPLES, &json!({}))).await.succeeded();
    let usual = begun.elapsed();
    let needed = calls.lock().unwrap().len();

    let place = Place::new();
    let mut finished = Finished::new();
    for kill in 0..KILLS {
        calls.lock().unwrap().clear();
        let mut child = place.rollout(&program, &teacher.url, SAMPLES, &json!({})).spawn().unwrap();
        tokio::time::sleep(usual * (2 * kill + 1) / (2 * KILLS)).await;
        let _ = child.kill().await;
        child.wait().await.unwrap();
        check(&place, &calls.lock().unwrap(), &mut finished);
    }
    calls.lock().unwrap().clear();
    place.finish(place.rollout(&program, &teacher.url, SAMPLES, &json!({}))).await.succeeded();
    check(&place, &calls.lock().unwrap(), &mut finished);
    calls.lock().unwrap().clear();
    place.finish(place.rollout(&program, &teacher.url, SAMPLES, &json!({}))).await.succeeded();
    assert_eq!(calls.lock().unwrap().len(), 0, "nothing is left to ask for");

    assert_eq!(finished.len(), 3 * SAMPLES as usize, "each function has a sample of its own");
    let mut usage = 0;
    for sample in 0..u64::from(SAMPLES) {
        let outcome = place.outcome(sample);
        assert_eq!((outcome.first, outcome.second), (RolloutOutcome::Submitted, Some(RolloutOutcome::Submitted)));
        assert_eq!(outcome.usage, undisturbed.outcome(sample).usage, "what is paid for and lost is in no record");
        usage += outcome.usage.calls;
        for name in ["t1.json", "t2.json"] {
            let (record, same) = (place.record(sample, name), undisturbed.record(sample, name));
            assert_eq!((place.patch(&record), record.usage), (undisturbed.patch(&same), same.usage));
            assert_eq!(place.trajectory(&record).messages, undisturbed.trajectory(&same).messages);
        }
    }
    assert_eq!(usage, needed as u64);
}

/// No call was for a step that was finished before this run began; then notes those that are finished now.
fn check(place: &Place, calls: &[(String, About)], finished: &mut Finished) {
    for (function, about) in calls {
        let step = (Step::of(*about), function.clone());
        assert!(!finished.contains(&step), "{step:?} was finished, and is asked for again");
    }
    for sample in 0..u64::from(SAMPLES) {
        for (step, record) in Step::ALL {
            if place.path(&format!("store/rollouts/b1/{sample}/{record}")).exists() {
                finished.insert((step, place.record(sample, "t1.json").function.name));
            }
        }
    }
}

#[tokio::test]
async fn told_to_stop_it_stops_at_once_and_says_so() {
    let Some(program) = sandbox_program() else { return };
    let (place, teacher) = (Place::new(), teacher(|_, _| Some(Reply::Raw(Vec::new(), Then::Hang))).await);
    let child = place.rollout(&program, &teacher.url, 1, &json!({})).spawn().unwrap();
    while teacher.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(143));
    let message = std::fs::read_to_string(place.path("termination")).unwrap();
    assert!(message.contains("Interrupted"), "{message}");
    let scratch: Vec<_> = std::fs::read_dir(place.path("scratch")).unwrap().collect();
    assert!(scratch.is_empty(), "{scratch:?}");
}

#[tokio::test]
async fn what_a_rollout_had_spent_when_it_was_told_to_stop_is_counted_once() {
    /// The call in the midst of the first rollout that gets no answer.
    const HANGS: usize = 3;
    let Some(program) = sandbox_program() else { return };
    let (stopped, undisturbed) = (Place::new(), Place::new());
    let hanging = teacher(|call, _| {
        let hang = || Reply::Raw(Vec::new(), Then::Hang);
        (call >= HANGS).then(hang)
    })
    .await;
    for _ in 0..2 {
        let before = hanging.calls();
        let child = stopped.rollout(&program, &hanging.url, 1, &json!({})).spawn().unwrap();
        let wanted = HANGS.max(before) + 1;
        while hanging.calls() < wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(child.wait_with_output().await.unwrap().status.code(), Some(143));
    }
    let answering = teacher(|_, _| None).await;
    for place in [&stopped, &undisturbed] {
        place.finish(place.rollout(&program, &answering.url, 1, &json!({}))).await.succeeded();
    }
    let [found, usual] = [&stopped, &undisturbed].map(|place| place.outcome(0).usage);
    assert_eq!(
        found.calls,
        usual.calls + HANGS as u64,
        "the first process was answered {HANGS} times, the second never"
    );
    assert!(found.prompt_tokens > usual.prompt_tokens && found.completion_tokens > usual.completion_tokens);
    assert_eq!(stopped.record(0, "t1.json").usage, undisturbed.record(0, "t1.json").usage);
}
