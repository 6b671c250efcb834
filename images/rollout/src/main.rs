//! The program `sera-rollout`; all of it is in the library.

fn main() -> std::process::ExitCode {
    sera_rollout::cli::main()
}
