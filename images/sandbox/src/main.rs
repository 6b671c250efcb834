//! The program `sera-sandbox`: a thread, no runtime. It executes what a model wrote, and keeps that from everything else.

mod check;
mod cli;
mod confine;
mod container;
mod editor;
mod environment;
mod files;
mod install;
mod kernel;
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
mod users;

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use sera_sandbox::{frame, paths, wire};

use cli::{Action, Serve, Users};
use container::Allowance;
use local::Step;
use outside::Ending;
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
        Action::Copy { from, to, users } => {
            println!("copied {} files", install::copy(&from, &to)?);
            if let Some(Users { to, numbers, home }) = users {
                users::write(Path::new(users::OF_THE_IMAGE), numbers, &home, &to)?;
            }
        }
        Action::Check => return Ok(check::check()),
        Action::CheckNamespaces => local::try_namespaces()?,
        Action::Confine(arguments) => return Err(confine::become_shell(&arguments).into()),
        Action::Serve(serve) => return serve_to_the_end(&serve),
    }
    Ok(ExitCode::SUCCESS)
}

fn serve_to_the_end(serve: &Serve) -> Result<ExitCode, Box<dyn Error>> {
    let step = if serve.local.is_some() { Step::of_this_process() } else { Step::Outside };
    if let Some(folder) = &serve.local {
        match step {
            Step::Outside => {
                if let Some(code) = local::in_namespaces(folder)? {
                    return Ok(code);
                }
                eprintln!("sera-sandbox: going on without; commands see the slot's directories where they are");
            }
            Step::Enter => return Ok(local::enter(&places(serve, step), folder)),
            Step::Inside => local::arrive()?,
        }
    }
    let mut setting = Setting {
        places: places(serve, step),
        user: local::user_of_commands(step)?,
        namespaces: step == Step::Inside,
        further: Vec::new(),
        used: false,
        inherit: serve.inherit,
        allowance: Allowance::of_this_container(serve.disk_bytes),
    };
    if setting.namespaces {
        setting.further.push(local::SHARED_MEMORY.into());
    }
    prepare()?;
    // A container that ends before its pod does is started again: this one waits for another driver, or to be asked to end.
    while let Some((input, output)) = connection(serve.socket.as_deref())? {
        if let Some(socket) = &serve.socket {
            setting.used = !listen::mark_used(socket)?;
        }
        let ending = serve::serve(&setting, input, output)?;
        if serve.socket.is_none() || ending == Ending::Terminated {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes this process one that serves.
fn prepare() -> nix::Result<()> {
    // Nobody else, of the same user or not, looks into this process or attaches to it.
    prctl::set_dumpable(false)?;
    prctl::set_child_subreaper(true)?;
    // What is made belongs to the group, which the driver shares.
    umask(Mode::S_IWOTH);
    // Directories are kept open on the way down.
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)
}

/// The two directions of the driver's connection; none where this process was asked to end before there was one.
fn connection(socket: Option<&Path>) -> io::Result<Option<(File, File)>> {
    let (input, output) = match socket {
        Some(path) => {
            let Some(stream) = listen::accept(path)? else { return Ok(None) };
            (OwnedFd::from(stream.try_clone()?), OwnedFd::from(stream))
        }
        None => (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?),
    };
    Ok(Some((input.into(), output.into())))
}

/// Where the slot's directories are: with namespaces where commands see them in a pod, without where they are.
fn places(serve: &Serve, step: Step) -> Places {
    let at = |name: &str, path: &Path| match &serve.local {
        Some(folder) if step == Step::Outside => folder.join(name),
        _ => path.to_owned(),
    };
    let tmp = at("tmp", &serve.tmp);
    let hidden = if serve.local.is_some() && step == Step::Outside {
        // Landlock alone hides anything there. And a machine's devices are more than a container's.
        local::hidden(&serve.hidden).into_iter().chain(["/dev".into()]).collect()
    } else {
        serve.hidden.clone()
    };
    Places {
        workspace: at("workspace", &serve.workspace),
        home: at("home", &serve.home),
        stash: serve.stash.clone().unwrap_or_else(|| tmp.clone()),
        tmp,
        image_workspace: serve.image_workspace.clone(),
        hidden,
    }
}
