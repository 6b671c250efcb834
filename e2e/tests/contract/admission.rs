//! How long the server takes to admit the worst legal run, and to admit changes of it. As a test this only asks whether
//! they are admitted; `-- --bench` measures and prints a table.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::Result;
use libtest_mimic::{Measurement, Trial};
use serde_json::{Value, json};

use crate::{
    Asker, cases, coverage,
    server::{Answer, Effect, Kind, Server},
};

/// How often each request is made: enough that the 99th percentile is not the slowest alone.
const REQUESTS: usize = 300;

/// How often before that, so that connections and the server's compiled rules are there.
const WARM_UP: usize = 20;

/// The benchmark.
pub(crate) fn trial(asker: &Asker) -> Trial {
    let asker = asker.clone();
    Trial::bench("admission of the worst run", move |test_mode| {
        let requests = if test_mode { 1 } else { REQUESTS };
        let rows = asker.ask(async |server: &Server| measure(server, requests).await)?;
        if test_mode {
            return Ok(None);
        }
        println!("\n{:<40}{:>8}{:>10}{:>10}", "dry run", "KiB", "p50 ms", "p99 ms");
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
}

/// Every request is a dry run: admission in full, and nothing is written.
async fn measure(server: &Server, requests: usize) -> Result<Vec<Row>> {
    let kind = Kind::SpecializationRun;
    let mut worst = coverage::worst()?.object;
    let mut stored = worst.clone();
    stored["metadata"]["name"] = json!("worst");
    let stored = server.store(kind, &stored).await?;
    worst["metadata"]["name"] = json!("worst-again");
    let shortest: Value = serde_yaml::from_str(&std::fs::read_to_string(cases::folder().join("shortest.yaml"))?)?;
    let mut started = stored.clone();
    started["status"] = json!({"lockedStages": ["Snapshot", "Generation", "Dataset", "Training", "Evaluation"]});
    let started = server.replace_status(kind, &started, Effect::Stored).await?.admitted()?;
    let mut suspended = started.clone();
    suspended["spec"]["suspend"] = json!(false);
    let mut progressed = started.clone();
    progressed["status"]["phase"] = json!("Running");

    let rows = vec![
        Row::of("create the worst run", &worst, requests, async || server.create(kind, &worst, Effect::DryRun).await)
            .await?,
        Row::of("update it, all stages locked", &suspended, requests, async || {
            server.replace(kind, &suspended, Effect::DryRun).await
        })
        .await?,
        Row::of("update its status", &progressed, requests, async || {
            server.replace_status(kind, &progressed, Effect::DryRun).await
        })
        .await?,
        Row::of("create the shortest run", &shortest, requests, async || {
            server.create(kind, &shortest, Effect::DryRun).await
        })
        .await?,
    ];
    server.delete(kind, &stored).await?;
    Ok(rows)
}

impl Row {
    async fn of(
        request: &'static str,
        object: &Value,
        requests: usize,
        send: impl AsyncFn() -> Result<Answer>,
    ) -> Result<Self> {
        let mut took = Vec::with_capacity(requests);
        for number in 0..WARM_UP.min(requests) + requests {
            let start = Instant::now();
            send().await?.admitted()?;
            if number >= WARM_UP.min(requests) {
                took.push(start.elapsed());
            }
        }
        took.sort_unstable();
        Ok(Self { request, bytes: serde_json::to_vec(object)?.len(), took })
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
        write!(out, "{:<40}{:>8}{:>10.1}{:>10.1}", self.request, self.bytes / 1024, millis(50), millis(99))
    }
}
