//! What each measure does not see, in numbers of both: recall is kept as the paper has it, so its holes are known instead of closed.

use sera_rollout::verify::measure;

use crate::support::{one_file, patch};

/// Recall, strict recall and F1 as fractions; none where not defined.
fn scores(first: &str, second: &str) -> [Option<String>; 3] {
    let (measures, _) = measure(first.as_bytes(), second.as_bytes());
    [measures.recall, measures.strict.recall(), measures.strict.f1()]
        .map(|share| share.map(|share| format!("{}/{}", share.matched, share.total)))
}

fn some(shares: [&str; 3]) -> [Option<String>; 3] {
    shares.map(|share| Some(share.to_owned()))
}

#[test]
fn the_same_line_in_another_file_is_recalled_and_strictly_is_not() {
    let first = one_file("billing.py", &["-    return a", "+    return b"]);
    let second = one_file("shipping.py", &["-    return a", "+    return b"]);
    assert_eq!(scores(&first, &second), some(["2/2", "0/2", "0/4"]));
}

#[test]
fn a_removed_line_that_begins_with_two_dashes_vanishes_from_recall() {
    // SQL's and Lua's comments: the removed line reads `---…` in the patch, the added one `+++…` where it begins with `++`.
    let first = one_file("q.sql", &["--- the old comment", "+++counter;", "+select 1"]);
    let second = one_file("q.sql", &["+select 1"]);
    assert_eq!(scores(&first, &second), some(["1/1", "1/3", "2/4"]));
}

#[test]
fn an_added_comment_of_two_dashes_and_a_removed_increment_count_in_both() {
    let first = one_file("q.sql", &["+-- x", "-++i"]);
    assert_eq!(scores(&first, &first), some(["2/2", "2/2", "4/4"]));
}

#[test]
fn five_hundred_extra_lines_cost_precision_alone() {
    let first = one_file("a.py", &["-x", "+y"]);
    let extra = (0..500).map(|n| format!("+extra {n}"));
    let second = patch(&[("a.py", ["-x".to_owned(), "+y".to_owned()].into_iter().chain(extra).collect())]);
    assert_eq!(scores(&first, &second), some(["2/2", "2/2", "4/504"]));
}

#[test]
fn another_indentation_is_a_miss_for_recall_alone() {
    let first = one_file("a.py", &["+    return x", "+\tpass"]);
    let second = one_file("a.py", &["+        return x", "+    pass"]);
    assert_eq!(scores(&first, &second), some(["0/2", "2/2", "4/4"]));
}

#[test]
fn renames_and_binary_files_have_no_lines_and_are_undefined_in_both() {
    let rename = "diff --git a/a.py b/b.py\nsimilarity index 100%\nrename from a.py\nrename to b.py\n";
    let binary = "diff --git a/i.png b/i.png\nindex 1..2 100644\nBinary files a/i.png and b/i.png differ\n";
    for nothing in [rename, binary, ""] {
        assert_eq!(scores(nothing, &one_file("a.py", &["+x"])), [None, None, None]);
        assert_eq!(scores(&one_file("a.py", &["+x"]), nothing), some(["0/1", "0/1", "0/1"]));
    }
}

#[test]
fn lines_of_a_lock_file_drown_the_change_in_recall_alone() {
    let lock = |from: u32| (from..from + 98).map(|n| format!("+version {n}")).collect::<Vec<_>>();
    let code = |line: &str| vec![format!("+{line}"), "+shared".to_owned()];
    let first = patch(&[("src/a.rs", code("mine")), ("Cargo.lock", lock(0))]);
    let second = patch(&[("src/a.rs", code("other")), ("Cargo.lock", lock(0))]);
    assert_eq!(scores(&first, &second), some(["99/100", "1/2", "2/4"]));
}

#[test]
fn a_forgotten_script_costs_no_precision() {
    let first = one_file("src/a.py", &["+x"]);
    let script = "diff --git a/reproduce.py b/reproduce.py\nnew file mode 100644\n--- /dev/null\n+++ b/reproduce.py\n@@ -0,0 +1,2 @@\n+import a\n+a.x()\n";
    assert_eq!(scores(&first, &format!("{first}{script}")), some(["1/1", "1/1", "2/2"]));
}

/// The example of docs/verification.md.
#[test]
fn one_pair_scores_the_same_by_recall_for_other_reasons_and_less_by_f1() {
    let first = one_file("billing.py", &["-    return total", "+    return round(total, 2)"]);
    let second = one_file("billing.py", &["-    return total", "+        return round(total, 2)"])
        + &one_file("shipping.py", &["+    return round(total, 2)"]);
    assert_eq!(scores(&first, &second), some(["2/2", "2/2", "4/5"]));
}

#[test]
fn text_around_the_hunks_is_recalled_and_strictly_is_not() {
    let first = format!("Subject: a change\n\n- a list\n\n{}", one_file("a.py", &["+x"]));
    assert_eq!(scores(&first, "- a list\n"), some(["1/2", "0/1", "0/2"]));
}
