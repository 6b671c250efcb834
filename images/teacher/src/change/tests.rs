//! What holds for every change: it can be told from its lines, made again, made in part, and missed.

use super::recognise::Hunk;
use super::*;
use crate::code::Language;

const SAMPLES: &[(Language, &str)] = &[
    (
        Language::Python,
        "def f(self, a, limit=10):\n    if a.x and limit:\n        return 1\n    if len(a) < limit:\n        raise ValueError(\"too short for this\")\n    return a",
    ),
    (
        Language::Rust,
        "fn f(a: &str, limit: usize) -> Result<u8, E> {\n    if limit > 10 && a.ok() {\n        bail!(\"too short for this\");\n    }\n    let mut seen = false;\n    Ok(20)\n}",
    ),
    (
        Language::Go,
        "func (s *S) f(a *T, limit int) error {\n\tif limit >= 10 {\n\t\treturn errors.New(\"too short for this\")\n\t}\n\tif a.x && s.y {\n\t\treturn nil\n\t}\n\treturn nil\n}",
    ),
    (
        Language::JavaScript,
        "async f(a, limit = 10) {\n  if (a.x && a.y) {\n    return 1;\n  }\n  if (a.length <= limit) throw new Error('too short for this');\n}",
    ),
    (
        Language::Java,
        "int f(String a, int limit) {\n    if (a.x() || limit > 10) {\n        throw new E(\"too short for this\");\n    }\n    boolean seen = true;\n    return 40;\n}",
    ),
    (
        Language::C,
        "int f(const char *a)\n{\n    if (a[0] > 10 && a[1])\n        fprintf(stderr, \"too short for this\\n\");\n    return 20;\n}",
    ),
    (
        Language::Ruby,
        "def f(a, limit = 10)\n  if a && limit\n    raise E, \"too short for this\" if a.size < limit\n  end\nend",
    ),
    (
        Language::Php,
        "function f($a, $limit = 10) {\n    if ($a && $limit) {\n        throw new E('too short for this');\n    }\n    return $a < 5;\n}",
    ),
    (
        Language::Kotlin,
        "fun f(a: String, limit: Int = 10): Int {\n    if (a.x && limit > 3) {\n        error(\"too short for this\")\n    }\n    return 1\n}",
    ),
    (
        Language::Swift,
        "func f(_ a: String, limit: Int = 10) -> Int {\n    if a.x && limit > 3 {\n        fatalError(\"too short for this\")\n    }\n    return 1\n}",
    ),
    (
        Language::Scala,
        "def f(a: String, limit: Int = 10): Int = {\n  if (a.x && limit > 3) {\n    sys.error(\"too short for this\")\n  }\n  1\n}",
    ),
    (
        Language::CSharp,
        "int F(string a, int limit = 10)\n{\n    if (a.X && limit > 3)\n        throw new E(\"too short for this\");\n    return 1;\n}",
    ),
];

fn functions() -> impl Iterator<Item = Function> {
    SAMPLES.iter().map(|(language, text)| {
        let name = if *language == Language::CSharp { "F" } else { "f" };
        Function::new(*language, name, text.split('\n').map(str::to_owned).collect())
    })
}

fn hunks(change: &Change, lines: &[String]) -> Vec<Hunk> {
    let hunk =
        |edit: &Edit| Hunk { removed: lines[edit.at..edit.at + edit.removes].to_vec(), added: edit.adds.clone() };
    change.edits().iter().map(hunk).collect()
}

/// The share of `full`'s changed lines that `made` shows as well, as the recall of patches is counted.
fn recall(full: &Change, made: &Change, lines: &[String]) -> f64 {
    let (full, made) = (full.shown(lines), made.shown(lines));
    let shared: usize = full.iter().map(|(line, count)| made.get(line).copied().unwrap_or_default().min(*count)).sum();
    f64::from(u32::try_from(shared).unwrap()) / f64::from(u32::try_from(full.values().sum::<usize>()).unwrap())
}

#[test]
fn every_language_has_a_place_for_several_kinds() {
    for function in functions() {
        let kinds = Designer::new(Draw::new(1), &function).kinds();
        assert!(kinds.len() >= 4 && !kinds.contains(&Kind::Note), "{:?}: {kinds:?}", function.language);
    }
}

#[test]
fn a_change_is_recognised_from_its_lines() {
    for function in functions() {
        let designer = Designer::new(Draw::new(3), &function);
        for kind in KINDS {
            let change = designer.change(&[kind]);
            if !change.edits().is_empty() {
                assert_eq!(kinds_in(&hunks(&change, &function.lines)), [kind], "{:?}: {change:?}", function.language);
            }
        }
    }
}

#[test]
fn changes_are_small_and_change_something() {
    for function in functions() {
        for seed in 0..40 {
            let designer = Designer::new(Draw::new(seed), &function);
            let change = designer.change(&designer.choose("a"));
            let lines: usize = change.shown(&function.lines).values().sum();
            assert!((1..=12).contains(&lines), "{change:?}");
            assert_ne!(change.apply(&function.lines), function.lines);
        }
    }
}

#[test]
fn the_same_change_is_made_again_in_part_or_not_at_all() {
    for function in functions() {
        for seed in 0..40 {
            let designer = Designer::new(Draw::new(seed), &function);
            let full = designer.change(&designer.choose("a"));
            let measured = |made: &Change| recall(&full, made, &function.lines);
            assert!(measured(&designer.change(&designer.choose("a"))) >= 1.0);
            let part = designer.part_of(&full, "b");
            assert!(measured(&part) > 0.0 && measured(&part) < 1.0, "{:?} {full:?} {part:?}", function.language);
            let miss = designer.instead_of(&full, "b");
            assert!(measured(&miss) <= 0.0 && !miss.edits().is_empty(), "{full:?} {miss:?}");
        }
    }
}

#[test]
fn every_kind_is_chosen_now_and_then() {
    let function = functions().next().unwrap();
    let kinds: std::collections::BTreeSet<Kind> =
        (0..60).flat_map(|seed| Designer::new(Draw::new(seed), &function).choose("a")).collect();
    assert_eq!(kinds.len(), 5, "{kinds:?}");
}
