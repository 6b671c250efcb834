//! The languages, by the extension of a file's name, and what sets them apart for someone who skims.

/// A programming language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    Python,
    Rust,
    Go,
    JavaScript,
    TypeScript,
    Java,
    C,
    Cpp,
    Ruby,
    CSharp,
    Php,
    Kotlin,
    Swift,
    Scala,
}

/// How a language shows where a function's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// By indentation.
    Indented,
    /// By the word `end`.
    Ended,
    /// By braces.
    Braced,
}

/// The extensions of source files; what is not listed is not looked at.
const EXTENSIONS: &[(&str, Language)] = &[
    ("py", Language::Python),
    ("pyi", Language::Python),
    ("rs", Language::Rust),
    ("go", Language::Go),
    ("js", Language::JavaScript),
    ("jsx", Language::JavaScript),
    ("mjs", Language::JavaScript),
    ("cjs", Language::JavaScript),
    ("ts", Language::TypeScript),
    ("tsx", Language::TypeScript),
    ("mts", Language::TypeScript),
    ("cts", Language::TypeScript),
    ("java", Language::Java),
    ("c", Language::C),
    ("h", Language::Cpp),
    ("cc", Language::Cpp),
    ("cpp", Language::Cpp),
    ("cxx", Language::Cpp),
    ("c++", Language::Cpp),
    ("hh", Language::Cpp),
    ("hpp", Language::Cpp),
    ("hxx", Language::Cpp),
    ("rb", Language::Ruby),
    ("rake", Language::Ruby),
    ("cs", Language::CSharp),
    ("php", Language::Php),
    ("kt", Language::Kotlin),
    ("kts", Language::Kotlin),
    ("swift", Language::Swift),
    ("scala", Language::Scala),
    ("sc", Language::Scala),
];

impl Language {
    /// The language of the file at `path`, as its name tells.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next()?;
        let (stem, extension) = name.rsplit_once('.')?;
        if stem.is_empty() {
            return None;
        }
        EXTENSIONS.iter().find(|(known, _)| *known == extension).map(|(_, language)| *language)
    }

    pub(crate) const fn shape(self) -> Shape {
        match self {
            Self::Python => Shape::Indented,
            Self::Ruby => Shape::Ended,
            _ => Shape::Braced,
        }
    }

    /// What begins a comment that ends with its line.
    pub(crate) const fn comment(self) -> &'static str {
        match self {
            Self::Python | Self::Ruby => "#",
            _ => "//",
        }
    }

    /// Whether a comment between `/*` and `*/` may hold another.
    pub(crate) const fn nests_comments(self) -> bool {
        matches!(self, Self::Rust | Self::Kotlin | Self::Swift | Self::Scala)
    }

    /// Whether text stands between single quotes (elsewhere they hold a character, or begin a lifetime).
    pub(crate) const fn quotes_singly(self) -> bool {
        matches!(self, Self::Python | Self::JavaScript | Self::TypeScript | Self::Ruby | Self::Php)
    }

    /// The quotes, three in a row, that hold text over several lines.
    pub(crate) fn triples(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["\"\"\"", "'''"],
            Self::Kotlin | Self::Scala | Self::Swift | Self::Java | Self::CSharp => &["\"\"\""],
            _ => &[],
        }
    }

    /// Whether `/…/` may be a regular expression.
    pub(crate) const fn has_regex_literals(self) -> bool {
        matches!(self, Self::JavaScript | Self::TypeScript | Self::Ruby)
    }

    /// Whether a line that begins with `#` is the preprocessor's.
    pub(crate) const fn is_preprocessed(self) -> bool {
        matches!(self, Self::C | Self::Cpp | Self::CSharp)
    }

    /// One step of indentation, where the code itself shows none.
    pub(crate) const fn indent(self) -> &'static str {
        match self {
            Self::Go => "\t",
            Self::Ruby | Self::JavaScript | Self::TypeScript | Self::Scala => "  ",
            _ => "    ",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_name() {
        assert_eq!(Language::of("/testbed/src/a.tsx"), Some(Language::TypeScript));
        assert_eq!(Language::of("x.tar.kt"), Some(Language::Kotlin));
        for other in ["README.md", "src/py", ".py", "a.py/README"] {
            assert_eq!(Language::of(other), None, "{other}");
        }
    }
}
