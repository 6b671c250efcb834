//! What is printed of a pair: both measures as numbers and as the whole numbers that they are made of, and what has to be known about them.

use sera_crds::contract::{Fraction, StrictMeasures};
use serde::Serialize;
use serde_json::Value;

use super::{Criterion, Excluded, Refusal, Unparsed, decide, measure};

/// A pair's measures. Shares are doubles for reading, and null where they are not defined; what is decided is decided in whole numbers.
#[derive(Debug, Serialize)]
pub struct PairReport {
    /// The pair's name, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// The paper's line recall.
    pub recall: Option<f64>,
    /// How many of the first patch's lines the second has.
    pub matched: u64,
    /// How many the first has.
    pub total: u64,
    /// The strict measure.
    pub strict: StrictReport,
    /// Whether diffy could parse both patches.
    pub parsed: bool,
    /// Whether the second patch counts as having found the first one's change; absent where nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// Files that the strict measure leaves out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<Excluded>,
    /// Files that the strict measure takes by plain lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unparsed: Vec<Unparsed>,
}

/// The strict measure, in doubles and in whole numbers.
#[derive(Debug, Serialize)]
pub struct StrictReport {
    /// The share of the first patch's lines that the second has.
    pub recall: Option<f64>,
    /// The share of the second patch's lines that the first has.
    pub precision: Option<f64>,
    /// The harmonic mean of both.
    pub f1: Option<f64>,
    /// How many lines both have.
    pub matched: u64,
    /// How many the first has.
    pub first: u64,
    /// How many the second has.
    pub second: u64,
}

impl PairReport {
    /// Measures a pair, and decides about it where there is something to decide by.
    pub fn of(id: Option<Value>, first: &[u8], second: &[u8], criterion: Option<&Criterion>) -> Self {
        let (measures, strict) = measure(first, second);
        let decided = criterion.map(|criterion| decide(first, second, &measures, criterion));
        let Fraction { matched, total } = measures.recall.unwrap_or(Fraction { matched: 0, total: 0 });
        Self {
            id,
            recall: measures.recall.map(Fraction::value),
            matched,
            total,
            strict: StrictReport::from(measures.strict),
            parsed: measures.strict.parsed,
            accepted: decided.map(|decided| decided.is_ok()),
            refusal: decided.and_then(Result::err),
            excluded: strict.excluded,
            unparsed: strict.unparsed,
        }
    }
}

impl From<StrictMeasures> for StrictReport {
    fn from(measures: StrictMeasures) -> Self {
        Self {
            recall: measures.recall().map(Fraction::value),
            precision: measures.precision().map(Fraction::value),
            f1: measures.f1().map(Fraction::value),
            matched: measures.matched,
            first: measures.first,
            second: measures.second,
        }
    }
}
