//! The gradients of keys and values come for every head of queries: here they are summed over the heads that share them.

use candle_core::{Result, Tensor};

use crate::ops::wide;

/// (T, heads, size) to (T, `kv_heads`, size), in its type; summed in wide numbers.
pub(super) fn gathered(expanded: &Tensor, kv_heads: usize) -> Result<Tensor> {
    let (tokens, heads, size) = expanded.dims3()?;
    if heads == kv_heads {
        return Ok(expanded.clone());
    }
    let by_group = expanded.reshape((tokens, kv_heads, heads / kv_heads, size))?;
    by_group.to_dtype(wide(expanded.dtype()))?.sum(2)?.to_dtype(expanded.dtype())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::super::finite_differences::{distance, noise, values};
    use super::super::super::{Attention, Segments, attention_bwd, attention_fwd};
    use super::*;

    /// What the library is given and leaves, as `sera_flash.h` has it, by the rule of the paper's algorithm: logarithms (heads, T), the gradients of keys
    /// and values expanded to the heads of queries. The indices are written out here again.
    struct Left {
        y: Vec<f64>,
        logs: Vec<f64>,
        gq: Vec<f64>,
        gk: Vec<f64>,
        gv: Vec<f64>,
    }

    struct Sizes {
        tokens: usize,
        heads: usize,
        kv_heads: usize,
        size: usize,
    }

    impl Sizes {
        fn query<'a>(&self, x: &'a [f64], token: usize, head: usize) -> &'a [f64] {
            &x[(token * self.heads + head) * self.size..][..self.size]
        }

        fn key<'a>(&self, x: &'a [f64], token: usize, head: usize) -> &'a [f64] {
            let shared = head / (self.heads / self.kv_heads);
            &x[(token * self.kv_heads + shared) * self.size..][..self.size]
        }
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn add(to: &mut [f64], times: f64, from: &[f64]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += times * from);
    }

    fn library([q, k, v, gy]: [&[f64]; 4], segments: &Segments, of: &Sizes, scale: f64) -> Left {
        let count = q.len();
        let zeros = || vec![0.0; count];
        let logs = vec![0.0; of.heads * of.tokens];
        let mut left = Left { y: zeros(), logs, gq: zeros(), gk: zeros(), gv: zeros() };
        let place =
            |token: usize, head: usize| (token * of.heads + head) * of.size..(token * of.heads + head + 1) * of.size;
        for range in segments.ranges() {
            for (token, head) in range.clone().flat_map(|token| (0..of.heads).map(move |head| (token, head))) {
                let query = of.query(q, token, head);
                let seen = range.start..=token;
                let scores: Vec<f64> = seen.clone().map(|key| scale * dot(query, of.key(k, key, head))).collect();
                let log = scores.iter().map(|score| score.exp()).sum::<f64>().ln();
                left.logs[head * of.tokens + token] = log;
                for (key, score) in seen.clone().zip(&scores) {
                    add(&mut left.y[place(token, head)], (score - log).exp(), of.key(v, key, head));
                }
                // The backward has nothing of the scores but `log`, and of their gradient's sum what gy and y give.
                let gy = of.query(gy, token, head);
                let along = dot(gy, &left.y[place(token, head)]);
                for key in seen {
                    let share = (scale * dot(query, of.key(k, key, head)) - log).exp();
                    let score = scale * share * (dot(gy, of.key(v, key, head)) - along);
                    add(&mut left.gv[place(key, head)], share, gy);
                    add(&mut left.gk[place(key, head)], score, query);
                    add(&mut left.gq[place(token, head)], score, of.key(k, key, head));
                }
            }
        }
        left
    }

    #[test]
    fn what_the_library_leaves_is_what_chunks_give() {
        let segments = Segments::new(&[5, 1, 11]).unwrap();
        for (heads, kv_heads) in [(4, 4), (6, 2), (4, 1)] {
            let of = Sizes { tokens: 17, heads, kv_heads, size: 6 };
            let shapes = [heads, kv_heads, kv_heads, heads].map(|heads| [of.tokens, heads, of.size]);
            let inputs: Vec<Tensor> = (0..).zip(shapes).map(|(seed, shape)| noise(&shape, seed)).collect();
            let [q, k, v, gy] = [0, 1, 2, 3].map(|at: usize| values(&inputs[at]));
            let mut how = Attention::of_head(of.size);
            (how.scale, how.scores) = (0.4, 60);
            let left = library([&q, &k, &v, &gy], &segments, &of, how.scale);

            let attended = attention_fwd(&inputs[0], &inputs[1], &inputs[2], &segments, &how).unwrap();
            let (gq, gk, gv) =
                attention_bwd([&inputs[0], &inputs[1], &inputs[2]], &attended, &inputs[3], &segments, &how).unwrap();
            let tensor =
                |values: Vec<f64>| Tensor::from_vec(values, (of.tokens, heads, of.size), &Device::Cpu).unwrap();
            let near =
                |found: &Tensor, expected: &Tensor| assert!(distance(found, expected) < 1e-12, "{heads}/{kv_heads}");
            near(&tensor(left.y), &attended.output);
            near(&tensor(left.gq), &gq);
            near(&gathered(&tensor(left.gk), kv_heads).unwrap(), &gk);
            near(&gathered(&tensor(left.gv), kv_heads).unwrap(), &gv);
            assert!(left.logs.iter().all(|log| log.is_finite()));
        }
    }
}
