//! Java. The package is no part of a name, as it spans the whole file.

use sera_crds::contract::FunctionKind;
use sera_crds::values::Language;
use tree_sitter::Node;

use super::call::call_of;
use super::{
    Found, Function, Grammar, Text, construction, constructor, constructs_nothing, function, import, named_type,
};

pub(super) static JAVA: Grammar = Grammar {
    language: Language::Java,
    extensions: &["java"],
    parser: || tree_sitter_java::LANGUAGE.into(),
    hooks: &[&[
        ("class_declaration", named_type),
        ("interface_declaration", named_type),
        ("enum_declaration", named_type),
        ("record_declaration", named_type),
        ("annotation_type_declaration", named_type),
        ("method_declaration", function),
        ("constructor_declaration", constructor),
        ("compact_constructor_declaration", compact_constructor),
        ("method_invocation", invocation),
        ("object_creation_expression", |node, text| construction(node, text, "type")),
        ("import_declaration", import),
    ]],
    constructs: constructs_nothing,
    implicit_receiver: true,
    annotations: &["annotation", "marker_annotation"],
};

/// A record's constructor without parameters of its own.
fn compact_constructor(node: Node<'_>, text: Text<'_>) -> Found {
    text.field(node, "name").map_or(Found::Nothing, |name| {
        let kind = Some(FunctionKind::Constructor);
        Found::Function(Function { name: name.to_owned(), kind, own_name: None })
    })
}

fn invocation(node: Node<'_>, text: Text<'_>) -> Found {
    let name = text.field(node, "name");
    name.and_then(|name| call_of(text.field(node, "object"), name)).map_or(Found::Nothing, Found::Call)
}
