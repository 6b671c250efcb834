//! Ruby. A call without arguments and receiver looks like a variable, and is not seen.

use sera_crds::values::Language;
use tree_sitter::Node;

use super::call::{call_of, callee};
use super::{Call, Found, Function, Grammar, Receiver, Text, named_type, scope};

pub(super) static RUBY: Grammar = Grammar {
    language: Language::Ruby,
    extensions: &["rb", "rake"],
    parser: || tree_sitter_ruby::LANGUAGE.into(),
    hooks: &[&[
        // A module's functions are methods of it.
        ("module", named_type),
        ("class", named_type),
        ("singleton_class", |_, _| scope("self", true)),
        ("method", method),
        ("singleton_method", singleton),
        ("call", invocation),
    ]],
    constructs: |name, _| name == "initialize",
    implicit_receiver: true,
    annotations: &[],
};

fn method(node: Node<'_>, text: Text<'_>) -> Found {
    let name = text.field(node, "name");
    name.map_or(Found::Nothing, |name| Found::Function(Function { name: name.to_owned(), ..Function::default() }))
}

/// `def self.open`, which is called as `Session.open`; another object than the class itself is part of the name.
fn singleton(node: Node<'_>, text: Text<'_>) -> Found {
    let Found::Function(found) = method(node, text) else { return Found::Nothing };
    match text.field(node, "object") {
        Some("self") | None => Found::Function(found),
        Some(object) => Found::Function(Function { name: format!("{object}.{}", found.name), ..found }),
    }
}

fn invocation(node: Node<'_>, text: Text<'_>) -> Found {
    let (object, name) = (text.field(node, "receiver"), text.field(node, "method"));
    match (object, name) {
        (None, Some("require" | "require_relative" | "load" | "autoload")) => Found::Import,
        // An object of a class is made by its method `initialize`.
        (Some(class), Some("new")) => {
            callee(class).map_or(Found::Nothing, |made| Found::Call(Call { receiver: Receiver::None, ..made }))
        }
        (object, Some(name)) => call_of(object, name).map_or(Found::Nothing, Found::Call),
        (_, None) => Found::Nothing,
    }
}
