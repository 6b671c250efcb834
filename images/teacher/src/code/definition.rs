//! Whether a line looks like the definition of a name: of a function, or of the type around one.

use super::Language;

/// Words that stand before a name where it is used, and never where it is defined.
const USES: &[&str] = &[
    "return", "new", "throw", "raise", "else", "case", "await", "yield", "delete", "goto", "assert", "import", "use",
    "not",
];
/// Words that introduce a type.
const TYPES: &[&str] = &[
    "class",
    "struct",
    "interface",
    "trait",
    "impl",
    "enum",
    "object",
    "module",
    "protocol",
    "extension",
    "record",
    "type",
    "namespace",
    "union",
    "actor",
];

/// How surely `line` defines the function `name`: 0 not at all, 3 by a keyword.
pub(crate) fn is_defined_in(language: Language, line: &str, name: &str) -> u8 {
    if is_comment(language, line) {
        return 0;
    }
    occurrences(line, name)
        .map(|at| certainty(language, line[..at].trim_end(), &line[at + name.len()..], line))
        .max()
        .unwrap_or(0)
}

/// Whether `line` introduces the type `name`.
pub(crate) fn is_type_in(line: &str, name: &str) -> bool {
    occurrences(line, name).any(|at| {
        let before = line[..at].trim_end();
        // Go writes the receiver's type, C++ the class, beside the function's name.
        let receiver = before.trim_start().starts_with("func (") && !before.contains(')');
        words(before).any(|word| TYPES.contains(&word)) || receiver || line[at + name.len()..].starts_with("::")
    })
}

fn is_comment(language: Language, line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(language.comment())
        || language.comment() == "//" && (line.starts_with("/*") || line.starts_with("* "))
}

fn certainty(language: Language, before: &str, after: &str, line: &str) -> u8 {
    let opens = after.trim_start().starts_with(['(', '<', '[']);
    let last = words(before).last().unwrap_or_default();
    let keyword = |keyword: &str| if last == keyword && (before.ends_with(keyword)) { 3 } else { 0 };
    match language {
        Language::Python => keyword("def"),
        Language::Ruby if before.ends_with('.') => u8::from(before.trim_start().starts_with("def ")) * 3,
        Language::Ruby => keyword("def").max(u8::from(before.ends_with("define_method(:")) * 2),
        Language::Rust => keyword("fn"),
        Language::Go if before.ends_with(')') => u8::from(before.trim_start().starts_with("func (") && opens) * 3,
        Language::Go => keyword("func"),
        Language::Php => {
            if before.ends_with('&') {
                3 * u8::from(before.contains("function"))
            } else {
                keyword("function")
            }
        }
        Language::Kotlin | Language::Swift | Language::Scala => keyed(language, before, after, last),
        Language::JavaScript | Language::TypeScript => script(before, after, line),
        Language::Java | Language::C | Language::Cpp | Language::CSharp => typed(language, before, after, line),
    }
}

/// Kotlin, Swift and Scala introduce what they define by a word.
fn keyed(language: Language, before: &str, after: &str, last: &str) -> u8 {
    let line_word = |word: &str| words(before).any(|found| found == word);
    let function = match language {
        // Parameters and the result follow the same word, and stand in or behind brackets.
        Language::Kotlin => {
            let named = behind_generics(after.trim_start());
            // A line that ends with the name goes on with its parameters in the next.
            line_word("fun")
                && before.rsplit("fun").next().is_some_and(|since| !since.contains('('))
                && (named.is_empty() || named.starts_with('('))
        }
        Language::Swift => last == "func",
        _ => last == "def",
    };
    if function {
        return 3;
    }
    // A property may be computed; most hold a value, and are no functions.
    let value = matches!(last, "val" | "var" | "let") && before.ends_with(last);
    let bare = before.is_empty() && after.trim_start().starts_with('(') && after.contains('{');
    u8::from(value || bare)
}

/// JavaScript's many ways.
fn script(before: &str, after: &str, line: &str) -> u8 {
    let bare = before.trim_end_matches(['*', '#']).trim_end();
    if words(bare).last() == Some("function") && bare.ends_with("function") {
        return 3;
    }
    let after = after.trim_start();
    let assigned = after.starts_with(['=', ':']) && !after.starts_with("==") && !after.starts_with("=>");
    if assigned && (after.contains("=>") || after.contains("function") || line.trim_end().ends_with('(')) {
        return 2;
    }
    let modifiers = words(bare).all(|word| {
        matches!(
            word,
            "async"
                | "static"
                | "get"
                | "set"
                | "public"
                | "private"
                | "protected"
                | "readonly"
                | "override"
                | "abstract"
                | "export"
                | "default"
                | "declare"
        )
    });
    let method = modifiers && !bare.contains(['(', '.', '=', '"', '\'']) && after.starts_with(['(', '<']);
    u8::from(method && (line.trim_end().ends_with('{') || line.trim_end().ends_with('('))) * 2
}

/// Languages that write a type before the name.
fn typed(language: Language, before: &str, after: &str, line: &str) -> u8 {
    let after = after.trim_start();
    let property =
        language == Language::CSharp && (after.is_empty() || after.starts_with('{') || after.starts_with("=>"));
    let generic = language == Language::CSharp && behind_generics(after).starts_with('(');
    if !(after.starts_with('(') || property || generic) {
        return 0;
    }
    let declared = line.trim_end().ends_with(';') && !line.contains('{') && !line.contains("=>");
    let odd = before.contains(['=', '(', '"', '{', '}', ';', '?', '+', '!', '%'])
        || before.ends_with(['.', ',', '-', '|'])
        || before.ends_with("->");
    if declared || odd || words(before).any(|word| USES.contains(&word)) || words(before).next() == Some("if") {
        return 0;
    }
    let has_type = !before.is_empty();
    match (has_type, property) {
        (true, false) => 3,
        (true, true) => 1,
        // Old C puts the type on the line before; constructors have none.
        (false, false) => 1 + u8::from(line.starts_with(|c: char| !c.is_whitespace())),
        (false, true) => 0,
    }
}

/// What follows the type parameters that a text begins with, if it begins with any.
fn behind_generics(text: &str) -> &str {
    if !text.starts_with('<') {
        return text;
    }
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return text[at + 1..].trim_start();
        }
    }
    ""
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Where `name` stands as a whole word.
fn occurrences<'a>(line: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).map(|(at, _)| at).filter(move |at| {
        let before = line[..*at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        let starts = name.starts_with(is_word);
        let ends = name.ends_with(is_word);
        !(starts && before.is_some_and(is_word) || ends && after.is_some_and(is_word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_told_from_uses() {
        for (language, line, name) in [
            (Language::Python, "    async def close(self):", "close"),
            (Language::Rust, "pub(crate) const fn close<'a>(", "close"),
            (Language::Go, "func (s *Session) Close(ctx context.Context) error {", "Close"),
            (Language::JavaScript, "export const close = async (a, b) => {", "close"),
            (Language::JavaScript, "  static async close(a) {", "close"),
            (Language::TypeScript, "  private close<T>(a: T): void {", "close"),
            (Language::Java, "    public static <T> List<T> close(int a)", "close"),
            (Language::C, "static int *close(void)", "close"),
            (Language::Cpp, "void Session::close(int a) const {", "close"),
            (Language::Cpp, "Session::~Session() {", "~Session"),
            (Language::CSharp, "    public int Close => 3;", "Close"),
            (Language::CSharp, "    public static T Close<T, List<U>>(T value)", "Close"),
            (Language::Ruby, "  def self.close(a)", "close"),
            (Language::Php, "    public function close(array $a): void", "close"),
            (Language::Kotlin, "    override fun Session.close(a: Int) = a", "close"),
            (Language::Kotlin, "    fun <T> List<T>.close(a: Int) = a", "close"),
            (Language::Swift, "    func close(_ a: Int) -> Int {", "close"),
            (Language::Scala, "  def close(a: Int): Int = {", "close"),
        ] {
            assert!(is_defined_in(language, line, name) > 1 || line.contains("=> 3"), "{line}");
        }
    }

    #[test]
    fn uses_are_no_definitions() {
        for (language, line) in [
            (Language::Python, "    self.close(a)"),
            (Language::Rust, "    let a = close(b);"),
            (Language::Go, "\tdefer s.close()"),
            (Language::JavaScript, "  await close(a);"),
            (Language::JavaScript, "  if (close(a)) {"),
            (Language::Java, "        return close(a);"),
            (Language::C, "    close(fd);"),
            (Language::C, "int close(int fd);"),
            (Language::Cpp, "  session->close(a);"),
            (Language::Ruby, "    file.close"),
            (Language::CSharp, "    public close<string, List<int>> Parse(string text)"),
            (Language::Kotlin, "    fun close.parse(text: String) = text"),
            (Language::Python, "# def close():"),
            (Language::Python, "def close_all(self):"),
        ] {
            assert_eq!(is_defined_in(language, line, "close"), 0, "{line}");
        }
    }

    #[test]
    fn the_type_around_a_function_is_known() {
        for line in
            ["class Session(Base):", "impl<'a> Session<'a> {", "func (s *Session) Close() {", "void Session::close()"]
        {
            assert!(is_type_in(line, "Session"), "{line}");
        }
        assert!(!is_type_in("session = Session()", "Session"));
    }
}
