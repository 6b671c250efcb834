//! Numbers and switches that get another value.

use super::{Edit, Kind, Wording};
use crate::code::Function;

/// Switches by how languages spell them.
const SWITCHES: [(&str, &str); 4] = [("True", "False"), ("False", "True"), ("true", "false"), ("false", "true")];

pub(super) fn sites(function: &Function, wording: Wording) -> Vec<Edit> {
    let mut sites = Vec::new();
    for (index, line) in function.lines.iter().enumerate() {
        let code = function.masked.line(index);
        // Two cases of the same number are refused by compilers.
        if code.trim_start().starts_with("case ") {
            continue;
        }
        for (at, length) in numbers(code) {
            let Ok(number) = code[at..at + length].parse::<u32>() else { continue };
            let new = if wording == Wording::Usual { number.checked_add(1) } else { number.checked_mul(2) };
            if let Some(new) = new.filter(|_| number > 1) {
                sites.push(Edit::replace(
                    Kind::Default,
                    index,
                    format!("{}{new}{}", &line[..at], &line[at + length..]),
                ));
            }
        }
        for (at, old, new) in switches(code) {
            let negated = if old.starts_with(char::is_uppercase) { format!("not {old}") } else { format!("!{old}") };
            let new = if wording == Wording::Usual { new.to_owned() } else { negated };
            sites.push(Edit::replace(Kind::Default, index, format!("{}{new}{}", &line[..at], &line[at + old.len()..])));
        }
    }
    sites
}

/// Decimal numbers that stand for themselves: no part of a name, a fraction, a version or another base.
fn numbers(code: &str) -> Vec<(usize, usize)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            at += 1;
            continue;
        }
        let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
        let after = bytes.get(at + length).copied().unwrap_or(b' ');
        let fits = b" (=,<>+*/-:".contains(&before) && b" ),;:]}+*-/".contains(&after);
        // A key of a mapping is no value, and a leading zero is another base.
        if fits && bytes[at] != b'0' && !(b" ,{".contains(&before) && after == b':') {
            found.push((at, length));
        }
        at += length.max(1);
        // The digits of what was passed over are no number of their own.
        while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || bytes[at] == b'.') {
            at += 1;
        }
    }
    found
}

/// Switches that something is set to.
fn switches(code: &str) -> Vec<(usize, &'static str, &'static str)> {
    let mut found = Vec::new();
    for (old, new) in SWITCHES {
        for (at, _) in code.match_indices(old) {
            let before = code[..at].trim_end();
            let is_set = before.ends_with('=') && !["==", "!=", "<=", ">="].iter().any(|sign| before.ends_with(sign));
            let whole = !code[at + old.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
            if is_set && whole {
                found.push((at, old, new));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_values_and_nothing_else() {
        let found =
            |code: &str| numbers(code).iter().map(|(at, length)| code[*at..at + length].to_owned()).collect::<Vec<_>>();
        assert_eq!(found("f(30, a=5) + x[2] + 1.5 + 0x1F + a2 + 007 + .3"), ["30", "5"]);
        assert_eq!(found("{404: 500}"), ["500"]);
        assert_eq!(found("x = 10;"), ["10"]);
    }

    #[test]
    fn a_comparison_with_a_switch_sets_nothing() {
        assert!(switches("if a == true && b != false").is_empty());
        assert_eq!(switches("f(a=True, b=Trueish)"), [(4, "True", "False")]);
    }
}
