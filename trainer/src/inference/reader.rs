//! One sequence that a model reads and goes on with, on the threads of the caller: for commands that answer once, and for tests.

use super::blocks::{BLOCK, BlockId};
use super::forward::{Runner, Span};
use super::weights::Weights;
use crate::model::Config;

/// How many tokens are read at once: what bounds the memory of what is computed between two layers.
const CHUNK: usize = 512;

/// A sequence that a model has read, and can go on with.
#[derive(Debug)]
pub struct Reader {
    runner: Runner,
    config: Config,
    blocks: Vec<BlockId>,
    seen: usize,
}

impl Reader {
    /// A model that has read nothing yet, and can read `longest` tokens.
    pub fn new(weights: Weights, longest: usize) -> Self {
        let config = weights.config().clone();
        let count = u32::try_from(longest.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        Self { runner: Runner::new(weights, count), config, blocks: (0..count).collect(), seen: 0 }
    }

    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many tokens it has read.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Reads `ids`, all below the vocabulary, and returns the logits after the last of them: (vocabulary). Without any, or where they are more than
    /// it can read, there are none to return.
    pub fn read(&mut self, ids: &[u32]) -> Option<Vec<f32>> {
        if self.seen + ids.len() > self.blocks.len() * BLOCK {
            return None;
        }
        let mut logits = Vec::new();
        for (at, tokens) in ids.chunks(CHUNK).enumerate() {
            let wanted = (at + 1) * CHUNK >= ids.len();
            logits = self.runner.forward(&[Span { tokens, start: self.seen, blocks: &self.blocks, wanted }]);
            self.seen += tokens.len();
        }
        logits.pop()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Error;

    use super::*;
    use crate::inference::Kept;
    use crate::model::testing::{config, tensors};

    #[test]
    fn a_prompt_of_several_chunks_is_read_whole_and_no_more_than_there_is_room_for() {
        let config = config("llama", true);
        let tensors = tensors(&config);
        let weights = || Weights::load(&config, Kept::F32, |name| Ok::<_, Error>(tensors[name].clone())).unwrap();
        let ids: Vec<u32> = (0..u32::try_from(CHUNK).unwrap() + 5).map(|at| at * at % 13).collect();
        let (mut whole, mut parts) = (Reader::new(weights(), 600), Reader::new(weights(), 600));
        assert!(parts.read(&ids[..100]).is_some() && parts.read(&[]).is_none());
        assert_eq!(whole.read(&ids), parts.read(&ids[100..]));
        assert_eq!((whole.seen(), whole.read(&ids)), (ids.len(), None));
    }
}
