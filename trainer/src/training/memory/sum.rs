//! A number of bytes that remembers how it was added up, so that what is planned and what is shown of it cannot differ.

use std::fmt;

/// A sum of products.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sum {
    terms: Vec<Term>,
}

/// `values ÷ ranks × factor × …`; what does not divide evenly is rounded up, as the longest share is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    values: u64,
    ranks: u64,
    factors: Vec<u64>,
}

impl Sum {
    /// A product; factors of one are not told.
    pub(super) fn of(values: u64, factors: &[u64]) -> Self {
        Self::share(values, 1, factors)
    }

    /// A product of what one of `ranks` has of `values`.
    pub(super) fn share(values: u64, ranks: u64, factors: &[u64]) -> Self {
        let factors = factors.iter().copied().filter(|factor| *factor != 1).collect();
        Self { terms: vec![Term { values, ranks: ranks.max(1), factors }] }
    }

    /// Both; what is nothing is not told.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.terms.extend(other.terms);
        self.terms.retain(|term| term.bytes() > 0);
        self
    }

    /// What it comes to; the largest number where that is too small.
    pub fn bytes(&self) -> u64 {
        self.terms.iter().map(Term::bytes).fold(0, u64::saturating_add)
    }
}

impl Term {
    fn bytes(&self) -> u64 {
        self.factors.iter().fold(self.values.div_ceil(self.ranks), |product, factor| product.saturating_mul(*factor))
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return out.write_str("0");
        }
        for (at, term) in self.terms.iter().enumerate() {
            write!(out, "{}{}", if at == 0 { "" } else { " + " }, grouped(term.values))?;
            if term.ranks > 1 {
                write!(out, " ÷ {}", term.ranks)?;
            }
            term.factors.iter().try_for_each(|factor| write!(out, " × {}", grouped(*factor)))?;
        }
        Ok(())
    }
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a text of products comes to, read as a person would.
    pub(in super::super) fn calculated(text: &str) -> u64 {
        let product = |term: &str| {
            let number = |text: &str| text.trim().replace(',', "").parse::<u64>().unwrap();
            let mut factors = term.split('×');
            let first = factors.next().unwrap();
            let first = match first.split_once('÷') {
                Some((values, ranks)) => number(values).div_ceil(number(ranks)),
                None => number(first),
            };
            factors.map(number).fold(first, |product, factor| product * factor)
        };
        text.split('+').map(product).sum()
    }

    #[test]
    fn a_sum_is_told_as_it_was_added_up() {
        let sum = Sum::share(1_000_001, 4, &[2]).and(Sum::of(12, &[1, 1024])).and(Sum::of(0, &[9]));
        assert_eq!(sum.to_string(), "1,000,001 ÷ 4 × 2 + 12 × 1,024");
        assert_eq!((sum.bytes(), calculated(&sum.to_string())), (250_001 * 2 + 12 * 1024, sum.bytes()));
        assert_eq!((Sum::default().to_string(), Sum::of(7, &[]).to_string()), ("0".to_owned(), "7".to_owned()));
    }

    #[test]
    fn thousands_stand_apart() {
        let texts = [0, 999, 1000, 8_190_735_360].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "8,190,735,360"]);
    }
}
