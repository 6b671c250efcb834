//! The program `sera-trainer`; all of it is in the library.

fn main() -> std::process::ExitCode {
    sera_trainer::cli::main()
}
