//! Words as outlines, from a table of a font's glyphs that is part of the program: images without a shell have no fonts.

use tiny_skia::{Path, PathBuilder};

use super::{Anchor, FONT_SIZE, Place};

/// Roboto, as `glyphs.py` beside it has taken it apart.
const TABLE: &str = include_str!("glyphs.txt");

/// A character of the table.
#[derive(Debug, Clone, Copy)]
struct Glyph {
    /// How far it is to the next one.
    advance: f32,
    /// As SVG's paths have them, from the baseline up.
    contours: &'static str,
}

/// The outline of words; none where there is nothing to see of them.
pub(super) fn outline(words: &str, (x, y): Place, anchor: Anchor) -> Option<Path> {
    let (glyphs, scale): (Vec<Glyph>, f32) = (words.chars().filter_map(glyph).collect(), FONT_SIZE / em()?);
    let width: f32 = scale * glyphs.iter().map(|glyph| glyph.advance).sum::<f32>();
    let mut left = match anchor {
        Anchor::Begin => x,
        Anchor::Middle => x - width / 2.0,
        Anchor::End => x - width,
    };
    let mut path = PathBuilder::new();
    for glyph in glyphs {
        draw(&mut path, glyph.contours, |across, up| (left + scale * across, y - scale * up))?;
        left += scale * glyph.advance;
    }
    path.finish()
}

/// The table without what it says of itself.
fn lines() -> impl Iterator<Item = &'static str> {
    TABLE.lines().skip(2)
}

/// In how many parts the table divides an em.
fn em() -> Option<f32> {
    lines().next()?.parse().ok()
}

fn glyph(character: char) -> Option<Glyph> {
    let line = lines().skip(1).find_map(|line| line.strip_prefix(character)?.strip_prefix(' '))?;
    let (advance, contours) = line.split_once(' ').unwrap_or((line, ""));
    Some(Glyph { advance: advance.parse().ok()?, contours })
}

/// Adds contours to a path; none where they end in the middle of something.
fn draw(path: &mut PathBuilder, contours: &str, to: impl Fn(f32, f32) -> Place) -> Option<()> {
    let mut words = contours.split_ascii_whitespace();
    while let Some(command) = words.next() {
        let mut place = || Some(to(words.next()?.parse().ok()?, words.next()?.parse().ok()?));
        match command {
            "M" => {
                let (x, y) = place()?;
                path.move_to(x, y);
            }
            "L" => {
                let (x, y) = place()?;
                path.line_to(x, y);
            }
            "Q" => {
                let ((control_x, control_y), (x, y)) = (place()?, place()?);
                path.quad_to(control_x, control_y, x, y);
            }
            _ => path.close(),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_has_a_glyph_that_can_be_drawn() {
        for character in ' '..='~' {
            let glyph = glyph(character).unwrap_or_else(|| panic!("{character} is missing"));
            assert!(glyph.advance > 0.0 && glyph.advance < em().unwrap(), "{character}");
            let mut path = PathBuilder::new();
            assert!(draw(&mut path, glyph.contours, |x, y| (x, y)).is_some(), "{character}");
            assert_eq!(path.finish().is_some(), character != ' ', "{character}");
        }
        assert!(glyph('é').is_none());
    }

    #[test]
    fn words_lie_where_their_anchor_says() {
        let bounds = |anchor| outline("loss", (100.0, 50.0), anchor).unwrap().bounds();
        let [begin, middle, end] = [Anchor::Begin, Anchor::Middle, Anchor::End].map(bounds);
        assert!(begin.left() >= 100.0 && begin.left() < 102.0, "{begin:?}");
        assert!(end.right() <= 100.0 && end.right() > 98.0, "{end:?}");
        assert!((middle.left() + middle.right() - 200.0).abs() < 2.0, "{middle:?}");
        // A little of what is round lies below the line.
        assert!(begin.bottom() >= 50.0 && begin.bottom() < 50.5 && begin.top() > 50.0 - FONT_SIZE, "{begin:?}");
        assert!((begin.width() - end.width()).abs() < 0.01 && begin.width() > 20.0);
        assert!(outline(" ", (0.0, 0.0), Anchor::Begin).is_none());
    }
}
