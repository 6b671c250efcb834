//! How a conversation becomes the text and the tokens that a student is trained on: its own chat template, rendered as Hugging Face transformers'
//! `apply_chat_template` renders it, its own tokenizer, and which tokens carry loss. No tensors, no network; what cannot be reproduced exactly is
//! refused by name.

mod built_in;
mod chat;
mod conversation;
mod encode;
mod files;
mod template;
mod turns;

pub use built_in::student_folder;
pub use chat::{Chat, ChatError};
pub use conversation::Conversation;
pub use encode::Tokens;
pub use files::FilesError;
pub use template::{ChatTemplate, TemplateError, to_json};
pub use turns::{Rendering, Turn, TurnError};
