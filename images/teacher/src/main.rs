//! The program `sera-teacher`.

fn main() {}
