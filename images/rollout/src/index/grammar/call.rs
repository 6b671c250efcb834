//! What a call says of what it calls, read from its text: the name, and what stands before it. Nothing is resolved here.

/// What a call is made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Receiver<N = String> {
    /// Nothing: `close()`.
    None,
    /// The object or type that the caller belongs to: `self.close()`.
    Own,
    /// What that is derived from: `super().close()`.
    Super,
    /// A variable, a type or a module: `session.close()`, `Session::close()`.
    Named(N),
    /// The result of something: `open().close()`.
    Unknown,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) receiver: Receiver,
    pub(crate) name: String,
}

/// What methods call the object that they belong to, in all languages.
const OWN: [&str; 8] = ["self", "this", "Self", "cls", "static", "$this", "@self", "this@"];
/// What they call that by which it is derived from another.
const SUPER: [&str; 4] = ["super", "super()", "base", "parent"];

/// Reads the expression that a call calls: `a.b::<T>`.
pub(super) fn callee(expression: &str) -> Option<Call> {
    let (before, name) = last_word(without_arguments(expression))?;
    let receiver = match without_separator(before) {
        Some(object) => receiver(object),
        None => Receiver::None,
    };
    Some(Call { receiver, name: name.to_owned() })
}

/// Reads a call whose parts the grammar keeps apart.
pub(super) fn call_of(object: Option<&str>, name: &str) -> Option<Call> {
    let name = without_arguments(name);
    (!name.is_empty()).then(|| Call { receiver: object.map_or(Receiver::None, receiver), name: name.to_owned() })
}

fn receiver(object: &str) -> Receiver {
    let object = object.trim();
    if OWN.contains(&object) {
        return Receiver::Own;
    }
    if SUPER.contains(&object) || (object.starts_with("super(") && object.ends_with(')')) {
        return Receiver::Super;
    }
    match last_word(without_arguments(object)) {
        Some((_, word)) => Receiver::Named(word.trim_start_matches(['$', '@']).to_owned()),
        None => Receiver::Unknown,
    }
}

/// Splits off the word that a text ends with.
fn last_word(text: &str) -> Option<(&str, &str)> {
    let is_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$' | '#' | '@');
    let length: usize = text.chars().rev().take_while(|letter| is_word(*letter)).map(char::len_utf8).sum();
    let (before, word) = text.split_at(text.len() - length);
    let begins_well = word.chars().next().is_some_and(|letter| !letter.is_numeric());
    begins_well.then_some((before, word))
}

/// What stands before the dot that a text ends with, or whatever the language has in its place.
fn without_separator(text: &str) -> Option<&str> {
    let text = text.trim_end();
    let object = ["->", "::", ".", "\\"].iter().find_map(|separator| text.strip_suffix(separator))?;
    // Some(_) of what is optional, and Rust's `::<T>::f`.
    Some(without_arguments(object.trim_end().trim_end_matches(['?', '!'])))
}

/// Without the type arguments that a text ends with: `f::<T>`, `f<T>`.
fn without_arguments(text: &str) -> &str {
    let text = text.trim();
    if !text.ends_with('>') || text.ends_with("->") {
        return text;
    }
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices().rev() {
        match letter {
            '>' => depth += 1,
            '<' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text[..at].trim_end_matches("::").trim_end();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(expression: &str) -> (Receiver, String) {
        let call = callee(expression).unwrap();
        (call.receiver, call.name)
    }

    fn on(object: &str, name: &str) -> (Receiver, String) {
        (Receiver::Named(object.to_owned()), name.to_owned())
    }

    #[test]
    fn a_call_is_read_in_the_spelling_of_every_language() {
        assert_eq!(read("close"), (Receiver::None, "close".to_owned()));
        assert_eq!(read("session.close"), on("session", "close"));
        assert_eq!(read("a.b.session.close"), on("session", "close"));
        assert_eq!(read("Session::open::<Vec<u8>>"), on("Session", "open"));
        assert_eq!(read("Vec::<u8>::new"), on("Vec", "new"));
        assert_eq!(read("ns::free<int>"), on("ns", "free"));
        assert_eq!(read("x->y"), on("x", "y"));
        assert_eq!(read(r"\ns\free"), on("ns", "free"));
        assert_eq!(read("o?.call"), on("o", "call"));
        assert_eq!(read("o!!.call"), on("o", "call"));
    }

    #[test]
    fn the_callers_own_object_and_what_it_is_derived_from_are_known() {
        for own in ["self.close", "this.close", "Self::close", "$this->close", "cls.close"] {
            assert_eq!(read(own), (Receiver::Own, "close".to_owned()), "{own}");
        }
        for parent in ["super.close", "super().close", "super(Session, self).close", "base.close", "parent::close"] {
            assert_eq!(read(parent), (Receiver::Super, "close".to_owned()), "{parent}");
        }
    }

    #[test]
    fn what_has_no_name_is_no_call_of_anything() {
        assert_eq!(read("open(path).close"), (Receiver::Unknown, "close".to_owned()));
        assert_eq!(read("\"{}\".format"), (Receiver::Unknown, "format".to_owned()));
        for nothing in ["(f)", "handlers[0]", "", "f()", "1"] {
            assert_eq!(callee(nothing), None, "{nothing}");
        }
    }
}
