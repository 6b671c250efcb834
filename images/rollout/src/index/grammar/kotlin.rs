//! Kotlin. The package is no part of a name, as it spans the whole file.

use sera_crds::contract::FunctionKind;
use sera_crds::values::Language;
use tree_sitter::Node;

use super::call::callee;
use super::{Found, Function, Grammar, Text, constructs_nothing, dotted, import, named_type, scope};

pub(super) static KOTLIN: Grammar = Grammar {
    language: Language::Kotlin,
    extensions: &["kt", "kts"],
    parser: || tree_sitter_kotlin_ng::LANGUAGE.into(),
    hooks: &[&[
        ("class_declaration", named_type),
        ("object_declaration", named_type),
        ("companion_object", companion),
        ("function_declaration", function),
        ("secondary_constructor", constructor),
        ("getter", |node, text| accessor(node, text, "get")),
        ("setter", |node, text| accessor(node, text, "set")),
        ("call_expression", call),
        ("import", import),
    ]],
    constructs: constructs_nothing,
    implicit_receiver: true,
    annotations: &["annotation"],
};

fn companion(node: Node<'_>, text: Text<'_>) -> Found {
    scope(text.field(node, "name").unwrap_or("Companion"), true)
}

/// `fun String.shorten(): String = …` is `String.shorten`.
fn function(node: Node<'_>, text: Text<'_>) -> Found {
    let (Some(name), true) = (node.child_by_field_name("name"), has_body(node)) else { return Found::Nothing };
    let receiver = node
        .named_children(&mut node.walk())
        .take_while(|child| child.start_byte() < name.start_byte())
        .find(|child| matches!(child.kind(), "user_type" | "nullable_type" | "parenthesized_type"));
    let owner = receiver.map(|receiver| dotted(text.of(receiver).trim_matches(['(', ')', '?'])));
    let name = text.of(name).trim_matches('`');
    Found::Function(match owner {
        Some(owner) => Function { name: format!("{owner}.{name}"), kind: Some(FunctionKind::Method), own_name: None },
        None => Function { name: name.to_owned(), ..Function::default() },
    })
}

fn constructor(node: Node<'_>, _: Text<'_>) -> Found {
    let has_block = node.named_children(&mut node.walk()).any(|child| child.kind() == "block");
    if !has_block {
        return Found::Nothing;
    }
    let kind = Some(FunctionKind::Constructor);
    Found::Function(Function { name: "constructor".to_owned(), kind, own_name: None })
}

/// A property's accessor, below the property or right after it.
fn accessor(node: Node<'_>, text: Text<'_>, name: &str) -> Found {
    let is_property = |node: &Node<'_>| node.kind() == "property_declaration";
    let property = node.parent().filter(is_property).or_else(|| node.prev_named_sibling().filter(is_property));
    let variable = property.and_then(|property| {
        property.named_children(&mut property.walk()).find(|child| child.kind() == "variable_declaration")
    });
    let word = variable.and_then(|variable| variable.named_child(0));
    match word.filter(|_| has_body(node)) {
        Some(word) => Found::Function(Function { name: format!("{}.{name}", text.of(word)), ..Function::default() }),
        None => Found::Nothing,
    }
}

fn has_body(node: Node<'_>) -> bool {
    node.named_children(&mut node.walk()).any(|child| child.kind() == "function_body")
}

fn call(node: Node<'_>, text: Text<'_>) -> Found {
    node.named_child(0).and_then(|called| callee(text.of(called))).map_or(Found::Nothing, Found::Call)
}
