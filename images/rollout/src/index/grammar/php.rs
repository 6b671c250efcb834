//! PHP, within HTML or not. The namespace is no part of a name, as it spans the whole file.

use sera_crds::values::Language;
use tree_sitter::Node;

use super::call::{call_of, callee};
use super::{Call, Found, Grammar, Receiver, Text, call, function, import, named_type};

pub(super) static PHP: Grammar = Grammar {
    language: Language::Php,
    extensions: &["php"],
    parser: || tree_sitter_php::LANGUAGE_PHP.into(),
    hooks: &[&[
        ("class_declaration", named_type),
        ("interface_declaration", named_type),
        ("trait_declaration", named_type),
        ("enum_declaration", named_type),
        ("function_definition", function),
        ("method_declaration", function),
        ("function_call_expression", call),
        ("member_call_expression", |node, text| member(node, text, "object")),
        ("nullsafe_member_call_expression", |node, text| member(node, text, "object")),
        ("scoped_call_expression", |node, text| member(node, text, "scope")),
        ("object_creation_expression", creation),
        ("namespace_use_declaration", import),
        ("include_expression", import),
        ("include_once_expression", import),
        ("require_expression", import),
        ("require_once_expression", import),
    ]],
    constructs: |name, _| matches!(name, "__construct" | "__destruct"),
    implicit_receiver: false,
    annotations: &["attribute_list"],
};

fn member(node: Node<'_>, text: Text<'_>, object: &str) -> Found {
    let name = text.field(node, "name");
    name.and_then(|name| call_of(text.field(node, object), name)).map_or(Found::Nothing, Found::Call)
}

/// `new Foo(1)`.
fn creation(node: Node<'_>, text: Text<'_>) -> Found {
    let created = node.named_child(0).and_then(|created| callee(text.of(created)));
    created.map_or(Found::Nothing, |created| Found::Call(Call { receiver: Receiver::None, ..created }))
}
