//! The program: reads its flags, puts the parts together in the order in which they need each other, and takes them apart in
//! the opposite order. The parts are in the library beside it.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use kube::Api;
use sera_operator::{
    config::Config,
    runtime::{
        Runtime,
        advice::chain,
        client::{self, Manners},
        events::EventPublisher,
        gate::Gate,
        lease::{Candidate, Election, Elector},
        logs,
        metrics::Metrics,
        readiness::Readiness,
        server::Server,
        shutdown::{self, Shutdown},
        startup,
        throttle::Throttle,
    },
};
use tower::BoxError;

/// Two threads: one may decode a long list while the other renews the lease and answers the kubelet. Passes take too little for
/// more to be of use, and each thread costs memory.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let config = Config::parse();
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let ended = logs::start(config.outlook.log_format, &config.outlook.log_level)
        .map_err(BoxError::from)
        .and_then(|()| threads?.block_on(operate(config)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn operate(config: Config) -> Result<(), BoxError> {
    let (limit, timing) = (config.traffic.limit()?, config.election.timing()?);
    let (metrics, readiness, shutdown, gate) =
        (Metrics::new()?, Readiness::new(), Shutdown::on_signals()?, Gate::closed());
    let cluster = client::find_cluster().await?;
    let server = Server::start(config.outlook.listen, readiness.clone(), metrics.clone()).await?;
    let fenced =
        Manners { throttle: Some(Arc::new(Throttle::new(limit))), gate: Some(gate.clone()), metrics: metrics.rest() };
    let client = client::connect(cluster.clone(), fenced)?;
    shutdown.or(startup::wait_for_cluster(&client, &readiness)).await;

    let election = if config.election.leader_elect {
        let free = client::connect(cluster, Manners { throttle: None, gate: None, metrics: metrics.rest() })?;
        let namespace =
            config.election.lease_namespace.as_ref().map_or(free.default_namespace(), |name| name.as_str()).to_owned();
        let lease_name = config.election.lease_name.to_string();
        let master = metrics.master(&lease_name);
        let candidate = Candidate { identity: config.election.identity(), lease_name, timing };
        Election::start(Elector::new(Api::namespaced(free, &namespace), candidate, gate, master))
    } else {
        Election::unopposed(gate)
    };
    let events = EventPublisher::start(client.clone(), config.election.pod_name.clone(), metrics.events());
    let leadership = election.leadership();
    let runtime = Runtime {
        client,
        config: Arc::new(config),
        metrics,
        events: events.clone(),
        leadership,
        readiness,
        shutdown: shutdown.clone(),
    };

    drop(runtime);
    shutdown.requested().await;

    events.flush(shutdown::EVENTS).await;
    let farewell = election.end().await;
    server.stop().await;
    tracing::info!(?farewell, "ended");
    Ok(())
}
