//! MinHash: a sketch of what an assistant wrote, small enough for a verdict, from which the likeness of two trajectories is told without reading them
//! again. The same text gives the same sketch on every machine.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// How many smallest values are kept: the likeness is known to within 0.03 then, and a sketch has 256 bytes.
pub(super) const VALUES: usize = 128;
/// How many words in a row count as one piece of text.
const SHINGLE: usize = 5;
/// How many of the values of near-duplicates are equal at least: nine tenths.
const ALIKE: usize = VALUES * 9 / 10;

/// A sketch of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sketch(pub(super) [u16; VALUES]);

impl Sketch {
    /// The sketch of some texts together; a text of fewer words than a shingle counts as one.
    pub(super) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut smallest = [u64::MAX; VALUES];
        for text in texts {
            let words: Vec<u64> =
                text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(hash).collect();
            for shingle in words.windows(SHINGLE.min(words.len().max(1))) {
                let mut state = shingle.iter().fold(0, |state: u64, word| mix(state ^ word));
                for value in &mut smallest {
                    state = mix(state);
                    *value = (*value).min(state);
                }
            }
        }
        // The low bits are as random as the others; two sketches agree in one of them by chance once in 65,536 times.
        #[expect(clippy::cast_possible_truncation, reason = "sixteen bits are what is kept")]
        let values = smallest.map(|value| value as u16);
        Self(values)
    }

    /// As verdicts have it.
    pub(super) fn encode(&self) -> String {
        STANDARD_NO_PAD.encode(self.0.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// From a verdict; none where it is not one.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let bytes = STANDARD_NO_PAD.decode(text).ok()?;
        let (values, rest) = bytes.as_chunks::<2>();
        let values: Vec<u16> = values.iter().map(|value| u16::from_le_bytes(*value)).collect();
        if rest.is_empty() { values.try_into().ok().map(Self) } else { None }
    }

    /// Whether nine tenths of both texts' pieces are the same, as far as sketches can tell.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).filter(|(a, b)| a == b).count() >= ALIKE
    }
}

/// FNV-1a.
fn hash(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The step of splitmix64: every bit of the input changes every bit of the output.
const fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: std::ops::Range<u32>) -> String {
        words.map(|n| format!("word{n} ")).collect()
    }

    #[test]
    fn the_likeness_of_two_texts_is_told_from_their_sketches() {
        let whole = Sketch::of([text(0..1000).as_str()]);
        let likeness = |other: &str| {
            let other = Sketch::of([other]);
            whole.0.iter().zip(&other.0).filter(|(a, b)| a == b).count() * 100 / VALUES
        };
        assert_eq!(likeness(&text(0..1000)), 100);
        // 1000 of 1053 pieces, of 2000, and none in common.
        assert!((90..=99).contains(&likeness(&text(0..1053))));
        assert!((38..=62).contains(&likeness(&text(0..2000))));
        assert!(likeness(&text(5000..6000)) <= 2);
    }

    #[test]
    fn a_near_duplicate_is_one_and_a_half_of_it_is_none() {
        let whole = Sketch::of([text(0..1000).as_str()]);
        assert!(whole.is_like(&Sketch::of([text(0..1010).as_str()])));
        assert!(!whole.is_like(&Sketch::of([text(0..600).as_str()])));
    }

    #[test]
    fn a_sketch_survives_the_way_through_a_verdict_and_is_the_same_everywhere() {
        let sketch = Sketch::of(["fn main() { println!(\"Größe\") }", "", "a"]);
        let encoded = sketch.encode();
        assert_eq!(Sketch::decode(&encoded), Some(sketch));
        assert_eq!(encoded.len(), 342);
        assert_eq!(Sketch::decode("AAAA"), None);
        assert_eq!(Sketch::decode("not base64!"), None);
    }
}
