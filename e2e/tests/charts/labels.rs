//! Labels where the user's have keys of the chart's: each key stands once, and what selects an object is the chart's alone.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::Host;
use crate::house::{Chart, House, RELEASE};

pub(crate) fn trials(host: &Host) -> Vec<Trial> {
    vec![
        host.trial(
            "a label of the user's goes before the chart's own, but for those by which objects are selected",
            all,
        ),
        host.trial("the nearer of the user's labels goes before the one of all objects", nearer),
    ]
}

const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";
const PART_OF: &str = "app.kubernetes.io/part-of";

/// Values by which the user says again what the chart says, and everything is rendered that has labels of its own.
fn values() -> Value {
    let own = json!({"enabled": true, "labels": {"release": "monitoring"}});
    json!({
        "commonLabels": {NAME: "mine", INSTANCE: "mine", PART_OF: "acme", "release": "common"},
        "podLabels": {NAME: "mine", PART_OF: "pods", "release": "pods"},
        "metrics": {"serviceMonitor": own, "podMonitor": own, "dashboard": own, "alerts": own},
    })
}

async fn all(house: &House) -> Result<()> {
    let (rendered, test) = (house.render(Chart::Operator, &values()).await?, house.render_test(&values()).await?);
    let of = |objects: &[&Value], name: &str| {
        objects.iter().try_for_each(|object| {
            let labels = &object["metadata"]["labels"];
            ensure!(labels[NAME] == name && labels[INSTANCE] == RELEASE, "{} is labelled {labels}", object["kind"]);
            ensure!(labels[PART_OF] == "acme", "{} is labelled {labels}", object["kind"]);
            Ok(())
        })
    };
    let (objects, tests) = (rendered.iter().collect::<Vec<_>>(), test.iter().collect::<Vec<_>>());
    ensure!(objects.len() > 10 && tests.len() > 3, "{} and {} objects were rendered", objects.len(), tests.len());
    of(&objects, RELEASE)?;
    of(&tests, &format!("{RELEASE}-test"))
}

async fn nearer(house: &House) -> Result<()> {
    let rendered = house.render(Chart::Operator, &values()).await?;
    for kind in ["ServiceMonitor", "PodMonitor", "PrometheusRule"] {
        let labels = &rendered.one(kind)?["metadata"]["labels"];
        ensure!(labels["release"] == "monitoring", "the {kind} is labelled {labels}");
    }
    let boards = rendered.of("ConfigMap").into_iter();
    let boards = boards.filter(|map| map["metadata"]["labels"]["release"] == "monitoring").count();
    ensure!(boards == 1, "{boards} dashboards have the label that is theirs");
    let deployment = rendered.one("Deployment")?;
    let pods = &deployment["spec"]["template"]["metadata"]["labels"];
    ensure!(deployment["metadata"]["labels"]["release"] == "common" && pods["release"] == "pods", "{deployment}");
    ensure!(pods[PART_OF] == "pods" && pods[NAME] == RELEASE, "the pods are labelled {pods}");
    Ok(())
}
