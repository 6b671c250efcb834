//! The curve of the training loss, and of the evaluation loss where there is one: what is drawn where.

use super::{Anchor, Colour, Mark, Picture, Place};
use crate::training::Point;

/// The picture's size, and how much of it on each side is not the plot, in pixels.
const WIDTH: u16 = 720;
const HEIGHT: u16 = 360;
const LEFT: u16 = 60;
const RIGHT: u16 = 28;
const ABOVE: u16 = 40;
const BELOW: u16 = 46;
/// Into how many parts the axes are divided at most.
const LOSS_PARTS: f64 = 5.0;
const STEP_PARTS: f64 = 8.0;
/// Between what the loss at the upper edge lies: there is no room for longer numbers.
const LOWEST_TOP: f64 = 1e-4;
const HIGHEST_TOP: f64 = 1e5;
/// Up to how many points are told apart by dots.
const DOTTED: usize = 24;

const INK: Colour = [0x57, 0x60, 0x6a];
const GRID: Colour = [0xe1, 0xe4, 0xe8];
const AXIS: Colour = [0x8c, 0x95, 0x9f];
const TRAINING: Colour = [0x1f, 0x6f, 0xeb];
const EVALUATION: Colour = [0xd1, 0x24, 0x2f];

/// Draws the steps so far; those without a loss are passed over.
pub(in crate::training) fn curve(points: &[Point]) -> Picture {
    let of = |loss: fn(&Point) -> Option<f64>| -> Vec<(u32, f64)> {
        points.iter().filter_map(|point| Some((point.step, loss(point).filter(|loss| loss.is_finite())?))).collect()
    };
    let curves = [
        ("training loss", TRAINING, of(|point| point.loss)),
        ("evaluation loss", EVALUATION, of(|point| point.eval_loss)),
    ];
    let losses = curves.iter().flat_map(|(.., curve)| curve).map(|(_, loss)| *loss);
    let plot = Plot::new(losses.fold(0.0, f64::max), points.iter().map(|point| point.step).max().unwrap_or(1));

    let mut marks = plot.axes();
    let mut legend = f32::from(LEFT);
    for (name, colour, curve) in curves.into_iter().filter(|(.., curve)| !curve.is_empty()) {
        marks.extend(plot.curve(&curve, colour));
        marks.extend(named(name, colour, legend));
        legend += 120.0;
    }
    Picture { width: WIDTH, height: HEIGHT, marks }
}

/// A name in the legend, with a piece of its curve before it.
fn named(name: &str, colour: Colour, left: f32) -> [Mark; 2] {
    let places = vec![(left, 20.0), (left + 18.0, 20.0)];
    [line(places, 2.5, colour), words(name.to_owned(), (left + 24.0, 24.0), Anchor::Begin)]
}

/// Where losses and steps lie.
struct Plot {
    /// How far it is from one line of the grid to the next.
    loss_stride: f64,
    step_stride: f64,
    /// The loss at the upper edge: a whole number of strides.
    top: f64,
    /// The step at the right edge.
    steps: f64,
}

impl Plot {
    fn new(highest: f64, steps: u32) -> Self {
        let highest = if highest > 0.0 { highest.clamp(LOWEST_TOP, HIGHEST_TOP) } else { 1.0 };
        let steps = f64::from(steps.max(1));
        let loss_stride = stride(highest, LOSS_PARTS);
        let step_stride = stride(steps, STEP_PARTS).max(1.0);
        Self { loss_stride, step_stride, top: (highest / loss_stride - 1e-9).ceil() * loss_stride, steps }
    }

    fn x(&self, step: f64) -> f32 {
        f32::from(LEFT) + f32::from(WIDTH - LEFT - RIGHT) * part(step, self.steps)
    }

    fn y(&self, loss: f64) -> f32 {
        f32::from(HEIGHT - BELOW) - f32::from(HEIGHT - BELOW - ABOVE) * part(loss, self.top)
    }

    /// The grid with its numbers, the axes and the name of the one that the legend does not name.
    fn axes(&self) -> Vec<Mark> {
        let (left, right) = (f32::from(LEFT), f32::from(WIDTH - RIGHT));
        let (above, below) = (f32::from(ABOVE), f32::from(HEIGHT - BELOW));
        let mut marks = Vec::new();
        for loss in ticks(self.loss_stride, self.top) {
            let y = sharp(self.y(loss));
            let number = format!("{loss:.*}", decimals(self.loss_stride));
            marks.push(line(vec![(left, y), (right, y)], 1.0, GRID));
            marks.push(words(number, (left - 8.0, y + 4.0), Anchor::End));
        }
        for step in ticks(self.step_stride, self.steps) {
            let x = sharp(self.x(step));
            marks.push(line(vec![(x, below), (x, below + 4.0)], 1.0, AXIS));
            marks.push(words(format!("{step:.0}"), (x, below + 18.0), Anchor::Middle));
        }
        let (x, y) = (sharp(left), sharp(below));
        marks.push(line(vec![(x, above), (x, y), (right, y)], 1.0, AXIS));
        marks.push(words("step".to_owned(), (left.midpoint(right), below + 36.0), Anchor::Middle));
        marks
    }

    fn curve(&self, curve: &[(u32, f64)], colour: Colour) -> Vec<Mark> {
        let places: Vec<Place> = curve.iter().map(|(step, loss)| (self.x(f64::from(*step)), self.y(*loss))).collect();
        let dotted = if places.len() <= DOTTED { places.as_slice() } else { &[] };
        let mut marks: Vec<Mark> =
            dotted.iter().map(|place| Mark::Dot { place: *place, radius: 2.5, colour }).collect();
        if places.len() > 1 {
            marks.push(line(places, 1.5, colour));
        }
        marks
    }
}

fn line(places: Vec<Place>, width: f32, colour: Colour) -> Mark {
    Mark::Line { places, width, colour }
}

fn words(words: String, place: Place, anchor: Anchor) -> Mark {
    Mark::Words { words, place, anchor, colour: INK }
}

/// How much of the whole it is; what is beyond lies on the edge.
#[allow(clippy::cast_possible_truncation, reason = "between 0 and 1, and places are not told more exactly")]
fn part(value: f64, whole: f64) -> f32 {
    (value / whole).clamp(0.0, 1.0) as f32
}

/// Where a line of one pixel covers one row of pixels, and not two by half.
fn sharp(place: f32) -> f32 {
    place.floor() + 0.5
}

/// The smallest of 1, 2 and 5 times a power of ten that divides a range into no more than so many parts.
fn stride(range: f64, parts: f64) -> f64 {
    let least = range / parts * (1.0 - 1e-9);
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|times| times * power).find(|stride| *stride >= least).unwrap_or(10.0 * power)
}

/// From 0 on, the end included.
fn ticks(stride: f64, end: f64) -> impl Iterator<Item = f64> {
    (0..=10).map(move |tick| f64::from(tick) * stride).take_while(move |tick| *tick <= end * (1.0 + 1e-9))
}

/// How many digits after the point tell one tick from the next.
fn decimals(stride: f64) -> usize {
    (0..9)
        .find(|digits| stride * 10_f64.powi(*digits) > 0.999)
        .and_then(|digits| usize::try_from(digits).ok())
        .unwrap_or(9)
}

#[cfg(test)]
mod tests {
    use tiny_skia::Pixmap;

    use super::*;

    fn point(step: u32, loss: Option<f64>, eval_loss: Option<f64>) -> Point {
        let skipped = loss.is_none().then(|| "its gradients are no numbers".to_owned());
        Point { step, loss, gradient_norm: None, learning_rate: 1e-5, trained_tokens: 9, eval_loss, skipped }
    }

    fn falling() -> Vec<Point> {
        vec![point(1, Some(4.0), None), point(2, Some(2.0), Some(3.0)), point(4, Some(1.0), None)]
    }

    fn words(picture: &Picture) -> Vec<&str> {
        let words = picture.marks.iter().filter_map(|mark| match mark {
            Mark::Words { words, .. } => Some(words.as_str()),
            _ => None,
        });
        words.collect()
    }

    fn pixels(points: &[Point]) -> Pixmap {
        Pixmap::decode_png(&curve(points).png().unwrap()).unwrap()
    }

    /// The columns and rows, in pixels of the picture, between which there is something of a colour.
    fn reach(canvas: &Pixmap, colour: impl Fn(Colour) -> bool) -> Option<[u32; 4]> {
        let (width, mut reach) = (canvas.width() as usize, None);
        for (at, pixel) in canvas.pixels().iter().enumerate() {
            if colour([pixel.red(), pixel.green(), pixel.blue()]) {
                let [x, y] = [at % width, at / width].map(|place| u32::try_from(place / 2).unwrap());
                let [left, right, above, below] = reach.unwrap_or([x, x, y, y]);
                reach = Some([left.min(x), right.max(x), above.min(y), below.max(y)]);
            }
        }
        reach
    }

    #[test]
    fn a_falling_loss_is_drawn_falling_and_evaluation_has_a_curve_of_its_own() {
        let svg = curve(&falling()).svg();
        assert!(svg.contains("points=\"218.0,40.0 376.0,177.0 692.0,245.5\""), "{svg}");
        assert!(svg.contains("<circle cx=\"376.0\" cy=\"108.5\" r=\"2.5\" fill=\"#d1242f\"/>"), "{svg}");
        assert!(svg.contains(">training loss<") && svg.contains(">evaluation loss<"), "{svg}");
        assert!(!curve(&[point(1, Some(4.0), None)]).svg().contains("evaluation"));
    }

    #[test]
    fn the_png_has_the_curve_where_the_loss_falls_and_nowhere_else() {
        let canvas = pixels(&falling());
        assert_eq!((canvas.width(), canvas.height()), (1440, 720));
        let colour = |x: f32, y: f32| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a pixel of the picture")]
            let pixel = canvas.pixel((x * 2.0) as u32, (y * 2.0) as u32).unwrap();
            [pixel.red(), pixel.green(), pixel.blue()]
        };
        // The three points, and half of the way between them.
        for (x, y) in [(218.0, 40.5), (297.0, 108.5), (376.0, 177.0), (534.0, 211.3), (691.5, 245.3)] {
            assert_eq!(colour(x, y), TRAINING, "at {x}, {y}");
        }
        assert_eq!(colour(376.0, 108.5), EVALUATION);
        // Between the lines of the grid, above and below the curve.
        assert_eq!([colour(500.0, 150.0), colour(300.0, 200.0)], [[255; 3]; 2]);
        // From the legend's piece of it to the last point's dot.
        let reached = reach(&canvas, |colour| colour == TRAINING).unwrap();
        assert_eq!(reached, [60, 693, 19, 247]);
    }

    #[test]
    fn both_formats_keep_their_margins_however_long_the_numbers_are() {
        for loss in [1e-9, 4.93, 1e300] {
            for last in [1, 100_000] {
                let canvas = pixels(&[point(1, Some(loss), Some(loss)), point(last, Some(loss / 2.0), Some(loss))]);
                let [left, right, above, below] = reach(&canvas, |colour| colour != [255; 3]).unwrap();
                assert!(
                    left >= 6 && right < 714 && above >= 6 && below < 354,
                    "{loss} {last}: {left} {right} {above} {below}"
                );
            }
        }
    }

    #[test]
    fn the_axes_have_round_numbers() {
        let axes = |loss, steps| {
            let picture = curve(&[point(steps, Some(loss), None)]);
            words(&picture)[..].join(" ")
        };
        assert_eq!(axes(4.93, 27), "0 1 2 3 4 5 0 5 10 15 20 25 step training loss");
        assert_eq!(axes(0.7, 3), "0.0 0.2 0.4 0.6 0.8 0 1 2 3 step training loss");
        assert_eq!(
            axes(1e-12, 900),
            "0.00000 0.00002 0.00004 0.00006 0.00008 0.00010 0 200 400 600 800 step training loss"
        );
        assert_eq!(axes(1e300, 1), "0 20000 40000 60000 80000 100000 0 1 step training loss");
    }

    #[test]
    fn a_history_of_nothing_or_of_nothing_but_steps_left_out_is_a_pair_of_axes() {
        for points in [vec![], vec![point(1, None, None), point(2, Some(f64::NAN), Some(f64::INFINITY))]] {
            let picture = curve(&points);
            assert!(words(&picture).starts_with(&["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]), "{picture:?}");
            assert!(!picture.svg().contains("NaN") && !picture.svg().contains("inf"));
            let canvas = pixels(&points);
            assert!(reach(&canvas, |colour| colour == AXIS).is_some());
            assert!(reach(&canvas, |colour| colour == TRAINING || colour == EVALUATION).is_none());
        }
    }

    #[test]
    fn a_single_point_is_a_dot_and_many_are_a_line_without() {
        let single = curve(&[point(1, Some(2.0), None)]);
        assert!(single.svg().contains("<circle cx=\"692.0\" cy=\"40.0\""), "{}", single.svg());
        assert!(reach(&pixels(&[point(1, Some(2.0), None)]), |colour| colour == TRAINING).is_some());
        let many: Vec<Point> = (1..=40).map(|step| point(step, Some(1.0 / f64::from(step)), None)).collect();
        assert!(!curve(&many).svg().contains("<circle"));
    }

    #[test]
    fn what_is_no_number_is_passed_over_and_what_lies_beyond_stays_on_the_edge() {
        let points = [
            point(1, Some(2.0), None),
            point(2, Some(f64::NAN), None),
            point(3, None, None),
            point(4, Some(1.0), None),
        ];
        assert!(curve(&points).svg().contains("points=\"218.0,40.0 692.0,177.0\""), "{}", curve(&points).svg());
        let svg = curve(&[point(1, Some(1e300), None), point(2, Some(-1.0), None)]).svg();
        assert!(svg.contains("points=\"376.0,40.0 692.0,314.0\""), "{svg}");
    }
}
