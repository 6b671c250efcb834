//! Messages that say where they come from.

use super::{Edit, Kind, Wording};
use crate::code::{Function, Language, Literal};

/// Words of lines that people get to read; where there are such lines, the others are left alone.
const TELLING: [&str; 16] = [
    "raise", "throw", "rror", "panic", "warn", "log", "print", "fail", "bail", "assert", "expect", "abort", "die",
    "xception", "fatal", "notice",
];

pub(super) fn sites(function: &Function, wording: Wording) -> Vec<Edit> {
    let all: Vec<&Literal> =
        function.masked.literals().iter().filter(|literal| is_message(function, literal)).collect();
    let telling: Vec<&Literal> = all
        .iter()
        .copied()
        .filter(|literal| TELLING.iter().any(|word| function.masked.line(literal.line).contains(word)))
        .collect();
    let name = function.name.rsplit(['.', ':', '#']).next().unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let front = if wording == Wording::Usual { format!("{name}: ") } else { format!("in {name}, ") };
    let chosen = if telling.is_empty() { all } else { telling };
    chosen
        .into_iter()
        .map(|literal| {
            let line = &function.lines[literal.line];
            Edit::replace(
                Kind::Message,
                literal.line,
                format!("{}{front}{}", &line[..literal.start], &line[literal.start..]),
            )
        })
        .collect()
}

/// Whether a text is a message to people, and not the first thing on its line (such as a directive, or a key).
fn is_message(function: &Function, literal: &Literal) -> bool {
    let line = &function.lines[literal.line];
    let content = &line[literal.start..literal.end];
    let words =
        content.split(' ').filter(|word| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_alphabetic())).count();
    let attribute = function.language == Language::Rust && line.trim_start().starts_with('#');
    let first = literal.start == line.len() - line.trim_start().len() + 1;
    words >= 2
        && content.starts_with(|c: char| c.is_ascii_alphabetic())
        && !first
        && !attribute
        && !line.contains("import ")
}
