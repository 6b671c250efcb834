//! JavaScript and TypeScript, with JSX or without. A function expression counts where it is bound to a name, as most functions here are.

use sera_crds::contract::FunctionKind;
use sera_crds::values::Language;
use tree_sitter::Node;

use super::call::callee;
use super::{Found, Function, Grammar, Hook, Text, construction, function, import, named_module, named_type, scope};

const COMMON: &[(&str, Hook)] = &[
    ("function_declaration", function),
    ("generator_function_declaration", function),
    ("method_definition", method),
    ("class_declaration", named_type),
    ("variable_declarator", |node, text| bound(node, text, "name", "value")),
    ("pair", |node, text| bound(node, text, "key", "value")),
    ("assignment_expression", |node, text| bound(node, text, "left", "right")),
    ("export_statement", export),
    ("call_expression", call),
    ("new_expression", |node, text| construction(node, text, "constructor")),
    ("import_statement", import),
];

const JSX: &[(&str, Hook)] = &[
    ("jsx_opening_element", |node, text| construction(node, text, "name")),
    ("jsx_self_closing_element", |node, text| construction(node, text, "name")),
];

const TYPED: &[(&str, Hook)] = &[
    ("public_field_definition", |node, text| bound(node, text, "name", "value")),
    ("abstract_class_declaration", named_type),
    ("internal_module", named_module),
    ("module", named_module),
];

pub(super) static JAVASCRIPT: Grammar = Grammar {
    language: Language::JavaScript,
    extensions: &["js", "jsx", "mjs", "cjs"],
    parser: || tree_sitter_javascript::LANGUAGE.into(),
    hooks: &[COMMON, JSX, &[("field_definition", |node, text| bound(node, text, "property", "value"))]],
    constructs: is_constructor,
    implicit_receiver: false,
    annotations: &["decorator"],
};

pub(super) static TYPESCRIPT: Grammar = Grammar {
    language: Language::TypeScript,
    extensions: &["ts", "mts", "cts"],
    parser: || tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
    hooks: &[COMMON, TYPED],
    constructs: is_constructor,
    implicit_receiver: false,
    annotations: &["decorator"],
};

pub(super) static TSX: Grammar = Grammar {
    language: Language::TypeScript,
    extensions: &["tsx"],
    parser: || tree_sitter_typescript::LANGUAGE_TSX.into(),
    hooks: &[COMMON, JSX, TYPED],
    constructs: is_constructor,
    implicit_receiver: false,
    annotations: &["decorator"],
};

/// Names that lead to a function and are no part of what it is called.
const LEADING: [&str; 5] = ["module", "exports", "prototype", "this", "window"];

fn is_constructor(name: &str, _: &str) -> bool {
    name == "constructor"
}

fn method(node: Node<'_>, text: Text<'_>) -> Found {
    match function(node, text) {
        Found::Function(found) => Found::Function(Function { name: key(&found.name), ..found }),
        found => found,
    }
}

/// `name = () => …`, and the same with a class or an object whose functions are named after it.
fn bound(node: Node<'_>, text: Text<'_>, name: &str, value: &str) -> Found {
    let (Some(name), Some(value)) = (text.field(node, name), node.child_by_field_name(value)) else {
        return Found::Nothing;
    };
    let path = name.split('.').filter(|part| !LEADING.contains(part));
    let name = key(&path.collect::<Vec<_>>().join("."));
    // What is destructured or computed has no name.
    if name.is_empty() || name.contains(['{', '[', '(', '\n', ' ']) {
        return Found::Nothing;
    }
    match value.kind() {
        "arrow_function" | "function_expression" | "generator_function" => {
            Found::Function(Function { name, kind: Some(FunctionKind::Closure), own_name: None })
        }
        "class" | "object" => scope(&name, true),
        _ => Found::Nothing,
    }
}

/// `export default function () { … }`, which has no other name.
fn export(node: Node<'_>, text: Text<'_>) -> Found {
    let Some(value) = node.child_by_field_name("value") else {
        // `export { a } from "./b"`.
        return if node.child_by_field_name("source").is_some() { Found::Import } else { Found::Nothing };
    };
    match value.kind() {
        "arrow_function" | "function_expression" | "generator_function" => {
            let name = text.field(value, "name").unwrap_or("default").to_owned();
            Found::Function(Function { name, kind: Some(FunctionKind::Closure), own_name: None })
        }
        "class" | "object" => scope(text.field(value, "name").unwrap_or("default"), true),
        _ => Found::Nothing,
    }
}

fn call(node: Node<'_>, text: Text<'_>) -> Found {
    match text.field(node, "function").and_then(callee) {
        Some(called) if called.name == "require" => Found::Import,
        Some(called) => Found::Call(called),
        None => Found::Nothing,
    }
}

/// A key without its quotes.
fn key(name: &str) -> String {
    name.trim_matches(['"', '\'', '`', '[', ']']).to_owned()
}
