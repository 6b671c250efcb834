//! Scala 2 and 3. The package is no part of a name, as it spans the whole file.

use sera_crds::values::Language;
use tree_sitter::Node;

use super::call::callee;
use super::{Call, Found, Grammar, Receiver, Text, function, import, named_type};

pub(super) static SCALA: Grammar = Grammar {
    language: Language::Scala,
    extensions: &["scala", "sc"],
    parser: || tree_sitter_scala::LANGUAGE.into(),
    hooks: &[&[
        ("class_definition", named_type),
        ("object_definition", named_type),
        ("trait_definition", named_type),
        ("enum_definition", named_type),
        ("given_definition", named_type),
        ("package_object", named_type),
        ("function_definition", function),
        ("call_expression", call),
        ("instance_expression", creation),
        ("import_declaration", import),
    ]],
    constructs: |name, _| name == "this",
    implicit_receiver: true,
    annotations: &["annotation"],
};

fn call(node: Node<'_>, text: Text<'_>) -> Found {
    let called = node.child_by_field_name("function");
    // `f[Int](x)`.
    let plain = called.map(|called| {
        called.child_by_field_name("function").filter(|_| called.kind() == "generic_function").unwrap_or(called)
    });
    plain.and_then(|called| callee(text.of(called))).map_or(Found::Nothing, Found::Call)
}

/// `new Foo(1)`.
fn creation(node: Node<'_>, text: Text<'_>) -> Found {
    let created = node.named_child(0).and_then(|created| callee(text.of(created)));
    created.map_or(Found::Nothing, |created| Found::Call(Call { receiver: Receiver::None, ..created }))
}
