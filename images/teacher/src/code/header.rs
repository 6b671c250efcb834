//! A function's header: its parameters, what it says of the result, and where the body begins.

use super::function::closing;
use super::language::Shape;
use super::{Language, Masked};

/// A parameter of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// Its type as it stands there; empty where there is none.
    pub(crate) kind: String,
    /// Whether callers may leave it out.
    pub(crate) optional: bool,
}

/// What a header tells.
pub(super) struct Header {
    pub(super) parameters: Vec<Parameter>,
    /// What stands before the name and after the parameters.
    pub(super) result: String,
    /// The byte that ends the header: the colon, the brace, or the last one of Ruby's line.
    pub(super) end: Option<usize>,
}

/// How the body of a function in braces begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// With the brace at this byte.
    Brace(usize),
    /// It is the expression after this byte.
    Expression(usize),
    /// There is none: this is a declaration.
    Declared,
    /// Not within what is known.
    Unknown,
}

pub(super) fn read(language: Language, name: &str, masked: &Masked, lines: &[String]) -> Header {
    let code = masked.code();
    let end = match language.shape() {
        Shape::Indented => colon(masked, lines.len()).map(|(_, at)| at),
        Shape::Ended => ruby_end(code),
        Shape::Braced => match opening(language, name, masked) {
            Opening::Brace(at) => Some(at),
            _ => None,
        },
    };
    let (parameters, result) = match list(code, name) {
        Some((open, close)) if end.is_none_or(|end| close <= end) => {
            let before = code[..after_name(code, name)].strip_suffix(name).unwrap_or_default();
            let result =
                format!("{} {}", before.trim(), code[close + 1..end.unwrap_or(close + 1).max(close + 1)].trim());
            (split(&code[open + 1..close]).filter_map(|text| parameter(language, text)).collect(), result)
        }
        _ => (Vec::new(), String::new()),
    };
    Header { parameters, result, end }
}

/// The colon that ends a Python header: its line, and its byte.
pub(super) fn colon(masked: &Masked, lines: usize) -> Option<(usize, usize)> {
    let mut depth = 0_usize;
    for line in 0..lines {
        let code = masked.line(line);
        for (at, byte) in code.bytes().enumerate() {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                b':' if depth == 0 => return Some((line, masked.start(line) + at)),
                _ => {}
            }
        }
    }
    None
}

/// The last byte of a Ruby header, when something may follow on the next line.
fn ruby_end(code: &str) -> Option<usize> {
    let line = code.find('\n').unwrap_or(code.len());
    let end = match code[..line].find('(') {
        Some(open) => closing(code, open)?,
        None => code[..line].trim_end().len().checked_sub(1)?,
    };
    let rest = code[end + 1..].split('\n').next().unwrap_or_default();
    (rest.trim().is_empty() && !code[..=end].contains(';')).then_some(end)
}

/// Where the body of the function `name` begins in a language of braces.
pub(super) fn opening(language: Language, name: &str, masked: &Masked) -> Opening {
    let code = masked.code();
    let bytes = code.as_bytes();
    let mut at = after_name(code, name);
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' => match closing(code, at) {
                Some(end) => at = end,
                None => return Opening::Unknown,
            },
            b'{' if is_type(language, &code[..at]) => match closing(code, at) {
                Some(end) => at = end,
                None => return Opening::Unknown,
            },
            b'{' => return Opening::Brace(at),
            b';' => return Opening::Declared,
            b'\n' if ends_here(code, at) => return Opening::Declared,
            b'=' if is_assignment(language, bytes, at) => {
                if let Some(opening) = assigned(language, code, at) {
                    return opening;
                }
            }
            _ => {}
        }
        at += 1;
    }
    Opening::Unknown
}

/// Whether the brace after `before` belongs to a type, and to no body.
fn is_type(language: Language, before: &str) -> bool {
    let before = before.trim_end();
    match language {
        Language::Go => before.ends_with("interface") || before.ends_with("struct"),
        Language::TypeScript => {
            before.ends_with([':', '|', '&', '<'])
                || [" is", " extends", "keyof"].iter().any(|word| before.ends_with(word))
        }
        _ => false,
    }
}

/// Whether a header ends with its line, so that there is no body: what follows is not further in, and does not go on with it.
fn ends_here(code: &str, newline: usize) -> bool {
    let width = |line: &str| line.len() - line.trim_start().len();
    let base = width(code.split('\n').next().unwrap_or_default());
    let Some(next) = code[newline + 1..].split('\n').find(|line| !line.trim().is_empty()) else { return false };
    let continued = ["{", "where", ")", "]", ">", ":", "->", "=>", "=", "throws", "|", "&"]
        .iter()
        .any(|sign| next.trim_start().starts_with(sign));
    let goes_on = code[..newline].trim_end().ends_with(['=', ',', '(', '>', ':', '|', '&', '-', '+']);
    width(next) <= base && !continued && !goes_on
}

/// What the `=` or `=>` at `at` puts behind a name, as far as its line tells; none if it is still to come.
fn assigned(language: Language, code: &str, at: usize) -> Option<Opening> {
    let line = code[at..].split('\n').next().unwrap_or_default();
    let behind = line.trim_start_matches(['=', '>']).trim();
    match language {
        // A function is put behind a name, and has its own body.
        Language::JavaScript | Language::TypeScript => (!line.contains('{')).then_some(Opening::Expression(at)),
        _ => (behind != "{").then_some(Opening::Expression(at)),
    }
}

/// Whether the `=` at `at` puts a body (or, in JavaScript, a function) behind a name.
fn is_assignment(language: Language, bytes: &[u8], at: usize) -> bool {
    let arrow = bytes.get(at + 1) == Some(&b'>');
    let compares = bytes.get(at + 1) == Some(&b'=') || at > 0 && matches!(bytes[at - 1], b'=' | b'!' | b'<' | b'>');
    match language {
        Language::CSharp | Language::JavaScript | Language::TypeScript => arrow,
        Language::Kotlin | Language::Scala => !arrow && !compares,
        _ => false,
    }
}

/// Where the name that is defined ends: the first whole word that is followed by what follows names in definitions.
fn after_name(code: &str, name: &str) -> usize {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: usize| {
        let before = !name.starts_with(word) || !code[..at].ends_with(word);
        before && (!name.ends_with(word) || !code[at + name.len()..].starts_with(word))
    };
    let places = || code.match_indices(name).map(|(at, _)| at).filter(|at| whole(*at)).map(|at| at + name.len());
    let follows = |end: &usize| code[*end..].trim_start().starts_with(['(', '<', '[', '=', ':', '{']);
    places().find(follows).or_else(|| places().next()).unwrap_or(0)
}

/// The brackets around the parameters.
fn list(code: &str, name: &str) -> Option<(usize, usize)> {
    let after = after_name(code, name);
    let open = after + code[after..].find('(')?;
    // Between the name and its parameters there may be type parameters, or (in JavaScript) an assignment.
    let between = code[after..open].trim();
    let generic = between.starts_with(['<', '[', '?', '!']);
    let assigned = between.starts_with(['=', ':']) && !between.contains('.');
    let fits = between.is_empty() || (generic || assigned) && !between.contains(['{', ';', ')']);
    if !fits {
        return None;
    }
    Some((open, closing(code, open)?))
}

/// The parts between commas that stand in no brackets.
fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    let mut previous = ' ';
    list.split(move |c: char| {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '>' if !matches!(previous, '-' | '=') => depth -= 1,
            _ => {}
        }
        previous = c;
        c == ',' && depth <= 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn parameter(language: Language, text: &str) -> Option<Parameter> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let optional = text.contains('=') || text.contains('?') || text.contains('"');
    let text = text.split('=').next().unwrap_or_default().trim();
    if text.contains("...")
        || text.starts_with(['*', '&', '{', '[', '@', '/']) && language != Language::Php
        || text.contains('{')
    {
        return None;
    }
    let (name, kind) = match language {
        Language::Python
        | Language::Kotlin
        | Language::Scala
        | Language::TypeScript
        | Language::Rust
        | Language::Swift => {
            let (name, kind) = text.split_once(':').unwrap_or((text, ""));
            (name.trim_end_matches('?').split_whitespace().last()?, kind.trim())
        }
        Language::JavaScript | Language::Ruby => (text, ""),
        Language::Go => text.split_once(' ')?,
        // What is passed by reference is often an output, and may be missing.
        Language::Php => {
            let (kind, name) = text.rsplit_once('$').filter(|(kind, _)| !kind.contains('&'))?;
            (name, kind.trim())
        }
        Language::Java | Language::CSharp | Language::C | Language::Cpp => {
            let at = text.rfind(|c: char| !(c.is_alphanumeric() || c == '_'))?;
            (&text[at + 1..], text[..=at].trim())
        }
    };
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (plain && !matches!(name, "self" | "cls" | "this" | "void")).then(|| Parameter {
        name: name.to_owned(),
        kind: kind.to_owned(),
        optional,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Function;
    use super::*;

    #[test]
    fn parameters_are_read_from_headers() {
        for (language, text, expected) in [
            (Language::Python, "def f(self, a: dict[str, int], *b, c=None):", &["a dict[str, int]", "c ?"][..]),
            (Language::Rust, "fn f<T>(&self, mut a: &str, b: Vec<(u8, T)>) {", &["a &str", "b Vec<(u8, T)>"]),
            (Language::Go, "func (s *S) f(a, b *T, c string) {", &["b *T", "c string"]),
            (Language::TypeScript, "f(a: string, b?: number, { c }: D) {", &["a string", "b number?"]),
            (Language::Java, "void f(final Map<K, V> a, int b) {", &["a final Map<K, V>", "b int"]),
            (Language::C, "int f(const char *a, void) {", &["a const char *"]),
            (Language::Ruby, "def f(a, b: 1, *c)", &["a "]),
            (Language::Php, "function f(?A $a, &$b, string $c = 'x') {", &["a ?A?", "c string?"]),
            (Language::Kotlin, "fun f(a: List<Int>, b: String = \"x\") {", &["a List<Int>", "b String?"]),
            (Language::Swift, "func f(_ a: String, to b: [Int]) {", &["a String", "b [Int]"]),
        ] {
            let function = Function::new(language, "f", vec![text.to_owned(), "x".to_owned()]);
            let read: Vec<String> = function
                .parameters
                .iter()
                .map(|p| format!("{} {}{}", p.name, p.kind, if p.optional { "?" } else { "" }))
                .collect();
            assert_eq!(read, expected, "{text}");
        }
    }
}
