//! Where a training's log goes: to standard error, as text past the bar on a terminal, or a JSON object a line for machines.

use std::io::{IsTerminal, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts logging; `SERA_LOG_LEVEL` says how much.
pub(super) fn start(bars: MultiProgress) {
    let level = std::env::var("SERA_LOG_LEVEL").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(format!("warn,sera_trainer={level}")).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Writer(bars)).with_target(false);
    let on_terminal = std::io::stderr().is_terminal();
    let started = if on_terminal {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    if let Err(error) = started {
        // There is no log to put it in.
        let _ = writeln!(std::io::stderr(), "the log cannot be started: {error}");
    }
}

/// Standard error as the log sees it.
struct Writer(MultiProgress);

/// One event on its way out; the subscriber writes each in one piece.
struct Line<'a>(&'a MultiProgress);

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
