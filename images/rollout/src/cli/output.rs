//! What becomes of a command whose output nobody reads to its end.

use std::io;

/// Whether a page could not be printed because its reader has enough, such as `head` or a pager that was left: that is no failure.
/// Not for measures: whoever pipes those on wants all of them, and hears it when they were lost.
pub(super) fn is_unread(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
