//! `/progress` of a driver of rollouts: counts for whoever watches, never a list of samples. Losing it loses nothing: the truth is in the store.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{RolloutOutcome, Usage};
use crate::values::Usd;

/// How far the samples of one process have come, what was adopted from an earlier process included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Progress {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// How many samples the process has to bring to an end.
    pub samples: u64,
    /// How many of them have one.
    pub done: u64,
    /// How the first rollouts of those that have one ended.
    pub first: BTreeMap<RolloutOutcome, u64>,
    /// How their second rollouts ended.
    pub second: BTreeMap<RolloutOutcome, u64>,
    /// All calls to the teacher, those of unfinished rollouts included.
    pub usage: Usage,
    /// What they cost; none where no price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Usd>,
    /// Why the teacher answers nobody; none while it answers, and in its first silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<Silence>,
    /// Sandboxes that can be used.
    pub slots: u32,
    /// Sandboxes that will not come clean and are used no more.
    pub quarantined: u32,
}

/// Why a teacher that was asked again and again answers nobody, by what happened last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Silence {
    /// There is no connection.
    Unreachable,
    /// It answers with this HTTP status.
    Status(u16),
    /// Its answers take too long, or stop in the middle.
    Late,
    /// What it sends is no answer.
    Garbled,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("it cannot be reached"),
            Self::Status(status) => write!(f, "it answers with status {status}"),
            Self::Late => f.write_str("its answers take too long"),
            Self::Garbled => f.write_str("what it sends is no answer"),
        }
    }
}
