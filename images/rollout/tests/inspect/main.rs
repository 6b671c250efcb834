//! `sera-rollout inspect`: a sample as the trainer will see it, for people. What carries loss stands in brackets, and what is cut is said to be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

use std::fmt::Write as _;
use std::process::{Command, Output};

use sera_crds::contract::{Lineage, RolloutKind, Verdict};
use tempfile::TempDir;

#[allow(dead_code, reason = "tests of verify use the rest of it")]
#[path = "../support/rollouts.rs"]
mod rollouts;

use rollouts::{Finished, Rollouts};

const STUDENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../trainer/chat/tests/tiny");
const BATCH: &str = "billing-0";
/// How its samples are verified and made lines of.
const VERIFICATION: &str =
    r#"{"maxMeanToolTokens":1000,"student":{"toolCallFormat":"Hermes","contextLength":100000,"minKeptRatio":"0.5"}}"#;
const DATASET: &str = r#"{"acceptedTrajectories":4,"firstRolloutShare":"0.5","evalFraction":"0"}"#;
const CUT: &str = "──── cut: what follows is not in the line ────";
/// The turns of a sample's rollouts, as the student's template writes them: each with what stands before and after what its author wrote.
const TURNS: [(&str, [&str; 3]); 7] = [
    ("system", ["", "", ""]),
    ("user", ["<|im_start|>user\nSomething is wrong.<|im_end|>\n", "", ""]),
    ("assistant", ["<|im_start|>assistant\n", CALL, "\n"]),
    ("user", ["<|im_start|>user\n<tool_response>\nOBSERVATION:\nexit code 0\n</tool_response><|im_end|>\n", "", ""]),
    ("assistant", ["<|im_start|>assistant\n", SUBMIT, "\n"]),
    ("user", ["<|im_start|>user\n<tool_response>\nOBSERVATION:\nLook it over.\n</tool_response><|im_end|>\n", "", ""]),
    ("assistant", ["<|im_start|>assistant\n", SUBMIT, "\n"]),
];
const CALL: &str = "<think>\nWhat sample 3 is about.\n</think>\n\n<tool_call>\n{\"name\": \"bash\", \"arguments\": {}}\n</tool_call><|im_end|>";
const SUBMIT: &str = "<think>\nWhat sample 3 is about.\n</think>\n\n<tool_call>\n{\"name\": \"submit\", \"arguments\": {}}\n</tool_call><|im_end|>";

/// A store with the samples 3 and 4, verified, and a dataset of them.
struct Place {
    _folder: TempDir,
    store: Rollouts,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Rollouts::at(&folder.path().join("store"));
        store.snapshot();
        for sample in [3, 4] {
            let patch = format!("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-old\n+{sample}\n");
            store.sample(BATCH, sample, &Finished::submitted(&patch), &Finished::submitted(&patch));
        }
        let place = Self { _folder: folder, store };
        let made = place.run("verify", &["--batches=all"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        place
    }

    fn with_dataset() -> Self {
        let place = Self::new();
        let made = place.run("dataset", &["--fewer"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        place
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sera-rollout"))
            .args([command, "--store", &self.store.uri(), "--student", STUDENT])
            .args(arguments)
            .envs([("SERA_VERIFICATION", VERIFICATION), ("SERA_DATASET", DATASET)])
            .env_remove("RUST_LOG")
            .output()
            .unwrap()
    }

    fn page(&self, arguments: &[&str]) -> String {
        let output = self.run("inspect", arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The first rollout of sample 3 in a context of so many tokens.
    fn first(&self, context_length: usize, more: &[&str]) -> String {
        let length = format!("--context-length={context_length}");
        let arguments = ["--sample=3", "--rollout=first", "--min-kept-ratio=0.5", &length];
        self.page(&[&arguments[..], more].concat())
    }

    fn verdict(&self) -> Verdict {
        let lines = std::fs::read_to_string(&self.store.verdicts(BATCH)[0]).unwrap();
        let verdicts = lines.lines().map(|line| serde_json::from_str::<Verdict>(line).unwrap());
        verdicts.into_iter().find(|verdict| verdict.sample == 3).unwrap()
    }
}

/// The part of a page that has a rollout's turns, of which `kept` are in the line: what the page has to say there, given the tokens of each.
fn turns(tokens: &[usize], kept: usize) -> String {
    let mut expected = String::new();
    for (position, ((role, [before, written, after]), tokens)) in TURNS.iter().zip(tokens).enumerate() {
        if position == kept {
            expected.extend([CUT, "\n"]);
        }
        let (cut, open, close) = match (position < kept, written.is_empty()) {
            (true, false) => ("", "⟦", "⟧"),
            (true, true) => ("", "", ""),
            (false, _) => (", cut", "", ""),
        };
        let text = if position == 0 { system() } else { format!("{before}{open}{written}{close}{after}") };
        writeln!(expected, "\n[{position}] {role}, {tokens} tokens{cut}").unwrap();
        expected.push_str(&text);
    }
    expected
}

/// The first turn: the template's own words around the two tools, and nothing in it is trained.
fn system() -> String {
    let tool = |name: &str| {
        format!(
            r#"{{"type": "function", "function": {{"name": "{name}", "parameters": {{"type": "object", "properties": {{}}}}}}}}"#
        )
    };
    format!(
        "<|im_start|>system\nYou work in /testbed.\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided \
         with function signatures within <tools></tools> XML tags:\n<tools>\n{}\n{}\n</tools>\n\nFor each function call, return a json object with \
         function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{{\"name\": <function-name>, \"arguments\": \
         <args-json-object>}}\n</tool_call><|im_end|>\n",
        tool("bash"),
        tool("submit")
    )
}

/// The tokens that a page counts in each of its turns.
fn tokens(page: &str) -> Vec<usize> {
    let heads = page.lines().filter(|line| line.starts_with('[') && line.contains(" tokens"));
    heads.map(|head| head.split(", ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_sample_that_fits_is_shown_whole_and_brackets_stand_around_what_is_trained_and_nothing_else() {
    let place = Place::new();
    let page = place.first(100_000, &[]);
    let tokens = tokens(&page);
    assert_eq!(tokens.len(), TURNS.len(), "{page}");
    assert!(page.contains(&turns(&tokens, 7)), "{page}");
    assert!(!page.contains("cut"), "{page}");

    let total: usize = tokens.iter().sum();
    let verdict = place.verdict();
    let first = &verdict.first;
    assert_eq!((first.kept, first.tokens.map(|tokens| tokens as usize)), (Some((7, 7)), Some(total)));
    let said = page.lines().find(|line| line.contains("messages are kept")).unwrap();
    assert!(said.starts_with(&format!("7 of 7 messages are kept, {total} tokens, ")), "{said}");
    assert!(page.contains("\nt1: Submitted, accepted; ") && page.contains("recall 2/2 (1.00)"), "{page}");

    let coloured = place.first(100_000, &["--colour=always"]);
    let green = |text: &str| format!("\u{1b}[32m{text}\u{1b}[0m");
    assert_eq!((coloured.matches(&green(CALL)).count(), coloured.matches(&green(SUBMIT)).count()), (1, 2));
    assert!(coloured.matches("\u{1b}[32m").count() == 3 && !coloured.contains('⟦'), "{coloured}");
}

#[test]
fn a_sample_that_does_not_fit_is_cut_after_its_last_whole_turn_and_nothing_behind_the_cut_is_trained() {
    let place = Place::new();
    let tokens = tokens(&place.first(100_000, &[]));
    let five: usize = tokens[..5].iter().sum();
    let whole: usize = tokens.iter().sum();
    // A line is shorter than its length; the answer to a call is no whole turn.
    for (length, kept) in [(whole + 1, 7), (whole, 5), (five + 1, 5)] {
        let page = place.first(length, &[]);
        assert!(page.contains(&turns(&tokens, kept)), "{length} tokens: {page}");
        assert!(page.contains(&format!("{kept} of 7 messages are kept, ")), "{length} tokens: {page}");
        assert_eq!(page.matches(CUT).count(), usize::from(kept < 7), "{page}");
    }
    let page = place.first(five, &["--min-kept-ratio=0.4"]);
    assert!(page.contains(&turns(&tokens, 3)), "{page}");
    let page = place.first(five, &[]);
    let why =
        format!("it becomes no line: of its 7 messages 3 are left within {five} tokens, and a share of 0.5 must be\n");
    assert!(page.contains(&why) && !page.contains('⟦'), "{page}");
}

#[test]
fn a_line_of_the_dataset_and_the_sample_that_it_is_made_of_give_the_same_page() {
    let place = Place::with_dataset();
    let lineage = std::fs::read_to_string(place.store.path("dataset/lineage.jsonl")).unwrap();
    let lineage: Vec<Lineage> = lineage.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lineage.len() >= 2, "{lineage:?}");
    let pages: Vec<String> = (1..=lineage.len()).map(|line| place.page(&[&format!("--line={line}")])).collect();
    for (line, page) in lineage.iter().zip(&pages) {
        let rollout = if line.rollout == RolloutKind::First { "first" } else { "second" };
        let sample = format!("--sample={}", line.sample);
        assert_eq!(*page, place.page(&[&sample, "--rollout", rollout, "--batch", &line.batch]));
        assert!(page.starts_with(&format!("sample {} of batch {BATCH}\n", line.sample)), "{page}");
    }
    assert_ne!(pages[0], pages[1]);
}

#[test]
fn a_number_that_nothing_has_is_answered_in_one_line_that_says_what_to_do() {
    let (without, with) = (Place::new(), Place::with_dataset());
    for (place, number, words) in [
        (&with, "--sample=5", "sample 5: check the number and --store"),
        (&with, "--line=99", "the dataset has no line 99: ask for one from 1 to "),
        (&with, "--line=0", "the dataset has no line 0: ask for one from 1 to "),
        (&without, "--line=1", "make the dataset first, or ask for a sample with --sample"),
    ] {
        let output = place.run("inspect", &[number]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(10), &b""[..]), "{number}: {said}");
        assert!(said.lines().count() == 1 && said.contains(words), "{number}: {said}");
    }
}
