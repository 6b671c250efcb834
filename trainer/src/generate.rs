//! Greedy generation: the most likely token, again and again, until one that ends the answer. For smoke tests of what was trained.

use crate::inference::{Reader, Weights, most_likely};

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
}

/// The tokens after `prompt`, at most `limit` of them. One of `ends` is the last where it comes, and is part of the result.
pub fn greedy(weights: Weights, prompt: &[u32], ends: &[u32], limit: usize) -> Result<Vec<u32>, GenerateError> {
    let vocabulary = weights.config().vocabulary;
    let foreign = |id: &&u32| usize::try_from(**id).is_ok_and(|id| id >= vocabulary);
    if let Some(id) = prompt.iter().find(foreign) {
        return Err(GenerateError::Token { id: *id, vocabulary });
    }
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Error};

    use super::*;
    use crate::model::testing::{config, model, tensors};
    use crate::model::{Batch, Model, hidden_states};
    use crate::ops::Segments;

    fn weights(family: &str, tied: bool) -> Weights {
        let config = config(family, tied);
        let tensors = tensors(&config);
        Weights::load(&config, DType::F32, |name| Ok::<_, Error>(tensors[name].clone())).unwrap()
    }

    /// The most likely next token, from the forward pass that training uses.
    fn next(model: &Model, ids: &[u32]) -> u32 {
        let segments = Segments::new(&[ids.len()]).unwrap();
        let batch = Batch::new(&model.config, ids, &vec![true; ids.len()], segments, DType::F64, &Device::Cpu).unwrap();
        let hidden = hidden_states(model, &batch).unwrap().get(ids.len() - 1).unwrap().unsqueeze(0).unwrap();
        let logits = hidden.matmul(&model.head().value.t().unwrap()).unwrap().squeeze(0).unwrap();
        most_likely(&logits.to_dtype(DType::F32).unwrap().to_vec1().unwrap()).unwrap()
    }

    #[test]
    fn every_token_is_the_most_likely_after_all_before_it() {
        for family in ["qwen3", "qwen2", "llama"] {
            let model = model(family, false);
            let mut ids = vec![3, 11];
            let generated = greedy(weights(family, false), &ids, &[], 12).unwrap();
            assert_eq!(generated.len(), 12);
            for id in generated {
                assert_eq!(id, next(&model, &ids), "{family} after {} tokens", ids.len());
                ids.push(id);
            }
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
        let config = config("qwen3", true);
        let damaged = |name: &str| {
            let tensor = tensors(&config)[name].clone();
            if name == "model.norm.weight" { tensor * f64::NAN } else { Ok(tensor) }
        };
        let damaged = Weights::load::<Error>(&config, DType::F32, damaged).unwrap();
        assert!(matches!(refusal(damaged, &[1, 2]), GenerateError::NotFinite(2)));
    }
}
