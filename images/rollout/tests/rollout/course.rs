//! The course of a sample: what is asked, what is kept, and what an answer that cannot be used leads to.

use std::sync::{Arc, Mutex};

use sera_crds::contract::{Message, PullRequestRecord, RolloutOutcome, Usage};
use serde_json::{Value, json};

use crate::endpoint::{Reply, answer, call, tool_call};
use crate::support::{
    About, GO, ISSUE, Place, RIGHT, WRONG, about, good_message, is_of_the_index, sandbox_program, teacher, turns,
};

/// What a diff of the scripted fix has to be, to the byte: tabs, line ends and all, whatever attributes the repository has.
fn expected_patch() -> String {
    let context = GO.lines().skip(3).take(3).map(|line| format!(" {line}\n")).collect::<String>();
    format!(
        "@@ -4,7 +4,7 @@ func Next(items []int, at int) int {{\n{context}-{WRONG}+{RIGHT} }}\n \n func Previous(n int) int {{\n"
    )
}

#[tokio::test]
async fn a_sample_goes_from_its_function_to_its_end_and_a_line_with_tabs_is_exactly_one_removed_and_one_added() {
    let Some(program) = sandbox_program() else { return };
    let (place, teacher) = (Place::new(), teacher(|_, _| None).await);
    place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();

    let (first, second, outcome) = (place.record(0, "t1.json"), place.record(0, "t2.json"), place.outcome(0));
    assert_eq!((first.outcome, second.outcome), (RolloutOutcome::Submitted, RolloutOutcome::Submitted));
    for record in [&first, &second] {
        let patch = place.patch(record);
        assert!(
            patch.starts_with("diff --git a/src/ring.go b/src/ring.go\n") && patch.ends_with(&expected_patch()),
            "{patch}"
        );
        assert!(record.teacher.rehearsal && record.teacher.model == "some-model" && record.prompts.len() == 64);
        assert!(!record.protections.is_empty());
    }
    assert!(
        is_of_the_index(&outcome.function)
            && outcome.bug_kinds.len() == 3
            && first.bug_kind == Some(outcome.bug_kinds[0])
    );
    assert_eq!(second.bug_kind, None);
    assert_eq!((outcome.first, outcome.second), (RolloutOutcome::Submitted, Some(RolloutOutcome::Submitted)));

    let written: PullRequestRecord = place.document(0, "pr.json").unwrap();
    let pull_request = outcome.pull_request.unwrap();
    assert_eq!((pull_request.tries, pull_request.leaks), (1, false));
    assert_eq!(place.file(0, &outcome.folder, "pr.md"), ISSUE);
    assert_eq!(written.folder, outcome.folder);

    // Five turns each, a review and a text; each call is 100 tokens in, 90 of them cached, and 10 out.
    let calls = 12;
    assert_eq!(teacher.calls(), 12);
    assert_eq!(
        outcome.usage,
        Usage { calls, prompt_tokens: 100 * calls, cached_tokens: 90 * calls, completion_tokens: 10 * calls }
    );

    let trajectory = place.trajectory(&first);
    let kinds: Vec<&str> = trajectory
        .messages
        .iter()
        .map(|message| match message {
            Message::System { .. } => "system",
            Message::User { .. } => "user",
            Message::Assistant { .. } => "assistant",
            Message::Tool { review: false, .. } => "tool",
            Message::Tool { review: true, .. } => "review",
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "system",
            "user",
            "assistant",
            "tool",
            "assistant",
            "tool",
            "assistant",
            "tool",
            "assistant",
            "review",
            "assistant"
        ]
    );
    let Message::User { content } = &place.trajectory(&second).messages[1] else { panic!("no task") };
    assert!(content.contains(ISSUE) && !content.contains("Next`"), "the second rollout gets the text alone: {content}");
}

#[tokio::test]
async fn what_is_kept_of_a_tools_answer_is_what_the_teacher_was_sent_and_is_called_an_observation() {
    let Some(program) = sandbox_program() else { return };
    let (place, sent) = (Place::new(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&sent);
    let teacher = teacher(move |_, request| {
        if about(request) == About::First(4) {
            let messages = request["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "tool");
            *seen.lock().unwrap() = messages.map(|message| message["content"].as_str().unwrap().to_owned()).collect();
        }
        None
    })
    .await;
    place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();
    let trajectory = place.trajectory(&place.record(0, "t1.json"));
    let kept = trajectory.messages.into_iter().filter_map(|message| match message {
        Message::Tool { content, .. } => Some(content),
        _ => None,
    });
    let kept: Vec<String> = kept.collect();
    assert!(kept.len() == 4 && kept.iter().all(|content| content.starts_with("OBSERVATION:\n")), "{kept:?}");
    assert_eq!(*sent.lock().unwrap(), kept);
}

/// What a teacher may do with its own git, and what it is shown of that: nothing of the change, or no repository.
const OWN_GIT: [(&str, &str); 3] = [
    (
        "git config diff.noprefix true; git config diff.external true; git config core.fsmonitor /bin/true
        git config core.quotePath false; git config diff.context 0; git config core.abbrev 40
        printf '*.go -diff -text\\n* ident filter=none\\n' >.git/info/attributes; printf '*\\n' >.git/info/exclude
        git update-index --assume-unchanged .gitignore
        git -c user.name=m -c user.email=m@x commit --quiet --all --message=mine
        echo \"$(git log --format=%s | wc -l) commits, $(git status --porcelain; git diff HEAD^ | wc -c) bytes of changes\"",
        "2 commits, 0 bytes of changes",
    ),
    ("rm -rf .git; git status", "not a git repository"),
    (
        "rm -rf .git; git init --quiet; printf '*\\n' >.git/info/exclude; git add --all --force
        git -c user.name=m -c user.email=m@x commit --quiet --message=mine; git status --porcelain; git log --format=%s",
        "mine",
    ),
];

#[tokio::test]
async fn whatever_a_teacher_does_with_its_own_git_its_patch_is_whole_and_the_same() {
    const NEW: &str = "echo seen >notes.txt\n";
    let Some(program) = sandbox_program() else { return };
    let mut untouched: Option<[String; 2]> = None;
    for (trick, shown) in [("true", "")].into_iter().chain(OWN_GIT) {
        let place = Place::new();
        let teacher = teacher(move |_, request| {
            let (About::First(2) | About::Second(2)) = about(request) else { return None };
            Some(Reply::Json(answer(&call("bash", &json!({"command": format!("{NEW}{trick}")})))))
        })
        .await;
        place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();
        let records = ["t1.json", "t2.json"].map(|name| place.record(0, name));
        for record in &records {
            assert_eq!(record.outcome, RolloutOutcome::Submitted, "{trick}");
            let Message::Tool { content, .. } = &place.trajectory(record).messages[7] else { panic!("no observation") };
            assert!(content.contains(shown), "{trick}: {content}");
        }
        let patches = records.each_ref().map(|record| place.patch(record));
        let expected = untouched.get_or_insert_with(|| patches.clone());
        assert_eq!(&patches, expected, "{trick}");
    }
    let new = "diff --git a/notes.txt b/notes.txt\nnew file mode 100644\nindex 0000000000..1b5326f23c\n--- /dev/null\n+++ b/notes.txt\n@@ -0,0 +1 @@\n+seen\n";
    for patch in untouched.unwrap() {
        let change = patch.strip_prefix(new).unwrap_or_else(|| panic!("{patch}"));
        assert!(change.starts_with("diff --git a/src/ring.go b/src/ring.go\nindex "), "{patch}");
        assert!(change.ends_with(&expected_patch()), "{patch}");
    }
}

#[tokio::test]
async fn answers_that_cannot_be_used_are_counted_and_add_no_turn() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    // Before the first turn: no call, and two. Before the second: bad JSON, and a tool that does not exist. Before the third: nothing at all.
    let bad = [
        json!({"content": "I will look."}),
        json!({"content": "", "tool_calls": [tool_call("a", "submit", "{}"), tool_call("b", "submit", "{}")]}),
        json!({"content": "", "tool_calls": [tool_call("a", "bash", "{\"command\": \"ls")]}),
        json!({"content": "", "tool_calls": [tool_call("a", "browser", "{}")]}),
        json!({"content": ""}),
    ];
    let places = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)];
    let seen = std::sync::Mutex::new(std::collections::BTreeMap::<usize, usize>::new());
    let bytes = std::sync::Arc::new(std::sync::Mutex::new(Vec::<Vec<Value>>::new()));
    let requests = bytes.clone();
    let teacher = teacher(move |_, request| {
        let About::First(turn) = about(request) else { return None };
        requests.lock().unwrap().push(request["messages"].as_array().unwrap().clone());
        let mut seen = seen.lock().unwrap();
        let times = seen.entry(turn).or_default();
        let position = places.iter().position(|place| *place == (turn, *times));
        *times += 1;
        position.map(|position| Reply::Json(answer(&bad[position])))
    })
    .await;
    place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();

    let first = place.record(0, "t1.json");
    let retried = first.retried;
    assert_eq!(
        (retried.no_call, retried.many_calls, retried.malformed, retried.unknown_tool, retried.empty),
        (1, 1, 1, 1, 1)
    );
    assert_eq!(
        (first.outcome, turns(&place.trajectory(&first)), first.usage.calls),
        (RolloutOutcome::Submitted, 5, 5 + 5 + 1)
    );
    // What is asked again is the same; only the last try has a hint, and that does not stay either.
    let requests = bytes.lock().unwrap();
    assert_eq!(requests[0], requests[1]);
    assert_eq!(requests[2].len(), requests[0].len() + 1);
    assert_eq!(requests[3][..2], requests[0][..]);
    assert!(requests.iter().all(|messages| messages.iter().filter(|message| message["role"] == "user").count() <= 2));
}

#[tokio::test]
async fn a_third_answer_in_a_row_that_cannot_be_used_ends_the_rollout_and_keeps_what_was_done() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    let teacher = teacher(|_, request| {
        (about(request) == About::First(2)).then(|| Reply::Json(answer(&json!({"content": "Done!"}))))
    })
    .await;
    place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();
    let first = place.record(0, "t1.json");
    assert_eq!((first.outcome, first.retried.no_call), (RolloutOutcome::TeacherError, 3));
    assert!(place.patch(&first).contains(RIGHT) && first.problem.unwrap().contains("no tool call"));
    assert_eq!((place.outcome(0).second, teacher.calls()), (None, 2 + 3));
}

#[tokio::test]
async fn thinking_gives_the_same_trajectory_whichever_field_it_comes_in_and_goes_back_in_that_field() {
    let Some(program) = sandbox_program() else { return };
    let mut trajectories = Vec::new();
    for field in ["content", "reasoning_content", "reasoning"] {
        let place = Place::new();
        let teacher = teacher(move |_, request| {
            let (About::First(turn) | About::Second(turn)) = about(request) else { return None };
            // What was said comes back as it was said.
            for message in
                request["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "assistant")
            {
                assert!(message[field].as_str().is_some_and(|text| text.contains("thought of it")), "{message}");
            }
            let mut message = good_message(about(request));
            let thinking = format!("I thought of it {turn} times.");
            if field == "content" {
                message["content"] = format!("<think>\n{thinking}\n</think>\n\nLook:").into();
            } else {
                message["content"] = "Look:".into();
                message[field] = format!("\n{thinking}\n").into();
            }
            Some(Reply::Json(answer(&message)))
        })
        .await;
        place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();
        trajectories
            .push([place.trajectory(&place.record(0, "t1.json")), place.trajectory(&place.record(0, "t2.json"))]);
    }
    assert_eq!(trajectories[0], trajectories[1]);
    assert_eq!(trajectories[0], trajectories[2]);
    let Message::Assistant { content, reasoning, .. } = &trajectories[0][0].messages[2] else { panic!("no turn") };
    assert_eq!((content.as_str(), reasoning.as_deref()), ("Look:", Some("I thought of it 0 times.")));
}

#[tokio::test]
async fn what_the_review_refuses_is_tried_with_another_bug_kind_and_both_are_kept() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    let reviews = std::sync::atomic::AtomicUsize::new(0);
    let teacher = teacher(move |_, request| {
        let refused = about(request) == About::Review && reviews.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        refused.then(|| Reply::Json(answer(&json!({"content": "No."}))))
    })
    .await;
    place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();
    let (refused, first, outcome) = (place.record(0, "t1-1.json"), place.record(0, "t1.json"), place.outcome(0));
    assert_eq!((refused.outcome, first.outcome), (RolloutOutcome::RefusedByReview, RolloutOutcome::Submitted));
    assert_eq!([refused.bug_kind, first.bug_kind], [Some(outcome.bug_kinds[0]), Some(outcome.bug_kinds[1])]);
    assert_ne!(refused.patch.name, first.patch.name);
    let mut all = refused.usage;
    all += first.usage;
    assert_eq!((all.calls, outcome.usage.calls), (12, 12 + 1 + 5));
}

#[tokio::test]
async fn a_teacher_that_is_out_of_order_while_it_should_review_has_refused_nothing() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    let reviews = std::sync::atomic::AtomicUsize::new(0);
    let teacher = teacher(move |_, request| {
        let fails = about(request) == About::Review && reviews.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 4;
        fails.then(|| Reply::Status(500, "", "no".into()))
    })
    .await;
    let mut command = place.rollout(&program, &teacher.url, 1, &json!({}));
    command.args(["--teacher-retries=0"]);
    place.finish(command).await.succeeded();
    assert_eq!(
        (place.outcome(0).first, place.outcome(0).second),
        (RolloutOutcome::Submitted, Some(RolloutOutcome::Submitted))
    );
}

#[tokio::test]
async fn a_teacher_that_finds_nothing_may_say_so_and_one_that_says_nothing_has_an_empty_patch() {
    let Some(program) = sandbox_program() else { return };
    for (words, expected) in [("NOTHING TO FIX", RolloutOutcome::Abstained), ("Done.", RolloutOutcome::EmptyPatch)] {
        let place = Place::new();
        let teacher = teacher(move |_, _| {
            Some(Reply::Json(answer(&json!({"content": words, "tool_calls": [tool_call("c", "submit", "{}")]}))))
        })
        .await;
        place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();
        let outcome = place.outcome(0);
        assert_eq!((outcome.first, outcome.pull_request, outcome.second), (expected, None, None));
        assert_eq!(
            (outcome.usage.calls, place.record(0, "t1.json").patch.bytes),
            (3 * 2, 0),
            "each of three bug kinds is tried"
        );
    }
}

#[tokio::test]
async fn a_text_that_gives_the_solution_away_is_turned_down_and_taken_with_its_mark_where_no_other_comes() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    let leaking = format!(
        "<think><output>{ISSUE}</output></think><output>Next has to say {}. It now panics at the end of the ring.</output>",
        RIGHT.trim()
    );
    let teacher = teacher(move |_, request| {
        (about(request) == About::PullRequest).then(|| Reply::Json(answer(&json!({"content": leaking}))))
    })
    .await;
    place.finish(place.rollout(&program, &teacher.url, 1, &json!({}))).await.succeeded();
    let pull_request = place.outcome(0).pull_request.unwrap();
    assert_eq!((pull_request.tries, pull_request.leaks), (10, true), "what stands within the thinking does not count");
}
