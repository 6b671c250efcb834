//! The student, as far as trajectories are judged and written down for it: its chat template and tokenizer, and the policy that names them.

use std::path::Path;

use sera_chat::Chat;
use sera_crds::contract::{StudentPlan, StudentPolicy};

use super::format::{self, FormatError};
use crate::failure::{Cause, Explain, Field};

/// A student's directory, and how lines are made for it.
#[derive(Debug)]
pub(crate) struct Student {
    pub(super) chat: Chat,
    policy: StudentPolicy,
}

/// Why a student's directory is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the student in {folder}: {source}")]
pub(crate) struct StudentError {
    folder: String,
    source: FormatError,
}

impl Explain for StudentError {
    fn explain(&self) -> Cause {
        Cause::configuration("StudentUnusable", Field::Student)
    }
}

impl Student {
    /// Reads a model's directory as Hugging Face lays it out; weights are not looked at.
    pub(crate) fn open(folder: &Path, plan: &StudentPlan) -> Result<Self, StudentError> {
        let failed = |source| StudentError { folder: folder.display().to_string(), source };
        let chat = Chat::load(folder).map_err(|error| failed(error.into()))?;
        format::check(plan.tool_call_format, &chat).map_err(failed)?;
        let policy = StudentPolicy {
            tokenizer: chat.tokenizer_sha256().to_owned(),
            chat_template: chat.template_sha256().to_owned(),
            tool_call_format: plan.tool_call_format,
            context_length: plan.context_length,
            min_kept_ratio: plan.min_kept_ratio.clone(),
        };
        Ok(Self { chat, policy })
    }

    /// What of it decides about trajectories.
    pub(crate) fn policy(&self) -> &StudentPolicy {
        &self.policy
    }
}
