//! A model's side of conversations: its template and its tokenizer, from one directory.

use std::path::Path;

use crate::conversation::Conversation;
use crate::encode::{self, Encoder, Tokens};
use crate::files::{self, FilesError};
use crate::template::{ChatTemplate, TemplateError};
use crate::turns::{self, Rendering, TurnError};

/// Why a model's conversations cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// Its files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Its template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The turns of a conversation.
    #[error(transparent)]
    Turns(#[from] TurnError),
    /// Its tokenizer does not take a text.
    #[error("the model's tokenizer does not take the text: {0}")]
    Tokenizer(String),
}

/// A model's chat template and tokenizer.
#[derive(Debug)]
pub struct Chat {
    template: ChatTemplate,
    encoder: Encoder,
    tokenizer_sha256: String,
    template_sha256: String,
}

impl Chat {
    /// Reads the directory of a model.
    pub fn load(folder: &Path) -> Result<Self, ChatError> {
        Self::load_from(folder, |name| std::fs::read(folder.join(name)))
    }

    /// Reads what stands for the directory of a model, such as the metadata of a GGUF file: `get` gives its files by their names in such a directory,
    /// and errors speak of them as files of `folder`.
    pub fn load_from(folder: &Path, get: impl Fn(&str) -> std::io::Result<Vec<u8>>) -> Result<Self, ChatError> {
        let files = files::read(folder, &get)?;
        let template = ChatTemplate::new(&files.template, files.tool_use.as_deref(), &files.special_tokens)?;
        let template_sha256 = files::sha256(files.template.as_bytes());
        let encoder = Encoder::new(files.tokenizer);
        Ok(Self { template, encoder, tokenizer_sha256: files.tokenizer_sha256, template_sha256 })
    }

    /// The sha256 of `tokenizer.json`, in lower-case hexadecimal.
    pub fn tokenizer_sha256(&self) -> &str {
        &self.tokenizer_sha256
    }

    /// The sha256 of the chat template, in lower-case hexadecimal.
    pub fn template_sha256(&self) -> &str {
        &self.template_sha256
    }

    /// The text of a conversation, as transformers' `apply_chat_template(…, tokenize=False)` has it.
    pub fn render(&self, conversation: &Conversation, generation_prompt: bool) -> Result<String, ChatError> {
        Ok(self.template.render(conversation, generation_prompt)?)
    }

    /// The text of a conversation with the place of each turn in it.
    pub fn turns(&self, conversation: &Conversation) -> Result<Rendering, ChatError> {
        Ok(turns::find(&self.template, conversation, |text| self.encoder.ends_in_special(text))?)
    }

    /// The special token with which the template ends an assistant's turn, and which training teaches: who serves the model has to stop at it, whatever
    /// the model's files say. None where a turn ends with none, or the template does not take a conversation of one question and its answer.
    pub fn turn_end(&self) -> Option<u32> {
        let exchange = ["user", "assistant"].map(Conversation::placeholder);
        let exchange = Conversation::new::<()>(&[]).of(exchange.into());
        self.encoder.last_special(self.template.render(&exchange, false).ok()?.trim_end())
    }

    /// The tokens of a text; none are added at its ends.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ChatError> {
        self.encoder.encode(text)
    }

    /// How many tokens a text has.
    pub fn count(&self, text: &str) -> Result<usize, ChatError> {
        self.encoder.count(text)
    }

    /// The tokens of a conversation, and which of them carry loss: those of assistant turns for which `trained` says so (by the message's
    /// position), from after the generation prompt to the end of the turn, the token that ends it included.
    pub fn tokens(&self, rendering: &Rendering, trained: impl Fn(usize) -> bool) -> Result<Tokens, ChatError> {
        encode::tokens(&self.encoder, rendering, trained)
    }

    /// How many tokens the conversation has up to the end of each message.
    pub fn running_counts(&self, rendering: &Rendering) -> Result<Vec<usize>, ChatError> {
        encode::running_counts(&self.encoder, rendering)
    }

    /// The first special token (one that ends turns, or stands for what is no text) that a text spells out, as it would be read as that token.
    pub fn special_token_in(&self, text: &str) -> Option<&str> {
        self.encoder.special_in(text)
    }

    /// The text of some tokens, special ones included.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ChatError> {
        self.encoder.decode(ids)
    }

    /// The text of some tokens without the special ones, which stand for what is no text; those of `kept` stay, whatever the tokenizer calls them.
    pub fn decode_text(&self, ids: &[u32], kept: &[&str]) -> Result<String, ChatError> {
        self.encoder.decode_text(ids, kept)
    }
}
