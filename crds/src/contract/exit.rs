//! The exit codes of every program, in one place: Jobs' failure policies, the operator and people with a shell all read
//! them.

use super::FailureClass;

/// Why a program of the data plane ended. The numbers are part of the contract: a Job's `podFailurePolicy` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// The stage's manifest is in the store.
    Success = 0,
    /// Something that should not happen; the log has the chain of causes. Worth another try.
    Internal = 1,
    /// The command line is wrong (clap's own code). Another try would end the same.
    Usage = 2,
    /// What the user gave is wrong or is missing: a revision, a credential, a glob. Another try ends the same until
    /// that is changed.
    Configuration = 10,
    /// Something outside could not be reached or refused for now: a host, a store, a rate limit. Worth another try,
    /// later.
    Unavailable = 11,
    /// The store holds something else than this stage would write, and it was left untouched. Another try ends the
    /// same.
    Conflict = 12,
    /// SIGTERM or SIGINT: what was finished is kept, and the same command goes on from there (128 + 15, as shells
    /// count).
    Interrupted = 143,
}

impl ExitCode {
    /// Every code, for tables and policies.
    pub const ALL: [Self; 7] = [
        Self::Success,
        Self::Internal,
        Self::Usage,
        Self::Configuration,
        Self::Unavailable,
        Self::Conflict,
        Self::Interrupted,
    ];

    /// The number that the process exits with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The meaning of a process's exit status, where it is one of ours.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| i32::from(known.code()) == code)
    }

    /// Whether the same command may end better without anybody changing anything.
    pub const fn worth_retrying(self) -> bool {
        matches!(self, Self::Internal | Self::Unavailable | Self::Interrupted)
    }
}

impl From<FailureClass> for ExitCode {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Configuration => Self::Configuration,
            FailureClass::Unavailable => Self::Unavailable,
            FailureClass::Conflict => Self::Conflict,
            FailureClass::Internal => Self::Internal,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode;

    #[test]
    fn a_code_is_found_again_by_its_number() {
        for code in ExitCode::ALL {
            assert_eq!(ExitCode::from_code(i32::from(code.code())), Some(code));
        }
        assert_eq!(ExitCode::from_code(137), None, "a SIGKILL is nobody's exit code");
    }

    #[test]
    fn only_what_may_end_better_is_worth_retrying() {
        let retried: Vec<u8> =
            ExitCode::ALL.into_iter().filter(|code| code.worth_retrying()).map(ExitCode::code).collect();
        assert_eq!(retried, [1, 11, 143]);
    }
}
