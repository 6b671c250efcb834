//! A picture as PNG, for everything that shows no SVG. It needs nothing of the machine: words are outlines like all else.

use tiny_skia::{Color, FillRule, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, Transform};

use super::{Colour, Mark, Picture, Place, glyphs};

/// How many of its pixels are one of the picture's: sharp on screens of high density too.
const SCALE: u16 = 2;

impl Picture {
    pub(in crate::training) fn png(&self) -> std::io::Result<Vec<u8>> {
        let [width, height] = [self.width, self.height].map(|pixels| u32::from(pixels) * u32::from(SCALE));
        let mut canvas = Pixmap::new(width, height).ok_or_else(|| std::io::Error::other("a picture without pixels"))?;
        canvas.fill(Color::WHITE);
        for mark in &self.marks {
            draw(&mut canvas, mark);
        }
        canvas.encode_png().map_err(std::io::Error::other)
    }
}

fn draw(canvas: &mut Pixmap, mark: &Mark) {
    let scale = Transform::from_scale(f32::from(SCALE), f32::from(SCALE));
    let mut fill = |path: Option<Path>, colour| {
        if let Some(path) = path {
            canvas.fill_path(&path, &paint(colour), FillRule::Winding, scale, None);
        }
    };
    match mark {
        Mark::Line { places, width, colour } => {
            let stroke = Stroke { width: *width, line_join: LineJoin::Round, ..Stroke::default() };
            if let Some(path) = joined(places) {
                canvas.stroke_path(&path, &paint(*colour), &stroke, scale, None);
            }
        }
        Mark::Dot { place: (x, y), radius, colour } => fill(PathBuilder::from_circle(*x, *y, *radius), *colour),
        Mark::Words { words, place, anchor, colour } => fill(glyphs::outline(words, *place, *anchor), *colour),
    }
}

fn joined(places: &[Place]) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (at, (x, y)) in places.iter().enumerate() {
        if at == 0 { path.move_to(*x, *y) } else { path.line_to(*x, *y) }
    }
    path.finish()
}

fn paint([red, green, blue]: Colour) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, u8::MAX);
    paint
}

#[cfg(test)]
mod tests {
    use super::super::Anchor;
    use super::*;

    const BLUE: Colour = [0, 0, 255];
    const RED: Colour = [255, 0, 0];

    fn drawn(marks: Vec<Mark>) -> Pixmap {
        Pixmap::decode_png(&Picture { width: 40, height: 20, marks }.png().unwrap()).unwrap()
    }

    fn colour(canvas: &Pixmap, x: u32, y: u32) -> Colour {
        let pixel = canvas.pixel(x, y).unwrap();
        assert_eq!(pixel.alpha(), 255);
        [pixel.red(), pixel.green(), pixel.blue()]
    }

    #[test]
    fn lines_and_dots_lie_where_they_were_put_at_twice_the_size() {
        let canvas = drawn(vec![
            Mark::Line { places: vec![(5.0, 10.5), (30.0, 10.5)], width: 1.0, colour: BLUE },
            Mark::Dot { place: (35.0, 5.0), radius: 2.0, colour: RED },
        ]);
        assert_eq!((canvas.width(), canvas.height()), (80, 40));
        let white = [255; 3];
        assert_eq!([19, 20, 21, 22].map(|y| colour(&canvas, 30, y)), [white, BLUE, BLUE, white]);
        assert_eq!([9, 10, 59, 60].map(|x| colour(&canvas, x, 20)), [white, BLUE, BLUE, white]);
        assert_eq!([64, 67, 72, 75].map(|x| colour(&canvas, x, 10)), [white, RED, RED, white]);
    }

    #[test]
    fn words_are_drawn_without_a_font_of_the_machine() {
        let words = Mark::Words { words: "loss".to_owned(), place: (4.0, 15.0), anchor: Anchor::Begin, colour: BLUE };
        let canvas = drawn(vec![words]);
        let inked = canvas.pixels().iter().filter(|pixel| pixel.red() < 128).count();
        assert!((100..500).contains(&inked), "{inked} pixels");
        // The stem of the first letter.
        assert_eq!(colour(&canvas, 10, 22), BLUE);
    }

    #[test]
    fn nothing_to_draw_leaves_white() {
        let canvas = drawn(vec![Mark::Line { places: vec![], width: 1.0, colour: BLUE }]);
        assert!(canvas.pixels().iter().all(|pixel| (pixel.red(), pixel.green(), pixel.blue()) == (255, 255, 255)));
    }
}
