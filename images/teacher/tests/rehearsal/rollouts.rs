//! Rollouts in every language: what the first changes, what is said of it, and how much of it the second finds again.

use std::sync::Mutex;

use crate::support::agent::Dialect;
use crate::support::repository::{FUNCTIONS, Repository, parses};
use crate::support::sample::{self, PLAIN, Sample};
use crate::support::teacher::Teacher;

/// The recalls of samples about functions (every one, or every second or third), made by a few threads at once; `look` is given the repository as the
/// second rollout left it.
fn samples(
    teacher: &Teacher,
    every: usize,
    dialect: Dialect,
    look: impl Fn(&str, &Sample, &Repository) + Sync,
) -> Vec<f64> {
    let left = Mutex::new(FUNCTIONS.iter().step_by(every).collect::<Vec<_>>());
    let recalls = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let repository = Repository::new();
                loop {
                    let Some((file, function)) = left.lock().unwrap().pop() else { break };
                    let sample = sample::run(teacher, &repository, &PLAIN, (file, function), dialect);
                    look(file, &sample, &repository);
                    recalls.lock().unwrap().push(sample.recall);
                }
            });
        }
    });
    recalls.into_inner().unwrap()
}

fn share(recalls: &[f64], fits: impl Fn(f64) -> bool) -> f64 {
    let count = |count: usize| f64::from(u32::try_from(count).unwrap());
    count(recalls.iter().filter(|recall| fits(**recall)).count()) / count(recalls.len())
}

#[test]
fn every_first_rollout_changes_its_function_a_little_and_the_second_does_it_again() {
    let teacher = Teacher::start(&["--shares", "full=1", "--refuse", "0"]);
    let recalls = samples(&teacher, 1, Dialect::Usual, |file, sample, repository| {
        let first = &sample.first;
        assert!(first.submitted && sample.second.submitted, "{file}: {:?}", first.messages.last());
        let changed = sample::changed(&first.patch);
        assert!((1..=12).contains(&changed.values().sum::<usize>()), "{file}: {}", first.patch);
        assert!(
            first.patch.matches("diff --git").count() == 1 && first.patch.contains(&format!(" b/{file}\n")),
            "{}",
            first.patch
        );
        assert_eq!(sample.review["content"], "yes");
        assert_ne!(parses(&repository.path().join(file)), Some(false), "{}", sample.second.patch);
        says_nothing_of_the_solution(sample);
    });
    assert!(share(&recalls, |recall| recall >= 1.0) >= 0.9, "{recalls:?}");
}

fn says_nothing_of_the_solution(sample: &Sample) {
    let issue = &sample.issue;
    for line in sample::changed(&sample.first.patch).keys().filter_map(|line| line.strip_prefix('+')) {
        assert!(line.trim().len() < 12 || !issue.contains(line.trim()), "{line} is given away by {issue}");
    }
    assert!(!issue.to_lowercase().contains("test") && !issue.contains("@@"), "{issue}");
    let (length, example) = (issue.chars().count(), sample::EXAMPLE.chars().count());
    assert!(length > example / 2 && length < example * 2, "{length} of {example}: {issue}");
}

#[test]
fn second_rollouts_that_are_to_make_it_in_part_do_so() {
    let recalls = samples(&Teacher::start(&["--shares", "partial=1"]), 2, Dialect::Usual, |_, _, _| {});
    assert!(share(&recalls, |recall| recall > 0.0 && recall < 1.0) >= 0.9, "{recalls:?}");
}

#[test]
fn second_rollouts_that_are_to_miss_do_so_and_still_change_something() {
    let recalls = samples(&Teacher::start(&["--shares", "miss=1"]), 2, Dialect::Usual, |_, sample, _| {
        assert!(!sample.second.patch.is_empty());
    });
    assert!(share(&recalls, |recall| recall <= 0.0) >= 0.9, "{recalls:?}");
}

#[test]
fn all_three_kinds_of_second_rollouts_occur_when_they_are_to() {
    let teacher = Teacher::start(&["--shares", "full=0.34,partial=0.33,miss=0.33"]);
    let recalls = samples(&teacher, 1, Dialect::Usual, |_, _, _| {});
    assert!(share(&recalls, |recall| recall >= 1.0) > 0.0, "{recalls:?}");
    assert!(share(&recalls, |recall| recall > 0.0 && recall < 1.0) > 0.0, "{recalls:?}");
    assert!(share(&recalls, |recall| recall <= 0.0) > 0.0, "{recalls:?}");
}

#[test]
fn a_client_that_calls_its_tools_otherwise_is_served_as_well() {
    let teacher = Teacher::start(&["--shares", "full=1"]);
    let recalls = samples(&teacher, 3, Dialect::Renamed, |file, sample, _| {
        assert!(sample.first.submitted && !sample.first.patch.is_empty(), "{file}");
    });
    assert!(share(&recalls, |recall| recall >= 1.0) >= 0.9, "{recalls:?}");
}

#[test]
fn a_teacher_that_is_to_abstain_changes_nothing_and_says_the_words_that_it_was_told() {
    let teacher = Teacher::start(&["--abstain", "1"]);
    let repository = Repository::new();
    let root = repository.path().display().to_string();
    let prompt = format!(
        "Look at `parse_header` in {root}/net/session.py. If nothing is wrong, write the words NOTHING AT ALL in your message."
    );
    let rollout = crate::support::agent::rollout(&teacher, &repository, "", &prompt, Dialect::Usual);
    assert!(rollout.submitted && rollout.patch.is_empty());
    assert_eq!(rollout.messages.last().unwrap()["content"], "NOTHING AT ALL");
}

#[test]
fn a_teacher_that_is_never_to_submit_goes_on_and_on() {
    let teacher = Teacher::start(&["--never-submit", "1"]);
    let repository = Repository::new();
    let prompt = format!("Look at `parse_header` in {}/net/session.py.", repository.path().display());
    let rollout = crate::support::agent::rollout(&teacher, &repository, "", &prompt, Dialect::Usual);
    assert!(!rollout.submitted && !rollout.patch.is_empty());
}
