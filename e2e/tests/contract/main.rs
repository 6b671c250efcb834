//! The API's contract, put to a real API server: what it admits, what it refuses and with which words, what its locks
//! hold, and what its schema tells a reader. The statements are the YAML files under `cases/`; this program asks them.
//! With `-- --show-output` it prints every refusal as a user reads it, with `-- --bench` how long admission takes.

mod admission;
mod bounds;
mod cases;
mod coverage;
mod examples;
mod judge;
mod locks;
mod owners;
mod schema;
mod server;
mod statements;
mod tree;
mod values;

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use server::Server;
use tokio::runtime::{Handle, Runtime};

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let runtime = Runtime::new()?;
    let asker = Asker { runtime: runtime.handle().clone(), server: Arc::default() };
    let mut trials = statements::trials(&asker, arguments.show_output)?;
    trials.extend(examples::trials(&asker)?);
    trials.extend(schema::trials(&asker));
    trials.push(locks::trial(&asker));
    trials.extend(owners::trials(&asker));
    trials.extend(coverage::trials(&asker));
    trials.push(admission::trial(&asker));

    let asks_nothing = arguments.list || trials.iter().all(|trial| arguments.is_filtered_out(trial));
    if !asks_nothing {
        let server = runtime.block_on(Server::start())?;
        asker.server.set(server).ok().context("the server was started twice")?;
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(server) = Arc::into_inner(asker.server).and_then(OnceLock::into_inner) {
        runtime.block_on(server.stop())?;
    }
    Ok(conclusion.exit_code())
}

/// Lets tests ask the server: they run on threads of libtest-mimic, their requests on those of tokio.
#[derive(Clone)]
struct Asker {
    runtime: Handle,
    server: Arc<OnceLock<Server>>,
}

impl Asker {
    /// A test, which `ask` decides; its name is `kind`, and the statement as a sentence.
    fn trial(
        &self,
        kind: &str,
        statement: impl Into<String>,
        ask: impl AsyncFnOnce(&Server) -> Result<()> + Send + 'static,
    ) -> Trial {
        let asker = self.clone();
        Trial::test(statement, move || asker.ask(ask)).with_kind(kind)
    }

    /// Waits for what `ask` gets out of the server.
    fn ask<T>(&self, ask: impl AsyncFnOnce(&Server) -> Result<T>) -> Result<T, Failed> {
        let server = self.server.get().ok_or("the server was not started")?;
        self.runtime.block_on(ask(server)).map_err(|error| Failed::from(format!("{error:#}")))
    }
}
