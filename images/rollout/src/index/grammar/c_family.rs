//! C and C++.

use sera_crds::contract::FunctionKind;
use sera_crds::values::Language;
use tree_sitter::Node;

use super::{
    Found, Function, Grammar, Text, call, construction, constructs_nothing, dotted, import, named_module, scope,
};

pub(super) static C: Grammar = Grammar {
    language: Language::C,
    extensions: &["c"],
    parser: || tree_sitter_c::LANGUAGE.into(),
    hooks: &[&[("function_definition", function), ("call_expression", call), ("preproc_include", import)]],
    constructs: constructs_nothing,
    implicit_receiver: false,
    annotations: &[],
};

pub(super) static CPP: Grammar = Grammar {
    language: Language::Cpp,
    extensions: &["cc", "cpp", "cxx", "c++", "hh", "hpp", "hxx", "h++", "inl", "ipp"],
    parser: || tree_sitter_cpp::LANGUAGE.into(),
    hooks: &[&[
        ("namespace_definition", named_module),
        ("class_specifier", class),
        ("struct_specifier", class),
        ("union_specifier", class),
        ("function_definition", function),
        ("call_expression", call),
        ("new_expression", |node, text| construction(node, text, "type")),
        ("preproc_include", import),
    ]],
    constructs: |name, owner| name == owner || name.starts_with('~'),
    implicit_receiver: true,
    annotations: &["attribute_declaration"],
};

/// The longest chain of pointers, references and brackets around a function's name that is followed.
const MAX_DECLARATORS: usize = 16;

/// A class with a body; without one it is only mentioned.
fn class(node: Node<'_>, text: Text<'_>) -> Found {
    match (node.child_by_field_name("body"), text.field(node, "name")) {
        (Some(_), Some(name)) => scope(name, true),
        _ => Found::Nothing,
    }
}

fn function(node: Node<'_>, text: Text<'_>) -> Found {
    let has_body = node.child_by_field_name("body").is_some()
        || node.named_children(&mut node.walk()).any(|child| child.kind() == "try_statement");
    let name = if has_body { declared(node, text) } else { None };
    name.map_or(Found::Nothing, |name| {
        let kind = name.contains("operator ").then_some(FunctionKind::Method);
        Found::Function(Function { name, kind, own_name: None })
    })
}

/// The name in the middle of a declarator: `*(*f(int x))(int)`.
fn declared(node: Node<'_>, text: Text<'_>) -> Option<String> {
    let mut declarator = node.child_by_field_name("declarator")?;
    let mut is_function = false;
    for _ in 0..MAX_DECLARATORS {
        match declarator.kind() {
            "identifier"
            | "field_identifier"
            | "destructor_name"
            | "operator_name"
            | "qualified_identifier"
            | "template_function"
                if is_function =>
            {
                return Some(qualified(text.of(declarator)));
            }
            "operator_cast" | "qualified_identifier" => return Some(conversion(text.of(declarator))),
            kind => is_function |= kind == "function_declarator",
        }
        declarator = declarator.child_by_field_name("declarator").or_else(|| declarator.named_child(0))?;
    }
    None
}

/// `a::Foo<T>::name` becomes `a.Foo.name`; an operator is left as it is written, without spaces.
fn qualified(name: &str) -> String {
    let (path, operator) = match name.find("operator") {
        Some(at) if at == 0 || name[..at].ends_with("::") => name.split_at(at),
        _ => (name, ""),
    };
    let parts = without_type_arguments(path);
    let path = parts.split("::").map(str::trim).filter(|part| !part.is_empty());
    let operator: String = operator.split_whitespace().collect();
    let parts: Vec<&str> = path.chain(Some(operator.as_str()).filter(|operator| !operator.is_empty())).collect();
    parts.join(".")
}

/// `Foo::operator bool() const` becomes `Foo.operator bool`.
fn conversion(text: &str) -> String {
    let declared = text.split('(').next().unwrap_or(text).trim();
    let (path, target) = declared.split_once("operator").unwrap_or(("", declared));
    let owner = dotted(path);
    let target = format!("operator {}", target.trim());
    if owner.is_empty() { target } else { format!("{owner}.{target}") }
}

/// A name without what stands between angle brackets.
fn without_type_arguments(name: &str) -> String {
    let mut depth = 0_usize;
    name.chars()
        .filter(|letter| {
            match letter {
                '<' => depth += 1,
                '>' => {
                    depth = depth.saturating_sub(1);
                    return false;
                }
                _ => {}
            }
            depth == 0
        })
        .collect()
}

/// How lines begin that only C++ has.
const MARKS: [&str; 12] = [
    "class ",
    "namespace ",
    "namespace{",
    "template<",
    "template <",
    "public:",
    "private:",
    "protected:",
    "using ",
    "constexpr ",
    "#include <string>",
    "inline namespace",
];

/// What a header is written in; none for Objective-C. The marks are those that linguist's heuristics look for.
pub(super) fn header(text: &str) -> Option<Language> {
    let begins = |line: &str, words: &[&str]| words.iter().any(|word| line.starts_with(word));
    let lines = || text.lines().map(str::trim_start);
    if lines().any(|line| begins(line, &["@interface", "@protocol", "@class", "@end", "#import "])) {
        return None;
    }
    let is_cpp = lines().any(|line| begins(line, &MARKS) || line.contains("std::"));
    Some(if is_cpp { Language::Cpp } else { Language::C })
}
