//! What becomes of a command whose output nobody reads to its end.

use std::io;

/// A reader that has enough of a page, such as `head` or a pager that was left, is no failure. `output` picks the error of writing from others.
/// Not for measures: whoever pipes those on wants all of them, and hears it when they were lost.
pub(super) fn unless_unread<E>(printed: Result<(), E>, output: impl FnOnce(&E) -> Option<&io::Error>) -> Result<(), E> {
    match printed {
        Err(error) if output(&error).is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe) => Ok(()),
        printed => printed,
    }
}
