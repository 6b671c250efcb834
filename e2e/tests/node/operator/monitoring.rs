//! What the chart's alerts and dashboard ask for is there: a real Prometheus reads the operator and the pods of a run while the run goes its way.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use sera_crds::conditions::ConditionType;
use sera_e2e::packages::{self, Package};
use sera_e2e::platform;
use sera_e2e::progress::Progress;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::ground::{Ground, is_true, status};
use super::student::{STUDENT, lay_student};
use super::training::changes;
use crate::house::{Company, Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome; what_alerts_and_dashboard_ask_for_is_there];

/// Debian's Prometheus has its judge of rules and its client with it.
const PROMETHEUS: Package = Package::new("prometheus", "prometheus");
/// How long the run may take on a node where others are at work.
const PATIENCE: Duration = Duration::from_mins(15);
/// How long Prometheus may take for what it read last to be there.
const SOON: Duration = Duration::from_secs(30);

/// What is asked for and has no series in a run without trouble, and why.
const ABSENT: [(&str, &str); 6] = [
    ("sera_attempt_failures_total", "no attempt fails"),
    ("sera_objects_stalled", "nothing is stalled, unless by another test"),
    ("controller_runtime_reconcile_errors_total", "no pass fails"),
    ("sera_turns_reasked_total", "the rehearsal teacher makes one call a turn"),
    ("sera_training_mfu", "the peak of a processor is not known"),
    ("sera_training_eval_loss", "no line is set aside"),
];

async fn what_alerts_and_dashboard_ask_for_is_there(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(PATIENCE);
    lay_student(&ground).await?;
    let rendered = rendered(&ground).await?;
    let prometheus = Prometheus::start(&ground, &rendered).await?;

    let mut spec =
        changes(json!({"student": {"uri": STUDENT}, "epochs": 60, "ranksPerNode": 1, "learningRate": "1e-3"}));
    spec["teacher"] =
        json!({"price": {"inputPerMillion": "1", "cachedInputPerMillion": "0.1", "outputPerMillion": "2"}});
    ground.apply_run("billing", spec).await?;
    let run = ground.until("billing", |status| is_true(status, ConditionType::Ready)).await?;

    let said = status(&run)?;
    let generation = said.generation.as_ref().context("nothing was generated")?;
    let of_it = format!("{{namespace=\"{}\",run=\"billing\"", ground.space.namespace);
    let told = |query: String, expected: f64| prometheus.until(query, move |value| value >= expected);
    told(format!("max(sera_run_info{of_it},phase=\"Succeeded\"}})"), 1.0).await?;
    #[expect(clippy::cast_precision_loss, reason = "a handful of samples")]
    told(format!("max(sera_run_attempted_samples{of_it}}})"), generation.totals.attempted as f64).await?;
    told(format!("max(sera_run_training_step{of_it}}})"), 60.0).await?;
    told(format!("max(sera_run_cost_dollars{of_it}}}) > bool 0"), 1.0).await?;
    // What programs said themselves, which are gone by now.
    let of_its_pods = format!("{{namespace=\"{}\"}}[15m]", ground.space.namespace);
    told(format!("max(max_over_time(sera_training_step{of_its_pods}))"), 2.0).await?;
    told(format!("sum(max_over_time(sera_teacher_calls_total{of_its_pods}))"), 2.0).await?;

    let known = prometheus.names().await?;
    let absent: BTreeSet<&str> = ABSENT.iter().map(|(name, _)| *name).collect();
    let asked = names_in(&rendered);
    let missing: Vec<&String> =
        asked.iter().filter(|name| !known.contains(*name) && !absent.contains(name.as_str())).collect();
    ensure!(asked.len() > 25 && missing.is_empty(), "asked for, and not there: {missing:?}, of {asked:?}");
    let firing = prometheus.ask("ALERTS{alertstate=\"firing\"}").await?;
    ensure!(firing.is_empty(), "a run without trouble raises {firing:?}");
    prometheus.until("sum(prometheus_rule_evaluation_failures_total) == bool 0".to_owned(), |value| value >= 1.0).await
}

/// What the chart gives to Prometheus and Grafana.
struct Rendered {
    rules: Value,
    dashboard: String,
}

async fn rendered(ground: &Ground) -> Result<Rendered> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/sera-operator").display().to_string();
    let on = "--set=metrics.alerts.enabled=true,metrics.alerts.costPerHour=200,metrics.dashboard.enabled=true";
    let arguments = ["template", platform::RELEASE, &chart, "--namespace", platform::NAMESPACE, on];
    let text = ground.space.cluster().await?.helm(arguments).await?;
    let objects: Vec<Value> =
        serde_yaml::Deserializer::from_str(&text).map(Value::deserialize).collect::<Result<_, _>>()?;
    let rules = objects.iter().find(|object| object["kind"] == "PrometheusRule").context("no rules")?["spec"].clone();
    let dashboard = objects.iter().find_map(|object| object["data"]["sera-operator.json"].as_str());
    Ok(Rendered { rules, dashboard: dashboard.context("no dashboard")?.to_owned() })
}

/// The metrics that the rules and the dashboard name, histograms by one of their series.
fn names_in(rendered: &Rendered) -> BTreeSet<String> {
    let dashboard: Value = serde_json::from_str(&rendered.dashboard).unwrap_or_default();
    let mut questions = Vec::new();
    gather(&rendered.rules, &mut questions);
    gather(&dashboard, &mut questions);
    let words = questions.iter().flat_map(|question| question.split(|c: char| !(c.is_alphanumeric() || c == '_')));
    let ours = ["sera_", "leader_election_", "controller_runtime_", "rest_client_", "process_"];
    words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
}

fn gather<'a>(value: &'a Value, questions: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            questions.extend(fields.get("expr").and_then(Value::as_str));
            fields.values().for_each(|field| gather(field, questions));
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, questions)),
        _ => {}
    }
}

/// A Prometheus on this machine, which reaches the node's pods. It ends with this value.
struct Prometheus {
    address: String,
    folder: TempDir,
    _process: Child,
    targets: JoinHandle<()>,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.targets.abort();
    }
}

impl Prometheus {
    async fn start(ground: &Ground, rendered: &Rendered) -> Result<Self> {
        packages::ensure(&[PROMETHEUS], &Progress::slow_only()).await?;
        let folder = TempDir::new()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        // JSON is YAML.
        std::fs::write(folder.path().join("rules.yaml"), rendered.rules.to_string())?;
        std::fs::write(folder.path().join("prometheus.yaml"), configuration(&address).to_string())?;
        let process = Command::new(PROMETHEUS.provides)
            .arg("--config.file=prometheus.yaml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log"))?)
            .kill_on_drop(true)
            .spawn()
            .context("prometheus does not start")?;
        let targets = tokio::spawn(keep_targets(ground.space.client(), folder.path().join(TARGETS)));
        let prometheus = Self { address, folder, _process: process, targets };
        prometheus.until("max(leader_election_master_status)".to_owned(), |value| value >= 1.0).await?;
        Ok(prometheus)
    }

    /// Asks until the one value of the answer is as it should be.
    async fn until(&self, query: String, wish: impl Fn(f64) -> bool) -> Result<()> {
        let asking = async {
            loop {
                let values = self.ask(&query).await.unwrap_or_default();
                if values.first().is_some_and(|value| wish(*value)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let asked = tokio::time::timeout(SOON, asking).await;
        let last = self.ask(&query).await;
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        asked.with_context(|| format!("{query} is {last:?}; prometheus said:\n{log}"))
    }

    /// The values that a query has now.
    async fn ask(&self, query: &str) -> Result<Vec<f64>> {
        let said = self.promtool(&["query", "instant", "--format=json"], &[query]).await?;
        let series: Vec<Value> = serde_json::from_str(&said)?;
        series.iter().map(|series| Ok(series["value"][1].as_str().context("no value")?.parse()?)).collect()
    }

    /// The names of all metrics that it has.
    async fn names(&self) -> Result<BTreeSet<String>> {
        let said = self.promtool(&["query", "labels"], &["__name__"]).await?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    async fn promtool(&self, command: &[&str], about: &[&str]) -> Result<String> {
        let url = format!("http://{}", self.address);
        let output = Command::new("promtool").args(command).arg(url).args(about).output().await?;
        ensure!(output.status.success(), "promtool says: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// The file that names what is read.
const TARGETS: &str = "targets.json";

/// Reads itself, and what [`keep_targets`] finds. Labels of metrics go before those of the place they are read at, as the chart's `ServiceMonitor` has it.
fn configuration(own: &str) -> Value {
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "2s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": "sera", "honor_labels": true, "file_sd_configs": [{"files": [TARGETS], "refresh_interval": "1s"}]},
            {"job_name": "prometheus", "static_configs": [{"targets": [own]}]},
        ],
    })
}

/// Names the operator and every pod of a run or batch at its port `http`, for as long as it is not stopped: Debian's Prometheus does not ask Kubernetes.
async fn keep_targets(client: Client, file: PathBuf) {
    let pods: Api<Pod> = Api::all(client);
    loop {
        let mut targets = Vec::new();
        for selector in ["app.kubernetes.io/name=sera-operator", "app.kubernetes.io/managed-by=sera-operator"] {
            let found = pods.list(&ListParams::default().labels(selector)).await.map(|list| list.items);
            targets.extend(found.unwrap_or_default().iter().filter_map(target));
        }
        // Beside it and renamed, so that no half of it is read.
        let beside = file.with_extension("new");
        if std::fs::write(&beside, Value::from(targets).to_string()).is_ok() {
            let _ = std::fs::rename(&beside, &file);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn target(pod: &Pod) -> Option<Value> {
    let address = pod.status.as_ref()?.pod_ip.as_ref()?;
    let containers = &pod.spec.as_ref()?.containers;
    let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some("http"))?.container_port;
    let labels = json!({"namespace": pod.metadata.namespace, "pod": pod.metadata.name});
    Some(json!({"targets": [format!("{address}:{port}")], "labels": labels}))
}
