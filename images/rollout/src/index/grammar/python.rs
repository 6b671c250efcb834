//! Python.

use sera_crds::values::Language;

use super::{Grammar, call, function, import, named_type};

pub(super) static PYTHON: Grammar = Grammar {
    language: Language::Python,
    extensions: &["py", "pyw"],
    parser: || tree_sitter_python::LANGUAGE.into(),
    hooks: &[&[
        ("class_definition", named_type),
        ("function_definition", function),
        ("call", call),
        ("import_statement", import),
        ("import_from_statement", import),
    ]],
    constructs: |name, _| matches!(name, "__init__" | "__new__" | "__del__"),
    implicit_receiver: false,
    annotations: &[],
};
