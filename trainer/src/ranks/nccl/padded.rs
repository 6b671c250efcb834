//! Parts of unequal lengths as parts of one length, which is all that NCCL's collectives know: each is filled up with zeros. No collective.

use candle_core::{Error, Tensor};

/// The length of a part that is filled up: that of the longest.
pub(super) fn width(bounds: &[usize]) -> usize {
    bounds.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// Whether no part has to be filled up.
pub(super) fn is_even(bounds: &[usize]) -> bool {
    bounds.windows(2).all(|pair| pair[1] - pair[0] == width(bounds))
}

/// Part `rank` of `values`, filled up.
pub(super) fn part(values: &Tensor, bounds: &[usize], rank: usize) -> Result<Tensor, Error> {
    let padded = Tensor::zeros(width(bounds), values.dtype(), values.device())?;
    copy(values, bounds[rank]..bounds[rank + 1], &padded, 0)?;
    Ok(padded)
}

/// All parts of `values`, each filled up, one after the other.
pub(super) fn parts(values: &Tensor, bounds: &[usize]) -> Result<Tensor, Error> {
    let width = width(bounds);
    let padded = Tensor::zeros(width * (bounds.len() - 1), values.dtype(), values.device())?;
    for (rank, pair) in bounds.windows(2).enumerate() {
        copy(values, pair[0]..pair[1], &padded, rank * width)?;
    }
    Ok(padded)
}

/// Puts a part that was filled up back into its place in `values`.
pub(super) fn put_part(padded: &Tensor, values: &Tensor, bounds: &[usize], rank: usize) -> Result<(), Error> {
    copy(padded, 0..bounds[rank + 1] - bounds[rank], values, bounds[rank])
}

/// Puts all parts back.
pub(super) fn put_parts(padded: &Tensor, values: &Tensor, bounds: &[usize]) -> Result<(), Error> {
    let width = width(bounds);
    for (rank, pair) in bounds.windows(2).enumerate() {
        let begin = rank * width;
        copy(padded, begin..begin + pair[1] - pair[0], values, pair[0])?;
    }
    Ok(())
}

fn copy(from: &Tensor, range: std::ops::Range<usize>, to: &Tensor, at: usize) -> Result<(), Error> {
    if range.is_empty() { Ok(()) } else { to.slice_set(&from.narrow(0, range.start, range.len())?, 0, at) }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    const BOUNDS: [usize; 4] = [0, 3, 5, 5];

    fn values() -> Tensor {
        Tensor::new(&[1f32, 2.0, 3.0, 4.0, 5.0], &Device::Cpu).unwrap()
    }

    fn read(tensor: &Tensor) -> Vec<f32> {
        tensor.to_vec1().unwrap()
    }

    #[test]
    fn parts_are_filled_up_and_come_back_to_their_places() {
        assert!(!is_even(&BOUNDS) && is_even(&[0, 2, 4]) && width(&BOUNDS) == 3);
        assert_eq!(read(&part(&values(), &BOUNDS, 1).unwrap()), [4.0, 5.0, 0.0]);
        assert_eq!(read(&part(&values(), &BOUNDS, 2).unwrap()), [0.0; 3]);
        let all = parts(&values(), &BOUNDS).unwrap();
        assert_eq!(read(&all), [1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0, 0.0, 0.0]);
        let back = Tensor::zeros(5, DType::F32, &Device::Cpu).unwrap();
        put_parts(&all, &back, &BOUNDS).unwrap();
        assert_eq!(read(&back), read(&values()));
    }

    #[test]
    fn a_part_alone_goes_to_its_own_place() {
        let back = values();
        put_part(&Tensor::new(&[9f32, 8.0, 7.0], &Device::Cpu).unwrap(), &back, &BOUNDS, 1).unwrap();
        assert_eq!(read(&back), [1.0, 2.0, 3.0, 9.0, 8.0]);
    }
}
