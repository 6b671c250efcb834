//! A world of one rank: it has all there is, and waits for nobody.

use candle_core::Tensor;

use super::{Collective, RankError};

/// The only rank.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn all_reduce(&mut self, _: &mut [f32]) -> Result<(), RankError> {
        Ok(())
    }

    fn all_reduce_f64(&mut self, _: &mut [f64]) -> Result<(), RankError> {
        Ok(())
    }

    fn reduce_scatter(&mut self, _: &mut [f32], _: &[usize]) -> Result<(), RankError> {
        Ok(())
    }

    fn all_gather(&mut self, _: &mut [f32], _: &[usize]) -> Result<(), RankError> {
        Ok(())
    }

    fn all_reduce_tensor(&mut self, _: &Tensor) -> Result<(), RankError> {
        Ok(())
    }

    fn reduce_scatter_tensor(&mut self, _: &Tensor, _: &[usize]) -> Result<(), RankError> {
        Ok(())
    }

    fn all_gather_tensor(&mut self, _: &Tensor, _: &[usize]) -> Result<(), RankError> {
        Ok(())
    }

    fn broadcast(&mut self, _: usize, _: &mut Vec<u8>) -> Result<(), RankError> {
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), RankError> {
        Ok(())
    }
}
