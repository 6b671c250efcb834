//! What the pods of a run or batch say, those of a run's batches included: lines with the pod's name before them, in the order in which they come.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use sera_crds::RolloutBatch;
use sera_crds::values::Stage;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use super::Error;
use super::connect::Connection;
use super::target::{Object, Target, run_of};
use crate::names::{OWNER_UID, PROGRAM_CONTAINER, STAGE};

/// Between two looks for pods that have come since.
const LOOK: Duration = Duration::from_secs(2);
/// How many lines may wait to be printed.
const WAITING: usize = 1_024;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Of the pods of one stage: Snapshot, Rollouts, Verification, Dataset, Training or Evaluation
    #[arg(long, value_name = "STAGE")]
    stage: Option<Stage>,
    /// Go on with what they say from now on, and with pods that come later, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines of each pod
    #[arg(long, value_name = "LINES", default_value_t = 200)]
    tail: u32,
}

impl Arguments {
    pub(super) async fn print(self, connection: &Connection) -> Result<ExitCode, Error> {
        let object = self.target.find(connection).await?;
        let (send, mut lines) = mpsc::channel(WAITING);
        let mut readers = Readers {
            pods: Api::namespaced(connection.client.clone(), &connection.namespace),
            send,
            begun: BTreeSet::new(),
            tasks: JoinSet::new(),
        };
        readers.begin(&self.pods(connection, &object).await?, &self.parameters());
        if readers.begun.is_empty() && !self.follow {
            return Err(Error::NoPods(format!("{} {}", object.kind().noun(), object.name_any())));
        }
        let mut out = std::io::stdout().lock();
        // Beside the lines: where they come without a pause there are new pods all the same.
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        loop {
            tokio::select! {
                Some(line) = lines.recv() => writeln!(out, "{line}")?,
                Some(_) = readers.tasks.join_next() => {
                    if !self.follow && readers.tasks.is_empty() {
                        // What they have sent is there before they end.
                        while let Ok(line) = lines.try_recv() {
                            writeln!(out, "{line}")?;
                        }
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                _ = looks.tick(), if self.follow => readers.begin(&self.pods(connection, &object).await?, &self.parameters()),
            }
        }
    }

    fn parameters(&self) -> LogParams {
        LogParams {
            follow: self.follow,
            tail_lines: Some(self.tail.into()),
            container: Some(PROGRAM_CONTAINER.to_owned()),
            ..LogParams::default()
        }
    }

    /// The pods that have said anything, the oldest first.
    async fn pods(&self, connection: &Connection, object: &Object) -> Result<Vec<Pod>, Error> {
        let Connection { client, namespace } = connection;
        let mut owners: Vec<String> = object.meta().uid.clone().into_iter().collect();
        if let Object::Run(run) = object {
            let batches: Api<RolloutBatch> = Api::namespaced(client.clone(), namespace);
            let batches = Box::pin(batches.list(&ListParams::default())).await?;
            let name = run.name_any();
            owners.extend(
                batches.items.iter().filter(|batch| run_of(batch).as_ref() == Some(&name)).filter_map(ResourceExt::uid),
            );
        }
        let mut selector = format!("{OWNER_UID} in ({})", owners.join(","));
        if let Some(stage) = self.stage {
            selector = format!("{selector},{STAGE}={stage}");
        }
        let pods =
            Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default().labels(&selector)).await?;
        let mut pods: Vec<Pod> = pods.items.into_iter().filter(has_begun).collect();
        pods.sort_by_key(|pod| pod.creation_timestamp().map(|time| time.0));
        Ok(pods)
    }
}

/// Whether a pod's program has begun, and so may have said something.
fn has_begun(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.into_iter().filter(|container| container.name == PROGRAM_CONTAINER).any(|container| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    })
}

/// Who reads the logs of pods, one a pod.
struct Readers {
    pods: Api<Pod>,
    send: Sender<String>,
    /// The uids of the pods that are read.
    begun: BTreeSet<String>,
    tasks: JoinSet<()>,
}

impl Readers {
    fn begin(&mut self, pods: &[Pod], parameters: &LogParams) {
        for pod in pods {
            if !self.begun.insert(pod.uid().unwrap_or_default()) {
                continue;
            }
            let (api, send, name, parameters) =
                (self.pods.clone(), self.send.clone(), pod.name_any(), parameters.clone());
            self.tasks.spawn(async move {
                if let Err(error) = read(&api, &name, &parameters, &send).await {
                    // A pod that goes while it is read has nothing more to say; whoever reads on is told.
                    let _ = send.send(format!("{name} | (its log cannot be read any more: {error})")).await;
                }
            });
        }
    }
}

async fn read(pods: &Api<Pod>, name: &str, parameters: &LogParams, send: &Sender<String>) -> Result<(), String> {
    let log = pods.log_stream(name, parameters).await.map_err(|error| super::told(&error))?;
    let mut lines = log.lines();
    while let Some(line) = lines.try_next().await.map_err(|error| error.to_string())? {
        if send.send(format!("{name} | {line}")).await.is_err() {
            break;
        }
    }
    Ok(())
}
