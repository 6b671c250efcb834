//! Logs on standard error: JSON for machines, text for people, and panics in either. Traces are taken in beside them, and leave lines as they are.

use std::{io::IsTerminal, panic, str::FromStr};

use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, ParseError, filter_fn},
    fmt,
    layer::{Filter, SubscriberExt},
    util::{SubscriberInitExt, TryInitError},
};

use super::traces::{Traces, spans};

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in this process logs already.
    #[error("logs were set up twice")]
    Twice(#[from] TryInitError),
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line; under "span" are the kind and name of the object, the stage it is in, and the number of the pass over it.
    Json,
    /// For people.
    Text,
}

/// What is logged: a level, for this program alone, or directives as `tracing` has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level(String);

/// A level that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: use error, warn, info, debug or trace, or directives such as info,kube_client=debug")]
pub struct BadLevel(String);

impl FromStr for Level {
    type Err = BadLevel;

    fn from_str(text: &str) -> Result<Self, BadLevel> {
        let bad = |error: ParseError| BadLevel(error.to_string());
        let level = if ["error", "warn", "info", "debug", "trace"].contains(&text) {
            // Libraries below warn are of use to those who debug them; they can be asked for by name. What kube_runtime warns
            // of (a watch that was interrupted) we say ourselves, in words.
            format!("warn,kube_runtime=error,sera_operator={text}")
        } else {
            text.to_owned()
        };
        EnvFilter::builder().parse(&level).map_err(bad)?;
        Ok(Self(level))
    }
}

/// Starts logging, panics included, and takes in the spans of `traces`, where they are wanted.
///
/// # Errors
/// [`Error::Twice`].
pub fn start(format: Format, level: &Level, traces: Option<&Traces>) -> Result<(), Error> {
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        Format::Auto => !terminal,
        Format::Json => true,
        Format::Text => false,
    };
    let lines = if json {
        json_lines(std::io::stderr)
    } else {
        fmt::layer().with_writer(std::io::stderr).with_ansi(terminal).with_target(false).boxed()
    };
    let mut layers = vec![lines.with_filter(filter(level)).boxed()];
    layers.extend(traces.map(Traces::layer));
    tracing_subscriber::registry().with(layers).try_init()?;
    log_panics();
    Ok(())
}

/// Lines for machines.
pub(crate) fn json_lines(
    writer: impl for<'writer> fmt::MakeWriter<'writer> + Send + Sync + 'static,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = fmt::layer().with_writer(writer);
    lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
}

/// What is logged at `level`. Spans for traces are not: a line says whose pass it is of, and not in which step.
pub(super) fn filter<S>(level: &Level) -> impl Filter<S> + use<S> {
    let lines = filter_fn(|metadata| metadata.target() != spans::TARGET).with_max_level_hint(LevelFilter::TRACE);
    FilterExt::<S>::and(EnvFilter::builder().parse_lossy(&level.0), lines)
}

fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let what = info.payload_as_str().unwrap_or("something that is no text");
        let place = info.location().map(ToString::to_string);
        tracing::error!(place, "a bug in sera-operator, please report it: {what}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_for_this_program_and_directives_are_taken_as_they_are() {
        assert_eq!("debug".parse(), Ok(Level("warn,kube_runtime=error,sera_operator=debug".to_owned())));
        assert_eq!("info,kube_client=trace".parse(), Ok(Level("info,kube_client=trace".to_owned())));
    }

    #[test]
    fn what_is_no_level_is_refused_with_those_that_are() {
        let error = "info,kube=loud".parse::<Level>().unwrap_err().to_string();
        assert!(error.contains("error, warn, info, debug or trace"), "{error}");
    }
}
