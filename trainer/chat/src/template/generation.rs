//! `{% generation %}` blocks, transformers' own extension of Jinja: they mark what an assistant wrote and print it as it is. Only their scope is kept
//! here; which tokens carry loss is found from the turns themselves, for every template alike.

use std::sync::LazyLock;

use regex_lite::{Captures, Regex};

/// A tag that opens or closes such a block, with its whitespace control.
static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());

/// The template with plain scopes in place of generation blocks.
pub(super) fn without_marks(source: &str) -> String {
    let Some(tag) = &*TAG else { return source.to_owned() };
    let scope = |found: &Captures<'_>| {
        let end = if found.get(2).is_some() { "end" } else { "" };
        format!("{{%{} {end}with {}%}}", &found[1], &found[3])
    };
    tag.replace_all(source, scope).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitespace_control_stays_and_other_tags_are_left_alone() {
        assert_eq!(
            without_marks("{%- generation -%}x{%+endgeneration%}{% if generation %}"),
            "{%- with -%}x{%+ endwith %}{% if generation %}"
        );
    }
}
