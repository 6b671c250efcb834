//! A git repository of several languages in a folder of its own, and what its functions are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Functions by their files: a few for each language that the teacher knows.
pub(crate) const FUNCTIONS: [(&str, &str); 25] = [
    ("net/session.py", "Session.send"),
    ("net/session.py", "Session.close"),
    ("net/session.py", "parse_header"),
    ("store/src/cache.rs", "Cache::insert"),
    ("store/src/cache.rs", "shorten"),
    ("pkg/queue/queue.go", "Queue.Push"),
    ("pkg/queue/queue.go", "Retry"),
    ("web/src/router.js", "Router.match"),
    ("web/src/router.js", "debounce"),
    ("web/src/format.ts", "formatBytes"),
    ("web/src/format.ts", "Table.add"),
    ("jvm/src/main/Ledger.java", "Ledger.post"),
    ("jvm/src/main/Ledger.java", "Ledger.balance"),
    ("native/ring.c", "ring_push"),
    ("native/ring.c", "ring_find"),
    ("native/matrix.cpp", "Matrix::at"),
    ("native/matrix.cpp", "Matrix::load"),
    ("ruby/lib/mailer.rb", "Mailer#deliver"),
    ("dotnet/Parser.cs", "Parser.Parse"),
    ("php/src/Cart.php", "Cart::add"),
    ("php/src/Cart.php", "total"),
    ("android/Sync.kt", "Sync.upload"),
    ("ios/Player.swift", "Player.enqueue"),
    ("scala/src/Planner.scala", "Planner.schedule"),
    ("scala/src/Planner.scala", "Planner.rank"),
];

pub(crate) struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    /// The repository of the tests, with one commit.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rehearsal/repository");
        copy(&source, folder.path());
        let repository = Self { folder };
        repository.git(&["init", "-q"]);
        repository.git(&["add", "."]);
        repository.git(&[
            "-c",
            "user.name=Nobody",
            "-c",
            "user.email=nobody@example.org",
            "commit",
            "-q",
            "-m",
            "Begin",
        ]);
        repository
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// Takes back everything that was changed.
    pub(crate) fn reset(&self) {
        self.git(&["checkout", "-q", "."]);
        self.git(&["clean", "-fdq"]);
    }

    pub(crate) fn diff(&self) -> String {
        self.git(&["add", "-A"]);
        let diff = String::from_utf8(self.git(&["diff", "--cached"]).stdout).unwrap();
        self.git(&["reset", "-q"]);
        diff
    }

    fn git(&self, arguments: &[&str]) -> Output {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A parser of the file's language that is at hand, and refuses what does not parse.
pub(crate) fn parses(path: &Path) -> Option<bool> {
    let extension = path.extension()?.to_str()?;
    let (program, arguments): (&str, &[&str]) = match extension {
        "py" => ("python3", &["-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())"]),
        "go" => ("gofmt", &["-e"]),
        "js" => ("node", &["--check"]),
        "rs" => ("rustfmt", &["--edition", "2024", "--emit", "stdout"]),
        "c" => ("gcc", &["-fsyntax-only"]),
        "cpp" => ("g++", &["-fsyntax-only"]),
        "rb" => ("ruby", &["-c"]),
        "php" => ("php", &["-l"]),
        _ => return None,
    };
    Command::new(program).args(arguments).arg(path).output().ok().map(|output| output.status.success())
}
