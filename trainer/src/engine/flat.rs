//! The values of a unit one after the other, master weights or gradients: in the host's memory, or as a tensor on the device that computes. What a
//! training does with them is said once, here, for both; what the two do alike is held together by the tests of the engine.

use std::ops::Range;

use candle_core::{DType, Device, Error, Tensor};

use super::layout::{self, with_values};
use crate::ops::cast;
use crate::optim::{sum_of_squares, tensor_sum_of_squares};
use crate::ranks::{Collective, Point, RankError};

/// Where flat values live.
#[derive(Debug, Clone)]
pub(super) enum Home {
    /// In the host's memory, where slices are worked on in one pass.
    Host,
    /// On a device, where whole tensors are.
    Device(Device),
}

/// See the module. A device has no tensor without values: where there are none, they are the host's.
#[derive(Debug)]
pub(super) enum Flat {
    Host(Vec<f32>),
    /// One dimension, and memory of its own.
    Device(Tensor),
}

/// Whether all of some values are finite: known, or computed on a device, which is not waited for before somebody wants to know.
#[derive(Debug, Clone)]
pub(super) struct Finite {
    known: bool,
    /// Zero or no number.
    computed: Option<Tensor>,
}

impl Default for Flat {
    /// No values.
    fn default() -> Self {
        Self::Host(Vec::new())
    }
}

impl Flat {
    /// So many zeros; f32 in the host's memory, and of this type on a device.
    pub(super) fn zeros(count: usize, dtype: DType, home: &Home) -> Result<Self, Error> {
        match home {
            Home::Device(device) if count > 0 => Ok(Self::Device(Tensor::zeros(count, dtype, device)?)),
            _ => Ok(Self::Host(vec![0.0; count])),
        }
    }

    /// The host's values, brought home.
    pub(super) fn from_host(values: Vec<f32>, home: &Home) -> Result<Self, Error> {
        match home {
            Home::Device(device) if !values.is_empty() => {
                let count = values.len();
                Ok(Self::Device(Tensor::from_vec(values, count, device)?))
            }
            _ => Ok(Self::Host(values)),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Host(values) => values.len(),
            Self::Device(values) => values.elem_count(),
        }
    }

    /// How much memory they take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Host(values) => std::mem::size_of_val(values.as_slice()),
            Self::Device(values) => values.elem_count() * values.dtype().size_in_bytes(),
        }
    }

    /// Lets it be so many f32 values, zeros where there are none yet.
    pub(super) fn grow(&mut self, count: usize, home: &Home) -> Result<(), Error> {
        match self {
            Self::Host(values) if matches!(home, Home::Host) => values.resize(count, 0.0),
            _ if self.len() != count => *self = Self::zeros(count, DType::F32, home)?,
            _ => {}
        }
        Ok(())
    }

    /// A copy of some of the values.
    pub(super) fn cut(&self, range: &Range<usize>) -> Result<Self, Error> {
        match self {
            Self::Host(values) => Ok(Self::Host(values[range.clone()].to_vec())),
            Self::Device(_) if range.is_empty() => Ok(Self::default()),
            Self::Device(values) => Ok(Self::Device(narrow(values, range)?.force_contiguous()?)),
        }
    }

    /// Keeps some of the values alone.
    pub(super) fn keep(&mut self, range: &Range<usize>) -> Result<(), Error> {
        match self {
            Self::Host(values) => {
                values.copy_within(range.clone(), 0);
                values.truncate(range.len());
            }
            Self::Device(_) => *self = self.cut(range)?,
        }
        Ok(())
    }

    /// Puts a tensor's values from `begin` on, in the type that is there.
    pub(super) fn put(&mut self, begin: usize, tensor: &Tensor) -> Result<(), Error> {
        match self {
            Self::Host(values) => with_values(tensor, |part| values[begin..begin + part.len()].copy_from_slice(part)),
            Self::Device(values) => {
                let part = cast(&tensor.to_device(values.device())?, values.dtype())?.flatten_all()?;
                values.slice_set(&part.contiguous()?, 0, begin)
            }
        }
    }

    /// Puts the host's values from `begin` on.
    pub(super) fn put_slice(&mut self, begin: usize, part: &[f32]) -> Result<(), Error> {
        match self {
            Self::Host(values) => values[begin..begin + part.len()].copy_from_slice(part),
            Self::Device(_) if part.is_empty() => {}
            Self::Device(values) => {
                let part = Tensor::from_slice(part, part.len(), values.device())?;
                values.slice_set(&part.to_dtype(values.dtype())?, 0, begin)?;
            }
        }
        Ok(())
    }

    /// Adds a tensor's values in the place of `range`, and says whether they are finite.
    pub(super) fn add(&mut self, range: Range<usize>, tensor: &Tensor) -> Result<Finite, Error> {
        match self {
            Self::Host(values) => {
                let finite = with_values(tensor, |added| layout::add(&mut values[range], added))?;
                Ok(Finite::from(finite))
            }
            Self::Device(values) => {
                let added = cast(&tensor.to_device(values.device())?, DType::F32)?.flatten_all()?;
                values.slice_set(&(narrow(values, &range)? + &added)?, 0, range.start)?;
                // Infinity times zero is no number either.
                Ok(Finite { known: true, computed: Some((added * 0.0)?.sum_all()?) })
            }
        }
    }

    /// Adds the values of `range` of another, as many as there are here.
    pub(super) fn add_part(&mut self, other: &Self, range: &Range<usize>) -> Result<(), Error> {
        match self {
            Self::Host(values) => {
                other.read(range, |other| layout::add(values, other))?;
            }
            Self::Device(values) => {
                let other = other.tensor(range, &[range.len()], DType::F32, values.device())?;
                *values = (&*values + other)?;
            }
        }
        Ok(())
    }

    /// Σ x² over some of the values, in f64.
    pub(super) fn sum_of_squares(&self, range: &Range<usize>) -> Result<f64, Error> {
        match self {
            Self::Host(values) => Ok(sum_of_squares(&values[range.clone()])),
            Self::Device(_) if range.is_empty() => Ok(0.0),
            Self::Device(values) => tensor_sum_of_squares(&narrow(values, range)?),
        }
    }

    /// Some of the values as a tensor of this shape and type.
    pub(super) fn tensor(
        &self,
        range: &Range<usize>,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, Error> {
        match self {
            Self::Host(values) => Tensor::from_slice(&values[range.clone()], shape, device)?.to_dtype(dtype),
            Self::Device(values) => cast(&narrow(values, range)?.reshape(shape)?, dtype),
        }
    }

    /// Hands over some of the values in the host's memory.
    pub(super) fn read<T>(&self, range: &Range<usize>, read: impl FnOnce(&[f32]) -> T) -> Result<T, Error> {
        match self {
            Self::Host(values) => Ok(read(&values[range.clone()])),
            Self::Device(values) => with_values(&narrow(values, range)?, read),
        }
    }

    /// All values, in the host's memory.
    pub(super) fn into_host(self) -> Result<Vec<f32>, Error> {
        match self {
            Self::Host(values) => Ok(values),
            Self::Device(values) => values.to_dtype(DType::F32)?.to_vec1(),
        }
    }

    pub(super) fn all_reduce(&mut self, ranks: &mut dyn Collective) -> Result<(), RankError> {
        match self {
            Self::Host(values) => ranks.all_reduce(values),
            Self::Device(values) => ranks.all_reduce_tensor(values),
        }
    }

    pub(super) fn reduce_scatter(&mut self, bounds: &[usize], ranks: &mut dyn Collective) -> Result<(), RankError> {
        match self {
            Self::Host(values) => ranks.reduce_scatter(values, bounds),
            Self::Device(values) => ranks.reduce_scatter_tensor(values, bounds),
        }
    }

    pub(super) fn all_gather(&mut self, bounds: &[usize], ranks: &mut dyn Collective) -> Result<(), RankError> {
        match self {
            Self::Host(values) => ranks.all_gather(values, bounds),
            Self::Device(values) => ranks.all_gather_tensor(values, bounds),
        }
    }

    /// The same by another thread than the one that computes; a device has the values at `point`.
    pub(super) fn all_gather_from(
        &mut self,
        point: &Point,
        bounds: &[usize],
        ranks: &mut dyn Collective,
    ) -> Result<(), RankError> {
        match self {
            Self::Host(values) => ranks.all_gather(values, bounds),
            Self::Device(values) => ranks.all_gather_tensor_from(point, values, bounds),
        }
    }
}

fn narrow(values: &Tensor, range: &Range<usize>) -> Result<Tensor, Error> {
    values.narrow(0, range.start, range.len())
}

impl From<bool> for Finite {
    fn from(known: bool) -> Self {
        Self { known, computed: None }
    }
}

impl Finite {
    /// Whether these are, and those.
    pub(super) fn and(self, other: Self) -> Result<Self, Error> {
        let computed = match (self.computed, other.computed) {
            (Some(one), Some(other)) => Some((one + other)?),
            (one, other) => one.or(other),
        };
        Ok(Self { known: self.known && other.known, computed })
    }

    /// Whether they are.
    pub(super) fn known(&self) -> Result<bool, Error> {
        match &self.computed {
            Some(computed) if self.known => Ok(computed.to_scalar::<f32>()?.is_finite()),
            _ => Ok(self.known),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOMES: [Home; 2] = [Home::Host, Home::Device(Device::Cpu)];

    fn host(flat: &Flat) -> Vec<f32> {
        flat.read(&(0..flat.len()), <[f32]>::to_vec).unwrap()
    }

    #[test]
    fn values_are_put_added_and_cut_alike_wherever_they_live() {
        for home in HOMES {
            let mut flat = Flat::zeros(5, DType::F32, &home).unwrap();
            assert_eq!(matches!(flat, Flat::Host(_)), matches!(home, Home::Host));
            flat.put_slice(1, &[1.0]).unwrap();
            flat.put(2, &Tensor::new(&[[2f64]], &Device::Cpu).unwrap()).unwrap();
            let tensor = Tensor::new(&[[10f32, 20.0], [30.0, 40.0]], &Device::Cpu).unwrap();
            assert!(flat.add(1..5, &tensor.t().unwrap()).unwrap().known().unwrap());
            assert_eq!(host(&flat), [0.0, 11.0, 32.0, 20.0, 40.0]);
            assert_eq!(host(&flat.cut(&(2..4)).unwrap()), [32.0, 20.0]);
            assert!((flat.sum_of_squares(&(3..5)).unwrap() - 2000.0).abs() < 1e-9);
            let square = flat.tensor(&(1..5), &[2, 2], DType::BF16, &Device::Cpu).unwrap();
            assert_eq!((square.dims(), square.dtype()), (&[2, 2][..], DType::BF16));
            let mut sum = Flat::zeros(2, DType::F32, &home).unwrap();
            sum.add_part(&flat, &(1..3)).unwrap();
            assert_eq!(host(&sum), [11.0, 32.0]);
            flat.keep(&(2..4)).unwrap();
            assert_eq!(flat.into_host().unwrap(), [32.0, 20.0]);
        }
    }

    #[test]
    fn a_cut_is_a_copy() {
        for home in HOMES {
            let mut flat = Flat::from_host(vec![1.0, 2.0, 3.0], &home).unwrap();
            let cut = flat.cut(&(0..3)).unwrap();
            flat.put_slice(0, &[9.0]).unwrap();
            assert_eq!((host(&cut), host(&flat)), (vec![1.0, 2.0, 3.0], vec![9.0, 2.0, 3.0]));
        }
    }

    #[test]
    fn growing_keeps_what_is_there_and_no_value_is_on_no_device() {
        for home in HOMES {
            let mut flat = Flat::default();
            flat.grow(2, &home).unwrap();
            flat.add(0..2, &Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap()).unwrap();
            flat.grow(2, &home).unwrap();
            assert_eq!(host(&flat), [1.0, 2.0]);
            let empty = flat.cut(&(1..1)).unwrap();
            assert!(matches!(&empty, Flat::Host(values) if values.is_empty()));
            assert!(matches!(Flat::zeros(0, DType::F32, &home).unwrap(), Flat::Host(_)));
            flat.put_slice(1, &[]).unwrap();
            assert_eq!(flat.len(), 2);
        }
    }

    #[test]
    fn what_is_not_finite_is_known_wherever_it_was_added() {
        for home in HOMES {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut flat = Flat::zeros(2, DType::F32, &home).unwrap();
                let mut finite = Finite::from(true);
                for values in [[1f32, f32::MAX], [bad, 0.0], [0.0, 0.0]] {
                    let added = flat.add(0..2, &Tensor::new(&values, &Device::Cpu).unwrap()).unwrap();
                    finite = finite.and(added).unwrap();
                }
                assert!(!finite.known().unwrap(), "{bad}");
            }
        }
    }
}
