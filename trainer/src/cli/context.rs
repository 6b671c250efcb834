//! What every command has at hand: the secrets that nothing it says may have in it, and the display that its log writes around.

use sera_program::logs::LogArgs;
use sera_program::redact::Redactor;

use crate::training::Display;

/// The surroundings of a command.
pub(super) struct Context {
    /// Hides what it is told to.
    pub(super) redactor: Redactor,
    /// How the log was asked for.
    pub(super) log: LogArgs,
}

impl Context {
    /// Starts the log, and returns the display of the training that it writes around.
    pub(super) fn display(&self) -> Display {
        let display = Display::detect();
        self.log.start(display.bars(), self.redactor.clone());
        display
    }
}
