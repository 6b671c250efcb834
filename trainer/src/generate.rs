//! Greedy generation: the most likely token, again and again, until one that ends the answer. For smoke tests of what was trained.

use candle_core::{DType, Error, Tensor};

use crate::model::{Decoder, Model};

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
    /// A tensor operation failed.
    #[error("the next token cannot be computed: {0}")]
    Tensor(#[from] Error),
}

/// The tokens after `prompt`, at most `limit` of them. One of `ends` is the last where it comes, and is part of the result.
pub fn greedy(model: &Model, prompt: &[u32], ends: &[u32], limit: usize) -> Result<Vec<u32>, GenerateError> {
    let vocabulary = model.config.vocabulary;
    let foreign = |id: &&u32| usize::try_from(**id).is_ok_and(|id| id >= vocabulary);
    if let Some(id) = prompt.iter().find(foreign) {
        return Err(GenerateError::Token { id: *id, vocabulary });
    }
    let mut decoder = Decoder::new(model);
    let mut logits = decoder.read(prompt)?.ok_or(GenerateError::Empty)?;
    let mut generated = Vec::new();
    while generated.len() < limit {
        let next = most_likely(&logits)?.ok_or(GenerateError::NotFinite(decoder.seen()))?;
        generated.push(next);
        if ends.contains(&next) || generated.len() == limit {
            break;
        }
        logits = decoder.read(&[next])?.ok_or(GenerateError::Empty)?;
    }
    Ok(generated)
}

/// The place of the greatest value, the first of equals as in torch; none where there is one that is no number.
fn most_likely(logits: &Tensor) -> Result<Option<u32>, Error> {
    let values: Vec<f32> = logits.to_dtype(DType::F32)?.to_vec1()?;
    if values.iter().any(|value| !value.is_finite()) {
        return Ok(None);
    }
    let first_greatest = |best: (u32, f32), next: (u32, f32)| if next.1 > best.1 { next } else { best };
    Ok((0..).zip(values).reduce(first_greatest).map(|(place, _)| place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::model;
    use crate::model::{Batch, hidden_states};
    use crate::ops::Segments;
    use candle_core::Device;

    /// The most likely next token, from the forward pass that training uses.
    fn next(model: &Model, ids: &[u32]) -> u32 {
        let segments = Segments::new(&[ids.len()]).unwrap();
        let batch = Batch::new(&model.config, ids, &vec![true; ids.len()], segments, DType::F64, &Device::Cpu).unwrap();
        let hidden = hidden_states(model, &batch).unwrap().get(ids.len() - 1).unwrap().unsqueeze(0).unwrap();
        let logits = hidden.matmul(&model.head().value.t().unwrap()).unwrap().squeeze(0).unwrap();
        most_likely(&logits).unwrap().unwrap()
    }

    #[test]
    fn every_token_is_the_most_likely_after_all_before_it() {
        for family in ["qwen3", "qwen2", "llama"] {
            let model = model(family, false);
            let mut ids = vec![3, 11];
            let generated = greedy(&model, &ids, &[], 12).unwrap();
            assert_eq!(generated.len(), 12);
            for id in generated {
                assert_eq!(id, next(&model, &ids), "{family} after {} tokens", ids.len());
                ids.push(id);
            }
        }
    }

    #[test]
    fn it_ends_with_a_token_that_ends_or_at_the_limit() {
        let model = model("qwen3", true);
        let free = greedy(&model, &[3, 11], &[], 6).unwrap();
        let end = free[2];
        let first = free.iter().position(|id| *id == end).unwrap();
        assert_eq!(greedy(&model, &[3, 11], &[end], 6).unwrap(), free[..=first]);
        assert!(greedy(&model, &[3, 11], &[], 0).unwrap().is_empty());
    }

    #[test]
    fn no_prompt_a_foreign_token_and_damaged_weights_are_refused() {
        let mut model = model("qwen3", true);
        assert!(matches!(greedy(&model, &[], &[], 1), Err(GenerateError::Empty)));
        let foreign = greedy(&model, &[1, 13], &[], 1);
        assert!(matches!(foreign, Err(GenerateError::Token { id: 13, vocabulary: 13 })));
        model.norm.value = (&model.norm.value * f64::NAN).unwrap();
        assert!(matches!(greedy(&model, &[1, 2], &[], 1), Err(GenerateError::NotFinite(2))));
    }
}
