//! Go.

use sera_crds::contract::FunctionKind;
use sera_crds::values::Language;
use tree_sitter::Node;

use super::{Found, Function, Grammar, Text, call, constructs_nothing, function, import};

pub(super) static GO: Grammar = Grammar {
    language: Language::Go,
    extensions: &["go"],
    parser: || tree_sitter_go::LANGUAGE.into(),
    hooks: &[&[
        ("function_declaration", function),
        ("method_declaration", method),
        ("call_expression", call),
        ("import_declaration", import),
    ]],
    constructs: constructs_nothing,
    implicit_receiver: false,
    annotations: &[],
};

/// `func (s *Stack[T]) Push(x T) { … }` is `Stack.Push`, and calls its object `s`.
fn method(node: Node<'_>, text: Text<'_>) -> Found {
    let receiver = node.child_by_field_name("receiver").and_then(|list| list.named_child(0));
    let (Found::Function(found), Some(receiver)) = (function(node, text), receiver) else { return Found::Nothing };
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let owner = text.field(receiver, "type").unwrap_or_default().trim_start_matches(['*', '(', ' ']);
    let owner = owner.split(|letter| !is_word(letter)).next().unwrap_or_default();
    Found::Function(Function {
        name: format!("{owner}.{}", found.name),
        kind: Some(FunctionKind::Method),
        own_name: text.field(receiver, "name").map(str::to_owned),
    })
}
