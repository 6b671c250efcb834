//! Comments that say what callers must know: the last resort, since they can be put above any function.

use super::{Edit, Kind, Wording};
use crate::code::{Function, Language};

pub(super) fn site(function: &Function, wording: Wording) -> Edit {
    let second = match wording {
        Wording::Usual => "Callers have to check what they hand over.",
        Wording::Other => "It is up to callers to check their input.",
    };
    above(function, &[format!("What {} is given is taken as it is.", function.name), second.to_owned()])
}

/// Another comment, with no line of the first.
pub(super) fn elsewhere(function: &Function) -> Edit {
    above(function, &[format!("Take care: the order of the steps in {} matters.", function.name)])
}

fn above(function: &Function, sentences: &[String]) -> Edit {
    let first = &function.lines[0];
    let indent = &first[..first.len() - first.trim_start_matches([' ', '\t']).len()];
    let sign = function.language.comment();
    // In C, a line comment that ends in a backslash would swallow the next line: ours end in a full stop.
    debug_assert!(function.language != Language::C || sentences.iter().all(|sentence| sentence.ends_with('.')));
    Edit::insert(Kind::Note, 0, sentences.iter().map(|sentence| format!("{indent}{sign} {sentence}")).collect())
}
