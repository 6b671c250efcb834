//! How a command fails, a line and a code, and how it prints.

use std::io::{ErrorKind, Write};

use sera_chat::ChatError;
use sera_crds::contract::ExitCode;
use sera_program::failure::Explain;

use crate::bucket::BucketError;
use crate::device::DeviceError;
use crate::files::{AdapterError, FilesError, GgufError};
use crate::generate::GenerateError;
use crate::inference::SourceError;
use crate::ops::AttentionError;
use crate::ops::kernels::KernelsError;
use crate::ranks::{JoinError, RendezvousError};

/// Why a command ended without what was asked for.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: ExitCode,
    /// One line.
    pub(super) message: String,
}

impl Failure {
    /// Something that should not happen.
    pub(super) fn internal(message: String) -> Self {
        Self { code: ExitCode::Internal, message }
    }

    /// Something that was given is wrong.
    pub(super) fn given(message: String) -> Self {
        Self { code: ExitCode::Configuration, message }
    }
}

impl From<BucketError> for Failure {
    fn from(error: BucketError) -> Self {
        Self { code: error.explain().class.into(), message: error.to_string() }
    }
}

impl From<FilesError> for Failure {
    fn from(error: FilesError) -> Self {
        Self { code: error.exit_code(), message: error.to_string() }
    }
}

impl From<AdapterError> for Failure {
    fn from(error: AdapterError) -> Self {
        match error {
            AdapterError::Files(error) => error.into(),
            error => Self::given(error.to_string()),
        }
    }
}

impl From<GgufError> for Failure {
    fn from(error: GgufError) -> Self {
        match error {
            GgufError::Files(error) => error.into(),
            error => Self::given(error.to_string()),
        }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Self::given(error.to_string())
    }
}

impl From<KernelsError> for Failure {
    fn from(error: KernelsError) -> Self {
        Self::given(error.to_string())
    }
}

impl From<AttentionError> for Failure {
    fn from(error: AttentionError) -> Self {
        Self::given(error.to_string())
    }
}

impl From<ChatError> for Failure {
    fn from(error: ChatError) -> Self {
        Self::given(error.to_string())
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self { code: error.exit_code(), message: error.to_string() }
    }
}

impl From<GenerateError> for Failure {
    fn from(error: GenerateError) -> Self {
        Self::given(error.to_string())
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let code = match error {
            // Who says what ranks compute on, and what is installed there, has to change it.
            JoinError::Mixed { .. }
            | JoinError::Device(_)
            | JoinError::Rendezvous(RendezvousError::PortInUse { .. }) => ExitCode::Configuration,
            JoinError::Rendezvous(_) | JoinError::Ranks(_) | JoinError::Nccl(_) => ExitCode::Unavailable,
        };
        Self { code, message: error.to_string() }
    }
}

/// Prints to standard output. A reader that has gone has read what it wanted.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let message = format!("cannot write to standard output: {error}");
            Err(Failure { code: ExitCode::Unavailable, message })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_that_compute_on_different_devices_or_lack_a_library_are_told_wrong_and_lost_ones_may_come_again() {
        let code = |error: JoinError| Failure::from(error).code;
        assert_eq!(code(JoinError::Mixed { gpus: 1, world: 2 }), ExitCode::Configuration);
        assert_eq!(code(DeviceError::NoLibrary("nccl").into()), ExitCode::Configuration);
        assert_eq!(code(RendezvousError::PortInUse { port: 1 }.into()), ExitCode::Configuration);
        assert_eq!(code(JoinError::Nccl("not now".to_owned())), ExitCode::Unavailable);
    }
}
