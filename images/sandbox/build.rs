//! Links the program statically, so that it runs in any image, whatever libc is there.
//!
//! `-C target-feature=+crt-static` would be for the whole build, and everything else would be compiled a second time. Linker scripts of our own do
//! the same for this one program: they stand before the system's under the names that rustc links, and name the archives instead.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What rustc asks for when it links a program with glibc, and where that is to be found. Since glibc 2.34 most of it is in libc itself.
const SCRIPTS: [(&str, &str); 7] = [
    ("libgcc_s.so", "INPUT(-l:libgcc_eh.a -l:libgcc.a)"),
    ("libc.so", "GROUP(-l:libc.a -l:libgcc_eh.a -l:libgcc.a)"),
    ("libm.so", "INPUT(-l:libm.a)"),
    ("libutil.so", "INPUT(-l:libc.a)"),
    ("librt.so", "INPUT(-l:libc.a)"),
    ("libpthread.so", "INPUT(-l:libc.a)"),
    ("libdl.so", "INPUT(-l:libc.a)"),
];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") {
        return Ok(());
    }
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("static");
    write_scripts(&folder)?;
    // For the program alone: tests and whoever uses the library are linked as ever.
    println!("cargo::rustc-link-arg-bins=-static-pie");
    println!("cargo::rustc-link-arg-bins=-L{}", folder.display());
    Ok(())
}

fn write_scripts(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    SCRIPTS.iter().try_for_each(|(name, script)| fs::write(folder.join(name), script))
}
