//! What can go wrong with a teacher: faults of one attempt, which another may not have, and what ends a call.

use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::failure::{Cause, Explain};
use sera_crds::contract::{FailureClass, Silence};

/// Why one attempt failed, where another may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// No connection, or it broke before an answer began.
    #[error("it cannot be reached ({problem})")]
    Unreachable {
        /// What the network says.
        problem: String,
    },
    /// It is busy or out of order, and says so.
    #[error("it answered with status {status} ({said})")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What it says.
        said: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The whole answer took too long.
    #[error("it gave no whole answer within {} s", limit.as_secs_f32())]
    Late {
        /// What was allowed.
        limit: Duration,
    },
    /// Tokens stopped coming.
    #[error("it stopped in the middle of an answer for {} s", limit.as_secs_f32())]
    Stalled {
        /// What was allowed.
        limit: Duration,
    },
    /// The connection ended in the middle of an answer.
    #[error("the connection ended in the middle of an answer ({problem})")]
    Broken {
        /// What the network says.
        problem: String,
    },
    /// What came is no answer of this protocol.
    #[error("what it sent is no chat completion: {problem}")]
    Garbled {
        /// What is wrong.
        problem: String,
    },
    /// What came is longer than any answer.
    #[error("its answer has more than {limit} bytes")]
    TooLong {
        /// What was allowed.
        limit: usize,
    },
}

impl Fault {
    /// Whether the replica is out of order. One that asks for patience works.
    pub(super) fn blames_the_replica(&self) -> bool {
        !self.is_congestion()
    }

    /// Whether it only has too much to do.
    pub(super) fn is_congestion(&self) -> bool {
        matches!(self, Self::Status { status: 429, .. })
    }

    /// What it comes to, for whoever watches.
    pub(super) fn silence(&self) -> Silence {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => Silence::Unreachable,
            Self::Status { status, .. } => Silence::Status(*status),
            Self::Late { .. } | Self::Stalled { .. } => Silence::Late,
            Self::Garbled { .. } | Self::TooLong { .. } => Silence::Garbled,
        }
    }

    /// How long it wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChatError {
    /// The conversation is longer than the teacher's context.
    #[error("the conversation no longer fits the teacher's context ({said})")]
    ContextOverflow {
        /// What the server says.
        said: String,
    },
    /// The key is wrong, or lacks a right.
    #[error(
        "the teacher at {url} does not let us in (status {status}: {said}): check the key apiKey of the teacher's Secret"
    )]
    NotLetIn {
        /// The address.
        url: Url,
        /// The HTTP status.
        status: u16,
        /// What the server says.
        said: String,
    },
    /// There is no such address or model.
    #[error(
        "the teacher at {url} has no such model or address (status 404: {said}): check the URL, which ends in /v1 with most servers, and the model's name"
    )]
    NotThere {
        /// The address.
        url: Url,
        /// What the server says.
        said: String,
    },
    /// The server's certificate is signed by nobody who is trusted.
    #[error(
        "the certificate of the teacher at {url} is not trusted: add the CA that signed it as the key ca.crt ({problem})"
    )]
    Untrusted {
        /// The address.
        url: Url,
        /// What TLS says.
        problem: String,
    },
    /// The server understands, and will not.
    #[error("the teacher does not take the request (status {status}: {said})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// What the server says.
        said: String,
    },
    /// It was tried as often as is allowed.
    #[error("the teacher gave no usable answer in {tries} tries; the last time, {last}")]
    GivenUp {
        /// How often it was tried.
        tries: u32,
        /// What was wrong the last time.
        last: Fault,
        /// When it was tried first.
        since: Instant,
    },
    /// Nobody waits any more.
    #[error("the time was up before the teacher answered")]
    OutOfTime {
        /// When it was asked first.
        since: Instant,
    },
    /// It answers, and does not count what a budget is kept by.
    #[error(
        "the teacher's server does not say how many tokens an answer took, and a limit in tokens or dollars cannot be kept without: have it report usage, or give the budget a limit in time (maxDuration) in place of those (maxTotalTokens, maxCost)"
    )]
    Uncounted,
}

impl Explain for ChatError {
    fn explain(&self) -> Cause {
        let configuration = |reason| Cause { class: FailureClass::Configuration, reason, field: None };
        match self {
            Self::NotLetIn { .. } => configuration("TeacherAccessDenied"),
            Self::NotThere { .. } => configuration("TeacherNotFound"),
            Self::Untrusted { .. } => configuration("TeacherCertificateNotTrusted"),
            Self::ContextOverflow { .. } | Self::Rejected { .. } => configuration("TeacherRefused"),
            Self::Uncounted => configuration("TeacherUsageMissing"),
            Self::GivenUp { .. } | Self::OutOfTime { .. } => Cause::unavailable("TeacherUnavailable"),
        }
    }
}

/// Why a teacher cannot even be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// No address.
    #[error("no teacher is named: give its address with --teacher-url")]
    NoUrl,
    /// An address that nothing can be added to.
    #[error("'{url}' is no base address of a teacher: it begins with http:// or https://, such as https://host/v1")]
    Url {
        /// The address.
        url: Url,
    },
    /// The `ca.crt` is none.
    #[error("the key ca.crt of the teacher's Secret is not a PEM bundle of certificates ({problem})")]
    CaCertificate {
        /// Why not.
        problem: String,
    },
    /// The key cannot be a header.
    #[error("the key apiKey of the teacher's Secret has characters that no HTTP header can have")]
    Key,
    /// The HTTP client does not start.
    #[error("the HTTP client cannot be started: {problem}")]
    Client {
        /// Why not.
        problem: String,
    },
}

impl Explain for SetupError {
    fn explain(&self) -> Cause {
        let configuration = |reason| Cause { class: FailureClass::Configuration, reason, field: None };
        match self {
            Self::NoUrl | Self::Url { .. } => configuration("TeacherUrlInvalid"),
            Self::CaCertificate { .. } | Self::Key => configuration("TeacherCredentialsInvalid"),
            Self::Client { .. } => Cause::internal("HttpClient"),
        }
    }
}
