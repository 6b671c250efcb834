//! The program `sera-teacher`; all of it is in the library.

fn main() -> std::process::ExitCode {
    sera_teacher::cli::main()
}
