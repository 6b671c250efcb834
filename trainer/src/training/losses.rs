//! The losses of all steps, as they are kept (`losses.jsonl`, a line a step) and as they are drawn (`loss.svg`).

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable;

/// The picture's size and margins, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 56.0;
const BELOW: f64 = 36.0;
const MARGIN: f64 = 16.0;
/// How many values are written beside an axis.
const TICKS: u32 = 4;

/// A step, as its line has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// Its number, from 1.
    pub step: u32,
    /// The mean loss a trained token; none where the step was left out.
    pub loss: Option<f64>,
    /// The global norm of its gradients before clipping.
    pub gradient_norm: Option<f64>,
    /// The learning rate.
    pub learning_rate: f64,
    /// How many tokens carried loss.
    pub trained_tokens: u64,
    /// The loss over the lines set aside after it, where that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// Why it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// All steps so far, in memory and in a file.
#[derive(Debug)]
pub struct Losses {
    path: Option<PathBuf>,
    text: Vec<u8>,
}

impl Losses {
    /// Begins with the lines that a checkpoint kept, and writes what follows to `path` too, where one is given.
    pub fn from(kept: Vec<u8>, path: Option<PathBuf>) -> std::io::Result<Self> {
        if let Some(path) = &path {
            durable::write(path, &kept)?;
        }
        Ok(Self { path, text: kept })
    }

    /// Adds a step.
    pub fn add(&mut self, point: &Point) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(point)?;
        line.push(b'\n');
        if let Some(path) = &self.path {
            std::fs::File::options().append(true).open(path)?.write_all(&line)?;
        }
        self.text.extend(line);
        Ok(())
    }

    /// The lines.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Draws them.
    pub fn draw(&self, path: &Path) -> std::io::Result<()> {
        let lines = self.text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let points: Vec<Point> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        durable::write(path, svg(&points).as_bytes())
    }
}

/// The curve of the training loss, and of the evaluation loss where there is one.
fn svg(points: &[Point]) -> String {
    let trained: Vec<(u32, f64)> = points.iter().filter_map(|point| Some((point.step, point.loss?))).collect();
    let watched: Vec<(u32, f64)> = points.iter().filter_map(|point| Some((point.step, point.eval_loss?))).collect();
    let losses = || trained.iter().chain(&watched).map(|(_, loss)| *loss).filter(|loss| loss.is_finite());
    let highest = losses().fold(f64::MIN_POSITIVE, f64::max);
    let steps = points.last().map_or(1, |point| point.step).max(1);
    let x = |step: u32| LEFT + (WIDTH - LEFT - MARGIN) * f64::from(step) / f64::from(steps);
    let y = |loss: f64| MARGIN + (HEIGHT - BELOW - MARGIN) * (1.0 - loss / highest);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for tick in 0..=TICKS {
        let part = f64::from(tick) / f64::from(TICKS);
        let (loss, step) = (highest * part, steps * tick / TICKS);
        let (left, right, bottom) = (LEFT, WIDTH - MARGIN, HEIGHT - BELOW);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{loss:.2}</text>\
             <text x=\"{3:.1}\" y=\"{4}\" text-anchor=\"middle\">{step}</text>",
            y(loss),
            left - 6.0,
            y(loss) + 4.0,
            x(step),
            bottom + 16.0,
        );
    }
    for (name, colour, line, above) in
        [("training loss", "#1f6feb", &trained, 0.0), ("evaluation loss", "#d1242f", &watched, 14.0)]
    {
        if line.is_empty() {
            continue;
        }
        let path: Vec<String> = line
            .iter()
            .filter(|(_, loss)| loss.is_finite())
            .map(|(step, loss)| format!("{:.1},{:.1}", x(*step), y(*loss)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>",
            path.join(" "),
            WIDTH - MARGIN - 4.0,
            MARGIN + 12.0 + above,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u32, loss: f64, eval_loss: Option<f64>) -> Point {
        Point {
            step,
            loss: Some(loss),
            gradient_norm: Some(1.0),
            learning_rate: 1e-5,
            trained_tokens: 9,
            eval_loss,
            skipped: None,
        }
    }

    #[test]
    fn the_file_has_what_was_kept_and_what_was_added_and_nothing_that_was_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.jsonl");
        std::fs::write(&path, "lines of a process that was killed after its last checkpoint\n").unwrap();
        let mut losses = Losses::from(b"{\"kept\":1}\n".to_vec(), Some(path.clone())).unwrap();
        losses.add(&point(2, 0.5, None)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.as_bytes(), losses.text());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines.len()), ("{\"kept\":1}", 2));
        assert_eq!(serde_json::from_str::<Point>(lines[1]).unwrap(), point(2, 0.5, None));
    }

    #[test]
    fn a_falling_loss_is_drawn_falling_and_evaluation_has_a_line_of_its_own() {
        let picture = svg(&[point(1, 4.0, None), point(2, 2.0, Some(3.0)), point(4, 1.0, None)]);
        assert!(picture.contains("points=\"218.0,16.0 380.0,170.0 704.0,247.0\""), "{picture}");
        assert!(picture.contains("points=\"380.0,93.0\"") && picture.contains("evaluation loss"), "{picture}");
        assert!(!svg(&[point(1, 4.0, None)]).contains("evaluation"));
        assert!(svg(&[]).ends_with("</svg>\n"));
    }
}
