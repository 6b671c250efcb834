//! Prompts in other words: the teacher goes by what a prompt contains, not by how it says it.

use crate::support::agent::{Dialect, SUBMIT, rollout};
use crate::support::repository::Repository;
use crate::support::sample::{self, PLAIN, Wording};
use crate::support::teacher::Teacher;

const TERSE: Wording = Wording {
    system: "",
    first: "Repository: {root}\nFile: {file}\nFunction: {function}\nSymptom: a resource is held for longer than needed.\nTask: repair it with as few changes as possible, then submit.",
    review: "VALID FIX? <verdict>YES</verdict> or <verdict>NO</verdict>",
    issue: "Draft a bug report of these steps.\n<style_reference>\n{example}\n</style_reference>\nPut it into `<report>` tags.",
    tag: "report",
    second: "Repository: {root}\nBug report:\n{issue}\n\nTask: repair it.",
};

const CHATTY: Wording = Wording {
    system: "You are a very careful developer. You have tools such as `bash`; call exactly one a turn. There is no network.",
    first: "Hello! We have checked out our project for you (you find it in \"{root}\"). A colleague believes that the method \"{function}\", which you find in the file \"{file}\", is not quite right; maybe its callers are. Could you have a look, and put right what you find? Do not change any tests, please.",
    review: "Thanks. Before we take it: do these steps really solve what was asked? If so reply with \"yes\", and if they do not, with \"no\" - nothing else, please.",
    issue: "One more thing. Please compose a pull request description from a user's point of view, in the manner of this one:\n\n<sample>\n{example}\n</sample>\n\nIt goes between <text> and </text>.",
    tag: "text",
    second: "Hello! Somebody wrote to us about our project, which is in \"{root}\":\n\n{issue}\n\nCould you take care of that, please?",
};

#[test]
fn three_ways_to_ask_lead_to_the_same_kind_of_sample() {
    let teacher = Teacher::start(&["--shares", "full=1", "--refuse", "0"]);
    let repository = Repository::new();
    for wording in [&PLAIN, &TERSE, &CHATTY] {
        for function in [
            ("net/session.py", "Session.send"),
            ("pkg/queue/queue.go", "Queue.Push"),
            ("android/Sync.kt", "Sync.upload"),
        ] {
            let sample = sample::run(&teacher, &repository, wording, function, Dialect::Usual);
            assert!(sample.first.submitted && !sample.first.patch.is_empty(), "{}", wording.first);
            assert!(sample.review["content"].as_str().unwrap().to_lowercase().contains("yes"), "{}", sample.review);
            assert!(
                sample.recall >= 1.0,
                "{} {}\n{}\n{}",
                sample.recall,
                sample.issue,
                sample.first.patch,
                sample.second.patch
            );
        }
    }
}

#[test]
fn an_issue_that_a_person_wrote_leads_to_the_function_it_names() {
    let teacher = Teacher::start(&[]);
    let repository = Repository::new();
    let prompt = format!(
        "Please solve this issue: the queue in {} loses jobs. I think Push is wrong when it is full.",
        repository.path().display()
    );
    let rollout = rollout(&teacher, &repository, "", &prompt, Dialect::Usual);
    assert!(rollout.submitted);
    // "Push" is a word like any other, so nothing points to it; a name in backticks does.
    let named =
        crate::support::agent::rollout(&teacher, &repository, "", &prompt.replace("Push", "`Push`"), Dialect::Usual);
    assert!(named.patch.contains("pkg/queue/queue.go"), "{}", named.patch);
}

#[test]
fn a_client_with_nothing_but_commands_gets_its_patch() {
    let teacher = Teacher::start(&["--shares", "full=1"]);
    let repository = Repository::new();
    let root = repository.path().display().to_string();
    let how = format!("When you are done, submit with the command `{SUBMIT}`.");
    for (file, function) in
        [("net/session.py", "Session.send"), ("store/src/cache.rs", "shorten"), ("native/ring.c", "ring_push")]
    {
        let prompt = format!("Something is wrong with `{function}` in {root}/{file}. {how}");
        let rollout = rollout(&teacher, &repository, "", &prompt, Dialect::CommandsOnly);
        assert!(rollout.submitted && rollout.patch.contains(file), "{}", rollout.patch);
    }
}
