//! The slot's shell: one process that commands are given to one after the other, so that its directory, variables and functions stay.
//!
//! It reads a script from a pipe, which is its standard input: so its errors begin with its name, and not with that of a file. For each command the
//! script has an `eval` of it, quoted and without that input, and after that a line on a pipe of its own that tells the exit code behind a word that is
//! new each time. The command and what it starts have no descriptor of that pipe.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, pipe2};

use crate::confine::Confinement;
use crate::output::Capture;

/// How much is read from a pipe at once; also what a pipe holds unless it was told otherwise.
const CHUNK: usize = 64 << 10;
/// The longest line that is looked at on the status pipe: a word and a number, or why there is no shell.
const LONGEST_STATUS: usize = 4096;
/// Keeps the ends of the pipes away from commands: descriptors that the script itself uses. What the shell says of the script's own lines, which it does
/// once a command has set `-x` or `-v`, is for nobody.
const PROLOGUE: &str = "exec 9>&2 8>&1 2>/dev/null\n";

/// Why there is no shell, or it takes no command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShellError {
    /// The image has none.
    #[error("the image has neither bash nor sh, in {path} or in /bin; commands need one")]
    None {
        /// Where it was looked for.
        path: String,
    },
    /// It cannot be started.
    #[error("the shell does not start: {0}")]
    Start(String),
    /// A pipe broke.
    #[error("the shell cannot be spoken to: {0}")]
    Pipe(#[from] io::Error),
    /// What it is to be told cannot be written down.
    #[error("the confinement cannot be told: {0}")]
    Arguments(#[from] serde_json::Error),
}

impl From<Errno> for ShellError {
    fn from(errno: Errno) -> Self {
        Self::Pipe(errno.into())
    }
}

/// A kind of shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    is_bash: bool,
}

impl Program {
    /// The shell of this image: bash where there is one, else sh.
    pub(crate) fn find(path: &str) -> Result<Self, ShellError> {
        let folders: Vec<&Path> =
            path.split(':').map(Path::new).chain([Path::new("/bin"), Path::new("/usr/bin")]).collect();
        for (name, is_bash) in [("bash", true), ("sh", false)] {
            let found =
                folders.iter().map(|folder| folder.join(name)).find(|path| path.is_absolute() && path.is_file());
            if let Some(path) = found {
                return Ok(Self { path, is_bash });
            }
        }
        Err(ShellError::None { path: path.to_owned() })
    }

    /// What it is called with, to read its script from what it has as standard input and nothing from anyone's home.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let quiet: &[&str] = if self.is_bash { &["--noprofile", "--norc"] } else { &[] };
        quiet.iter().copied().chain(["-s"]).map(str::to_owned).collect()
    }
}

/// The shell.
pub(crate) struct Shell {
    pid: Pid,
    is_bash: bool,
    script: File,
    /// What the shell has not taken yet: one that is stopped must not stop this program too.
    untaken: Vec<u8>,
    output: File,
    status: File,
    /// What came on the status pipe and is no whole line yet.
    line: Vec<u8>,
    /// Lines that came there and tell no code: why there is no shell.
    said: Vec<u8>,
    word: String,
}

impl Shell {
    /// Starts it. It is ready when [`Shell::code`] answers for the first time.
    pub(crate) fn start(
        program: &Program,
        confinement: &Confinement,
        variables: &[(String, String)],
    ) -> Result<Self, ShellError> {
        let (script_end, script) = pipe2(OFlag::O_CLOEXEC)?;
        let (output, output_end) = pipe2(OFlag::O_CLOEXEC)?;
        let (status, status_end) = pipe2(OFlag::O_CLOEXEC)?;
        for end in [&script, &output, &status] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg0("sera-sandbox").arg("confine").arg(serde_json::to_string(confinement)?);
        command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::from(script_end)).stdout(Stdio::from(output_end)).stderr(Stdio::from(status_end));
        // Not waited for here: whoever hears of an ended child reaps it.
        let child = command.spawn().map_err(|error| ShellError::Start(error.to_string()))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut shell = Self {
            pid,
            is_bash: program.is_bash,
            script: script.into(),
            untaken: PROLOGUE.as_bytes().to_vec(),
            output: output.into(),
            status: status.into(),
            line: Vec::new(),
            said: Vec::new(),
            word: String::new(),
        };
        let report = shell.report("0")?;
        shell.untaken.extend(report.into_bytes());
        shell.push()?;
        Ok(shell)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Gives it a command.
    pub(crate) fn give(&mut self, command: &str) -> Result<(), ShellError> {
        let report = self.report("$?")?;
        // `command` keeps a syntax error from ending a shell other than bash, where `eval` is special.
        let eval = if self.is_bash { "builtin eval" } else { "command eval" };
        let quoted = command.replace('\'', r"'\''");
        let script = format!("{eval} '{quoted}' </dev/null >&8 2>&8 8>&- 9>&-\n{report}");
        self.untaken.extend(script.into_bytes());
        self.push()
    }

    /// The pipe that the script goes through, while there is more of it.
    pub(crate) fn script(&self) -> Option<BorrowedFd<'_>> {
        (!self.untaken.is_empty()).then(|| self.script.as_fd())
    }

    /// Writes as much of the script as the pipe takes.
    pub(crate) fn push(&mut self) -> Result<(), ShellError> {
        while !self.untaken.is_empty() {
            match self.script.write(&self.untaken) {
                Ok(count) => drop(self.untaken.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It has ended, which is heard of elsewhere; where it could not be confined, why is on the status pipe.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.untaken.clear(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A line of the script that tells that what stands before it has ended.
    fn report(&mut self, code: &str) -> Result<String, ShellError> {
        self.word = random_word()?;
        let print = if self.is_bash { "builtin printf" } else { "command printf" };
        Ok(format!("{print} '%s %s\\n' {} \"{code}\" >&9\n", self.word))
    }

    /// Where output and the end of a command show.
    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Where the end of a command shows.
    pub(crate) fn status(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Reads what is there of the output, at most as much as a pipe holds.
    pub(crate) fn read_output(&mut self, capture: &mut Capture) -> Result<(), ShellError> {
        let mut buffer = vec![0; CHUNK];
        let mut left = CHUNK;
        while left > 0 {
            match self.output.read(&mut buffer[..left]) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    capture.push(&buffer[..count]);
                    left -= count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The exit code of the last command, once the shell has told it.
    pub(crate) fn code(&mut self) -> Result<Option<i32>, ShellError> {
        let mut buffer = [0; 512];
        loop {
            match self.status.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.line.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                if let Some(code) = parse(&line, &self.word) {
                    return Ok(Some(code));
                }
                if self.said.len() < LONGEST_STATUS {
                    self.said.extend(line);
                }
            }
            // Nobody but the script writes here; what is no line of its own is not kept for long.
            if self.line.len() > LONGEST_STATUS {
                self.line.clear();
            }
        }
    }

    /// Why it did not start, once it has ended.
    pub(crate) fn last_words(mut self) -> String {
        let mut words = Vec::new();
        let _ = (&mut self.status).take(LONGEST_STATUS as u64).read_to_end(&mut words);
        String::from_utf8_lossy(&[self.said, self.line, words].concat()).trim().to_owned()
    }
}

fn parse(line: &[u8], word: &str) -> Option<i32> {
    let code = line.strip_prefix(word.as_bytes())?.strip_prefix(b" ")?;
    std::str::from_utf8(code).ok()?.trim_end().parse().ok()
}

fn random_word() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_word_of_this_command_tells_its_code() {
        assert_eq!(parse(b"0123 7\n", "0123"), Some(7));
        for line in [&b"0124 7\n"[..], b"01237\n", b"0123 \n", b"0123 7 8\n", b"\xff"] {
            assert_eq!(parse(line, "0123"), None);
        }
    }
}
