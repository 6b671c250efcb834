//! C#. The namespace is no part of a name, as it spans the whole file.

use sera_crds::contract::FunctionKind;
use sera_crds::values::Language;
use tree_sitter::Node;

use super::{Found, Function, Grammar, Text, call, construction, constructor, function, import, named_type, scope};

pub(super) static CSHARP: Grammar = Grammar {
    language: Language::CSharp,
    extensions: &["cs"],
    parser: || tree_sitter_c_sharp::LANGUAGE.into(),
    hooks: &[&[
        ("class_declaration", named_type),
        ("struct_declaration", named_type),
        ("interface_declaration", named_type),
        ("record_declaration", named_type),
        ("property_declaration", named_type),
        ("indexer_declaration", |_, _| scope("this", true)),
        ("event_declaration", named_type),
        ("method_declaration", function),
        ("constructor_declaration", constructor),
        ("destructor_declaration", destructor),
        ("operator_declaration", operator),
        ("conversion_operator_declaration", conversion),
        ("local_function_statement", function),
        ("accessor_declaration", function),
        ("invocation_expression", call),
        ("object_creation_expression", |node, text| construction(node, text, "type")),
        ("using_directive", import),
    ]],
    constructs: |_, _| false,
    implicit_receiver: true,
    annotations: &["attribute_list"],
};

fn destructor(node: Node<'_>, text: Text<'_>) -> Found {
    let kind = FunctionKind::Constructor;
    with_body(node, text.field(node, "name").map(|name| format!("~{name}")), kind)
}

fn operator(node: Node<'_>, text: Text<'_>) -> Found {
    let name = text.field(node, "operator").map(|operator| format!("operator {operator}"));
    with_body(node, name, FunctionKind::Method)
}

fn conversion(node: Node<'_>, text: Text<'_>) -> Found {
    let name = text.field(node, "type").map(|target| format!("operator {target}"));
    with_body(node, name, FunctionKind::Method)
}

fn with_body(node: Node<'_>, name: Option<String>, kind: FunctionKind) -> Found {
    match (node.child_by_field_name("body"), name) {
        (Some(_), Some(name)) => Found::Function(Function { name, kind: Some(kind), own_name: None }),
        _ => Found::Nothing,
    }
}
