//! The losses of all steps, as they are kept (`losses.jsonl`, a line a step) and as they are drawn (`loss.svg`, `loss.png`).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::picture;
use crate::durable;

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

/// What they are drawn as.
#[derive(Debug, Clone, Copy)]
pub enum Format {
    /// For pages and browsers.
    Svg,
    /// For everything else.
    Png,
}

impl Format {
    /// Both, with their files' names.
    pub const ALL: [(Self, &str); 2] = [(Self::Svg, "loss.svg"), (Self::Png, "loss.png")];
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
    pub fn draw(&self, format: Format, path: &Path) -> std::io::Result<()> {
        let lines = self.text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let points: Vec<Point> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let curve = picture::curve(&points);
        let drawn = match format {
            Format::Svg => curve.svg().into_bytes(),
            Format::Png => curve.png()?,
        };
        durable::write(path, &drawn)
    }
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
    fn both_files_are_drawn_from_the_same_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut losses = Losses::from(b"a line that says nothing\n".to_vec(), None).unwrap();
        losses.add(&point(1, 2.5, Some(3.0))).unwrap();
        for (format, name) in Format::ALL {
            losses.draw(format, &folder.path().join(name)).unwrap();
        }
        let content = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        let curve = picture::curve(&[point(1, 2.5, Some(3.0))]);
        assert_eq!((content("loss.svg"), content("loss.png")), (curve.svg().into_bytes(), curve.png().unwrap()));
    }
}
