//! Collectives over tensors for ranks that carry the host's memory alone: there, and back. How they are carried is not said here.

use candle_core::{DType, Error, Tensor};

use super::RankError;

/// Does to a tensor of one dimension, in place, what `carry` does to its values. Types that f32 holds come back as they went.
pub(super) fn staged(
    collective: &'static str,
    tensor: &Tensor,
    carry: impl FnOnce(&mut [f32]) -> Result<(), RankError>,
) -> Result<(), RankError> {
    let failed = |source| RankError::Tensor { collective, source };
    let mut values = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.to_vec1()).map_err(failed)?;
    carry(&mut values)?;
    put(values, tensor).map_err(failed)
}

fn put(values: Vec<f32>, tensor: &Tensor) -> Result<(), Error> {
    let values = Tensor::from_vec(values, tensor.elem_count(), tensor.device())?.to_dtype(tensor.dtype())?;
    tensor.slice_set(&values, 0, 0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_tensor_is_changed_where_it_is_and_keeps_its_type() {
        for dtype in [DType::F32, DType::BF16] {
            let tensor = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let doubled = |values: &mut [f32]| {
                values.iter_mut().for_each(|value| *value *= 2.0);
                Ok(())
            };
            staged("all_reduce", &tensor, doubled).unwrap();
            assert_eq!(tensor.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap(), [2.0, 4.0, 6.0]);
        }
    }

    #[test]
    fn what_cannot_be_carried_is_named_with_its_collective() {
        let square = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
        let error = staged("all_gather", &square, |_| Ok(())).unwrap_err().to_string();
        assert!(error.starts_with("a tensor could not be carried in all_gather"), "{error}");
    }
}
