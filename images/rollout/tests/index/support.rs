//! Repositories that are written for a test, and the program that shows their functions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sera_crds::contract::{Failure, IndexedFunction, Outcome, Termination};
use tempfile::TempDir;

/// A repository with one commit.
pub(crate) struct Repository(TempDir);

impl Repository {
    /// Commits these files.
    pub(crate) fn of<P: AsRef<Path>>(files: impl IntoIterator<Item = (P, Vec<u8>)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let repository = Self(folder);
        repository.git(&["init", "--quiet", "-b", "main"]);
        repository.git(&["add", "--force", "."]);
        repository.git(&["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "one"]);
        repository
    }

    fn git(&self, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.args(arguments).current_dir(self.0.path());
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        assert!(git.status().unwrap().success(), "git {arguments:?}");
    }

    /// What `sera-rollout functions` prints of it.
    pub(crate) fn functions(&self, flags: &[&str]) -> Vec<IndexedFunction> {
        let output = self.run(flags, None);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How it fails.
    pub(crate) fn failure(&self, flags: &[&str]) -> (Option<i32>, Failure) {
        let message = self.0.path().join("termination");
        let output = self.run(flags, Some(&message));
        let termination = Termination::parse(&std::fs::read_to_string(&message).unwrap()).unwrap();
        let Outcome::Failed(failure) = termination.outcome else { panic!("{}", output.stdout) };
        (output.code, failure)
    }

    /// How it ends where nobody reads what it prints.
    pub(crate) fn code_unread(&self) -> Option<i32> {
        let mut child = self.program(&[]).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        child.wait().unwrap().code()
    }

    fn program(&self, flags: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sera-rollout"));
        program.arg("functions").arg("--repository").arg(self.0.path()).args(flags).stdin(Stdio::null());
        program.arg("--scratch").arg(self.0.path().join("scratch"));
        program
    }

    pub(crate) fn run(&self, flags: &[&str], message: Option<&PathBuf>) -> Printed {
        let mut program = self.program(flags);
        if let Some(message) = message {
            program.arg("--termination-message").arg(message);
        }
        let output = program.output().unwrap();
        Printed {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) struct Printed {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A file of `tests/index/fixtures`.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/index/fixtures").join(path)
}

/// The calls of a function by file and name: each with how many functions it could mean.
pub(crate) fn calls<'a>(functions: &'a [IndexedFunction], file: &str, name: &str) -> Vec<(&'a str, u32)> {
    let function = functions.iter().find(|function| function.file == file && function.name == name);
    let edges = &function.unwrap_or_else(|| panic!("no {name} in {file}")).calls;
    edges.iter().map(|edge| (edge.name.as_str(), edge.candidates)).collect()
}
