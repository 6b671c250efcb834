//! Every run, and every batch that belongs to none, a line each.

use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use sera_crds::run::Phase;
use sera_crds::{RolloutBatch, SpecializationRun};

use super::Error;
use super::connect::Connection;
use super::page::{Page, ago, count};
use super::standing::Standing;
use super::target::run_of;

/// The most characters of what something waits for; the whole of it is on its own page.
const MOST: usize = 80;

/// The table of a namespace, or of all.
pub(super) async fn all(connection: &Connection, everywhere: bool) -> Result<String, Error> {
    let (runs, batches): (Api<SpecializationRun>, Api<RolloutBatch>) = if everywhere {
        (Api::all(connection.client.clone()), Api::all(connection.client.clone()))
    } else {
        let Connection { client, namespace } = connection;
        (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace))
    };
    let all = ListParams::default();
    let (runs, batches) = (Box::pin(runs.list(&all)).await?, Box::pin(batches.list(&all)).await?);
    let lone = batches.items.iter().filter(|batch| run_of(batch).is_none());
    let rows: Vec<Row> = runs.items.iter().map(Row::of_run).chain(lone.map(Row::of_batch)).collect();
    if rows.is_empty() {
        let place =
            if everywhere { "on this cluster".to_owned() } else { format!("in namespace {}", connection.namespace) };
        return Ok(format!("There is no run and no lone batch {place}.\n"));
    }
    Ok(table(&rows, everywhere, Timestamp::now()))
}

/// What is told of one.
struct Row<'a> {
    name: String,
    standing: Standing<'a>,
}

impl<'a> Row<'a> {
    fn of_run(run: &'a SpecializationRun) -> Self {
        Self { name: run.name_any(), standing: Standing::of_run(run) }
    }

    fn of_batch(batch: &'a RolloutBatch) -> Self {
        Self { name: format!("batch/{}", batch.name_any()), standing: Standing::of_batch(batch) }
    }

    fn cells(&self, now: Timestamp) -> [String; 8] {
        let Standing { meta, phase, generation, .. } = self.standing;
        let at_work = self.standing.at_work();
        let totals = generation.map(|made| &made.totals);
        [
            meta.namespace.clone().unwrap_or_default(),
            self.name.clone(),
            phase.map_or("Pending", Phase::as_str).to_owned(),
            at_work.map(|progress| format!("{} {} %", progress.stage, progress.percent)).unwrap_or_default(),
            totals.map(|totals| count(totals.accepted)).unwrap_or_default(),
            totals.and_then(|totals| Some(format!("{} USD", totals.cost.as_ref()?))).unwrap_or_default(),
            meta.creation_timestamp.as_ref().map(|made| ago(made.0, now)).unwrap_or_default(),
            self.standing.holdups().next().map(|held| short(&held)).unwrap_or_default(),
        ]
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn table(rows: &[Row<'_>], with_namespace: bool, now: Timestamp) -> String {
    const HEADS: [&str; 8] = ["NAMESPACE", "NAME", "PHASE", "AT WORK", "ACCEPTED", "COST", "CREATED", "WAITS FOR"];
    let mut lines = vec![HEADS.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| row.cells(now)));
    let first = usize::from(!with_namespace);
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default())
        .collect();
    let mut page = Page::default();
    for line in &lines {
        let cells = line.iter().zip(&widths).skip(first).map(|(cell, width)| format!("{cell:<width$}"));
        page.line(&cells.collect::<Vec<_>>().join("   "));
    }
    page.into_text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::run;

    #[test]
    fn each_has_a_line_with_what_it_is_at_and_what_it_waits_for() {
        let works = run(&json!({
            "phase": "Running", "progress": {"stage": "Generation", "percent": 41},
            "generation": {"accepted": 4100, "cost": "12.5"},
        }));
        let waits = run(&json!({
            "phase": "Stalled",
            "conditions": [{
                "type": "Stalled", "status": "True", "reason": "QuotaExceeded", "message": "raise it",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        }));
        let now = "2026-01-01T01:30:00Z".parse().unwrap();
        let said = table(&[Row::of_run(&works), Row::of_run(&waits)], false, now);
        assert_eq!(
            said,
            "NAME      PHASE     AT WORK           ACCEPTED   COST       CREATED          WAITS FOR\n\
             billing   Running   Generation 41 %   4,100      12.5 USD   1 h 30 min ago\n\
             billing   Stalled                                           1 h 30 min ago   QuotaExceeded: raise it\n"
        );
        assert!(table(&[Row::of_run(&waits)], true, now).starts_with("NAMESPACE   NAME"));
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        assert_eq!(short("kürzer"), "kürzer");
        assert_eq!(short(&"ü".repeat(100)).chars().count(), MOST + 1);
    }
}
