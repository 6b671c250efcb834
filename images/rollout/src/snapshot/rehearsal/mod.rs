//! The repository of `builtin://rehearsal`: a small ledger in Python, which this program brings along, so that a rehearsal needs no git server. It is
//! laid into git's home, the same to the bit everywhere, and fetched from there like any other.

use std::fmt::Write;

use crate::git::url::REHEARSAL;
use crate::git::{Git, GitError, Run};

/// The commits, oldest first: what each says, and the file that it adds.
const COMMITS: [(&str, &str, &str); 4] = [
    ("Keep entries with a date, an account and an amount", "ledger/entries.py", include_str!("entries.py")),
    ("Add up accounts and refuse what would overdraw them", "ledger/accounts.py", include_str!("accounts.py")),
    ("Convert amounts between currencies", "ledger/rates.py", include_str!("rates.py")),
    ("Report balances by month", "ledger/reports.py", include_str!("reports.py")),
];
/// When the first one was made, in seconds since 1970, and how long after it each next one: a month, so that several lie within a year's window.
const FIRST: u64 = 1_767_225_600;
const APART: usize = 30 * 24 * 3600;

/// Makes the repository in git's home.
pub(super) async fn lay(git: &Git) -> Result<(), GitError> {
    git.print(&["init", "--quiet", "--bare", "--template=", REHEARSAL]).await?;
    let (folder, input) = (format!("--git-dir={REHEARSAL}"), stream());
    git.output(Run { arguments: &[&folder, "fast-import", "--quiet"], input: &input, ..Run::default() }).await?;
    Ok(())
}

/// The commits as git's fast-import reads them.
fn stream() -> String {
    let mut stream = String::new();
    for ((message, path, content), when) in COMMITS.iter().zip((FIRST..).step_by(APART)) {
        _ = write!(
            stream,
            "commit refs/heads/main\ncommitter Rehearsal <rehearsal@sera.dev> {when} +0000\n{}M 100644 inline {path}\n{}\n",
            data(message),
            data(content)
        );
    }
    stream
}

fn data(text: &str) -> String {
    format!("data {}\n{text}\n", text.len())
}
