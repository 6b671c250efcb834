//! How long the server takes to admit and store the worst legal run, and changes of it; beside them the same object as a kind
//! without a schema and without a rule, which is what the machine and the server take for its size alone. Beside what the
//! client waits for, with its own reading and writing of JSON, there is the mean by the server's own account
//! (`apiserver_request_duration_seconds`). As a test this only asks whether they are admitted; `-- --bench` measures and
//! prints a table.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use libtest_mimic::{Measurement, Trial};
use serde_json::{Value, json};

use crate::{
    Asker, cases, coverage, schema,
    server::{Effect, Kind, Server},
};

/// How often each request is made: a percentile is then a request of its own.
const REQUESTS: usize = 100;

/// How often before that, so that connections and the server's compiled rules are there.
const WARM_UP: usize = 10;

/// The benchmark.
pub(crate) fn trial(asker: &Asker) -> Trial {
    let asker = asker.clone();
    Trial::bench("admission of the worst run", move |test_mode| {
        let requests = if test_mode { 1 } else { REQUESTS };
        let rows = asker.ask(async |server: &Server| measure(server, requests).await)?;
        if test_mode {
            return Ok(None);
        }
        println!("\n{:<36}{:>8}{:>10}{:>10}{:>16}", "request", "KiB", "p50 ms", "p99 ms", "server, mean ms");
        for row in &rows {
            println!("{row}");
        }
        Ok(rows.first().map(Row::measurement))
    })
}

/// A kind of request, and how long each of them took, in ascending order.
struct Row {
    request: &'static str,
    bytes: usize,
    took: Vec<Duration>,
    /// The mean by the server's own account, where it tells these requests from others.
    server: Option<Duration>,
}

const KIND: Kind = Kind::SpecializationRun;

async fn measure(server: &Server, requests: usize) -> Result<Vec<Row>> {
    let worst = coverage::worst()?.object;
    let shortest = serde_yaml::from_str(&fs::read_to_string(cases::folder().join("shortest.yaml"))?)?;

    let mut started = server.store(KIND, &named(&worst, "worst-started")).await?;
    started["status"] = json!({"lockedStages": ["Snapshot", "Generation", "Dataset", "Training", "Evaluation"]});
    let mut run = server.replace_status(KIND, &started, Effect::Stored).await?.admitted()?;
    let bytes = size(&run)?;
    let update = async |number: usize| {
        run["spec"]["suspend"] = json!(number.is_multiple_of(2));
        let start = Instant::now();
        run = server.replace(KIND, &run, Effect::Stored).await?.admitted()?;
        Ok(start.elapsed())
    };
    let update = Row::of("update it, all stages locked", bytes, requests, update, server).await?;
    let report = async |number: usize| {
        run["status"]["observedGeneration"] = json!(number);
        let start = Instant::now();
        run = server.replace_status(KIND, &run, Effect::Stored).await?.admitted()?;
        Ok(start.elapsed())
    };
    let report = Row::of("update its status", bytes, requests, report, server).await?;
    server.delete(KIND, &run).await?;

    let dry = async |number: usize| {
        let object = named(&worst, &format!("dry-{number}"));
        let start = Instant::now();
        server.create(KIND, &object, Effect::DryRun).await?.admitted()?;
        Ok(start.elapsed())
    };
    Ok(vec![
        Row::of("admit the worst run, store nothing", size(&worst)?, requests, dry, server).await?,
        creation(server, "create the worst run", &worst, requests).await?,
        plain_creation(server, &worst, requests).await?,
        update,
        report,
        creation(server, "create the shortest run", &shortest, requests).await?,
    ])
}

/// The group of the kind without a schema.
const PLAIN_GROUP: &str = "bench.sera.dev";

/// The creation of the same content as an object that nothing is known about.
async fn plain_creation(server: &Server, object: &Value, requests: usize) -> Result<Row> {
    let name = format!("plains.{PLAIN_GROUP}");
    let definition = format!("{}/{name}", schema::DEFINITIONS);
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": anything}});
    let names = json!({"kind": "Plain", "plural": "plains", "singular": "plain"});
    let spec = json!({"group": PLAIN_GROUP, "scope": "Namespaced", "names": names, "versions": [version]});
    let (version, kind) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let plains = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
    server.apply(&definition, &plains).await?;
    schema::becomes_established(server, &definition).await?;

    let mut plain = object.clone();
    (plain["apiVersion"], plain["kind"]) = (json!(format!("{PLAIN_GROUP}/v1")), json!("Plain"));
    let collection = server.collection_of(&format!("/apis/{PLAIN_GROUP}/v1"), "plains");
    let create = async |number: usize| {
        let name = format!("created-{number}");
        let object = named(&plain, &name);
        let start = Instant::now();
        server.store_at(&collection, &object).await?;
        let took = start.elapsed();
        server.delete_at(&format!("{collection}/{name}")).await?;
        Ok(took)
    };
    let row = Row::of("the same without schema and rules", size(&plain)?, requests, create, server).await;
    server.delete_at(&definition).await?;
    row
}

async fn creation(server: &Server, request: &'static str, object: &Value, requests: usize) -> Result<Row> {
    let create = async |number: usize| {
        let object = named(object, &format!("created-{number}"));
        let start = Instant::now();
        let stored = server.store(KIND, &object).await?;
        let took = start.elapsed();
        server.delete(KIND, &stored).await?;
        Ok(took)
    };
    Row::of(request, size(object)?, requests, create, server).await
}

fn named(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object["metadata"]["name"] = json!(name);
    object
}

fn size(object: &Value) -> Result<usize> {
    Ok(serde_json::to_vec(object)?.len())
}

impl Row {
    /// Makes the requests one after the other; `send` says how long each took.
    async fn of(
        request: &'static str,
        bytes: usize,
        requests: usize,
        mut send: impl AsyncFnMut(usize) -> Result<Duration>,
        server: &Server,
    ) -> Result<Self> {
        for number in 0..WARM_UP {
            send(number).await?;
        }
        let before = server.writes().await?;
        let mut took = Vec::with_capacity(requests);
        for number in WARM_UP..WARM_UP + requests {
            took.push(send(number).await?);
        }
        let server = before.mean_until(&server.writes().await?);
        took.sort_unstable();
        Ok(Self { request, bytes, took, server })
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.took[(self.took.len() - 1) * percent / 100]
    }

    fn measurement(&self) -> Measurement {
        let nanos = |percent| u64::try_from(self.percentile(percent).as_nanos()).unwrap_or(u64::MAX);
        Measurement { avg: nanos(50), variance: nanos(99) - nanos(50) }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        let server = self.server.map_or_else(|| "-".to_owned(), |mean| format!("{:.1}", mean.as_secs_f64() * 1e3));
        let (size, half, most) = (self.bytes / 1024, millis(50), millis(99));
        write!(out, "{:<36}{size:>8}{half:>10.1}{most:>10.1}{server:>16}", self.request)
    }
}
