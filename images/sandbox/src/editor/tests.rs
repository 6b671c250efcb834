//! The editor on a directory.
