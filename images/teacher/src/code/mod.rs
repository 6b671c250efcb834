//! What the teacher understands of source code: which language a file is in, which bytes of it are code, and where a function begins and ends.
//! Text, brackets and indentation are all it goes by, as a person does who skims a file; it needs no grammar.

mod definition;
mod function;
mod header;
mod language;
mod lexer;

pub(crate) use definition::{is_defined_in, is_type_in};
pub(crate) use function::{Extent, Function, extent, extent_at};
pub(crate) use header::Parameter;
pub(crate) use language::Language;
pub(crate) use lexer::{Literal, Masked};
