//! What stands for a tensor that is too large to keep: its length, and its dot products with vectors of ±1. The mean square of what those of two
//! tensors differ by is the square of the tensors' distance, whichever way that points: for 16 vectors to within a third or so.

use candle_core::{DType, Tensor};

use crate::drawn::words;
use crate::golden::Tensors;

/// How many vectors there are: bits of a number for each value.
const SIGNS: usize = 16;

/// See the module.
pub(crate) struct Sums {
    dots: [f64; SIGNS],
    length: f64,
}

impl Sums {
    /// Those of the tensor of this name, which decides about the vectors.
    pub(crate) fn of(name: &str, values: &[f64]) -> Self {
        let mut dots = [0.0; SIGNS];
        for (value, word) in values.iter().zip(words(&format!("signs/{name}"), values.len())) {
            for (at, dot) in dots.iter_mut().enumerate() {
                *dot += if (word >> at) & 1 == 1 { -value } else { *value };
            }
        }
        Self { dots, length: length(values) }
    }

    /// Those of a row of the fixtures.
    pub(crate) fn read(row: &[f64]) -> Self {
        let (dots, length) = row.split_at(SIGNS);
        Self { dots: dots.try_into().unwrap(), length: length[0] }
    }

    /// How far the two tensors are from each other.
    pub(crate) fn distance(&self, other: &Self) -> f64 {
        let squares = self.dots.iter().zip(&other.dots).map(|(a, b)| (a - b).powi(2));
        (squares.sum::<f64>() / SIGNS as f64).sqrt().max((self.length - other.length).abs())
    }
}

/// How far tensors are from those that a table of the fixtures tells of.
#[derive(Debug)]
pub(crate) struct Gaps {
    /// Each of them, relative to its length.
    pub(crate) each: Vec<(String, f64)>,
    /// All together, relative to the length of all.
    pub(crate) all: f64,
}

impl Gaps {
    /// A row a tensor, in the order of their names.
    pub(crate) fn of(tensors: &Tensors, table: &Tensor) -> Self {
        let rows = table.to_vec2::<f64>().unwrap();
        assert_eq!(rows.len(), tensors.len());
        let (mut each, mut apart, mut length) = (Vec::new(), 0.0f64, 0.0f64);
        for ((name, tensor), row) in tensors.iter().zip(rows) {
            let (found, expected) = (Sums::of(name, &values(tensor)), Sums::read(&row));
            assert!(expected.length > 0.0, "{name} is zero");
            let distance = found.distance(&expected);
            (apart, length) = (apart + distance.powi(2), length + expected.length.powi(2));
            each.push((name.clone(), distance / expected.length));
        }
        Self { each, all: (apart / length).sqrt() }
    }

    /// The one that is farthest off.
    pub(crate) fn worst(&self) -> &(String, f64) {
        self.each.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
    }
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

pub(crate) fn length(values: &[f64]) -> f64 {
    values.iter().map(|value| value.powi(2)).sum::<f64>().sqrt()
}

#[test]
fn sums_tell_how_far_two_tensors_are_from_each_other() {
    let draw = |what: &str| crate::drawn::draw("sums", what, 10_000).into_iter().map(f64::from).collect::<Vec<_>>();
    let (one, gap) = (draw("one"), draw("gap"));
    let distance = |other: &[f64]| Sums::of("x", &one).distance(&Sums::of("x", other));
    assert!(distance(&one) < 1e-12);
    let mut other = one.clone();
    other[77] -= 0.25;
    assert!((distance(&other) - 0.25).abs() < 1e-9, "of one value that is wrong it is told exactly");
    let all: Vec<f64> = one.iter().zip(&gap).map(|(one, gap)| one + 1e-3 * gap).collect();
    let ratio = distance(&all) / (1e-3 * length(&gap));
    assert!(ratio > 0.5 && ratio < 1.5, "{ratio}");
}
