//! What every release must draw alike, and what must hold for any index.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A function at some commits; its text is told by its digest.
fn function(snapshot: u32, file: &str, name: &str, text: u32, held_out: bool) -> IndexedFunction {
    IndexedFunction {
        snapshot,
        file: file.to_owned(),
        name: name.to_owned(),
        kind: FunctionKind::Method,
        language: Language::Go,
        lines: (10 + snapshot, 20 + snapshot + text),
        digest: format!("{text:016x}"),
        calls: Vec::new(),
        callers: Vec::new(),
        held_out,
    }
}

/// An index of files with so many functions each, at three commits; in every fifth function the oldest has another text, and the last file is set
/// aside.
fn index(files: &[usize]) -> Vec<IndexedFunction> {
    let mut functions = Vec::new();
    for snapshot in 0..3 {
        for (n, count) in files.iter().enumerate() {
            for f in 0..*count {
                let text = if snapshot == 2 && f % 5 == 0 { 9 } else { 1 };
                let held_out = n + 1 == files.len() && files.len() > 1;
                functions.push(function(snapshot, &format!("pkg/f{n}.go"), &format!("T{n}.m{f}"), text, held_out));
            }
        }
    }
    functions
}

fn settings(seed: u64, instances_per_function: u32, bug_kinds: &[BugKind]) -> Settings {
    Settings { seed, instances_per_function, bug_kinds: bug_kinds.to_vec() }
}

fn all(space: &SampleSpace) -> Vec<Sample> {
    (0..space.len()).map(|number| space.sample(number).unwrap()).collect()
}

#[test]
fn the_samples_of_a_seed_never_change() {
    let space = SampleSpace::new(index(&[4, 7, 2, 5]), Purpose::Generation, &settings(42, 2, &[])).unwrap();
    let drawn: Vec<String> = (0..5)
        .chain([space.len() - 1])
        .map(|number| {
            let sample = space.sample(number).unwrap();
            let kinds: Vec<String> = sample.bug_kinds.iter().map(ToString::to_string).collect();
            format!("{number} {}@{} {}", sample.function.name, sample.function.snapshot, kinds.join(","))
        })
        .collect();
    assert_eq!(drawn, GOLDEN);
}

/// Computed by a program that shares no line with this one, from the description in `draw` and `spread`.
const GOLDEN: [&str; 6] = [
    "0 T0.m1@2 BoundaryConditions,Preconditions,DependenciesAndCoupling",
    "1 T1.m3@1 ApiContracts,Scalability,CouplingDirection",
    "2 T2.m0@2 Responsibility,UnexpectedBehavior,DataValidationAndTypes",
    "3 T1.m5@2 LoggingAndObservability,Duplication,Complexity",
    "4 T0.m0@2 ErrorHandling,InputOutputFlow,UnexpectedBehavior",
    "33 T1.m1@0 ErrorHandling,Invariants,Environment",
];

#[test]
fn a_function_that_is_the_same_at_several_commits_is_drawn_at_one() {
    let space = SampleSpace::new(index(&[10, 1]), Purpose::Generation, &settings(1, 1, &[])).unwrap();
    let drawn: Vec<(String, u32, u32)> = all(&space)
        .into_iter()
        .map(|sample| {
            (sample.function.name, sample.function.snapshot, sample.function.lines.1 - sample.function.lines.0 - 10)
        })
        .collect();
    assert_eq!(drawn.len(), 12, "ten functions, two of them with two texts");
    let places: BTreeSet<(String, u32)> = drawn.iter().map(|(name, _, text)| (name.clone(), *text)).collect();
    assert_eq!(places.len(), 12, "each text once");
    let commits: BTreeSet<u32> = drawn.iter().map(|(_, snapshot, _)| *snapshot).collect();
    assert_eq!(commits, BTreeSet::from([0, 1, 2]), "all commits are used");
}

#[test]
fn what_was_set_aside_is_drawn_for_evaluation_only() {
    let drawn = |purpose| -> BTreeSet<String> {
        let space = SampleSpace::new(index(&[3, 3, 4]), purpose, &settings(5, 1, &[])).unwrap();
        all(&space).into_iter().map(|sample| sample.function.file).collect()
    };
    assert_eq!(drawn(Purpose::Generation), BTreeSet::from(["pkg/f0.go".to_owned(), "pkg/f1.go".to_owned()]));
    assert_eq!(drawn(Purpose::Evaluation), BTreeSet::from(["pkg/f2.go".to_owned()]));
}

#[test]
fn asking_for_what_is_not_there_says_how_much_there_is() {
    let space = SampleSpace::new(index(&[3, 1]), Purpose::Generation, &settings(5, 2, &[])).unwrap();
    let error = space.sample(8).unwrap_err();
    assert_eq!(error, SamplingError::Beyond { number: 8, samples: 8 });
    assert!(error.to_string().contains("good for 8 samples (0 to 7)"), "{error}");
    let all_set_aside = index(&[3]).into_iter().map(|function| IndexedFunction { held_out: true, ..function });
    let none = SampleSpace::new(all_set_aside, Purpose::Generation, &settings(5, 2, &[])).err();
    assert_eq!(none, Some(SamplingError::NoFunction));
    let nothing = SampleSpace::new(index(&[3]), Purpose::Evaluation, &settings(5, 2, &[])).unwrap();
    assert_eq!(nothing.len(), 0, "too small for anything to be set aside: nothing to evaluate, and no mistake");
}

#[test]
fn few_kinds_are_enough_and_doubled_ones_count_once() {
    use BugKind::{Concurrency, Naming};
    let space =
        SampleSpace::new(index(&[3, 1]), Purpose::Generation, &settings(5, 3, &[Naming, Concurrency, Naming])).unwrap();
    for sample in all(&space) {
        let kinds: BTreeSet<BugKind> = sample.bug_kinds.iter().copied().collect();
        assert_eq!((sample.bug_kinds.len(), kinds), (2, BTreeSet::from([Concurrency, Naming])));
    }
}

#[test]
fn a_beginning_of_the_order_has_the_shares_of_the_whole() {
    let sizes = [100, 40, 40, 10, 10, 1];
    let space = SampleSpace::new(index(&sizes), Purpose::Generation, &settings(3, 1, &[])).unwrap();
    let half = all(&space).into_iter().take(usize::try_from(space.len() / 2).unwrap());
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for sample in half {
        *count.entry(sample.function.file).or_default() += 1;
    }
    for (n, size) in sizes[..5].iter().enumerate() {
        // A fifth of the functions has two texts.
        let expected = (size + size / 5) / 2;
        let found = count[&format!("pkg/f{n}.go")];
        assert!(found.abs_diff(expected) <= 2, "{found} of file {n}, {expected} expected");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_sample_is_distinct_and_found_again_without_the_others(
        sizes in proptest::collection::vec(1_usize..9, 2..7),
        seed in any::<u64>(),
        instances in 1_u32..5,
        kinds in proptest::collection::btree_set(0_usize..51, 0..20),
    ) {
        let kinds: Vec<BugKind> = kinds.into_iter().map(|at| BugKind::ALL[at]).collect();
        let settings = settings(seed, instances, &kinds);
        let space = SampleSpace::new(index(&sizes), Purpose::Generation, &settings).unwrap();
        let samples = all(&space);
        let mut mixed = index(&sizes);
        mixed.reverse();
        let other = SampleSpace::new(mixed, Purpose::Generation, &settings).unwrap();
        for sample in samples.iter().rev() {
            prop_assert_eq!(other.sample(sample.number), Ok(sample.clone()));
            let distinct: BTreeSet<BugKind> = sample.bug_kinds.iter().copied().collect();
            prop_assert_eq!(distinct.len(), sample.bug_kinds.len());
            prop_assert_eq!(sample.bug_kinds.len(), if kinds.is_empty() { 3 } else { kinds.len().min(3) });
        }
        // The instances of one text of a function differ in what they begin with, as long as there are kinds.
        let available = if kinds.is_empty() { 51 } else { kinds.len() };
        let mut begun: BTreeMap<(String, u32), BTreeSet<BugKind>> = BTreeMap::new();
        for sample in &samples {
            let text = sample.function.lines.1 - sample.function.lines.0;
            begun.entry((sample.function.name.clone(), text)).or_default().insert(sample.bug_kinds[0]);
        }
        for (function, firsts) in begun {
            prop_assert_eq!(firsts.len(), available.min(instances as usize), "{:?}", function);
        }
    }

    #[test]
    fn neighbours_are_of_two_files_while_others_remain(
        sizes in proptest::collection::vec(1_usize..12, 3..8),
        seed in any::<u64>(),
        instances in 1_u32..4,
    ) {
        let space = SampleSpace::new(index(&sizes), Purpose::Generation, &settings(seed, instances, &[])).unwrap();
        let files: Vec<String> = all(&space).into_iter().map(|sample| sample.function.file).collect();
        let pass = files.len() / instances as usize;
        for at in 1..files.len() {
            if files[at] == files[at - 1] {
                let rest = &files[at..(at / pass + 1) * pass];
                let tail_of_pass = rest.iter().all(|file| *file == files[at]);
                prop_assert!(tail_of_pass, "samples {} and {} of {:?}", at - 1, at, files);
            }
        }
    }
}
