//! Texts to tokens, and a conversation to tokens with a loss mask and running counts.

use tokenizers::Tokenizer;

use crate::chat::ChatError;
use crate::turns::Rendering;

/// A conversation for training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Whether each of them carries loss.
    pub loss: Vec<bool>,
}

/// A tokenizer, and what has to be known of the tokens that were added to its vocabulary.
#[derive(Debug)]
pub(crate) struct Encoder {
    tokenizer: Tokenizer,
    /// Tokens that are never part of a longer one, so that a text may be cut before them without changing its tokens.
    separators: Vec<String>,
    /// Those that stand for what is no text, and their numbers.
    special: Vec<(String, u32)>,
}

impl Encoder {
    pub(crate) fn new(tokenizer: Tokenizer) -> Self {
        let mut added: Vec<_> = tokenizer.get_added_tokens_decoder().into_iter().collect();
        added.retain(|(_, token)| !token.content.is_empty());
        added.sort_by(|(_, a), (_, b)| a.content.cmp(&b.content));
        let whole = added.iter().filter(|(_, token)| !token.lstrip && !token.single_word);
        let separators = whole.map(|(_, token)| token.content.clone()).collect();
        let special = added.iter().filter(|(_, token)| token.special);
        let special = special.map(|(id, token)| (token.content.clone(), *id)).collect();
        Self { tokenizer, separators, special }
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, ChatError> {
        Ok(self.tokenizer.encode_fast(text, false).map_err(complaint)?.get_ids().to_vec())
    }

    pub(crate) fn count(&self, text: &str) -> Result<usize, ChatError> {
        Ok(self.tokenizer.encode_fast(text, false).map_err(complaint)?.len())
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, ChatError> {
        self.tokenizer.decode(ids, false).map_err(complaint)
    }

    pub(crate) fn decode_text(&self, ids: &[u32], kept: &[&str]) -> Result<String, ChatError> {
        let is_left_out =
            |id: u32| self.special.iter().any(|(token, its)| *its == id && !kept.contains(&token.as_str()));
        let ids: Vec<u32> = ids.iter().copied().filter(|id| !is_left_out(*id)).collect();
        self.decode(&ids)
    }

    pub(crate) fn ends_in_special(&self, text: &str) -> bool {
        self.last_special(text).is_some()
    }

    /// The special token that a text ends in; the longest, where one ends as another does.
    pub(crate) fn last_special(&self, text: &str) -> Option<u32> {
        let ends = self.special.iter().filter(|(token, _)| text.ends_with(token.as_str()));
        ends.max_by_key(|(token, _)| token.len()).map(|(_, id)| *id)
    }

    pub(crate) fn special_in(&self, text: &str) -> Option<&str> {
        self.special.iter().map(|(token, _)| token.as_str()).find(|token| text.contains(token))
    }

    fn begins_with_separator(&self, text: &str) -> bool {
        self.separators.iter().any(|token| text.starts_with(token.as_str()))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is handed to map_err as it is")]
fn complaint(error: tokenizers::Error) -> ChatError {
    ChatError::Tokenizer(error.to_string())
}

/// The whole conversation is encoded at once; a token belongs to where it begins.
pub(crate) fn tokens(
    encoder: &Encoder,
    rendering: &Rendering,
    trained: impl Fn(usize) -> bool,
) -> Result<Tokens, ChatError> {
    let encoding = encoder.tokenizer.encode(rendering.text.as_str(), false).map_err(complaint)?;
    let learnt = rendering.turns.iter().enumerate().filter(|(position, _)| trained(*position));
    let mut learnt = learnt.filter_map(|(_, turn)| turn.written.clone()).peekable();
    let mut loss = Vec::with_capacity(encoding.len());
    for (begin, _) in encoding.get_offsets() {
        while learnt.next_if(|range| range.end <= *begin).is_some() {}
        loss.push(learnt.peek().is_some_and(|range| range.start <= *begin));
    }
    Ok(Tokens { ids: encoding.get_ids().to_vec(), loss })
}

/// Turns that begin with a token of their own are counted one by one, which is faster; others together, as above.
pub(crate) fn running_counts(encoder: &Encoder, rendering: &Rendering) -> Result<Vec<usize>, ChatError> {
    let Rendering { text, turns } = rendering;
    let apart =
        |turn: &crate::turns::Turn| turn.whole.is_empty() || encoder.begins_with_separator(&text[turn.whole.clone()]);
    if turns.iter().skip(1).all(apart) {
        return turns
            .iter()
            .scan(0, |total, turn| {
                Some(encoder.count(&text[turn.whole.clone()]).map(|count| {
                    *total += count;
                    *total
                }))
            })
            .collect();
    }
    let encoding = encoder.tokenizer.encode(text.as_str(), false).map_err(complaint)?;
    let begins: Vec<usize> = encoding.get_offsets().iter().map(|(begin, _)| *begin).collect();
    Ok(turns.iter().map(|turn| begins.partition_point(|begin| *begin < turn.whole.end)).collect())
}
