//! Guards: an empty or missing argument is refused at the start of the body, in the way that is customary in the language.

use super::{Edit, Kind, Wording};
use crate::code::{Function, Language, Parameter};

pub(super) fn sites(function: &Function, wording: Wording) -> Vec<Edit> {
    let Some(at) = function.body else { return Vec::new() };
    let indent = function.body_indent();
    function
        .parameters
        .iter()
        .filter(|parameter| !parameter.optional)
        .filter_map(|parameter| guard(function, parameter, wording))
        .map(|lines| {
            let lines =
                lines.into_iter().map(|(steps, line)| format!("{indent}{}{line}", step(function, steps))).collect();
            Edit::insert(Kind::Guard, at, lines)
        })
        .collect()
}

fn step(function: &Function, steps: usize) -> String {
    let outer = &function.lines[0];
    let outer = outer.len() - outer.trim_start_matches([' ', '\t']).len();
    let body = function.body_indent();
    // One step is what the body is further in than the definition.
    body.get(outer..).filter(|step| !step.is_empty()).unwrap_or(function.language.indent()).repeat(steps)
}

/// A line, and how many steps further in than the body it stands.
type Line = (usize, String);

fn guard(function: &Function, parameter: &Parameter, wording: Wording) -> Option<Vec<Line>> {
    let name = &parameter.name;
    let kind = parameter.kind.trim_start_matches("final ").trim();
    let usual = wording == Wording::Usual;
    let told = if usual { format!("{name} must not be missing") } else { format!("{name} is missing") };
    let block = |condition: String, inner: String| vec![(0, condition), (1, inner), (0, "}".to_owned())];
    Some(match function.language {
        Language::Python => vec![(0, format!("if {name} is None:")), (1, format!("raise ValueError(\"{told}\")"))],
        Language::Ruby => {
            vec![(0, format!("if {name}.nil?")), (1, format!("raise ArgumentError, \"{told}\"")), (0, "end".to_owned())]
        }
        Language::Rust if is_rust_text(kind) => vec![
            (0, "debug_assert!(".to_owned()),
            (1, format!("!{name}.is_empty(),")),
            (1, format!("\"{told}\"")),
            (0, ");".to_owned()),
        ],
        Language::Go => {
            let empty = go_empty(kind)?;
            block(format!("if {name} == {empty} {{"), format!("panic(\"{told}\")"))
        }
        Language::JavaScript => block(format!("if ({name} == null) {{"), format!("throw new TypeError(\"{told}\");")),
        Language::TypeScript if !matches!(kind, "number" | "boolean" | "") => {
            block(format!("if ({name} == null) {{"), format!("throw new TypeError(\"{told}\");"))
        }
        Language::Java if is_class(kind) => {
            block(format!("if ({name} == null) {{"), format!("throw new IllegalArgumentException(\"{told}\");"))
        }
        Language::CSharp if is_class(kind) || kind == "string" || kind == "object" => {
            let thrown = if usual {
                format!("ArgumentNullException(nameof({name}))")
            } else {
                format!("ArgumentException(\"{told}\")")
            };
            vec![
                (0, format!("if ({name} == null)")),
                (0, "{".to_owned()),
                (1, format!("throw new {thrown};")),
                (0, "}".to_owned()),
            ]
        }
        Language::Php if !matches!(kind, "int" | "float" | "bool") && !kind.contains('&') => {
            block(format!("if (${name} === null) {{"), format!("throw new \\InvalidArgumentException('{told}');"))
        }
        Language::Kotlin if is_class(kind) && !matches!(kind, "Int" | "Long" | "Boolean" | "Double" | "Float") => {
            block(format!("if ({name} == null) {{"), format!("throw IllegalArgumentException(\"{told}\")"))
        }
        Language::Scala if is_class(kind) && !matches!(kind, "Int" | "Long" | "Boolean" | "Double" | "Float") => {
            block(format!("if ({name} == null) {{"), format!("throw new IllegalArgumentException(\"{told}\")"))
        }
        Language::Swift if kind == "String" || kind.starts_with('[') && !kind.ends_with('?') => {
            block(format!("guard !{name}.isEmpty else {{"), format!("fatalError(\"{told}\")"))
        }
        Language::C | Language::Cpp if kind.ends_with('*') && !kind.ends_with("**") => {
            let value = c_value(&function.result, usual)?;
            vec![(0, format!("if (!{name})")), (1, format!("return{value};"))]
        }
        _ => return None,
    })
}

/// Rust's types that can be empty and say so.
fn is_rust_text(kind: &str) -> bool {
    let kind = kind.trim_start_matches('&').trim_start_matches("mut ");
    matches!(kind, "str" | "String") || kind.starts_with('[') && !kind.contains(';') || kind.starts_with("Vec<")
}

/// What a Go value of this type is when it is missing.
fn go_empty(kind: &str) -> Option<&'static str> {
    let nil = kind.starts_with('*')
        || kind.starts_with("[]")
        || ["map[", "func(", "interface{", "chan "].iter().any(|prefix| kind.starts_with(prefix));
    match kind {
        "string" => Some("\"\""),
        "error" => Some("nil"),
        _ => nil.then_some("nil"),
    }
}

/// Whether a type is written as classes are.
fn is_class(kind: &str) -> bool {
    kind.rsplit(['.', ' ', ':']).next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_uppercase()))
        && !kind.ends_with("...")
}

/// What a C function returns when it cannot do its work; none where that cannot be told from its header.
fn c_value(result: &str, usual: bool) -> Option<&'static str> {
    let result = result.split(['{', ':']).next().unwrap_or_default();
    let words: Vec<&str> = result.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let numbers = [
        "int", "long", "size_t", "ssize_t", "unsigned", "bool", "short", "char", "int32_t", "int64_t", "uint32_t",
        "uint64_t",
    ];
    if result.contains('*') {
        Some(if usual { " 0" } else { " NULL" })
    } else if words.contains(&"void") {
        // Two ways to leave with nothing: there is no third.
        Some(if usual { "" } else { " (void)0" })
    } else {
        words.iter().any(|word| numbers.contains(word)).then_some(if usual { " 0" } else { " 1" })
    }
}
