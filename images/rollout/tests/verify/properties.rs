//! What holds for every pair of patches.

use proptest::collection::vec;
use proptest::prelude::*;
use sera_crds::contract::{Fraction, Measures};
use sera_rollout::verify::{measure, patch_lines};

use crate::support::patch;

/// Files with their changed lines; few words, so that lines meet.
fn files() -> impl Strategy<Value = Vec<(&'static str, Vec<String>)>> {
    let line = "[+-][ \t]{0,2}(a|b|c|x = 1|é|\u{2028}|-|\\+\\+)?";
    let names = ["src/a.py", "src/b.rs", "lib/c.go", "Cargo.lock"];
    vec(vec(line, 1..8), 1..=names.len()).prop_map(move |lines| names.into_iter().zip(lines).collect())
}

fn measured(first: &str, second: &str) -> Measures {
    measure(first.as_bytes(), second.as_bytes()).0
}

fn is_share(share: Option<Fraction>) -> bool {
    share.is_none_or(|Fraction { matched, total }| matched <= total && total > 0)
}

proptest! {
    #[test]
    fn shares_are_between_nothing_and_everything(first in files(), second in files()) {
        let measures = measured(&patch(&first), &patch(&second));
        prop_assert!(is_share(measures.recall) && is_share(measures.strict.recall()));
        prop_assert!(is_share(measures.strict.precision()) && is_share(measures.strict.f1()));
        prop_assert!(measures.strict.parsed);
    }

    #[test]
    fn a_patch_recalls_itself(files in files()) {
        let patch = patch(&files);
        let measures = measured(&patch, &patch);
        prop_assert!(measures.recall.is_none_or(|share| share.matched == share.total));
        prop_assert!(measures.strict.f1().is_none_or(|share| share.matched == share.total));
    }

    #[test]
    fn the_order_of_files_makes_no_difference(first in files(), second in files(), turn in 0usize..4) {
        let expected = measured(&patch(&first), &patch(&second));
        let (mut first, mut second) = (first, second);
        let (by, at) = (turn % first.len(), turn % second.len());
        first.rotate_left(by);
        second.rotate_right(at);
        second.reverse();
        prop_assert_eq!(measured(&patch(&first), &patch(&second)), expected);
    }

    #[test]
    fn more_lines_in_the_second_patch_never_lower_recall(first in files(), second in files(), more in files()) {
        let before = measured(&patch(&first), &patch(&second));
        let longer: Vec<_> = second
            .iter()
            .map(|(name, lines)| {
                let added = more.iter().filter(|(other, _)| other == name).flat_map(|(_, lines)| lines);
                (*name, lines.iter().chain(added).cloned().collect())
            })
            .collect();
        let after = measured(&patch(&first), &patch(&longer));
        let matched = |share: Option<Fraction>| share.map(|share| share.matched);
        prop_assert!(matched(after.recall) >= matched(before.recall));
        prop_assert!(matched(after.strict.recall()) >= matched(before.strict.recall()));
        prop_assert!(matched(measured(&patch(&first), &(patch(&second) + "+a\n-c\n")).recall) >= matched(before.recall));
    }

    #[test]
    fn any_bytes_are_measured(first in vec(any::<u8>(), 0..400), second in vec(any::<u8>(), 0..400)) {
        let (measures, _) = measure(&first, &second);
        prop_assert!(is_share(measures.recall) && is_share(measures.strict.f1()));
    }

    #[test]
    fn anything_that_looks_like_a_patch_is_measured_and_no_line_gets_lost(
        lines in vec(
            prop_oneof![
                Just("diff --git a/x b/x".to_owned()), Just("diff --git \"a/\\303 b/".to_owned()), Just("--- a/x".to_owned()),
                Just("+++ b/x".to_owned()), Just("@@ -1,2 +1,2 @@ f".to_owned()), Just("@@ -1 +1 @@".to_owned()),
                Just("@@ -99999999999999999999 +1 @@".to_owned()), Just("@@ -1,0 +1,18446744073709551615 @@".to_owned()),
                Just("GIT binary patch".to_owned()), Just("literal 3".to_owned()), Just("rename from x".to_owned()), Just("rename to y".to_owned()),
                Just("new file mode 100644".to_owned()), Just("old mode 9".to_owned()), Just("\\ No newline at end of file".to_owned()),
                Just("-- ".to_owned()), "[-+ ][ab]", "[-+ ]{0,3}", "From [a-f0-9]{4}",
            ],
            0..24,
        ),
    ) {
        let text = lines.join("\n");
        let (measures, strict) = measure(text.as_bytes(), text.as_bytes());
        prop_assert_eq!(measures.strict.matched, measures.strict.first);
        // What is not in a hunk is no change of a parsed patch; what could not be parsed is counted by lines.
        prop_assert!(measures.strict.parsed || !strict.unparsed.is_empty());
        prop_assert!(patch_lines(text.as_bytes()) <= lines.len() as u64);
    }
}
