//! Numbers that are written as strings, so that no JSON library rounds them: ratios, money, rates and plain decimals.
//! Each keeps the form in which it was written ("0.50" stays "0.50"), and two are equal when they are written alike;
//! compare `value()` to compare numbers.

use rust_decimal::Decimal as Number;

use super::text::text_value;

text_value! {
    /// A share between 0 and 1, both included, such as `"0.625"`.
    Ratio {
        kind: "a ratio",
        expected: "a decimal string between \"0\" and \"1\", such as \"0.625\"",
        pattern: r"^(0|[1-9][0-9]{0,2})(\.[0-9]{1,9})?$",
        chars: 1..=13,
        rules: ["double(self) <= 1.0"],
        accept: |text| plain(text) <= Number::ONE,
    }
}

text_value! {
    /// An amount of money in US dollars, at least 0, with at most six decimal places, such as `"6500"` or `"0.11"`.
    Usd {
        kind: "an amount in US dollars",
        expected: "a decimal string from \"0\" to \"1000000000\" with at most six decimal places, such as \"6500\" or \"0.11\"",
        pattern: r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$",
        chars: 1..=17,
        rules: ["double(self) <= 1000000000.0"],
        accept: |text| plain(text) <= Number::from(1_000_000_000),
    }
}

text_value! {
    /// A positive rate of at most 1, in plain or scientific notation, such as `"5e-5"` or `"0.01"`.
    Rate {
        kind: "a rate",
        expected: "a number above 0 and at most 1 as a string, such as \"5e-5\" or \"0.01\"",
        pattern: r"^(0|[1-9][0-9]?)(\.[0-9]{1,12})?(e-[0-9]{1,2})?$",
        chars: 1..=19,
        rules: ["double(self) > 0.0 && double(self) <= 1.0"],
        accept: |text| text.parse::<f64>().is_ok_and(|rate| rate > 0.0 && rate <= 1.0),
    }
}

text_value! {
    /// A decimal number from 0 to 1000, such as `"0.6"`: what is neither a share nor money. Fields narrow it down.
    Decimal {
        kind: "a decimal",
        expected: "a decimal string from \"0\" to \"1000\", such as \"0.6\"",
        pattern: r"^(0|[1-9][0-9]{0,3})(\.[0-9]{1,9})?$",
        chars: 1..=14,
        rules: ["double(self) <= 1000.0"],
        accept: |text| plain(text) <= Number::ONE_THOUSAND,
    }
}

/// The number that a plain decimal string stands for; the patterns above admit nothing that does not parse.
fn plain(text: &str) -> Number {
    text.parse().unwrap_or(Number::MAX)
}

impl Ratio {
    /// The exact number.
    pub fn value(&self) -> Number {
        plain(self.as_str())
    }
}

impl Ratio {
    /// The share `part` of `whole`, to six places; none of nothing.
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        let share = Number::from(part).checked_div(Number::from(whole))?.min(Number::ONE);
        share.round_dp(6).normalize().to_string().parse().ok()
    }

    /// This share of `whole`, as a whole number, rounded down.
    pub fn part_of(&self, whole: u64) -> u64 {
        (self.value() * Number::from(whole)).floor().try_into().unwrap_or(whole)
    }
}

impl Usd {
    /// The exact amount in dollars.
    pub fn value(&self) -> Number {
        plain(self.as_str())
    }

    /// What an amount comes to as one that is written: to six places, between nothing and the most that can be.
    pub fn rounded(amount: Number) -> Self {
        let within = amount.clamp(Number::ZERO, Number::from(1_000_000_000)).round_dp(6).normalize();
        Self(within.to_string())
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self::rounded(self.value() + other.value())
    }

    /// What is left of it; nothing where more is taken than there is.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self::rounded(self.value() - other.value())
    }

    /// One of so many equal parts, rounded down to a millionth.
    #[must_use]
    pub fn divided(&self, parts: u32) -> Self {
        let part = self.value().checked_div(Number::from(parts)).unwrap_or_default();
        Self::rounded(part.trunc_with_scale(6))
    }

    /// What so many cost, where this is the price of a million.
    #[must_use]
    pub fn of_millionths(&self, count: u64) -> Self {
        let millions = Number::from(count).checked_div(Number::from(1_000_000)).unwrap_or_default();
        Self::rounded(self.value() * millions)
    }

    /// An amount that is given in millionths of a dollar.
    pub fn of_so_many_millionths(millionths: u64) -> Self {
        Self::rounded(Number::from(millionths) / Number::from(1_000_000))
    }

    /// The amount in millionths of a dollar, which is as fine as amounts are.
    pub fn millionths(&self) -> u64 {
        (self.value() * Number::from(1_000_000)).trunc().try_into().unwrap_or(u64::MAX)
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.value().is_zero()
    }
}

impl Decimal {
    /// The exact number.
    pub fn value(&self) -> Number {
        plain(self.as_str())
    }

    /// A measured number to four places, and at most the most that can be written; none of what is below nothing or no number.
    pub fn measured(number: f64) -> Option<Self> {
        let within = (number >= 0.0).then(|| number.min(1_000.0)).and_then(Number::from_f64_retain)?;
        Some(Self(within.round_dp(4).abs().normalize().to_string()))
    }
}

impl Rate {
    /// The nearest double, as the optimizer uses it.
    pub fn value(&self) -> f64 {
        self.as_str().parse().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_a_plain_decimal_between_0_and_1() {
        for text in ["0", "1", "0.5", "0.50", "1.0", "0.123456789"] {
            assert_eq!(text.parse::<Ratio>().unwrap().to_string(), text, "the written form is kept");
        }
        for text in [
            "",
            " 0.5",
            "0.5 ",
            "0.5.1",
            "1e-1",
            "NaN",
            "inf",
            "-0.1",
            "+0.5",
            ".5",
            "5.",
            "00.5",
            "1.000000001",
            "2",
            "0,5",
        ] {
            assert!(text.parse::<Ratio>().is_err(), "{text:?}");
        }
        assert_eq!("0.50".parse::<Ratio>().unwrap().value(), "0.5".parse::<Ratio>().unwrap().value());
    }

    #[test]
    fn money_has_six_decimal_places_and_a_bound() {
        for text in ["0", "0.000001", "6500", "1000000000"] {
            assert!(text.parse::<Usd>().is_ok(), "{text:?}");
        }
        for text in ["-1", "0.0000001", "1000000000.000001", "10000000000", "1e3", "$5", "5 "] {
            assert!(text.parse::<Usd>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn money_adds_up_and_never_falls_below_nothing() {
        let usd = |text: &str| text.parse::<Usd>().unwrap();
        assert_eq!(usd("0.10").plus(&usd("0.200001")), usd("0.300001"));
        assert_eq!(usd("1").minus(&usd("0.25")), usd("0.75"));
        assert!(usd("1").minus(&usd("1.5")).is_zero());
        assert_eq!(usd("1").divided(3), usd("0.333333"), "parts never add up to more than the whole");
        assert!(usd("1").divided(0).is_zero());
    }

    #[test]
    fn a_share_is_taken_of_whole_numbers_and_back() {
        let half: Ratio = "0.625".parse().unwrap();
        assert_eq!([0, 1, 8, 8_000].map(|whole| half.part_of(whole)), [0, 0, 5, 5_000]);
        assert_eq!(Ratio::of(1, 3).unwrap().as_str(), "0.333333");
        assert_eq!((Ratio::of(3, 3).unwrap().as_str(), Ratio::of(1, 0)), ("1", None));
    }

    #[test]
    fn a_rate_may_be_scientific_and_is_above_0() {
        for (text, value) in [("5e-5", 5e-5), ("0.01", 0.01), ("1", 1.0), ("2.5e-4", 2.5e-4)] {
            assert!((text.parse::<Rate>().unwrap().value() - value).abs() < f64::EPSILON, "{text:?}");
        }
        for text in ["0", "0.0", "0e-5", "1.1", "5E-5", "5e5", "5e+5", "5e-", "e-5", "-5e-5", "1e-100"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_measured_number_has_four_places_and_what_is_no_number_is_none() {
        let written = |number| Decimal::measured(number).map(|decimal| decimal.to_string());
        assert_eq!(written(1.234_56).as_deref(), Some("1.2346"));
        assert_eq!(written(2.5).as_deref(), Some("2.5"));
        assert_eq!(written(0.0).as_deref(), Some("0"));
        assert_eq!(written(1e-9).as_deref(), Some("0"));
        assert_eq!(written(1e300).as_deref(), Some("1000"));
        assert_eq!(written(f64::INFINITY).as_deref(), Some("1000"), "it is beyond what can be written");
        assert_eq!([-0.1, f64::NAN, f64::NEG_INFINITY].map(Decimal::measured), [None, None, None]);
        for text in [1.234_56, 2.5, 0.0, 999.999_99].map(|number| written(number).unwrap()) {
            assert_eq!(text.parse::<Decimal>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_decimal_ends_at_1000() {
        assert!("1000".parse::<Decimal>().is_ok() && "1000.0".parse::<Decimal>().is_ok());
        assert!("1000.1".parse::<Decimal>().is_err() && "1001".parse::<Decimal>().is_err());
    }

    #[test]
    fn an_error_says_what_was_given_and_what_is_expected() {
        let error = "1e-1".parse::<Ratio>().unwrap_err().to_string();
        assert_eq!(error, r#"'1e-1' is not a ratio: expected a decimal string between "0" and "1", such as "0.625""#);
    }
}
