//! A picture as SVG, for pages and browsers. Its words stay words, in the reader's font.

use std::fmt::Write as _;

use super::{Anchor, Colour, FONT_SIZE, Mark, Picture};

impl Picture {
    pub(in crate::training) fn svg(&self) -> String {
        let Self { width, height, marks } = self;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"Roboto, sans-serif\" font-size=\"{FONT_SIZE}\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
        );
        for mark in marks {
            // Writing to a string does not fail.
            let _ = writeln!(svg, "{}", element(mark));
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn element(mark: &Mark) -> String {
    match mark {
        Mark::Line { places, width, colour } => {
            let places: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            format!(
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" stroke-linejoin=\"round\" points=\"{}\"/>",
                hex(*colour),
                places.join(" "),
            )
        }
        Mark::Dot { place: (x, y), radius, colour } => {
            format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{}\"/>", hex(*colour))
        }
        Mark::Words { words, place: (x, y), anchor, colour } => {
            let anchor = match anchor {
                Anchor::Begin => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let words = words.replace('&', "&amp;").replace('<', "&lt;");
            format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{}\">{words}</text>", hex(*colour))
        }
    }
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_no_markup() {
        let words =
            Mark::Words { words: "a<b & c".to_owned(), place: (1.0, 2.04), anchor: Anchor::End, colour: [1, 35, 255] };
        let svg = Picture { width: 9, height: 8, marks: vec![words] }.svg();
        assert!(
            svg.contains("<text x=\"1.0\" y=\"2.0\" text-anchor=\"end\" fill=\"#0123ff\">a&lt;b &amp; c</text>"),
            "{svg}"
        );
    }
}
