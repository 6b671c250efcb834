//! Texts between quotes, in all the ways in which languages write them.

use super::{Lexer, QUOTED, is_word};
use crate::code::Language;

impl Lexer {
    /// Takes a text between quotes, if one begins here.
    pub(super) fn quoted(&mut self) -> bool {
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
                // A text over several lines is no literal that could be changed in one of them.
                if !self.text[from..at].contains(&b'\n') {
                    self.literals.push((from, at));
                }
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

    /// Takes the here-documents that were announced on the line before.
    pub(super) fn here_documents(&mut self) {
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
}
