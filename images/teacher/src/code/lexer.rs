//! Which bytes of a text are code, which are text between quotes, and which are comments; told apart well enough to change code without touching the
//! rest, whatever follows from a mistake being a change that the check after it refuses.

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

    fn quoted(&mut self) -> bool {
        let rest = &self.text[self.at..];
        if let Some(quote) = self.language.triples().iter().find(|quote| rest.starts_with(quote.as_bytes())) {
            let end = self.find_unescaped(self.at + 3, quote.as_bytes(), self.text.len());
            self.hide(end, QUOTED);
            return true;
        }
        if self.raw() || self.percent() || self.regex() {
            return true;
        }
        self.announce_here_document();
        match self.text[self.at] {
            b'"' => self.plain(b'"'),
            b'\'' if self.language.quotes_singly() => self.plain(b'\''),
            b'\'' => return self.character(),
            b'`' if matches!(self.language, Language::JavaScript | Language::TypeScript) => {
                let end = self.end_of_template(self.at + 1);
                self.hide(end, QUOTED);
            }
            b'`' if self.language == Language::Go => {
                let end = self.find(self.at + 1, b"`").map_or(self.text.len(), |end| end + 1);
                self.hide(end, QUOTED);
            }
            _ => return false,
        }
        true
    }

    /// A text in single or double quotes; it ends with its line if nothing else ends it.
    fn plain(&mut self, quote: u8) {
        let from = self.at + 1;
        let mut at = from;
        while at < self.text.len() {
            let byte = self.text[at];
            if byte == quote {
                self.literals.push((from, at));
                return self.hide(at + 1, QUOTED);
            }
            if byte == b'\n' && !matches!(self.language, Language::Php | Language::Ruby | Language::Rust) {
                break;
            }
            at = match self.interpolation(at, quote) {
                Some(end) => end,
                None if byte == b'\\' => at + 2,
                None => at + 1,
            };
        }
        self.hide(at.min(self.text.len()), QUOTED);
    }

    /// Where an expression within a text ends, if one begins at `at`.
    fn interpolation(&self, at: usize, quote: u8) -> Option<usize> {
        let (opener, open, close): (&[u8], u8, u8) = match self.language {
            Language::Kotlin | Language::Scala => (b"${", b'{', b'}'),
            Language::Ruby if quote == b'"' => (b"#{", b'{', b'}'),
            Language::Php if quote == b'"' => (b"{$", b'{', b'}'),
            Language::Swift => (b"\\(", b'(', b')'),
            Language::CSharp if self.at > 0 && self.text[self.at - 1] == b'$' => (b"{", b'{', b'}'),
            _ => return None,
        };
        self.text[at..].starts_with(opener).then(|| self.end_of_balanced(at, open, close))
    }

    /// After the bracket that closes the first one opened at or after `from`; the end of the line if none does.
    fn end_of_balanced(&self, from: usize, open: u8, close: u8) -> usize {
        let mut depth = 0_usize;
        for at in from..self.line_end(from) {
            if self.text[at] == open {
                depth += 1;
            } else if self.text[at] == close && depth > 0 {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
        }
        self.line_end(from)
    }

    fn end_of_template(&self, from: usize) -> usize {
        let mut at = from;
        while at < self.text.len() {
            match self.text[at] {
                b'\\' => at += 2,
                b'`' => return at + 1,
                b'$' if self.text.get(at + 1) == Some(&b'{') => {
                    let mut depth = 0_usize;
                    at += 1;
                    while at < self.text.len() {
                        match self.text[at] {
                            b'{' => depth += 1,
                            b'}' => depth -= 1,
                            b'`' => {
                                at = self.end_of_template(at + 1);
                                continue;
                            }
                            _ => {}
                        }
                        at += 1;
                        if depth == 0 {
                            break;
                        }
                    }
                }
                _ => at += 1,
            }
        }
        self.text.len()
    }

    /// A character between single quotes; a single quote may be something else as well.
    fn character(&mut self) -> bool {
        let rest = &self.text[self.at + 1..];
        let end = match rest.first() {
            Some(b'\\') => {
                let end = self.find_unescaped(self.at + 1, b"'", self.line_end(self.at));
                (end > self.at + 2).then_some(end)
            }
            Some(_) => {
                let width = 1 + rest[1..].iter().take_while(|byte| **byte & 0xC0 == 0x80).count();
                (rest.get(width) == Some(&b'\'')).then_some(self.at + 1 + width + 1)
            }
            None => None,
        };
        end.map(|end| self.hide(end, QUOTED)).is_some()
    }

    /// Rust's, C++'s and C#'s texts without escapes.
    fn raw(&mut self) -> bool {
        if self.at > 0 && is_word(self.text[self.at - 1]) && self.text[self.at - 1] != b'b' {
            return false;
        }
        let rest = &self.text[self.at..];
        let end = match (self.language, rest[0]) {
            (Language::Rust, b'r') => {
                let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
                if rest.get(1 + hashes) != Some(&b'"') {
                    return false;
                }
                let closing = [&b"\""[..], &b"#".repeat(hashes)].concat();
                self.find(self.at + hashes + 2, &closing).map(|at| at + closing.len())
            }
            (Language::Cpp, b'R') if rest.get(1) == Some(&b'"') => {
                let Some(open) = rest.iter().position(|byte| *byte == b'(') else { return false };
                let closing = [&b")"[..], &rest[2..open], b"\""].concat();
                self.find(self.at + open, &closing).map(|at| at + closing.len())
            }
            (Language::CSharp, b'@') if rest.get(1) == Some(&b'"') => {
                let mut at = self.at + 2;
                loop {
                    match self.find(at, b"\"") {
                        Some(quote) if self.text.get(quote + 1) == Some(&b'"') => at = quote + 2,
                        found => break found.map(|at| at + 1),
                    }
                }
            }
            _ => return false,
        };
        self.hide(end.unwrap_or(self.text.len()), QUOTED);
        true
    }

    /// Ruby's `%w[…]` and its kin.
    fn percent(&mut self) -> bool {
        let rest = &self.text[self.at..];
        if self.language != Language::Ruby
            || rest[0] != b'%'
            || !matches!(rest.get(1), Some(b'w' | b'W' | b'i' | b'q' | b'Q' | b'r'))
        {
            return false;
        }
        let close = match rest.get(2) {
            Some(b'[') => b']',
            Some(b'(') => b')',
            Some(b'{') => b'}',
            Some(b'|') => b'|',
            _ => return false,
        };
        let end = self.find(self.at + 3, &[close]).map_or(self.text.len(), |end| end + 1);
        self.hide(end, QUOTED);
        true
    }

    /// `/…/`, where no operand stands before it.
    fn regex(&mut self) -> bool {
        if !self.language.has_regex_literals() || self.text[self.at] != b'/' {
            return false;
        }
        let line = self.code.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let before = String::from_utf8_lossy(&self.code[line..]);
        let before = before.trim_end();
        let word = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let operator = before.bytes().last().is_none_or(|byte| b"(=,:[!&|?{};~".contains(&byte));
        if !(operator
            || matches!(word, "return" | "if" | "unless" | "when" | "and" | "or" | "in" | "of" | "typeof" | "case"))
        {
            return false;
        }
        let mut in_class = false;
        let mut at = self.at + 1;
        let end = self.line_end(self.at);
        while at < end {
            match self.text[at] {
                b'\\' => at += 1,
                b'[' => in_class = true,
                b']' => in_class = false,
                b'/' if !in_class => {
                    self.hide(at + 1, QUOTED);
                    return true;
                }
                _ => {}
            }
            at += 1;
        }
        false
    }

    /// Notes the word that will end a here-document.
    fn announce_here_document(&mut self) {
        let rest = &self.text[self.at..];
        let after = match self.language {
            Language::Php if rest.starts_with(b"<<<") => 3,
            Language::Ruby if rest.starts_with(b"<<~") || rest.starts_with(b"<<-") => 3,
            _ => return,
        };
        let quotes = rest[after..].iter().take_while(|byte| matches!(byte, b'"' | b'\'' | b' ')).count();
        let word: Vec<u8> = rest[after + quotes..].iter().copied().take_while(|byte| is_word(*byte)).collect();
        if word.first().is_some_and(u8::is_ascii_alphabetic) {
            self.heredocs.push(word);
        }
    }

    fn here_documents(&mut self) {
        for word in std::mem::take(&mut self.heredocs) {
            let mut at = self.at;
            while at < self.text.len() {
                let end = self.line_end(at);
                let line = self.text[at..end].trim_ascii_start();
                at = (end + 1).min(self.text.len());
                if line.starts_with(&word) {
                    break;
                }
            }
            self.hide(at, QUOTED);
        }
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
            (Language::Python, "a = 'b' # c", "a = \"\"\"    "),
            (Language::Rust, "f::<'a>('x', r#\"\"y\"#) // z", "f::<'a>(\"\"\", \"\"\"\"\"\"\")     "),
            (Language::Go, "a := `b` /* c */ + d", "a := \"\"\"         + d"),
            (Language::JavaScript, "a(/b'/, `${c(`d`)}`) / e", "a(\"\"\"\", \"\"\"\"\"\"\"\"\"\"\"\") / e"),
            (Language::C, "#define A '\nx = 'b';", "           \nx = \"\"\";"),
            (Language::CSharp, "a = @\"b\"\"\" + 'c';", "a = \"\"\"\"\"\" + \"\"\";"),
            (Language::Kotlin, "a(\"${b(\"c\")}\") + d", "a(\"\"\"\"\"\"\"\"\"\"\"\") + d"),
            (Language::Ruby, "a = <<~B\n  it's\nB\nc", "a = <<~B\n\"\"\"\"\"\"\n\"\nc"),
            (Language::Php, "a('é') # b", "a(\"\"\"\")    "),
        ] {
            assert_eq!(code(language, text), expected, "{text}");
        }
    }

    #[test]
    fn a_line_within_quotes_is_known_to_be_continued() {
        let lines = ["x = \"\"\"a", "b\"\"\"", "c"].map(str::to_owned);
        let masked = Masked::new(Language::Python, &lines);
        assert_eq!([0, 1, 2].map(|line| masked.is_continued(line)), [false, true, false]);
    }

    #[test]
    fn a_literal_is_found_in_its_line() {
        let lines = ["x", "  raise E(\"a b\")"].map(str::to_owned);
        let masked = Masked::new(Language::Python, &lines);
        assert_eq!(masked.literals(), [Literal { line: 1, start: 11, end: 14 }]);
    }
}
