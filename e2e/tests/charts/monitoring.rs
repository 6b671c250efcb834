//! What the charts give to Prometheus and Grafana: alerts that fire when they should, a dashboard whose questions can be asked, and monitors that find
//! the pods.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::Host;
use crate::house::{Chart, House, PROMTOOL, texts};

pub(crate) fn trials(host: &Host) -> Vec<Trial> {
    vec![
        host.trial("every alert fires when it should, and is silent when it should be", alerts_fire),
        host.trial("every alert has a case in which it fires, and one in which it does not", alerts_have_cases),
        host.trial("nobody is told of costs unless a sum is given", no_cost_alert_by_default),
        host.trial("labels of the values reach the alerts and the rule", alert_labels),
        host.trial("every question of the dashboard is one that Prometheus understands", dashboard_is_understood),
        host.trial(
            "the dashboard, the alerts and the monitors are made only where they are asked for",
            nothing_unasked,
        ),
        host.trial("the monitors find the pods of runs by their labels, in the namespaces that are served", monitors),
    ]
}

fn with_alerts() -> Value {
    json!({"metrics": {"alerts": {"enabled": true, "costPerHour": 200}}})
}

/// The groups of rules that the chart renders.
async fn groups(house: &House, values: &Value) -> Result<Value> {
    Ok(house.render(Chart::Operator, values).await?.one("PrometheusRule")?["spec"]["groups"].clone())
}

fn rules(groups: &Value) -> impl Iterator<Item = &Value> {
    groups.as_array().into_iter().flatten().flat_map(|group| group["rules"].as_array().into_iter().flatten())
}

fn cases() -> Result<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/charts/alerts/cases.yaml");
    Ok(serde_yaml::from_str(&fs::read_to_string(file)?)?)
}

/// Has promtool look at files in a folder of their own.
fn promtool(arguments: &[&str], files: &[(&str, &Value)]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, content) in files {
        // JSON is YAML.
        fs::write(folder.path().join(name), content.to_string())?;
    }
    let output = Command::new(PROMTOOL.provides).args(arguments).current_dir(folder.path()).output()?;
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).join("\n");
    ensure!(output.status.success(), "promtool {} says: {said}", arguments.join(" "));
    Ok(())
}

async fn alerts_fire(house: &House) -> Result<()> {
    let mut groups = groups(house, &with_alerts()).await?;
    promtool(&["check", "rules", "rules.yaml"], &[("rules.yaml", &json!({"groups": groups}))])?;
    for group in groups.as_array_mut().context("groups")? {
        for rule in group["rules"].as_array_mut().context("rules")? {
            let annotations = rule["annotations"].as_object_mut().context("annotations")?;
            annotations.remove("description").context("an alert does not say what to do")?;
        }
    }
    let mut cases = cases()?;
    cases["rule_files"] = json!(["rules.yaml"]);
    promtool(&["test", "rules", "cases.yaml"], &[("rules.yaml", &json!({"groups": groups})), ("cases.yaml", &cases)])
}

async fn alerts_have_cases(house: &House) -> Result<()> {
    let groups = groups(house, &with_alerts()).await?;
    let alerts: BTreeSet<&str> = rules(&groups).filter_map(|rule| rule["alert"].as_str()).collect();
    let cases = cases()?;
    let asked = |fires: bool| -> BTreeSet<&str> {
        let tests = cases["tests"].as_array().into_iter().flatten();
        tests
            .flat_map(|test| test["alert_rule_test"].as_array().into_iter().flatten())
            .filter(|asked| asked["exp_alerts"].as_array().is_some_and(|expected| expected.is_empty() != fires))
            .filter_map(|asked| asked["alertname"].as_str())
            .collect()
    };
    ensure!(asked(true) == alerts, "these fire in a case: {:?}, and there are {alerts:?}", asked(true));
    ensure!(asked(false) == alerts, "these are silent in a case: {:?}, and there are {alerts:?}", asked(false));
    Ok(())
}

async fn no_cost_alert_by_default(house: &House) -> Result<()> {
    let groups = groups(house, &json!({"metrics": {"alerts": {"enabled": true}}})).await?;
    ensure!(rules(&groups).all(|rule| rule["alert"] != "SeraCostHigh") && rules(&groups).count() > 5, "{groups}");
    Ok(())
}

async fn alert_labels(house: &House) -> Result<()> {
    let alerts = json!({"enabled": true, "labels": {"release": "monitoring"}, "extraLabels": {"team": "ml"}});
    let rendered = house.render(Chart::Operator, &json!({"metrics": {"alerts": alerts}})).await?;
    let rule = rendered.one("PrometheusRule")?;
    ensure!(rule["metadata"]["labels"]["release"] == "monitoring", "{rule}");
    for rule in rules(&rule["spec"]["groups"]) {
        let severity = &rule["labels"]["severity"];
        ensure!(rule["labels"]["team"] == "ml" && (severity == "warning" || severity == "critical"), "{rule}");
    }
    Ok(())
}

async fn dashboard_is_understood(house: &House) -> Result<()> {
    let values = json!({"metrics": {"dashboard": {"enabled": true, "annotations": {"grafana_folder": "ML"}}}});
    let rendered = house.render(Chart::Operator, &values).await?;
    let found = rendered.of("ConfigMap").into_iter().find(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1");
    let map = found.context("no ConfigMap has the label by which Grafana finds it")?;
    ensure!(map["metadata"]["annotations"]["grafana_folder"] == "ML", "{}", map["metadata"]);
    let dashboard: Value = serde_json::from_str(map["data"]["sera-operator.json"].as_str().context("a file")?)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let mut asked = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().filter(|targets| !targets.is_empty());
        for target in targets.with_context(|| format!("the panel {} asks nothing", panel["title"]))? {
            let question = target["expr"].as_str().context("a question")?;
            let question = question.replace("$namespace", ".*").replace("$run", ".*");
            asked.push(json!({"record": format!("panel:{}", asked.len()), "expr": question}));
        }
    }
    ensure!(asked.len() > 20, "the dashboard asks {} questions", asked.len());
    let rules = json!({"groups": [{"name": "dashboard", "rules": asked}]});
    promtool(&["check", "rules", "rules.yaml"], &[("rules.yaml", &rules)])
}

async fn nothing_unasked(house: &House) -> Result<()> {
    let rendered = house.render(Chart::Operator, &json!({})).await?;
    for kind in ["PrometheusRule", "PodMonitor", "ServiceMonitor"] {
        ensure!(rendered.of(kind).is_empty(), "a {kind}, which not every cluster knows, is made unasked");
    }
    ensure!(rendered.of("ConfigMap").len() == 1, "a dashboard is made unasked");
    Ok(())
}

async fn monitors(house: &House) -> Result<()> {
    let metrics = json!({"podMonitor": {"enabled": true}, "serviceMonitor": {"enabled": true}});
    let rendered = house.render(Chart::Operator, &json!({"metrics": metrics})).await?;
    let monitor = &rendered.one("PodMonitor")?["spec"];
    ensure!(
        monitor["selector"]["matchLabels"] == json!({"app.kubernetes.io/managed-by": "sera-operator"}),
        "{monitor}"
    );
    let (of_runs, of_no_teacher) = (
        json!({"key": "sera.dev/owner", "operator": "Exists"}),
        json!({"key": "sera.dev/teacher", "operator": "DoesNotExist"}),
    );
    // Where their network is closed, teachers answer drivers alone; of a gang rank 0 alone answers.
    ensure!(monitor["selector"]["matchExpressions"] == json!([of_runs, of_no_teacher]), "{monitor}");
    ensure!(monitor["podMetricsEndpoints"][0]["relabelings"][0]["action"] == json!("drop"), "{monitor}");
    let open = json!({"metrics": metrics, "runNetworkPolicy": {"enabled": false}});
    let open = house.render(Chart::Operator, &open).await?;
    ensure!(open.one("PodMonitor")?["spec"]["selector"]["matchExpressions"] == json!([of_runs]), "{monitor}");
    ensure!(texts(&monitor["podTargetLabels"]) == ["sera.dev/owner", "sera.dev/kind", "sera.dev/stage"], "{monitor}");
    ensure!(monitor["namespaceSelector"] == json!({"any": true}), "{monitor}");
    // The gauges of runs say the run's namespace, which would otherwise give way to the operator's own.
    ensure!(rendered.one("ServiceMonitor")?["spec"]["endpoints"][0]["honorLabels"] == json!(true), "{monitor}");
    let some = house.render(Chart::Operator, &json!({"metrics": metrics, "watchNamespaces": ["ml"]})).await?;
    ensure!(some.one("PodMonitor")?["spec"]["namespaceSelector"] == json!({"matchNames": ["ml"]}), "{monitor}");
    Ok(())
}
