//! Where logs go: to standard error, as text for people or a JSON object a line for machines, past the progress display and without secrets.

use std::io::{IsTerminal, Write};

use clap::{Args, ValueEnum};
use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::redact::Redactor;

/// What every command can be told of its log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// How log lines look on standard error [default: text on a terminal, json elsewhere]
    #[arg(long, global = true, env = "SERA_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// How much is logged
    #[arg(long, global = true, env = "SERA_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
}

impl LogArgs {
    /// Starts logging as it was told.
    pub fn start(&self, bars: MultiProgress, redactor: Redactor) {
        start(self.log_format.unwrap_or_else(LogFormat::default_here), self.log_level, bars, redactor);
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

impl LogFormat {
    /// Text where a person looks, JSON where a machine collects.
    pub fn default_here() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What ends the program.
    Error,
    /// And what somebody should look at.
    Warn,
    /// And what is being done.
    Info,
    /// And how, with what git says.
    Debug,
    /// And what the libraries do, such as the store's client.
    Trace,
}

impl LogLevel {
    fn filter(self) -> EnvFilter {
        EnvFilter::new(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            // A target is taken by how it begins: these are all crates of this project, what programs share among them.
            Self::Info => "warn,sera_=info",
            Self::Debug => "warn,sera_=debug",
            Self::Trace => "trace",
        })
    }
}

/// Starts logging.
pub fn start(format: LogFormat, level: LogLevel, bars: MultiProgress, redactor: Redactor) {
    let writer = Writer { bars, redactor };
    let builder = tracing_subscriber::fmt().with_env_filter(level.filter()).with_writer(writer).with_target(false);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    if let Err(error) = started {
        // There is no log to put it in.
        let _ = writeln!(std::io::stderr(), "the log cannot be started: {error}");
    }
}

/// Standard error as the log sees it.
struct Writer {
    bars: MultiProgress,
    redactor: Redactor,
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// One event on its way out; the subscriber writes each in one piece.
struct Line<'a>(&'a Writer);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = self.0.redactor.apply(&String::from_utf8_lossy(bytes));
        self.0.bars.suspend(|| std::io::stderr().write_all(text.as_bytes()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What a log of this level has of an event of each kind, of this crate, of a program's, and of a library's.
    fn logged(level: LogLevel) -> String {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let kept = Kept::default();
        let writer = kept.clone();
        let log =
            tracing_subscriber::fmt().with_env_filter(level.filter()).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            tracing::info!("a step");
            tracing::debug!("a detail");
            tracing::info!(target: "sera_rollout::agent", "a turn");
            tracing::info!(target: "hyper::client", "a connection");
        });
        let text = kept.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_programs_share_is_told_at_the_level_of_the_program_and_libraries_are_quiet() {
        let info = logged(LogLevel::Info);
        assert!(info.contains("a step") && info.contains("a turn"), "{info}");
        assert!(!info.contains("a detail") && !info.contains("a connection"), "{info}");
        let debug = logged(LogLevel::Debug);
        assert!(debug.contains("a detail") && !debug.contains("a connection"), "{debug}");
        assert_eq!(logged(LogLevel::Warn), "");
    }
}
