//! Rust. What is only built for tests is left out, wherever it stands.

use sera_crds::values::Language;
use tree_sitter::Node;

use super::call::{Receiver, call_of};
use super::{Call, Found, Grammar, Text, call, constructs_nothing, function, import, named_type, scope};

pub(super) static RUST: Grammar = Grammar {
    language: Language::Rust,
    extensions: &["rs"],
    parser: || tree_sitter_rust::LANGUAGE.into(),
    hooks: &[&[
        ("mod_item", module),
        ("impl_item", implementation),
        ("trait_item", named_type),
        ("function_item", outside_tests),
        ("call_expression", call),
        ("token_tree", call_in_macro),
        ("use_declaration", import),
    ]],
    constructs: constructs_nothing,
    implicit_receiver: false,
    annotations: &["attribute_item"],
};

fn module(node: Node<'_>, text: Text<'_>) -> Found {
    match text.field(node, "name") {
        _ if is_test(node, text) => Found::Test,
        // `mod a;` says that there is another file.
        _ if node.child_by_field_name("body").is_none() => Found::Import,
        Some(name) => scope(name, false),
        None => Found::Nothing,
    }
}

fn implementation(node: Node<'_>, text: Text<'_>) -> Found {
    if is_test(node, text) {
        return Found::Test;
    }
    // `&'a [Foo]` and `(A, B)` have no name of their own: they are called by their first word that is one.
    let named = text.field(node, "type").map(|name| name.split('<').next().unwrap_or(name));
    let word = named.and_then(|name| {
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
        name.split(|letter| !is_word(letter))
            .find(|word| word.starts_with(char::is_alphabetic) && word.len() > 1 && !matches!(*word, "dyn" | "mut"))
    });
    let name = word.map(|word| word.rsplit("::").next().unwrap_or(word));
    name.or(named).map_or(Found::Nothing, |name| scope(name, true))
}

fn outside_tests(node: Node<'_>, text: Text<'_>) -> Found {
    if is_test(node, text) { Found::Test } else { function(node, text) }
}

/// Whether one of an item's attributes says that it is built for tests only.
fn is_test(node: Node<'_>, text: Text<'_>) -> bool {
    let mut before = node.prev_sibling();
    while let Some(sibling) = before.filter(|sibling| sibling.kind() == "attribute_item" || sibling.is_extra()) {
        let attribute: String = text.of(sibling).split_whitespace().collect();
        let is_test = ["#[test]", "#[cfg(test)]", "#[bench]"].contains(&attribute.as_str())
            || attribute.ends_with("::test]")
            || (attribute.contains("::test(") && attribute.starts_with("#["))
            || attribute.starts_with("#[cfg(all(test,");
        if is_test {
            return true;
        }
        before = sibling.prev_sibling();
    }
    false
}

/// A call among the arguments of a macro, which the grammar takes apart into words and brackets: `assert!(f(x))`.
fn call_in_macro(node: Node<'_>, text: Text<'_>) -> Found {
    let name = node.prev_sibling().filter(|before| before.kind() == "identifier");
    let Some(name) = name.filter(|_| text.of(node).starts_with('(')) else { return Found::Nothing };
    let separator = name.prev_sibling().map(|before| text.of(before)).unwrap_or_default();
    let object = name.prev_sibling().and_then(|separator| separator.prev_sibling()).map(|object| text.of(object));
    let found = match separator {
        "." | "::" => call_of(object, text.of(name)),
        _ => Some(Call { receiver: Receiver::None, name: text.of(name).to_owned() }),
    };
    found.map_or(Found::Nothing, Found::Call)
}
