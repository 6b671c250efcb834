//! The report in the store: the tasks and the page first, and `report.json`, which only one process can create, last.

use std::collections::BTreeMap;

use bytes::Bytes;
use sera_crds::contract::{
    Artifact, CONTRACT_VERSION, Contestant, EvaluationPlan, EvaluationReport, FileDigest, Interval, StageResult,
    TaskResult,
};

use super::{EvaluationError, page, story::Story};
use crate::store::{Creation, Digest, Store};

const REPORT: &str = "report/report.json";
const DETAILS: &str = "tasks.jsonl";
const PAGE: &str = "report/index.html";

/// The report, where there is one and it answers what is asked, of the models that are named.
pub(super) async fn found(
    store: &Store,
    plan: &EvaluationPlan,
    names: &BTreeMap<Contestant, String>,
) -> Result<Option<StageResult>, EvaluationError> {
    let Some(content) = store.read(REPORT).await? else { return Ok(None) };
    let malformed = |problem: String| EvaluationError::Malformed(REPORT.to_owned(), problem);
    let report: EvaluationReport = serde_json::from_slice(&content).map_err(|error| malformed(error.to_string()))?;
    if report.version != CONTRACT_VERSION {
        return Err(malformed(format!("its version is {}, not {CONTRACT_VERSION}", report.version)));
    }
    if report.plan != *plan {
        let found = Box::new(report.plan);
        return Err(EvaluationError::OtherPlan { store: store.uri().to_owned(), found });
    }
    // Without a task there was no attempt, and a model that was not there then has no name.
    for (model, result) in report.models.iter().filter(|(_, result)| result.attempts > 0) {
        let asked = names.get(model).map(String::as_str);
        EvaluationError::unless_named(asked, &result.model, *model, REPORT)?;
    }
    Ok(Some(result(&report, &content)))
}

/// A line a task.
pub(super) fn details(tasks: &[TaskResult]) -> Result<Bytes, EvaluationError> {
    let mut lines = Vec::new();
    for task in tasks {
        serde_json::to_writer(&mut lines, task).map_err(|error| unwritable(&error))?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

/// How the report names them.
pub(super) fn named(details: &Bytes) -> FileDigest {
    let Digest { bytes, sha256 } = Digest::of(details);
    FileDigest { name: DETAILS.to_owned(), bytes, sha256 }
}

/// Puts all of it into the store, and says what counts: this, or what another process put there first.
pub(super) async fn publish(
    store: &Store,
    report: &EvaluationReport,
    tasks: &[TaskResult],
    details: Bytes,
    story: &Story,
) -> Result<StageResult, EvaluationError> {
    let mut content = serde_json::to_vec_pretty(report).map_err(|error| unwritable(&error))?;
    content.push(b'\n');
    let content = Bytes::from(content);
    store.put(&format!("report/{DETAILS}"), details).await?;
    store.put(PAGE, page::render(report, tasks, story)?.into()).await?;
    match store.create(REPORT, content.clone()).await? {
        Creation::Created => Ok(result(report, &content)),
        Creation::Existed => {
            let names = report.models.iter().map(|(model, result)| (*model, result.model.clone())).collect();
            let found = found(store, &report.plan, &names).await?;
            found.ok_or_else(|| EvaluationError::Malformed(REPORT.to_owned(), "it is gone again".to_owned()))
        }
    }
}

fn unwritable(error: &serde_json::Error) -> EvaluationError {
    EvaluationError::Malformed(REPORT.to_owned(), error.to_string())
}

fn result(report: &EvaluationReport, content: &[u8]) -> StageResult {
    let nothing = Interval { mean: 0.0, low: 0.0, high: 0.0 };
    let f1 = |model: Contestant| report.models.get(&model).map_or(nothing, |result| result.f1);
    StageResult::Evaluation {
        report: Artifact { path: REPORT.to_owned(), sha256: Digest::of(content).sha256 },
        tasks: report.tasks,
        student: f1(Contestant::Student),
        base: f1(Contestant::Base),
        teacher: f1(Contestant::Teacher),
        verdict: report.verdict,
    }
}
