//! Swift.

use sera_crds::contract::FunctionKind;
use sera_crds::values::Language;
use tree_sitter::Node;

use super::call::callee;
use super::{Found, Function, Grammar, Text, constructs_nothing, function, import, named_type};

pub(super) static SWIFT: Grammar = Grammar {
    language: Language::Swift,
    extensions: &["swift"],
    parser: || tree_sitter_swift::LANGUAGE.into(),
    hooks: &[&[
        // Structures, enumerations, actors and extensions too.
        ("class_declaration", named_type),
        ("protocol_declaration", named_type),
        ("function_declaration", named),
        ("init_declaration", |node, _| constructor(node, "init")),
        ("deinit_declaration", |node, _| constructor(node, "deinit")),
        ("property_declaration", property),
        ("subscript_declaration", |_, _| super::scope("subscript", true)),
        // Only a getter, and no word for it.
        ("computed_property", |node, _| accessor(node, "get")),
        ("computed_getter", |node, _| accessor(node, "get")),
        ("computed_setter", |node, _| accessor(node, "set")),
        ("call_expression", call),
        ("import_declaration", import),
    ]],
    constructs: constructs_nothing,
    implicit_receiver: true,
    annotations: &["attribute"],
};

/// A name that is a word of the language otherwise stands between backticks.
fn named(node: Node<'_>, text: Text<'_>) -> Found {
    match function(node, text) {
        Found::Function(found) => Found::Function(Function { name: found.name.trim_matches('`').to_owned(), ..found }),
        found => found,
    }
}

fn constructor(node: Node<'_>, name: &str) -> Found {
    if node.child_by_field_name("body").is_none() {
        return Found::Nothing;
    }
    let kind = Some(FunctionKind::Constructor);
    Found::Function(Function { name: name.to_owned(), kind, own_name: None })
}

/// A property with accessors of its own.
fn property(node: Node<'_>, text: Text<'_>) -> Found {
    match (node.child_by_field_name("computed_value"), text.field(node, "name")) {
        (Some(_), Some(name)) => super::scope(name, true),
        _ => Found::Nothing,
    }
}

fn accessor(node: Node<'_>, name: &str) -> Found {
    let has_body = node.named_children(&mut node.walk()).any(|child| child.kind() == "statements");
    if has_body { Found::Function(Function { name: name.to_owned(), ..Function::default() }) } else { Found::Nothing }
}

/// The grammar takes `a(x) + b(y)` for a call of `a(x) + b`: what is called is what it ends with.
fn call(node: Node<'_>, text: Text<'_>) -> Found {
    let mut called = node.named_child(0);
    while let Some(right) = called.and_then(|called| called.child_by_field_name("rhs")) {
        called = Some(right);
    }
    called.and_then(|called| callee(text.of(called))).map_or(Found::Nothing, Found::Call)
}
