//! Ten thousand pairs of raw patches, scored by this program and by Python from the rule: equal numerators and equal denominators.

use std::process::Command;

use serde_json::Value;

use crate::support::{Random, fed, verify};

/// How many pairs.
const PAIRS: usize = 10_000;
/// What they are drawn from. Another one is as good.
const SEED: u64 = 20_260_104;

/// How lines begin: with what is a change, what looks like one, and what is none.
const BEGINNINGS: &[&str] = &[
    "+",
    "+",
    "-",
    "-",
    " ",
    "",
    "+++",
    "---",
    "++",
    "--",
    "+++ b/a.py",
    "--- a/a.py",
    "-- ",
    "++i",
    "@@ -1 +1 @@",
    "diff --git a/x b/x",
    "\\ No newline",
];

/// What lines are made of: few words, so that lines meet; blanks that Python strips, and what only looks like them; bytes that are no UTF-8.
const WORDS: &[&[u8]] = &[
    b"",
    b"a",
    b"b",
    b"x = 1",
    b"    ",
    b" ",
    b"\t",
    b"\0",
    b"+",
    b"-",
    b"\x1f",
    b"\x7f",
    "\u{200b}".as_bytes(),
    "\u{feff}".as_bytes(),
    "\u{180e}".as_bytes(),
    "\u{a0}".as_bytes(),
    "\u{1680}".as_bytes(),
    "\u{2003}".as_bytes(),
    "\u{202f}".as_bytes(),
    "\u{205f}".as_bytes(),
    "\u{3000}".as_bytes(),
    "é".as_bytes(),
    "漢".as_bytes(),
    "🦀".as_bytes(),
    "\\\"".as_bytes(),
    b"\xff",
    b"\x85",
    b"\xa0",
    b"\xc2",
    b"\xe2\x80",
    b"\xed\xa0\x80",
    b"\xc0\x8a",
    b"\xf0\x9f\xa6",
];

/// How lines end, as Python ends them, and once not at all.
const ENDS: &[&str] =
    &["\r\n", "\r", "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}", "\n\r", ""];

fn line(random: &mut Random) -> Vec<u8> {
    let mut line = random.pick(BEGINNINGS).as_bytes().to_vec();
    for _ in 0..random.below(4) {
        line.extend(*random.pick(WORDS));
    }
    let end = if random.once_in(3) { random.pick(ENDS) } else { "\n" };
    line.extend(end.as_bytes());
    line
}

/// A first patch, and a second one with some of its lines in another order, some of them twice, and some of its own.
fn pair(random: &mut Random) -> [Vec<u8>; 2] {
    let first: Vec<Vec<u8>> = (0..random.below(24)).map(|_| line(random)).collect();
    let mut second = Vec::new();
    for _ in 0..random.below(2 * first.len() + 2) {
        second.push(if first.is_empty() || random.once_in(3) { line(random) } else { random.pick(&first).clone() });
    }
    [first.concat(), second.concat()]
}

/// A patch as a JSON string: with escapes where JSON wants them, and now and then where it does not.
fn json(patch: &[u8], random: &mut Random) -> Vec<u8> {
    let mut text = vec![b'"'];
    for chunk in patch.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character < ' ' || matches!(character, '"' | '\\') || random.once_in(8) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    text.extend(format!("\\u{unit:04x}").bytes());
                }
            } else {
                text.extend(character.encode_utf8(&mut [0; 4]).bytes());
            }
        }
        text.extend(chunk.invalid());
    }
    text.push(b'"');
    text
}

fn pairs() -> Vec<u8> {
    let mut random = Random::seeded(SEED);
    let mut lines = Vec::new();
    for id in 0..PAIRS {
        let [first, second] = pair(&mut random).map(|patch| json(&patch, &mut random));
        lines.extend(format!("{{\"id\":{id},\"p1\":").bytes());
        lines.extend(first);
        lines.extend(b",\"p2\":");
        lines.extend(second);
        lines.extend(b"}\n");
    }
    lines
}

#[test]
fn ten_thousand_raw_patches_score_as_in_python() {
    let pairs = pairs();
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verify/oracle.py"));
    let expected = fed(python, &pairs);
    assert!(expected.status.success(), "{}", String::from_utf8_lossy(&expected.stderr));
    let expected = String::from_utf8(expected.stdout).unwrap();
    let found = fed(verify(&["--pairs", "-"]), &pairs);
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let found = String::from_utf8(found.stdout).unwrap();

    let (mut partial, mut undefined) = (0, 0);
    for (number, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        let found: Value = serde_json::from_str(found).unwrap();
        assert_eq!(format!("{} {}", found["matched"], found["total"]), expected, "pair {number} of seed {SEED}");
        let (matched, total) = (found["matched"].as_u64().unwrap(), found["total"].as_u64().unwrap());
        assert_eq!(found["recall"].is_null(), total == 0);
        partial += usize::from(0 < matched && matched < total);
        undefined += usize::from(total == 0);
    }
    assert_eq!((expected.lines().count(), found.lines().count()), (PAIRS, PAIRS));
    assert!(
        partial > PAIRS / 4 && undefined > PAIRS / 50,
        "{partial} partial, {undefined} undefined: the pairs say too little"
    );
}
