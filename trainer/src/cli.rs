//! The command line: which commands there are, and how they end. Each command has a file of its own.

mod bench;
mod check;
mod context;
mod export;
mod failure;
mod generate;
mod import;
mod inspect;
mod last_words;
mod launch;
mod memory;
mod merge;
mod places;
mod request;
mod ring;
mod threads;
mod train;
mod weights;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use sera_crds::contract::ExitCode;
use sera_program::logs::LogArgs;
use sera_program::redact::Redactor;

use context::Context;

const EXIT_CODES: &str = "Exit codes:
    0  done
    1  internal error; worth another try
    2  the command line is wrong
   10  something given is wrong or missing: a file, a field of a configuration
   11  something is not available for now: space on a disk, a store; try again later
   12  what would be written is there already, or is another training's; nothing was touched
  143  stopped by SIGTERM or SIGINT; a training has written a checkpoint, and goes on when it is run again";

/// Trains models in Hugging Face's layout, makes, looks at and tries them.
#[derive(Debug, Parser)]
#[command(name = "sera-trainer", version, after_long_help = EXIT_CODES, arg_required_else_help = true, args_override_self = true)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a student on a dataset, and publish the model
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", train::EXAMPLES), args_override_self = true)]
    Train(Box<train::TrainArgs>),
    /// Look at everything that a training needs, before it begins
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", check::EXAMPLES), args_override_self = true)]
    Check(Box<check::CheckArgs>),
    /// Add up what a rank would need, from a model's configuration alone
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", memory::EXAMPLES))]
    Memory(memory::MemoryArgs),
    /// Measure how fast a training is here, and how much memory it takes
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", bench::EXAMPLES))]
    Bench(bench::BenchArgs),
    /// Make a model directory from a GGUF file
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", import::EXAMPLES))]
    Import(import::ImportArgs),
    /// Write a model with its weights in one type
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", export::EXAMPLES))]
    Export(export::ExportArgs),
    /// Add an adapter to the weights of its model
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", merge::EXAMPLES))]
    Merge(merge::MergeArgs),
    /// List the tensors of a model or of a safetensors file, or say what a checkpoint is
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", inspect::EXAMPLES))]
    Inspect(inspect::InspectArgs),
    /// Let a model answer, always with its most likely token
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", generate::EXAMPLES))]
    Generate(generate::GenerateArgs),
    /// Start the ranks of this node, and end them together
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", launch::EXAMPLES))]
    Launch(launch::LaunchArgs),
    /// Let ranks sum numbers together: do they reach each other, and how fast?
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", ring::EXAMPLES))]
    Ring(ring::RingArgs),
}

/// Runs the program with the arguments of this process.
pub fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error).into(),
    };
    let context = Context { redactor: Redactor::default(), log: cli.log };
    match launch::follow_launcher().and_then(|()| run(cli.command, &context)) {
        Ok(code) => code,
        Err(failure) => {
            // candle's errors go on with a backtrace where RUST_BACKTRACE asks for one: that is for who reads code.
            let line = context.redactor.apply(failure.message.lines().next().unwrap_or_default());
            eprintln!("error: {line}");
            failure.code.into()
        }
    }
}

fn run(command: Command, context: &Context) -> Result<std::process::ExitCode, failure::Failure> {
    // A launcher waits for signals on its only thread, and computes nothing.
    if !matches!(command, Command::Launch(_) | Command::Ring(_)) {
        threads::settle()?;
    }
    let done = match command {
        Command::Train(arguments) => train::run(&arguments, context),
        Command::Check(arguments) => check::run(&arguments, context),
        Command::Memory(arguments) => memory::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Export(arguments) => export::run(&arguments, context),
        Command::Merge(arguments) => merge::run(&arguments, context),
        Command::Inspect(arguments) => inspect::run(&arguments, context),
        Command::Generate(arguments) => generate::run(&arguments, context),
        Command::Launch(arguments) => return launch::run(arguments),
        Command::Ring(arguments) => ring::run(&arguments),
    };
    done.map(|()| ExitCode::Success.into())
}

/// Says what is wrong with the command line, or gives the help that was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    // It goes to standard error or standard output as is right; there is no third place to complain to if that is closed.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::Success,
        _ => ExitCode::Usage,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
