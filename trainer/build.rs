//! What this package links beside its crates.

#[path = "flash/link.rs"]
mod flash;

fn main() {
    flash::link();
}
