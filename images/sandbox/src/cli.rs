//! The command line.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Executes an agent's commands in a slot of a pod, kept apart from everything else.

Usage:
  sera-sandbox serve --socket PATH [OPTIONS]   wait for a driver on a unix socket, and serve it
  sera-sandbox serve --stdio [OPTIONS]         serve the driver that started this program
  sera-sandbox install DEST                    copy this program to DEST, for images that do not have it
  sera-sandbox copy FROM TO [OPTIONS]          copy a directory into another, for volumes that would hide it
  sera-sandbox check                           say which protections this kernel gives
  sera-sandbox --help | --version

Options of serve:
  --workspace DIR         where the tree is put and commands start [default: /testbed]
  --tmp DIR               for temporary files [default: /tmp]
  --home DIR              HOME of commands [default: /home/sera]
  --stash DIR             where a copy of what was put is kept, in a file without a name [default: as --tmp]
  --image-workspace DIR   a copy of what the image has at the workspace; it is put below every tree
  --hide DIR              commands must not read this; may be given again
  --inherit-env           give commands the variables of this process, less those of Kubernetes
  --disk-limit BYTES      how much the slot's files may take before the pod is evicted: commands end that come near
  --local DIR             without a cluster: the workspace, tmp and home lie in DIR, and commands see them at the paths
                          above, where the kernel gives namespaces

Options of copy, which go together:
  --accounts DIR          write the image's lists of users and groups there, for slots to have as /etc/passwd and
                          /etc/group ...
  --users FIRST-LAST      ... with these numbers added, all of them called sera ...
  --home DIR              ... and at home in DIR

Examples:
  What this machine, or a node, gives; nothing is changed:
    sera-sandbox check

  In a pod: an init container brings the program, and what the image has at the workspace, into volumes ...
    sera-sandbox install /sera/bin
    sera-sandbox copy /testbed /sera/image
  ... and a container of the image serves a slot on a socket that only the driver's container has too:
    sera-sandbox serve --socket /sera/slot-0/socket --workspace /testbed --image-workspace /sera/image --inherit-env

  Without a cluster, as sera-rollout starts it for each slot; commands do not read what is hidden:
    sera-sandbox serve --stdio --local /tmp/scratch/slot-0 --hide /tmp/scratch --hide /home/me/keys

Exit codes:
    0  done; serve: asked to end by SIGTERM, SIGINT or SIGHUP, or, with --stdio, its driver has gone
    1  it failed, or this kernel does not give what is demanded: standard error says why, and the lines of check do
   64  the command line is wrong
";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Help,
    Version,
    Serve(Serve),
    Install(PathBuf),
    Copy {
        from: PathBuf,
        to: PathBuf,
        users: Option<Users>,
    },
    Check,
    /// Whether namespaces can be had; asked by `check` of another process.
    CheckNamespaces,
    /// The step between this program and a shell; nobody else calls it.
    Confine(String),
}

/// Which users are added to those of an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Users {
    /// The file that is written.
    pub(crate) to: PathBuf,
    pub(crate) numbers: RangeInclusive<u32>,
    pub(crate) home: PathBuf,
}

/// How to serve.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Serve {
    /// The socket; none: standard input and output.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) workspace: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) stash: Option<PathBuf>,
    pub(crate) image_workspace: Option<PathBuf>,
    pub(crate) hidden: Vec<PathBuf>,
    pub(crate) inherit: bool,
    pub(crate) disk_bytes: Option<u64>,
    pub(crate) local: Option<PathBuf>,
}

/// What is wrong with a command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} (sera-sandbox --help tells more)")]
pub(crate) struct UsageError(String);

/// Reads a command line, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Action, UsageError> {
    let mut arguments = arguments.into_iter();
    let command =
        arguments.next().ok_or_else(|| UsageError("say what to do: serve, install, copy or check".to_owned()))?;
    let mut arguments = Arguments { rest: arguments.collect::<Vec<_>>().into_iter() };
    if arguments.rest.as_slice().first().is_some_and(|first| first == "--help" || first == "-h") {
        return Ok(Action::Help);
    }
    let action = match command.to_str() {
        Some("--help" | "-h" | "help") => return Ok(Action::Help),
        Some("--version" | "-V") => return Ok(Action::Version),
        Some("serve") => return serve(arguments),
        Some("install") => Action::Install(arguments.path("install", "DEST")?),
        Some("copy") => return copy(arguments),
        Some("check") => Action::Check,
        Some("check-namespaces") => Action::CheckNamespaces,
        Some("confine") => Action::Confine(arguments.path("confine", "ARGUMENTS")?.to_string_lossy().into_owned()),
        _ => return Err(UsageError(format!("there is no command {}", command.display()))),
    };
    match arguments.rest.next() {
        Some(more) => Err(UsageError(format!("{} is one argument too many", more.display()))),
        None => Ok(action),
    }
}

fn copy(mut arguments: Arguments) -> Result<Action, UsageError> {
    let (from, to) = (arguments.path("copy", "FROM")?, arguments.path("copy", "TO")?);
    let (mut accounts, mut numbers, mut home) = (None, None, None);
    while let Some((flag, value)) = arguments.flag() {
        let mut path = || value.clone().map_or_else(|| arguments.path(&flag, "a path"), Ok);
        match flag.as_str() {
            "--accounts" => accounts = Some(path()?),
            "--users" => numbers = Some(range(&flag, &path()?.to_string_lossy())?),
            "--home" => home = Some(absolute(&flag, path()?)?),
            _ => return Err(UsageError(format!("copy takes no {flag}"))),
        }
    }
    let users = match (accounts, numbers, home) {
        (None, None, None) => None,
        (Some(to), Some(numbers), Some(home)) => Some(Users { to, numbers, home }),
        _ => return Err(UsageError("copy takes all of --accounts, --users and --home, or none".to_owned())),
    };
    Ok(Action::Copy { from, to, users })
}

fn range(flag: &str, text: &str) -> Result<RangeInclusive<u32>, UsageError> {
    let range = text.split_once('-').and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    range.ok_or_else(|| UsageError(format!("{flag} takes two numbers, such as 65600-65607, not {text}")))
}

fn serve(mut arguments: Arguments) -> Result<Action, UsageError> {
    let mut serve = Serve {
        socket: None,
        workspace: "/testbed".into(),
        tmp: "/tmp".into(),
        home: "/home/sera".into(),
        stash: None,
        image_workspace: None,
        hidden: Vec::new(),
        inherit: false,
        disk_bytes: None,
        local: None,
    };
    let mut stdio = false;
    while let Some((flag, value)) = arguments.flag() {
        let mut path = || value.clone().map_or_else(|| arguments.path(&flag, "a path"), Ok);
        match flag.as_str() {
            "--help" | "-h" => return Ok(Action::Help),
            "--stdio" => stdio = true,
            "--inherit-env" => serve.inherit = true,
            "--socket" => serve.socket = Some(path()?),
            "--workspace" => serve.workspace = absolute(&flag, path()?)?,
            "--tmp" => serve.tmp = absolute(&flag, path()?)?,
            "--home" => serve.home = absolute(&flag, path()?)?,
            "--stash" => serve.stash = Some(path()?),
            "--image-workspace" => serve.image_workspace = Some(absolute(&flag, path()?)?),
            "--hide" => serve.hidden.push(absolute(&flag, path()?)?),
            "--disk-limit" => serve.disk_bytes = Some(bytes(&flag, &path()?.to_string_lossy())?),
            "--local" => serve.local = Some(absolute(&flag, path()?)?),
            _ => return Err(UsageError(format!("serve takes no {flag}"))),
        }
    }
    if stdio == serve.socket.is_some() {
        return Err(UsageError("serve takes one of --socket PATH and --stdio".to_owned()));
    }
    Ok(Action::Serve(serve))
}

fn bytes(flag: &str, text: &str) -> Result<u64, UsageError> {
    text.parse().map_err(|_| UsageError(format!("{flag} takes a number of bytes, not {text}")))
}

fn absolute(flag: &str, path: PathBuf) -> Result<PathBuf, UsageError> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(UsageError(format!("{flag} takes an absolute path, not {}", path.display())))
    }
}

struct Arguments {
    rest: std::vec::IntoIter<OsString>,
}

impl Arguments {
    /// The next flag, and its value where it has one after an equals sign.
    fn flag(&mut self) -> Option<(String, Option<PathBuf>)> {
        let text = self.rest.next()?.to_string_lossy().into_owned();
        Some(match text.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(PathBuf::from(value))),
            None => (text, None),
        })
    }

    fn path(&mut self, of: &str, what: &str) -> Result<PathBuf, UsageError> {
        let path = self.rest.next().filter(|path| !path.is_empty());
        path.map(PathBuf::from).ok_or_else(|| UsageError(format!("{of} needs {what}")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Action, Users, parse};

    fn parsed(line: &str) -> Result<Action, String> {
        parse(line.split_whitespace().map(Into::into)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_socket_and_its_directories_are_taken_either_way() {
        let Ok(Action::Serve(serve)) =
            parsed("serve --socket /s --workspace=/w --hide /a --hide=/b --inherit-env --disk-limit=7")
        else {
            panic!("not understood")
        };
        assert_eq!(serve.socket.as_deref(), Some(Path::new("/s")));
        assert_eq!((serve.workspace.as_path(), serve.tmp.as_path()), (Path::new("/w"), Path::new("/tmp")));
        assert_eq!(serve.hidden, [Path::new("/a"), Path::new("/b")]);
        assert!(serve.inherit && serve.local.is_none());
        assert_eq!(serve.disk_bytes, Some(7));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let cases = [
            ("", "say what to do"),
            ("fly", "no command fly"),
            ("serve", "one of --socket PATH and --stdio"),
            ("serve --stdio --socket /s", "one of --socket PATH and --stdio"),
            ("serve --stdio --workspace", "--workspace needs a path"),
            ("serve --stdio --workspace w", "absolute path, not w"),
            ("serve --stdio --speed", "no --speed"),
            ("serve --stdio --disk-limit=9Gi", "--disk-limit takes a number of bytes, not 9Gi"),
            ("install", "install needs DEST"),
            ("copy /a", "copy needs TO"),
            ("copy /a /b /c", "copy takes no /c"),
            ("copy /a /b --users=1-2", "all of --accounts, --users and --home"),
            ("copy /a /b --accounts /p --home /h --users=some", "two numbers, such as 65600-65607, not some"),
            ("check it", "it is one argument too many"),
        ];
        for (line, why) in cases {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(why) && !error.contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn a_copy_may_add_users() {
        let users = Users { to: "/p".into(), numbers: 65_600..=65_601, home: "/h".into() };
        let [from, to] = ["/a", "/b"].map(PathBuf::from);
        let line = "copy /a /b --accounts=/p --users 65600-65601 --home /h";
        assert_eq!(parsed(line), Ok(Action::Copy { from: from.clone(), to: to.clone(), users: Some(users) }));
        assert_eq!(parsed("copy /a /b"), Ok(Action::Copy { from, to, users: None }));
    }

    #[test]
    fn help_and_version_are_told() {
        assert_eq!(parsed("--help"), Ok(Action::Help));
        assert_eq!(parsed("serve --help"), Ok(Action::Help));
        assert_eq!(parsed("--version"), Ok(Action::Version));
    }
}
