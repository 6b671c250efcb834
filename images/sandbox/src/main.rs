//! The program `sera-sandbox`.

fn main() {}
