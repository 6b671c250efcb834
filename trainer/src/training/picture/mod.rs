//! A picture of lines, dots and words, the same as SVG and as PNG: what is in it is said once, in pixels from its upper left corner.

mod curve;
mod glyphs;
mod png;
mod svg;

pub(super) use curve::curve;

/// How high words are, in pixels from one line to the next.
const FONT_SIZE: f32 = 12.0;

/// Red, green and blue.
type Colour = [u8; 3];
/// From the left, and from the top.
type Place = (f32, f32);

/// What is drawn on a white ground, the first mark lowest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Picture {
    width: u16,
    height: u16,
    marks: Vec<Mark>,
}

#[derive(Debug, Clone, PartialEq)]
enum Mark {
    /// From place to place.
    Line {
        places: Vec<Place>,
        width: f32,
        colour: Colour,
    },
    Dot {
        place: Place,
        radius: f32,
        colour: Colour,
    },
    /// On a baseline, which begins, has its middle or ends there. Printable ASCII.
    Words {
        words: String,
        place: Place,
        anchor: Anchor,
        colour: Colour,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Anchor {
    Begin,
    Middle,
    End,
}
