//! The languages whose functions the indexer finds.

use super::choice::choice;

choice! {
    /// A programming language that the indexer knows.
    Language: "a language" {
        /// C.
        C = "C",
        /// C++.
        Cpp = "Cpp",
        /// C#.
        CSharp = "CSharp",
        /// Go.
        Go = "Go",
        /// Java.
        Java = "Java",
        /// JavaScript, JSX included.
        JavaScript = "JavaScript",
        /// Kotlin.
        Kotlin = "Kotlin",
        /// PHP.
        Php = "PHP",
        /// Python.
        Python = "Python",
        /// Ruby.
        Ruby = "Ruby",
        /// Rust.
        Rust = "Rust",
        /// Scala.
        Scala = "Scala",
        /// Swift.
        Swift = "Swift",
        /// TypeScript, TSX included.
        TypeScript = "TypeScript",
    }
}
