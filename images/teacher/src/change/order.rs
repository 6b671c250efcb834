//! Two checks that are made in the other order.

use super::{Edit, Kind, Wording};
use crate::code::{Function, Language};

pub(super) fn sites(function: &Function, wording: Wording) -> Vec<Edit> {
    (0..function.lines.len()).filter_map(|index| swapped(function, index, wording)).collect()
}

fn swapped(function: &Function, index: usize, wording: Wording) -> Option<Edit> {
    let code = function.masked.line(index);
    let line = &function.lines[index];
    let (from, to) = condition(function.language, code)?;
    let (at, length) = connector(function.language, &code[from..to])?;
    let (left, right) = (&line[from..from + at], &line[from + at + length..to]);
    let sign = &line[from + at..from + at + length];
    let new = if wording == Wording::Usual { format!("{right}{sign}{left}") } else { format!("{left}{sign}({right})") };
    Some(Edit::replace(Kind::Order, index, format!("{}{new}{}", &line[..from], &line[to..])))
}

/// Where the condition of a line stands that is nothing but a branch's head.
fn condition(language: Language, code: &str) -> Option<(usize, usize)> {
    let start = code.len() - code.trim_start().len();
    let keyword = ["if ", "elif ", "elsif ", "while ", "} else if ", "else if "]
        .iter()
        .find(|word| code[start..].starts_with(**word))?;
    let from = start + keyword.len();
    let end = code.trim_end().len();
    let closing = match language {
        Language::Python => ":",
        Language::Ruby => "",
        Language::Go | Language::Rust | Language::Swift => " {",
        _ => return parenthesised(code, from),
    };
    let to = code[..end].strip_suffix(closing)?.trim_end().len();
    is_plain(language, code.get(from..to)?).then_some((from, to))
}

/// The inside of the brackets that the condition is in, in languages that ask for them.
fn parenthesised(code: &str, from: usize) -> Option<(usize, usize)> {
    if !code[from..].starts_with('(') {
        return None;
    }
    let mut depth = 0_usize;
    let close = code[from..].bytes().position(|byte| {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    let (from, to) = (from + 1, from + close);
    is_plain(Language::C, &code[from..to]).then_some((from, to))
}

/// Whether a condition is nothing but an expression: it sets, binds and lists nothing.
fn is_plain(language: Language, condition: &str) -> bool {
    let sets = condition.match_indices('=').any(|(at, _)| {
        let before = condition[..at].bytes().last().unwrap_or(b' ');
        let after = condition.as_bytes().get(at + 1).copied().unwrap_or(b' ');
        after != b'=' && !b"=!<>".contains(&before) || after == b'>' || before == b':'
    });
    let binds = condition
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| matches!(word, "let" | "var" | "if" | "lambda" | "then" | "not" | "as" | "is"));
    let named = language == Language::Python || language == Language::Ruby;
    let mixes = named && condition.contains("&&") && (condition.contains(" and ") || condition.contains(" or "));
    !sets
        && !binds
        && !mixes
        && !condition.contains([';', '?', '{', '|']) | (condition.contains("||") && condition.matches('|').count() == 2)
}

/// The one `and` or `or` of a condition that stands in no brackets, with the blanks around it.
fn connector(language: Language, condition: &str) -> Option<(usize, usize)> {
    let signs: &[&str] = match language {
        Language::Python => &[" and ", " or "],
        _ => &[" && ", " || "],
    };
    let mut depth = 0_i32;
    let mut found = Vec::new();
    for (at, c) in condition.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => return None,
            _ => {}
        }
        if let Some(sign) = signs.iter().find(|sign| depth == 0 && condition[at..].starts_with(**sign)) {
            found.push((at, sign.len()));
        }
    }
    match found[..] {
        [only] if depth == 0 => Some(only),
        _ => None,
    }
}
