//! The command line: which commands there are. Each has a file of its own.

mod fetch;
mod rehearse;
mod running;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sera_program::redact::Redactor;

const EXIT_CODES: &str = "Exit codes:
    0  it was told to stop, or has brought what it was to bring
    1  it cannot listen, or failed
    2  the command line is wrong
   10  something given is wrong or missing: a file of the model, a credential, memory for its cache
   11  something is not available for now, such as a store: try again later";

/// Servers for sera-operator: a small model, and the rehearsal teacher, which is none; and what brings models to other servers.
#[derive(Debug, Parser)]
#[command(name = "sera-teacher", version, arg_required_else_help = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer chat completions as an agent would, deterministically
    ///
    /// Answers OpenAI chat completions as an agent would that works on a repository with the tools it is offered. What it says follows from the seed and
    /// the conversation alone, so any number of replicas give the same answers. It makes small real changes; it understands nothing.
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", rehearse::EXAMPLES), args_override_self = true)]
    Rehearse(Box<rehearse::RehearseArgs>),
    /// Answer chat completions with a small model, on processors
    ///
    /// Serves a model directory as Hugging Face lays it out, or a GGUF file, to any number of OpenAI clients at once. Meant for small students and for
    /// tests: for models beyond a few billion parameters take vLLM.
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", serve::EXAMPLES), args_override_self = true)]
    Serve(Box<serve::ServeArgs>),
    /// Bring a model from a bucket into a folder
    ///
    /// For servers that read folders alone, such as vLLM. What is there already is not fetched again.
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", fetch::EXAMPLES), args_override_self = true)]
    Fetch(Box<fetch::FetchArgs>),
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let redactor = Redactor::default();
    let ended = match Cli::parse().command {
        Command::Rehearse(arguments) => {
            running::start_log(&arguments.log, &redactor);
            rehearse::run(&arguments)
        }
        Command::Serve(arguments) => {
            running::start_log(&arguments.log, &redactor);
            serve::run(*arguments, redactor)
        }
        Command::Fetch(arguments) => {
            running::start_log(&arguments.log, &redactor);
            fetch::run(&arguments, &redactor)
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // candle's errors go on with a backtrace where RUST_BACKTRACE asks for one: that is for who reads code.
            tracing::error!("{}", error.to_string().lines().next().unwrap_or_default());
            error.exit_code()
        }
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

    /// A text without its line breaks, which depend on the terminal.
    fn words(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_help_of_every_command_has_an_example_of_it_and_all_exit_codes() {
        let mut commands = 0;
        for command in Cli::command().get_subcommands_mut() {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
            let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{name} has no examples"));
            assert!(examples.contains(&format!("sera-teacher {name} ")), "no example of {name}: {examples}");
            assert!(words(&help).contains(&words(EXIT_CODES)), "{name} names no exit codes");
            commands += 1;
        }
        assert_eq!(commands, 3);
    }
}
