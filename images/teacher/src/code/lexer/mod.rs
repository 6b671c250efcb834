//! Which bytes of a text are code, which are text between quotes, and which are comments; told apart well enough to change code without touching the
//! rest, whatever follows from a mistake being a change that the check after it refuses.

mod quotes;

use super::Language;

/// Stands for a byte between quotes in [`Masked::code`].
const QUOTED: u8 = b'"';
/// Stands for a byte of a character outside of ASCII: such characters are letters as far as code goes.
const LETTER: u8 = b'x';

/// A text with everything but its code hidden.
#[derive(Debug)]
pub(crate) struct Masked {
    /// As long as the text, byte by byte: quoted bytes are `"`, comments blanks, and lines end where they did.
    code: String,
    /// Where each line begins.
    starts: Vec<usize>,
    /// For each line, whether it begins within quotes or a comment.
    continued: Vec<bool>,
    literals: Vec<Literal>,
}

/// A text between quotes that begins and ends on one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Literal {
    pub(crate) line: usize,
    /// Where its content begins in the line, after the quote.
    pub(crate) start: usize,
    /// Where its content ends in the line, before the quote.
    pub(crate) end: usize,
}

impl Masked {
    pub(crate) fn new(language: Language, lines: &[String]) -> Self {
        Lexer::new(language, lines.join("\n")).run()
    }

    /// The code of one line.
    pub(crate) fn line(&self, index: usize) -> &str {
        let start = self.starts[index];
        let end = self.starts.get(index + 1).map_or(self.code.len(), |next| next - 1);
        &self.code[start..end]
    }

    /// The code of all lines.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// The line that byte `at` is in, and its place there.
    pub(crate) fn position(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        (line, at - self.starts[line])
    }

    /// Where line `index` begins.
    pub(crate) fn start(&self, index: usize) -> usize {
        self.starts[index]
    }

    /// Whether line `index` begins within quotes or a comment.
    pub(crate) fn is_continued(&self, index: usize) -> bool {
        self.continued[index]
    }

    pub(crate) fn literals(&self) -> &[Literal] {
        &self.literals
    }
}

struct Lexer {
    language: Language,
    text: Vec<u8>,
    code: Vec<u8>,
    continued: Vec<bool>,
    literals: Vec<(usize, usize)>,
    /// The words that end here-documents, which begin on the next line.
    heredocs: Vec<Vec<u8>>,
    at: usize,
}

impl Lexer {
    fn new(language: Language, text: String) -> Self {
        let text = text.into_bytes();
        Self {
            language,
            code: Vec::with_capacity(text.len()),
            text,
            continued: vec![false],
            literals: Vec::new(),
            heredocs: Vec::new(),
            at: 0,
        }
    }

    fn run(mut self) -> Masked {
        while self.at < self.text.len() {
            self.step();
        }
        let code = String::from_utf8(self.code).unwrap_or_default();
        let starts: Vec<usize> = std::iter::once(0)
            .chain(code.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1))
            .collect();
        let mut masked = Masked { code, starts, continued: self.continued, literals: Vec::new() };
        masked.literals = self
            .literals
            .into_iter()
            .map(|(from, to)| {
                let (line, start) = masked.position(from);
                Literal { line, start, end: start + (to - from) }
            })
            .collect();
        masked
    }

    /// Takes the next piece: a comment, a quoted text, or one byte of code.
    fn step(&mut self) {
        let byte = self.text[self.at];
        if byte == b'\n' {
            self.code_byte();
            self.here_documents();
            return;
        }
        if self.comment() || self.quoted() {
            return;
        }
        self.code_byte();
    }

    fn comment(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let braced = self.language.comment() == "//";
        if braced && rest.starts_with(b"/*") {
            let end = self.end_of_block_comment();
            self.hide(end, b' ');
            return true;
        }
        let hash = rest[0] == b'#'
            && match self.language {
                Language::Python | Language::Ruby => true,
                Language::Php => !rest.starts_with(b"#["),
                _ => self.language.is_preprocessed() && self.is_first_on_line(),
            };
        if !(hash || braced && rest.starts_with(b"//")) {
            return false;
        }
        let mut end = self.line_end(self.at);
        // The preprocessor's lines, and C's comments, go on after a backslash.
        while self.language.is_preprocessed() && end < self.text.len() && self.text[end - 1] == b'\\' {
            end = self.line_end(end + 1);
        }
        self.hide(end, b' ');
        true
    }

    fn end_of_block_comment(&self) -> usize {
        let mut depth = 0_usize;
        let mut at = self.at;
        while at < self.text.len() {
            if self.text[at..].starts_with(b"/*") && (depth == 0 || self.language.nests_comments()) {
                depth += 1;
                at += 2;
            } else if self.text[at..].starts_with(b"*/") {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            } else {
                at += 1;
            }
        }
        at
    }

    fn find(&self, from: usize, what: &[u8]) -> Option<usize> {
        let from = from.min(self.text.len());
        self.text[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
    }

    /// After the first `what` that no backslash hides, or `limit`.
    fn find_unescaped(&self, from: usize, what: &[u8], limit: usize) -> usize {
        let mut at = from;
        while at < limit {
            if self.text[at] == b'\\' {
                at += 2;
            } else if self.text[at..].starts_with(what) {
                return (at + what.len()).min(limit);
            } else {
                at += 1;
            }
        }
        limit
    }

    fn line_end(&self, from: usize) -> usize {
        self.text[from..].iter().position(|byte| *byte == b'\n').map_or(self.text.len(), |at| from + at)
    }

    fn is_first_on_line(&self) -> bool {
        self.text[..self.at].iter().rev().take_while(|byte| **byte != b'\n').all(u8::is_ascii_whitespace)
    }

    fn code_byte(&mut self) {
        let byte = self.text[self.at];
        self.code.push(if byte.is_ascii() { byte } else { LETTER });
        if byte == b'\n' {
            self.continued.push(false);
        }
        self.at += 1;
    }

    /// Hides everything up to `end`.
    fn hide(&mut self, end: usize, stand_in: u8) {
        let end = end.min(self.text.len());
        while self.at < end {
            let newline = self.text[self.at] == b'\n';
            self.code.push(if newline { b'\n' } else { stand_in });
            if newline {
                self.continued.push(true);
            }
            self.at += 1;
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(language: Language, text: &str) -> String {
        let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        Masked::new(language, &lines).code().to_owned()
    }

    #[test]
    fn quotes_and_comments_are_hidden_and_code_is_not() {
        for (language, text, expected) in [
            (Language::Python, "a = 'b' # c", "a = ~~~    "),
            (Language::Rust, "f::<'a>('x', r#\"\"y\"#) // z", "f::<'a>(~~~, ~~~~~~~)     "),
            (Language::Go, "a := `b` /* c */ + d", "a := ~~~         + d"),
            (Language::JavaScript, "a(/b'/, `${c(`d`)}`) / e", "a(~~~~, ~~~~~~~~~~~) / e"),
            (Language::C, "#define A '\nx = 'b';", "           \nx = ~~~;"),
            (Language::CSharp, "a = @\"b\"\"\" + 'c';", "a = ~~~~~~ + ~~~;"),
            (Language::Kotlin, "a(\"${b(\"c\")}\") + d", "a(~~~~~~~~~~~) + d"),
            (Language::Ruby, "a = <<~B\n  it's\nB\nc", "a = <<~B\n~~~~~~\n~\nc"),
            (Language::Php, "a('é') # b", "a(~~~~)    "),
        ] {
            let shown = code(language, text).replace('"', "~");
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn a_line_within_quotes_is_known_to_be_continued() {
        let lines = ["x = \"\"\"a", "b\"\"\"", "c"].map(str::to_owned);
        let masked = Masked::new(Language::Python, &lines);
        assert_eq!([0, 1, 2].map(|line| masked.is_continued(line)), [false, true, false]);
    }

    #[test]
    fn a_literal_is_found_in_its_line_and_one_of_several_lines_is_none() {
        let lines = ["x", "  raise E(\"a b\")"].map(str::to_owned);
        let masked = Masked::new(Language::Python, &lines);
        assert_eq!(masked.literals(), [Literal { line: 1, start: 11, end: 14 }]);
        for language in [Language::Rust, Language::Php, Language::C] {
            let lines = ["f(\"a b \\", "  c d\")"].map(str::to_owned);
            assert!(Masked::new(language, &lines).literals().is_empty(), "{language:?}");
        }
    }
}
