//! How things are written for people: rows with a word before them, spans of time, and numbers that can be read.

use jiff::{SignedDuration, Timestamp};

/// How wide the word before a row is.
const LABEL: usize = 11;

/// A page of rows.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// A line as it is.
    pub(super) fn line(&mut self, line: &str) {
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.0.push('\n');
    }

    /// A row, where there is anything to say.
    pub(super) fn row(&mut self, label: &str, text: impl Into<Option<String>>) {
        if let Some(text) = text.into().filter(|text| !text.is_empty()) {
            self.line(&format!("{label:<LABEL$} {text}"));
        }
    }

    /// All of it.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// The two largest units of a time that has gone by: `3 h 4 min`.
pub(super) fn span(time: SignedDuration) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = time.as_secs().max(0);
    let first = UNITS.iter().position(|(length, _)| seconds >= *length).unwrap_or(UNITS.len() - 1);
    let mut left = seconds;
    let parts = UNITS[first..].iter().take(2).filter_map(|(length, unit)| {
        let count = left / length;
        left %= length;
        (count > 0).then(|| format!("{count} {unit}"))
    });
    let said = parts.collect::<Vec<_>>().join(" ");
    if said.is_empty() { "0 s".to_owned() } else { said }
}

/// How long ago something was.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.duration_since(then)))
}

/// A count, its digits in threes.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut said = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            said.push(',');
        }
        said.push(digit);
    }
    said
}

/// How many of a hundred.
pub(super) fn percent(part: u64, whole: u64) -> Option<u64> {
    (u128::from(part) * 100).checked_div(u128::from(whole)).and_then(|share| u64::try_from(share).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_two_largest_units() {
        for (seconds, said) in [
            (-3, "0 s"),
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3_600, "1 h"),
            (11_050, "3 h 4 min"),
            (90_000, "1 d 1 h"),
            (86_400, "1 d"),
        ] {
            assert_eq!(span(SignedDuration::from_secs(seconds)), said);
        }
    }

    #[test]
    fn a_count_has_its_digits_in_threes() {
        for (number, said) in [(0, "0"), (999, "999"), (1_000, "1,000"), (24_000, "24,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), said);
        }
    }

    #[test]
    fn a_row_without_a_word_is_none() {
        let mut page = Page::default();
        page.row("store", String::new());
        page.row("store", None);
        page.row("store", "s3://a".to_owned());
        assert_eq!(page.into_text(), "store       s3://a\n");
    }
}
