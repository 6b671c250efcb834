//! Comparisons that take in, or leave out, the boundary itself.

use super::{Edit, Kind, Wording};
use crate::code::Function;

/// A comparison between blanks, what it becomes, and what it becomes by another opinion. Without the blanks it might be a type's bracket.
const COMPARISONS: [(&str, &str, &str); 4] =
    [(" < ", " <= ", " != "), (" <= ", " < ", " != "), (" > ", " >= ", " != "), (" >= ", " > ", " != ")];

/// Lines with one of these words may use the signs for something else.
const NOT_HERE: [&str; 5] = ["template", "typename", "operator", "class ", "#include"];

pub(super) fn sites(function: &Function, wording: Wording) -> Vec<Edit> {
    let mut sites = Vec::new();
    for (index, line) in function.lines.iter().enumerate() {
        let code = function.masked.line(index);
        if NOT_HERE.iter().any(|word| code.contains(word)) {
            continue;
        }
        for (sign, usual, other) in COMPARISONS {
            let new = if wording == Wording::Usual { usual } else { other };
            for (at, _) in code.match_indices(sign).filter(|(at, _)| has_operands(code, *at, sign.len())) {
                let changed = format!("{}{new}{}", &line[..at], &line[at + sign.len()..]);
                sites.push(Edit::replace(Kind::Boundary, index, changed));
            }
        }
    }
    sites
}

/// Whether values stand on both sides of a sign; between types there would be other signs, or nothing.
fn has_operands(code: &str, at: usize, length: usize) -> bool {
    let value = |c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | '$' | '@');
    let before = code[..at].trim_end().chars().next_back();
    let after = code[at + length..].trim_start().chars().next();
    before.is_some_and(|c| value(c) || matches!(c, ')' | ']' | '}'))
        && after.is_some_and(|c| value(c) || matches!(c, '(' | '-' | '!' | '*' | '&' | '+' | '['))
}

#[cfg(test)]
mod tests {
    use super::has_operands;

    #[test]
    fn a_bracket_of_a_type_compares_nothing() {
        assert!(has_operands("if a[0] > -1 {", 7, 3));
        for code in ["    > | null>,", "a > = b", "x = f < > (y)"] {
            let at = code.find(" > ").unwrap();
            assert!(!has_operands(code, at, 3), "{code}");
        }
    }
}
