//! Says what is going on while something takes long: a spinner on a terminal, plain lines elsewhere. It does not decide
//! what is worth saying.

use std::io::{IsTerminal, stderr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often the detail of a long step is repeated where there is no terminal: enough to show that it is alive.
const PLAIN_DETAIL_EVERY: Duration = Duration::from_secs(15);
/// How often the spinner turns.
const SPINNER_TICK: Duration = Duration::from_millis(120);

/// A place to tell a person what is being done. Clones tell it to the same place.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<Sink>>);

#[derive(Debug)]
enum Sink {
    Silent,
    SlowOnly { last_detail: Instant },
    Spinner(ProgressBar),
    Plain { last_detail: Instant },
}

impl Drop for Sink {
    fn drop(&mut self) {
        // What comes next, an error perhaps, begins on a clean line.
        if let Self::Spinner(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Progress {
    /// Says nothing.
    pub fn silent() -> Self {
        Self(Arc::new(Mutex::new(Sink::Silent)))
    }

    /// Says on standard error only what is worth knowing beside the output of a test: the details of steps that take long.
    pub fn slow_only() -> Self {
        Self(Arc::new(Mutex::new(Sink::SlowOnly { last_detail: Instant::now() })))
    }

    /// Speaks on standard error: a spinner if that is a terminal, else a line a step.
    pub fn console() -> Self {
        let sink = if stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            Sink::Spinner(bar)
        } else {
            Sink::Plain { last_detail: Instant::now() }
        };
        Self(Arc::new(Mutex::new(sink)))
    }

    /// Begins a step.
    pub fn step(&self, what: impl Into<String>) {
        let what = what.into();
        match &mut *self.sink() {
            Sink::Silent => {}
            Sink::SlowOnly { last_detail } => *last_detail = Instant::now(),
            Sink::Spinner(bar) => {
                bar.set_message(what);
                // Not before there is something to say: until then others may write there.
                bar.enable_steady_tick(SPINNER_TICK);
            }
            Sink::Plain { last_detail } => {
                *last_detail = Instant::now();
                eprintln!("{what}");
            }
        }
    }

    /// Tells how far a long step has come.
    pub fn detail(&self, what: impl Into<String>) {
        let what = what.into();
        match &mut *self.sink() {
            Sink::Silent => {}
            Sink::Spinner(bar) => bar.set_message(what),
            Sink::Plain { last_detail } | Sink::SlowOnly { last_detail } => {
                if last_detail.elapsed() >= PLAIN_DETAIL_EVERY {
                    *last_detail = Instant::now();
                    eprintln!("{what}");
                }
            }
        }
    }

    /// Ends it all with a line that stays.
    pub fn finish(&self, what: impl Into<String>) {
        let what = what.into();
        match &mut *self.sink() {
            Sink::Silent | Sink::SlowOnly { .. } => {}
            Sink::Spinner(bar) => {
                bar.finish_and_clear();
                eprintln!("{what}");
            }
            Sink::Plain { .. } => eprintln!("{what}"),
        }
    }

    fn sink(&self) -> std::sync::MutexGuard<'_, Sink> {
        // A panic while speaking does not make the next line wrong.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
