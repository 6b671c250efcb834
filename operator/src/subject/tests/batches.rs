//! Batches: on their own, and of a run.

use super::*;

#[test]
fn a_batch_takes_adopts_or_waits_for_its_snapshot() {
    let own = json!({
        "source": {"git": {"url": "https://git.example/a.git"}}, "teacher": {"rehearsal": {}}, "generation": {"shardSize": 3},
        "output": {"store": "pvc://data/sera"},
    });
    let wish = batch(&own).wish(&RunDefaults::default(), &Guide::Nobody);
    assert_eq!(wish.intent.folder, "pvc://data/sera/ml/try-out/77777777-0000");
    assert_eq!((wish.intent.snapshot, wish.intent.hosted), (SnapshotIntent::Take, Some(Hosted::Own)));
    let Some(Work::Batch(work)) = wish.intent.work else { panic!("it has nothing to do") };
    assert_eq!((work.samples, work.shards, work.of_run), (4, 2, false));
    assert_eq!(wish.intent.run_generation, None);
    let blueprint = wish.blueprint.unwrap();
    assert!(blueprint.snapshot.is_some() && blueprint.teacher.is_some());
    assert!(blueprint.counting.unwrap().student.is_none(), "a batch alone trains nobody");

    let mut timed = own.clone();
    timed["generation"] = json!({"budget": {"maxDuration": "72h"}});
    let until = |batch: &RolloutBatch| {
        let wish = batch.wish(&RunDefaults::default(), &Guide::Nobody);
        assert_eq!(wish.intent.unsupported, None);
        wish.blueprint.unwrap().samples.unwrap().plan.budget.until
    };
    let mut timed = batch(&timed);
    assert_eq!(until(&timed), None, "its time begins with its rollouts");
    let mut record = Record::default();
    record.times.insert(Stage::Rollouts, StageTime { began: at(0), ended: None });
    record.generation = Some(Generation { paused: Paused { seconds: 60, since: None }, ..Generation::default() });
    timed = timed.with_record(&record);
    assert_eq!(until(&timed), Some(at(72 * 3_600 + 60)), "for which it was suspended does not count");

    let mut adopting = own;
    adopting["source"] = Value::Null;
    adopting["snapshot"] = json!({"uri": "s3://acme/sera/ml/old/1"});
    let wish = batch(&adopting).wish(&RunDefaults::default(), &Guide::Nobody);
    assert_eq!(wish.intent.snapshot, SnapshotIntent::Adopt { folder: "s3://acme/sera/ml/old/1".into() });
    assert_eq!(wish.blueprint.unwrap().snapshot_at.unwrap().as_str(), "s3://acme/sera/ml/old/1");

    let following = batch(&json!({"runRef": {"name": "billing"}}));
    assert_eq!(following.awaited_run(), Some("billing"));
    let wish = following.wish(&RunDefaults::default(), &Guide::Nobody);
    assert_eq!((wish.intent.work, wish.blueprint.is_none()), (None, true));
}

/// A run that has its snapshot, and has noted its third batch.
pub(super) fn guide(spec: &Value) -> Guide {
    let mut record = full_record();
    record.generation = Some(generation());
    Guide::Run(Arc::new(run(spec).with_record(&record)), Some(Arc::new(RunDefaults::default())))
}

/// The run's third batch, as the run has made it.
pub(super) fn child(controller: &str) -> RolloutBatch {
    let mut batch = batch(&json!({"runRef": {"name": "billing"}, "samples": {"from": 17, "count": 8}}));
    batch.metadata.name = Some("billing-3".into());
    batch.metadata.owner_references = Some(vec![
        serde_json::from_value(json!({
            "apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun", "name": "billing", "uid": controller, "controller": true,
        }))
        .unwrap(),
    ]);
    batch
}

#[test]
fn a_batch_that_a_run_made_works_in_its_folder_asks_its_teacher_and_spends_its_slice() {
    let spec = json!({"generation": {"acceptedTrajectories": 10, "shardSize": 3}, "suspend": true});
    let wish = child("3f2c9a10-0000").wish(&RunDefaults::default(), &guide(&spec));
    assert_eq!(wish.intent.folder, "s3://acme/sera/ml/billing/3f2c9a10-0000");
    assert!(wish.intent.suspend, "a run's own word holds all that it has made");
    assert_eq!(wish.intent.run_generation, Some(2), "or what its owner puts right there would not reach this batch");
    assert_eq!(wish.intent.hosted, Some(Hosted::OfRun));
    let ready = RunSnapshot::Ready("s3://acme/sera/snapshot/manifest.json".into());
    assert_eq!(wish.intent.snapshot, SnapshotIntent::OfRun { run: "billing".into(), progress: ready });
    let blueprint = wish.blueprint.unwrap();
    let samples = blueprint.samples.as_ref().unwrap();
    assert_eq!((samples.batch.as_str(), samples.range.from, samples.shards()), ("billing-3", 17, 3));
    assert_eq!(
        (samples.plan.budget.max_tokens, samples.plan.budget.max_cost.as_ref().unwrap().as_str()),
        (Some(300), "0.5")
    );
    assert_eq!(samples.teacher.url, "http://billing-3f2c9-teacher.ml.svc:8000/v1");
    assert!(blueprint.snapshot_at.is_none() && blueprint.teacher.is_none());
    let Some(Work::Batch(work)) = wish.intent.work else { panic!("it has nothing to do") };
    let Some(Work::Run(of_run)) = run(&spec).wish(&RunDefaults::default(), &Guide::Nobody).intent.work else {
        panic!("a run has work")
    };
    assert_eq!(work.policy, of_run.policy, "or its counts would be verified again at once");
}

#[test]
fn a_batch_that_somebody_else_hangs_on_a_run_leaves_what_it_makes_in_a_folder_of_its_own() {
    let mut joined = child("somebody-else");
    joined.metadata.name = Some("try-out".into());
    joined.metadata.owner_references.as_mut().unwrap()[0].kind = "Notebook".into();
    let wish = joined.wish(&RunDefaults::default(), &guide(&json!({})));
    assert_eq!(wish.intent.folder, "s3://acme/sera/ml/try-out/77777777-0000");
    assert_eq!(wish.intent.hosted, Some(Hosted::Own));
    let blueprint = wish.blueprint.unwrap();
    assert_eq!(wish.intent.run_generation, Some(2), "or its teacher would not follow what its owner edits there");
    assert_eq!(blueprint.snapshot_at.unwrap().as_str(), "s3://acme/sera/ml/billing/3f2c9a10-0000");
    assert_eq!(blueprint.samples.unwrap().teacher.url, "http://try-out-77777-teacher.ml.svc:8000/v1");
}

#[test]
fn a_batch_of_a_run_that_is_gone_takes_no_word_from_another_of_its_name() {
    let wish = child("an-earlier-one").wish(&RunDefaults::default(), &guide(&json!({})));
    let waiting = SnapshotIntent::OfRun { run: "billing".into(), progress: RunSnapshot::NoSuchRun };
    assert_eq!((wish.intent.snapshot, wish.intent.work, wish.blueprint.is_none()), (waiting, None, true));
    assert_eq!(wish.intent.run_generation, None);
}

#[test]
fn a_batch_that_its_run_does_not_know_waits() {
    let mut forgotten = child("3f2c9a10-0000");
    forgotten.metadata.name = Some("billing-4".into());
    assert_eq!(forgotten.wish(&RunDefaults::default(), &guide(&json!({}))).intent.work, None);
}

#[test]
fn a_run_is_told_what_its_batch_came_to() {
    let mut record = full_record();
    record.phase = Some(Phase::Succeeded);
    record.verification = Some(verification());
    let done = batch_facts(&child("3f2c9a10-0000").with_record(&record));
    let result = done.result.unwrap();
    assert_eq!((&*done.name, result.settings, result.totals.attempted), ("billing-3", digest('4'), 24));
    assert_eq!(done.trouble, None);
    record.phase = Some(Phase::Stalled);
    let stalled = batch_facts(&child("3f2c9a10-0000").with_record(&record));
    assert_eq!((stalled.result, &*stalled.trouble.unwrap().reason), (None, "NotImplemented"));
}

#[test]
fn a_run_and_a_batch_on_its_own_take_their_data_along_where_they_say_so_and_one_that_joins_a_run_does_not() {
    let output = json!({"output": {"store": "s3://acme/sera", "reclaimPolicy": "Delete"}});
    assert!(run(&output).reclaims() && !run(&json!({})).reclaims());
    let batch = |spec: serde_json::Value| -> RolloutBatch {
        let manifest =
            json!({"apiVersion": "sera.dev/v1alpha1", "kind": "RolloutBatch", "metadata": {"name": "b"}, "spec": spec});
        serde_json::from_value(manifest).unwrap()
    };
    let samples = json!({"from": 0, "count": 4});
    assert!(batch(json!({"samples": samples, "output": output["output"]})).reclaims());
    assert!(!batch(json!({"samples": samples})).reclaims());
    let joined = batch(json!({"samples": samples, "runRef": {"name": "billing"}, "output": output["output"]}));
    assert!(!joined.reclaims(), "which the API server refuses, and an older one may not have");
}
