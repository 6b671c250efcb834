//! Puts the statements of the case files to the server: creates, changes, and hands the answer to the judge.

use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::{
    Asker,
    cases::{self, Case, Change, Section},
    judge::judge,
    server::{Answer, Effect, Kind, Server},
};

/// A test for every case of every file, which prints refusals if `aloud`.
pub(crate) fn trials(asker: &Asker, aloud: bool) -> Result<Vec<Trial>> {
    let (sections, bases) = cases::load()?;
    let bases = Arc::new(bases);
    let mut trials = Vec::new();
    for section in sections {
        let Section { about, kind, base, cases, .. } = section;
        for case in cases {
            let name = format!("case-{}", trials.len());
            let (base, bases) = (base.clone(), Arc::clone(&bases));
            let statement = format!("{} {about} {}", kind.word(), case.it);
            let expected = if case.refused.is_some() { "refused" } else { "admitted" };
            trials.push(asker.trial(expected, statement.clone(), async move |server: &Server| {
                let answer = ask(server, kind, &case, &case.object(&base, &bases, &name)?).await?;
                if let (true, Answer::Refused(refusal)) = (aloud, &answer) {
                    println!("{statement}:\n{refusal}");
                }
                judge(&answer, case.refused.as_ref(), &case.shows)
            }));
        }
    }
    Ok(trials)
}

/// Asks the server about one case, which starts from `object`.
async fn ask(server: &Server, kind: Kind, case: &Case, object: &Value) -> Result<Answer> {
    let Some(change) = &case.change else { return server.create(kind, object, Effect::DryRun).await };
    let stored = server.store(kind, object).await?;
    let answer = answer_to(server, kind, case, change, &stored).await;
    server.delete(kind, &stored).await?;
    answer
}

/// What the server says to the change, once the object has the status that the case starts from.
async fn answer_to(server: &Server, kind: Kind, case: &Case, change: &Change, stored: &Value) -> Result<Answer> {
    let mut object = stored.clone();
    if let Some(status) = case.status_before()? {
        object["status"] = status;
        object = server.replace_status(kind, &object, Effect::Stored).await?.admitted()?;
    }
    let changed = change.applied_to(&object)?;
    if change.is_to_status() {
        server.replace_status(kind, &changed, Effect::DryRun).await
    } else {
        server.replace(kind, &changed, Effect::DryRun).await
    }
}
