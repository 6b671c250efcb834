//! The program `sera-sandbox`: a thread, no runtime. It executes what a model wrote, and keeps that from everything else.

mod check;
mod cli;
mod confine;
mod editor;
mod environment;
mod files;
mod install;
mod listen;
mod local;
mod output;
mod outside;
mod places;
mod police;
mod processes;
mod serve;
mod shell;
mod slot;
mod tree;

use std::error::Error;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use sera_sandbox::{frame, wire};

use cli::{Action, Serve};
use places::Places;
use serve::Setting;

/// The exit code of a command line that cannot be understood, as sysexits.h has it.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let action = match cli::parse(std::env::args_os().skip(1)) {
        Ok(action) => action,
        Err(error) => {
            eprintln!("sera-sandbox: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match run(action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sera-sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> Result<ExitCode, Box<dyn Error>> {
    match action {
        Action::Help => print!("{}", cli::HELP),
        Action::Version => println!("sera-sandbox {} (protocol {})", env!("CARGO_PKG_VERSION"), wire::PROTOCOL),
        Action::Install(to) => install::install(&to)?,
        Action::Copy { from, to } => println!("copied {} files", install::copy(&from, &to)?),
        Action::Check => return Ok(check::check()),
        Action::Confine(arguments) => return Err(confine::become_shell(&arguments).into()),
        Action::Serve(serve) => return serve_to_the_end(serve),
    }
    Ok(ExitCode::SUCCESS)
}

fn serve_to_the_end(serve: Serve) -> Result<ExitCode, Box<dyn Error>> {
    // Nobody else, of the same user or not, looks into this process or attaches to it.
    prctl::set_dumpable(false)?;
    prctl::set_child_subreaper(true)?;
    // What is made belongs to the group, which the driver shares.
    umask(Mode::S_IWOTH);
    // Directories are kept open on the way down.
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    let (input, output) = match &serve.socket {
        Some(path) => match listen::accept(path)? {
            Some(stream) => (File::from(OwnedFd::from(stream.try_clone()?)), File::from(OwnedFd::from(stream))),
            None => return Ok(ExitCode::SUCCESS),
        },
        None => {
            let (input, output) = (std::io::stdin(), std::io::stdout());
            (File::from(input.as_fd().try_clone_to_owned()?), File::from(output.as_fd().try_clone_to_owned()?))
        }
    };
    serve::serve(&setting(serve), input, output)?;
    Ok(ExitCode::SUCCESS)
}

fn setting(serve: Serve) -> Setting {
    let stash = serve.stash.unwrap_or_else(|| serve.tmp.clone());
    let Serve { workspace, tmp, home, image_workspace, hidden, inherit, .. } = serve;
    Setting { places: Places { workspace, tmp, home, stash, image_workspace, hidden }, user: None, inherit }
}
