//! The program `sera-e2e` (`cargo e2e`): what its subcommands are called and take. What they do is in `cli`, one file each
//! for those that are more than a call of the library.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use sera_e2e::cluster;

use cli::Command;

/// A real Kubernetes for tests and demos: booted from pinned programs in seconds, and gone without a trace.
///
/// Where KUBECONFIG is set, that cluster is used instead, and nothing is built, booted or taken down. A cluster with a
/// node needs root on Linux; missing Debian packages are installed. The programs of Kubernetes are built once, with Go,
/// and kept in ~/.cache/sera-operator (`SERA_CACHE_DIR`).
#[derive(Debug, Parser)]
#[command(name = "sera-e2e", bin_name = "cargo e2e", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(cli::run(arguments.command)) {
        Ok(code) => code,
        Err(error) => {
            cluster::wait_if_ending();
            fail(&error)
        }
    }
}

/// One line: what went wrong, and why, and why that.
fn fail(error: &anyhow::Error) -> ExitCode {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Transparent errors repeat what they wrap.
        if !line.contains(&cause) {
            line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
        }
    }
    eprintln!("error: {line}");
    ExitCode::FAILURE
}
