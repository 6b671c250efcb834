//! Writes the definitions of both kinds to standard output.

fn main() {}
