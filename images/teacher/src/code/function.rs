//! Where a function ends, its header and its body, given the lines from its definition on.

use super::header::{self, Parameter};
use super::language::Shape;
use super::{Language, Masked};

/// A function as it stands in a file, and what was understood of it.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) language: Language,
    /// Its name, without what surrounds it.
    pub(crate) name: String,
    /// Its lines, from that of its definition to its last, without their ends.
    pub(crate) lines: Vec<String>,
    pub(crate) masked: Masked,
    /// Its parameters, as far as they can be told from the header.
    pub(crate) parameters: Vec<Parameter>,
    /// What the header says after the parameters.
    pub(crate) result: String,
    /// The first line of the body where a statement may be put; none for a body that is an expression.
    pub(crate) body: Option<usize>,
}

/// How far a function reaches in the lines that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It ends with this many lines.
    Lines(usize),
    /// It goes on after them.
    Open,
    /// This is no function with a body.
    None,
}

impl Function {
    /// The function `name` that `lines` hold from the first to the last.
    pub(crate) fn new(language: Language, name: &str, lines: Vec<String>) -> Self {
        let masked = Masked::new(language, &lines);
        let header = header::read(language, name, &masked, &lines);
        let body = body(language, &masked, &lines, header.end);
        Self {
            language,
            name: name.to_owned(),
            masked,
            parameters: header.parameters,
            result: header.result,
            body,
            lines,
        }
    }

    /// All of its text.
    pub(crate) fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// How far statements of its body are indented.
    pub(crate) fn body_indent(&self) -> String {
        let from = self.body.unwrap_or(self.lines.len());
        let shown = (from..self.lines.len()).find(|line| {
            let code = self.masked.line(*line).trim();
            !code.is_empty() && !code.starts_with('}') && !self.masked.is_continued(*line)
        });
        match shown {
            Some(line) if width(&self.lines[line]) > width(&self.lines[0]) => indent(&self.lines[line]).to_owned(),
            _ => format!("{}{}", indent(&self.lines[0]), self.language.indent()),
        }
    }
}

/// How far the function `name` reaches, whose definition is the first of `lines`.
pub(crate) fn extent(language: Language, name: &str, lines: &[String]) -> Extent {
    let masked = Masked::new(language, lines);
    match language.shape() {
        Shape::Indented => indented(&masked, lines),
        Shape::Ended => ended(&masked, lines),
        Shape::Braced => braced(language, name, &masked, lines),
    }
}

/// How far the function reaches that begins at line `at` of `lines`.
pub(crate) fn extent_at(language: Language, name: &str, lines: &[String], at: usize) -> Extent {
    lines.get(at..).map_or(Extent::None, |lines| extent(language, name, lines))
}

fn indented(masked: &Masked, lines: &[String]) -> Extent {
    let Some((header, _)) = header::colon(masked, lines.len()) else { return Extent::Open };
    let base = width(&lines[0]);
    let mut last = header;
    for (index, line) in lines.iter().enumerate().skip(header + 1) {
        if masked.is_continued(index) {
            last = index;
            continue;
        }
        let code = masked.line(index).trim();
        if code.is_empty() {
            continue;
        }
        if width(line) <= base && !code.starts_with(')') {
            return Extent::Lines(last + 1);
        }
        last = index;
    }
    Extent::Open
}

fn ended(masked: &Masked, lines: &[String]) -> Extent {
    let first = masked.line(0);
    let one_line = first.trim_end().ends_with("end") && first.contains(';') || first.contains(") = ");
    if one_line {
        return Extent::Lines(1);
    }
    let Some(base) = lines.first().map(|line| width(line)) else { return Extent::Open };
    let end = (1..lines.len()).find(|index| {
        let code = masked.line(*index);
        !masked.is_continued(*index)
            && width(code) == base
            && code.trim_start().split(|c: char| !c.is_alphanumeric()).next() == Some("end")
    });
    end.map_or(Extent::Open, |end| Extent::Lines(end + 1))
}

fn braced(language: Language, name: &str, masked: &Masked, lines: &[String]) -> Extent {
    match header::opening(language, name, masked) {
        header::Opening::Brace(at) => match closing(masked.code(), at) {
            Some(end) => Extent::Lines(masked.position(end).0 + 1),
            None => Extent::Open,
        },
        header::Opening::Expression(at) => expression(masked, lines, masked.position(at).0),
        header::Opening::Declared => Extent::None,
        header::Opening::Unknown => Extent::Open,
    }
}

/// The end of a body that is an expression: where the indentation is back at the definition's.
fn expression(masked: &Masked, lines: &[String], from: usize) -> Extent {
    let base = width(&lines[0]);
    if masked.line(from).trim_end().ends_with(';') {
        return Extent::Lines(from + 1);
    }
    for (index, line) in lines.iter().enumerate().skip(from + 1) {
        let code = masked.line(index).trim();
        let closes = code.starts_with([')', '}', ']']);
        if masked.is_continued(index) || width(line) > base && !code.is_empty() {
            continue;
        }
        return Extent::Lines(if closes && width(line) == base { index + 1 } else { index });
    }
    Extent::Open
}

/// The bracket that closes the one at `open`.
pub(super) fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// The line of the body before which a statement may be put.
fn body(language: Language, masked: &Masked, lines: &[String], header: Option<usize>) -> Option<usize> {
    let (line, at) = masked.position(header?);
    // What follows on the header's own line leaves no place for a statement.
    if !masked.line(line)[at + 1..].trim().is_empty() {
        return None;
    }
    let first = line + 1;
    let first = if language == Language::Python { after_docstring(masked, lines, first)? } else { first };
    // A constructor's call of another one has to stay the first statement.
    let code = masked.line(first.min(lines.len() - 1)).trim();
    let delegates = ["super(", "this(", "base("].iter().any(|call| code.starts_with(call));
    (first < lines.len() && !masked.is_continued(first) && !delegates).then_some(first)
}

fn after_docstring(masked: &Masked, lines: &[String], first: usize) -> Option<usize> {
    let statement = (first..lines.len()).find(|index| !masked.line(*index).trim().is_empty())?;
    if !masked.line(statement).trim_start().trim_start_matches(['r', 'R', 'u', 'U']).starts_with('"') {
        return Some(first);
    }
    let after = (statement + 1..lines.len()).find(|index| !masked.is_continued(*index))?;
    // Text that goes on as an expression is no docstring, and a function of nothing else has no place after it.
    masked.line(after - 1).trim_end().ends_with('"').then_some(after)
}

/// The blanks that `line` begins with.
pub(crate) fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

fn width(line: &str) -> usize {
    indent(line).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split('\n').map(str::to_owned).collect()
    }

    #[test]
    fn functions_end_where_they_end() {
        for (language, name, text, expected) in [
            (
                Language::Python,
                "f",
                "def f(\n    a,\n):\n    \"\"\"x\ny\n    \"\"\"\n    if a:\n        b\n\n    c\n\n\nd",
                10,
            ),
            (Language::Ruby, "f", "  def f(a)\n    if a\n      b\n    end\n  end\n  c", 5),
            (Language::Go, "f", "func (t T) f(a interface{}) (b struct{}, err error) {\n\tif a {\n\t}\n}\nc", 4),
            (Language::Rust, "f", "fn f<'a>(b: &'a str) -> u8\nwhere\n    A: B,\n{\n    '}';\n}\nc", 6),
            (Language::Java, "f", "int f(int a)\n    throws E {\n  // }\n  return a;\n}\n", 5),
            (Language::Kotlin, "f", "fun f(a: Int) = a\n    .b()\n\nfun g() {}", 2),
            (Language::Scala, "f", "def f(a: Int): Int =\n  a match {\n    case 1 => 2\n  }\n\ndef g", 4),
            (Language::JavaScript, "f", "const f = (a) => {\n  return `}`;\n};\nc", 3),
            (Language::JavaScript, "f", "const f = a =>\n  a + 1;\nc", 2),
            (Language::CSharp, "F", "int F => 3;\nint G", 1),
            (Language::TypeScript, "f", "f(a: A): a is { b: C } {\n  return 1;\n}\nc", 3),
            (Language::Scala, "f", "def f(a: A): B = a match {\n  case 1 => 2\n}\nc", 3),
            (Language::Swift, "f", "func f(_ a: Int) -> Int {\n    return \"\\(a)}\".count\n}\n", 3),
            (Language::Cpp, "f", "int A::f(int a) const\n{\n    return R\"(})\"[0];\n}\n", 4),
        ] {
            assert_eq!(extent(language, name, &lines(text)), Extent::Lines(expected), "{text}");
        }
        for (language, text) in [
            (Language::C, "int f(int a);\n{}"),
            (Language::Kotlin, "  fun f(a: Int): Int\n\n  fun g() {}"),
            (Language::Swift, "    func f(a: Int)\n    func g() {}"),
            (Language::TypeScript, "  f(a: number): void\n  g() {}"),
        ] {
            assert_eq!(extent(language, "f", &lines(text)), Extent::None, "{text}");
        }
        assert_eq!(extent(Language::C, "f", &lines("int f(int a) {\n  if (a) {\n  }")), Extent::Open);
    }

    #[test]
    fn a_statement_may_be_put_after_header_and_docstring() {
        for (language, text, expected) in [
            (Language::Python, "def f(a):\n    b", Some(1)),
            (Language::Python, "def f(a):\n    \"\"\"x\n    y\"\"\"\n    b", Some(3)),
            (Language::Python, "def f(a):\n    \"\"\"x\"\"\"", None),
            (Language::Python, "def f(a): return b", None),
            (Language::Go, "func f(a int) {\n\tb\n}", Some(1)),
            (Language::Java, "f(int a) {\n  super(a);\n}", None),
            (Language::JavaScript, "f(a) { return a; }", None),
            (Language::Kotlin, "fun f(a: Int) = a", None),
            (Language::Ruby, "def f(a)\n  b\nend", Some(1)),
        ] {
            assert_eq!(Function::new(language, "f", lines(text)).body, expected, "{text}");
        }
    }
}
