//! The termination message of a pod's ranks, which have one file for it: a rank that knows why the training failed goes before those that only know that
//! it did, whoever comes first.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use sera_crds::contract::{Outcome, Termination};
use sera_program::ending;

/// Reasons that tell of another rank's failure, or of being ended for one.
const HEARSAY: [&str; 4] = ["RankLost", "NotFetched", "RanksNotTogether", "Interrupted"];

/// How much earlier than this process another of the same launch may have ended: they are started one after the other.
const APART: Duration = Duration::from_secs(5);

/// Whose last words these are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speaker {
    /// Whether other ranks write to the same file.
    pub(super) among_others: bool,
    /// When this process began.
    pub(super) begun: SystemTime,
}

impl Speaker {
    /// Writes the termination message, unless another rank of this launch has left one that says as much.
    pub(super) fn leave(self, path: Option<&Path>, said: &Termination) {
        let Some(path) = path else { return };
        // What is no file, such as a pipe, can neither be read again nor be shared.
        let is_file =
            || std::fs::metadata(path).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |at| at.is_file());
        if !self.among_others || !is_file() {
            ending::leave(Some(path), &said.to_json());
        } else if let Err(error) = self.leave_among_others(path, said) {
            tracing::warn!(path = %path.display(), "the termination message cannot be written: {error}");
        }
    }

    /// In its place, since a pod's file cannot be replaced by another.
    fn leave_among_others(self, path: &Path, said: &Termination) -> io::Result<()> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        if let Err(error) = file.lock() {
            tracing::debug!("{} cannot be locked: {error}", path.display());
        }
        let is_of_this_launch = file.metadata()?.modified()? + APART >= self.begun;
        let mut before = Vec::new();
        file.read_to_end(&mut before)?;
        let before = std::str::from_utf8(&before).ok().and_then(|text| Termination::parse(text).ok());
        if before.is_some_and(|before| is_of_this_launch && knowledge(&before) >= knowledge(said)) {
            return Ok(());
        }
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(said.to_json().as_bytes())
    }
}

/// How much a rank knows of why it ended.
fn knowledge(said: &Termination) -> u8 {
    match &said.outcome {
        Outcome::Failed(failure) if HEARSAY.contains(&failure.reason.as_str()) => 0,
        Outcome::Failed(_) | Outcome::Succeeded(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use sera_crds::contract::{Failure, FailureClass};

    use super::*;

    fn failed(reason: &str) -> Termination {
        let (class, message) = (FailureClass::Configuration, "it did not".to_owned());
        Termination::failed(Failure { class, reason: reason.to_owned(), field: None, message })
    }

    /// The reason that is read in the end where ranks leave these words one after the other.
    fn left(speaker: Speaker, reasons: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("message");
        reasons.iter().for_each(|reason| speaker.leave(Some(&path), &failed(reason)));
        match Termination::parse(&std::fs::read_to_string(path).unwrap()).unwrap().outcome {
            Outcome::Failed(failure) => failure.reason,
            Outcome::Succeeded(_) => unreachable!("nothing but failures was left"),
        }
    }

    const ONE_OF_MANY: Speaker = Speaker { among_others: true, begun: SystemTime::UNIX_EPOCH };

    #[test]
    fn the_rank_that_knows_why_is_heard_whether_it_speaks_first_or_last() {
        for orders in
            [["FileUnavailable", "RankLost"], ["RankLost", "FileUnavailable"], ["Interrupted", "FileUnavailable"]]
        {
            assert_eq!(left(ONE_OF_MANY, &orders), "FileUnavailable", "{orders:?}");
        }
        assert_eq!(left(ONE_OF_MANY, &["FileUnavailable", "LossDiverged"]), "FileUnavailable", "the first that knows");
        assert_eq!(left(ONE_OF_MANY, &["NotFetched", "RankLost"]), "NotFetched");
    }

    #[test]
    fn what_an_earlier_launch_left_is_replaced() {
        let later = Speaker { begun: SystemTime::now() + 2 * APART, ..ONE_OF_MANY };
        assert_eq!(left(later, &["FileUnavailable", "RankLost"]), "RankLost");
        let alone = Speaker { among_others: false, ..ONE_OF_MANY };
        assert_eq!(left(alone, &["FileUnavailable", "RankLost"]), "RankLost");
    }
}
