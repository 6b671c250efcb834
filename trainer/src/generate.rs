//! Greedy generation: the most likely token, again and again, until one that ends the answer. For smoke tests of what was trained.

use candle_core::{DType, Error};

use crate::inference::{Reader, Weights, most_likely};
use crate::model::{Batch, BatchError, Model, hidden_states};
use crate::ops::Segments;

/// Why nothing is generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Nothing to go on from.
    #[error("there is no prompt: at least one token is needed to go on from")]
    Empty,
    /// A token that the embedding has no row for.
    #[error("token {id} of the prompt is not below the vocabulary of {vocabulary}: is the tokenizer this model's?")]
    Token {
        /// The token.
        id: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// The weights are damaged.
    #[error("the model computes what is no number after {0} tokens; its weights are damaged")]
    NotFinite(usize),
    /// The tokens make no batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A tensor operation failed.
    #[error("a token could not be computed: {0}")]
    Tensor(#[from] Error),
}

/// The tokens after `prompt`, at most `limit` of them. One of `ends` is the last where it comes, and is part of the result.
pub fn greedy(weights: Weights, prompt: &[u32], ends: &[u32], limit: usize) -> Result<Vec<u32>, GenerateError> {
    known(prompt, weights.config().vocabulary)?;
    let mut reader = Reader::new(weights, prompt.len() + limit);
    let mut logits = reader.read(prompt).ok_or(GenerateError::Empty)?;
    let mut generated = Vec::new();
    while generated.len() < limit {
        let next = most_likely(&logits).ok_or(GenerateError::NotFinite(reader.seen()))?;
        generated.push(next);
        if ends.contains(&next) || generated.len() == limit {
            break;
        }
        logits = reader.read(&[next]).ok_or(GenerateError::Empty)?;
    }
    Ok(generated)
}

/// The same by the forward pass of training, on the model's own device and in its own type: every token computes all before it again. It shows what a
/// GPU computes, and is not meant for long answers.
pub fn greedy_by_passes(model: &Model, prompt: &[u32], ends: &[u32], limit: usize) -> Result<Vec<u32>, GenerateError> {
    known(prompt, model.config.vocabulary)?;
    let mut ids = prompt.to_vec();
    while ids.len() < prompt.len() + limit {
        let next = most_likely(&last_logits(model, &ids)?).ok_or(GenerateError::NotFinite(ids.len()))?;
        ids.push(next);
        if ends.contains(&next) {
            break;
        }
    }
    Ok(ids.split_off(prompt.len()))
}

/// What the model says of the token after these.
fn last_logits(model: &Model, ids: &[u32]) -> Result<Vec<f32>, GenerateError> {
    let segments = Segments::new(&[ids.len()]).map_err(|_| GenerateError::Empty)?;
    let weight = &model.embedding.value;
    let loss = vec![true; ids.len()];
    let batch = Batch::new(&model.config, ids, &loss, segments, weight.dtype(), weight.device())?;
    let last = hidden_states(model, &batch)?.narrow(0, ids.len() - 1, 1)?;
    let logits = last.matmul(&model.head().value.t()?)?.squeeze(0)?;
    Ok(logits.to_dtype(DType::F32)?.to_vec1()?)
}

/// Refuses a token that the embedding has no row for.
fn known(prompt: &[u32], vocabulary: usize) -> Result<(), GenerateError> {
    let foreign = |id: &&u32| usize::try_from(**id).is_ok_and(|id| id >= vocabulary);
    prompt.iter().find(foreign).map_or(Ok(()), |id| Err(GenerateError::Token { id: *id, vocabulary }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Kept;
    use crate::model::testing::{config, model, tensors};

    fn weights(family: &str, tied: bool) -> Weights {
        let config = config(family, tied);
        let tensors = tensors(&config);
        Weights::load(&config, Kept::F32, |name| Ok::<_, Error>(tensors[name].clone())).unwrap()
    }

    #[test]
    fn every_token_is_the_most_likely_after_all_before_it() {
        for family in ["qwen3", "qwen2", "llama"] {
            let generated = greedy(weights(family, false), &[3, 11], &[], 12).unwrap();
            assert_eq!(generated.len(), 12);
            let by_passes = greedy_by_passes(&model(family, false), &[3, 11], &[], 12).unwrap();
            assert_eq!(generated, by_passes, "{family}");
            let ended = greedy_by_passes(&model(family, false), &[3, 11], &generated[..1], 12).unwrap();
            assert_eq!(ended, generated[..1], "{family}");
        }
    }

    #[test]
    fn it_ends_with_a_token_that_ends_or_at_the_limit() {
        let greedy = |ends: &[u32], limit| greedy(weights("qwen3", true), &[3, 11], ends, limit).unwrap();
        let free = greedy(&[], 6);
        let end = free[2];
        let first = free.iter().position(|id| *id == end).unwrap();
        assert_eq!(greedy(&[end], 6), free[..=first]);
        assert!(greedy(&[], 0).is_empty());
    }

    #[test]
    fn no_prompt_a_foreign_token_and_damaged_weights_are_refused() {
        let refusal = |weights, prompt: &[u32]| greedy(weights, prompt, &[], 1).unwrap_err();
        assert!(matches!(refusal(weights("qwen3", true), &[]), GenerateError::Empty));
        let foreign = refusal(weights("qwen3", true), &[1, 13]);
        assert!(matches!(foreign, GenerateError::Token { id: 13, vocabulary: 13 }));
        let by_passes = |prompt: &[u32]| greedy_by_passes(&model("qwen3", true), prompt, &[], 1).unwrap_err();
        assert!(matches!(by_passes(&[]), GenerateError::Empty));
        assert!(matches!(by_passes(&[1, 13]), GenerateError::Token { id: 13, .. }));
        let config = config("qwen3", true);
        let damaged = |name: &str| {
            let tensor = tensors(&config)[name].clone();
            if name == "model.norm.weight" { tensor * f64::NAN } else { Ok(tensor) }
        };
        let damaged = Weights::load::<Error>(&config, Kept::F32, damaged).unwrap();
        assert!(matches!(refusal(damaged, &[1, 2]), GenerateError::NotFinite(2)));
    }
}
