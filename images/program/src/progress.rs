//! How far a long step has come: a bar on a terminal, a line in the log every few seconds elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a step says in the log how far it has come.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// How often a bar moves by itself, so that a person sees that the program lives.
const TICK: Duration = Duration::from_millis(120);

/// The display of one command; a clone shares it.
#[derive(Clone)]
pub struct Progress {
    bars: MultiProgress,
    on_terminal: bool,
}

impl Progress {
    /// Bars if standard error is a terminal.
    pub fn detect() -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let target = if on_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), on_terminal }
    }

    /// The bars, for the log, which has to write around them.
    pub fn bars(&self) -> MultiProgress {
        self.bars.clone()
    }

    /// Begins a step, named by what is being done: "fetching the history". It ends when it is dropped.
    pub fn step(&self, name: &'static str) -> Step {
        let bar = self.on_terminal.then(|| {
            let bar = self.bars.add(ProgressBar::new_spinner().with_message(name));
            bar.enable_steady_tick(TICK);
            bar
        });
        if bar.is_none() {
            tracing::info!(step = name, "started");
        }
        Step { name, is_shown: true, bar, begun: Instant::now(), logged: Mutex::new(Instant::now()) }
    }
}

/// A step under way.
pub struct Step {
    name: &'static str,
    is_shown: bool,
    bar: Option<ProgressBar>,
    begun: Instant,
    logged: Mutex<Instant>,
}

impl Step {
    /// A step that goes on beside others and shows nothing of itself.
    pub fn unseen(name: &'static str) -> Self {
        Self { name, is_shown: false, bar: None, begun: Instant::now(), logged: Mutex::new(Instant::now()) }
    }

    /// Says how far the step's current phase ("Receiving objects") has come; `total` is 0 where nobody knows.
    pub fn update(&self, phase: &str, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {phase}", self.name));
            bar.set_style(style(total));
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        if !self.is_shown {
            return;
        }
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.elapsed() >= LOG_EVERY {
            *logged = Instant::now();
            tracing::info!(step = self.name, phase, done, total, "progress");
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        } else if self.is_shown {
            tracing::info!(step = self.name, seconds = self.begun.elapsed().as_secs_f32(), "ended");
        }
    }
}

/// A bar where the total is known, a counter where it is not.
fn style(total: u64) -> ProgressStyle {
    let template =
        if total == 0 { "{spinner} {msg} {human_pos}" } else { "{spinner} {msg} {bar:30} {human_pos}/{human_len}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
