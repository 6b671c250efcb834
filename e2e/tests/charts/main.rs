//! The two charts: what helm renders of them, and what an installed one grants, admits and refuses on a real API server.
//! That the operator works where they install it is the node's tests' business.

mod admission;
mod definitions;
mod deployment;
mod gitops;
mod house;
mod labels;
mod monitoring;
mod places;
mod rights;
mod self_test;
mod values;
mod words;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use house::House;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::{Handle, Runtime};

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let runtime = Runtime::new()?;
    let host = Host { runtime: runtime.handle().clone(), house: Arc::default() };
    let mut trials = Vec::new();
    trials.extend(values::trials(&host));
    trials.extend(words::trials(&host));
    trials.extend(definitions::trials(&host));
    trials.extend(deployment::trials(&host));
    trials.extend(gitops::trials(&host));
    trials.extend(labels::trials(&host));
    trials.extend(monitoring::trials(&host));
    trials.extend(rights::trials(&host));
    trials.extend(self_test::trials(&host));
    trials.extend(admission::trials(&host)?);

    let asks_nothing = arguments.list || trials.iter().all(|trial| arguments.is_filtered_out(trial));
    if !asks_nothing {
        let house = runtime.block_on(House::open())?;
        host.house.set(house).ok().context("the charts were installed twice")?;
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(house) = Arc::into_inner(host.house).and_then(OnceLock::into_inner) {
        runtime.block_on(house.close())?;
    }
    Ok(conclusion.exit_code())
}

/// Gives tests the house: they run on threads of libtest-mimic, what they ask for on those of tokio.
struct Host {
    runtime: Handle,
    house: Arc<OnceLock<House>>,
}

impl Host {
    /// A test whose name is a sentence, and which `ask` decides.
    fn trial(
        &self,
        sentence: impl Into<String>,
        ask: impl AsyncFnOnce(&House) -> Result<()> + Send + 'static,
    ) -> Trial {
        let (runtime, house) = (self.runtime.clone(), Arc::clone(&self.house));
        Trial::test(sentence, move || {
            let house = house.get().ok_or("the charts were not installed")?;
            runtime.block_on(ask(house)).map_err(|error| Failed::from(format!("{error:#}")))
        })
    }
}
