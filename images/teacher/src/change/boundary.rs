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
            for (at, _) in code.match_indices(sign) {
                let changed = format!("{}{new}{}", &line[..at], &line[at + sign.len()..]);
                sites.push(Edit::replace(Kind::Boundary, index, changed));
            }
        }
    }
    sites
}
