//! Spans of time as Kubernetes' users write them: `300s`, `1h30m`. The written form is kept.

use std::time::Duration as Span;

use super::text::text_value;

text_value! {
    /// A span of time, `"0s"` included: one to four numbers with the units `ms`, `s`, `m` or `h`, such as `"72h"` or
    /// `"1h30m"`.
    Duration {
        kind: "a duration",
        expected: "one to four numbers with the units ms, s, m or h, such as \"72h\" or \"1h30m\"",
        pattern: r"^([0-9]{1,5}(ms|s|m|h)){1,4}$",
        chars: 2..=28,
        rules: [],
        accept: |_| true,
    }
}

text_value! {
    /// A span of time after which something is given up or done again: a [`Duration`] of at least one second.
    Timeout {
        kind: "a timeout",
        expected: "a duration of at least one second, such as \"300s\" or \"1h30m\"",
        pattern: r"^([0-9]{1,5}(ms|s|m|h)){1,4}$",
        chars: 2..=28,
        rules: ["duration(self) >= duration('1s')"],
        accept: |text| span(text) >= Span::from_secs(1),
    }
}

impl Duration {
    /// The span itself.
    pub fn span(&self) -> Span {
        span(self.as_str())
    }
}

impl Timeout {
    /// The span itself, at least one second.
    pub fn span(&self) -> Span {
        span(self.as_str())
    }
}

/// The sum of the parts of a text that fits the pattern: at most 4 × 99,999 h, far from overflow.
fn span(text: &str) -> Span {
    let mut total = Span::ZERO;
    let mut rest = text;
    while let Some(unit_at) = rest.find(|c: char| !c.is_ascii_digit()) {
        let (number, tail) = rest.split_at(unit_at);
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let number: u64 = number.parse().unwrap_or(0);
        total += match unit {
            "ms" => Span::from_millis(number),
            "s" => Span::from_secs(number),
            "m" => Span::from_secs(number * 60),
            _ => Span::from_secs(number * 3600),
        };
        rest = tail;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_in_any_order() {
        for (text, span) in [
            ("0s", Span::ZERO),
            ("1500ms", Span::from_millis(1500)),
            ("1h30m", Span::from_mins(90)),
            ("30m1h", Span::from_mins(90)),
            ("1m1ms1s1h", Span::from_millis(3_661_001)),
            ("99999h99999h99999h99999h", Span::from_hours(4 * 99_999)),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!((duration.span(), duration.as_str()), (span, text));
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "1.5h", "-1s", "1 s", "1d", "1us", "123456s", "1s1s1s1s1s", "1H"] {
            assert!(text.parse::<Duration>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_timeout_is_at_least_a_second() {
        assert!("1s".parse::<Timeout>().is_ok() && "1000ms".parse::<Timeout>().is_ok());
        assert!("0s".parse::<Timeout>().is_err() && "999ms".parse::<Timeout>().is_err());
    }
}
