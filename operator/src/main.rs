//! The program: reads its flags, puts the parts together in the order in which they need each other, and takes them apart in
//! the opposite order. The parts are in the library beside it.

use std::{process::ExitCode, sync::Arc};

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use futures::future::OptionFuture;
use kube::Api;
use sera_crds::values::ResourceName;
use sera_operator::{
    config::{self, Config},
    controller,
    runtime::{
        Runtime,
        advice::chain,
        client::{self, Manners},
        events::EventPublisher,
        gate::Gate,
        lease::{Candidate, Election, Elector, Timing},
        logs,
        metrics::Metrics,
        readiness::Readiness,
        server::Server,
        shutdown::{self, Shutdown},
        startup,
        throttle::Throttle,
        traces::Traces,
    },
    selftest::SelfTest,
};
use tower::BoxError;

/// Two threads: one may decode a long list while the other renews the lease and answers the kubelet. Passes take too little for
/// more to be of use, and each thread costs memory.
const THREADS: usize = 2;

fn main() -> ExitCode {
    // The controller's own flags are for the controller alone: what it needs, no other command does.
    let command = Config::command().subcommand(SelfTest::command());
    let given = command.subcommand_negates_reqs(true).args_conflicts_with_subcommands(true).get_matches();
    match given.subcommand() {
        Some((_, given)) => try_out(given),
        None => control(&given),
    }
}

fn try_out(given: &ArgMatches) -> ExitCode {
    let ended = SelfTest::from_arg_matches(given).map_err(BoxError::from).and_then(|test| {
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        threads.block_on(test.run()).map_err(BoxError::from)
    });
    if let Err(error) = &ended {
        // Beside what it has told, and the last line of a pod's log.
        println!("failed: {}", chain(error.as_ref()));
    }
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn control(given: &ArgMatches) -> ExitCode {
    let config = Config::from_arg_matches(given).unwrap_or_else(|error| error.exit());
    let ended = run(config);
    if let Err(error) = &ended {
        tracing::error!("{}", chain(error.as_ref()));
    }
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(config: Config) -> Result<(), BoxError> {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let traces = match &threads {
        Ok(threads) => Traces::start(config.outlook.traces(), &config.election.pod_name, threads.handle()),
        Err(_) => Ok(None),
    };
    // What keeps either from being there is said in the log.
    let wanted = traces.as_ref().ok().and_then(Option::as_ref);
    logs::start(config.outlook.log_format, &config.outlook.log_level, wanted)?;
    let (threads, traces) = (threads?, traces?);
    let ended = threads.block_on(operate(config, traces));
    // Nobody waits for what is left: the look-up of a name may hang for as long as the resolver likes.
    threads.shutdown_background();
    ended
}

async fn operate(config: Config, traces: Option<Traces>) -> Result<(), BoxError> {
    let (limit, timing) = (config.traffic.limit()?, config.election.timing()?);
    let (metrics, readiness) = (Metrics::new()?, Readiness::new());
    let (shutdown, gate) = (Shutdown::on_signals()?, Gate::closed());
    let cluster = client::find_cluster().await?;
    let server = Server::start(config.outlook.listen, readiness.clone(), metrics.clone()).await?;
    let throttle = Some(Arc::new(Throttle::new(limit)));
    let fenced = Manners { throttle, gate: Some(gate.clone()), metrics: metrics.rest() };
    let client = client::connect(cluster.clone(), fenced)?;
    let elector = elector(&config.election, timing, cluster, gate.clone(), &metrics)?;
    if shutdown.or(startup::wait_for_cluster(&client, &readiness)).await.is_none() {
        return Ok(());
    }

    let election = elector.map_or_else(|| Election::unopposed(gate), Election::start);
    let leadership = election.leadership();
    let events = EventPublisher::start(client.clone(), config.election.pod_name.clone(), metrics.events());
    let (config, waiting_events, signals) = (Arc::new(config), events.clone(), shutdown.clone());
    let runtime = Runtime { client, config, metrics, events, leadership, readiness, shutdown };
    let ended = signals.see_out(controller::run(runtime)).await;

    let farewell = async {
        waiting_events.flush(shutdown::EVENTS).await;
        let farewell = election.end().await;
        server.stop().await;
        farewell
    };
    let (farewell, _) = tokio::join!(farewell, OptionFuture::from(traces.map(Traces::end)));
    tracing::info!(?farewell, "ended");
    ended.transpose()?;
    Ok(())
}

/// Who stands for election, unless there is none. The election has a client of its own, which waits at no bucket and passes no
/// gate: both would make it wait for the work that it is there to permit.
fn elector(
    flags: &config::Election,
    timing: Timing,
    cluster: kube::Config,
    gate: Gate,
    metrics: &Metrics,
) -> Result<Option<Elector>, BoxError> {
    if !flags.leader_elect {
        return Ok(None);
    }
    let client = client::connect(cluster, Manners { throttle: None, gate: None, metrics: metrics.rest() })?;
    let namespace = flags.lease_namespace.as_ref().map_or(client.default_namespace(), ResourceName::as_str).to_owned();
    let lease_name = flags.lease_name.to_string();
    let master = metrics.master(&lease_name);
    let candidate = Candidate { identity: flags.identity(), lease_name, timing };
    Ok(Some(Elector::new(Api::namespaced(client, &namespace), candidate, gate, master)))
}
