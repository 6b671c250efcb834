//! A real Prometheus beside a run. It finds pods by what the chart's monitors say of them, evaluates the chart's alerts, and is asked every question
//! of the chart's dashboard: a metric that is misnamed on either side has no answer.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use sera_crds::SpecializationRun;
use sera_e2e::ask;
use sera_e2e::packages::{self, Package};
use sera_e2e::platform;
use sera_e2e::progress::Progress;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::ground::{Ground, status};

/// Debian's Prometheus.
const PROMETHEUS: Package = Package::new("prometheus", "prometheus");
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sera-operator");
/// What a run has nothing of that nobody disturbs, whose training is a step on a processor, and which sets no lines aside.
const WITHOUT: [&str; 6] = [
    "sera_objects_stalled",
    "sera_attempt_failures_total",
    "sera_turns_reasked_total",
    "sera_training_eval_loss",
    "sera_run_training_tokens_per_second",
    "sera_training_mfu",
];
/// The files that it shows the API server, and knows it by.
const CA: &str = "ca.crt";
const CERTIFICATE: &str = "client.crt";
const KEY: &str = "client.key";
/// The Service that the operator's metrics are read through.
const OPERATOR: &str = "sera-operator-metrics";
/// How often it scrapes and evaluates, once it has found what there is.
const EVERY: &str = "1s";
/// When it has found a pod at the latest: it passes what it discovers on every five seconds, and takes it over every five seconds.
pub(super) const FOUND_AFTER: Duration = Duration::from_secs(15);

/// A Prometheus that runs for as long as this value is there.
pub(super) struct Prometheus {
    _process: Child,
    /// Finds what is to be scraped: Debian's Prometheus is built without Kubernetes.
    _discovery: JoinSet<Result<()>>,
    folder: TempDir,
    address: SocketAddr,
    began: Timestamp,
    dashboard: Value,
}

impl Prometheus {
    /// Starts it, with what the chart renders when everything for Prometheus Operator and Grafana is asked for.
    pub(super) async fn start(ground: &Ground) -> Result<Self> {
        packages::ensure(&[PROMETHEUS], &Progress::console()).await?;
        let cluster = ground.space.cluster().await?;
        let wanted = ["serviceMonitor", "podMonitor", "alerts", "dashboard"];
        let mut arguments = vec!["template".to_owned(), platform::RELEASE.to_owned(), CHART.to_owned()];
        arguments.push(format!("--namespace={}", platform::NAMESPACE));
        arguments.extend(wanted.map(|what| format!("--set=metrics.{what}.enabled=true")));
        let rendered = cluster.helm(&arguments).await?;
        let objects: Vec<Value> = serde_yaml::Deserializer::from_str(&rendered)
            .map(Value::deserialize)
            .collect::<Result<_, _>>()
            .context("the chart renders what is no YAML")?;
        let one = |kind: &str| {
            objects.iter().find(|object| object["kind"] == kind).with_context(|| format!("the chart has no {kind}"))
        };
        let monitors = [
            Monitor::of(one("ServiceMonitor")?, OPERATOR),
            Monitor::of(one("PodMonitor")?, "sera-system/sera-operator"),
        ];
        let folder = TempDir::new()?;
        let server = lay_credentials(&cluster.kubeconfig_path(), folder.path())?;
        let write = |name: &str, content: Value| std::fs::write(folder.path().join(name), content.to_string());
        write("rules.yaml", json!({"groups": one("PrometheusRule")?["spec"]["groups"]}))?;
        // JSON is YAML.
        write(
            "prometheus.yaml",
            json!({
                "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
                "rule_files": ["rules.yaml"], "scrape_configs": monitors.iter().map(Monitor::scrapes).collect::<Vec<_>>(),
            }),
        )?;
        let board = objects.iter().find(|object| object["metadata"]["labels"]["grafana_dashboard"] == "1");
        let board = board.and_then(|board| board["data"].as_object()?.values().next()?.as_str());
        let dashboard = serde_json::from_str(board.context("the chart has no dashboard")?)?;

        // A moment later somebody else may have it: then Prometheus says so, and the test fails.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let process = Command::new(PROMETHEUS.provides)
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let mut discovery = JoinSet::new();
        discovery.spawn(discover(ground.space.client(), server, monitors, folder.path().to_owned()));
        let began = Timestamp::now();
        let prometheus = Self { _process: process, _discovery: discovery, folder, address, began, dashboard };
        for _ in 0..300 {
            if ask::get(address, "/-/ready").await.is_ok() {
                return Ok(prometheus);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("Prometheus does not start: {}", std::fs::read_to_string(prometheus.folder.path().join("log"))?)
    }

    /// Checks what it has seen of a run that trained a student, which is served now.
    pub(super) async fn saw(&self, run: &SpecializationRun) -> Result<()> {
        let rules = self.ask("/api/v1/rules").await?;
        let groups = rules["groups"].as_array().context("no groups")?;
        let rules: Vec<&Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
        ensure!(rules.len() > 5, "{} rules", rules.len());
        let own = run.metadata.namespace.as_deref().unwrap_or_default();
        for rule in rules {
            let alerts = rule["alerts"].as_array().into_iter().flatten();
            let firing = alerts.filter(|alert| alert["state"] == "firing" && is_about(alert, own)).count();
            ensure!(rule["health"] == "ok" && firing == 0, "{rule}");
        }
        let targets = self.ask("/api/v1/targets?state=active").await?;
        let targets = targets["activeTargets"].as_array().context("no targets")?;
        let operators: Vec<&Value> = targets.iter().filter(|target| target["labels"]["job"] == OPERATOR).collect();
        ensure!(operators.len() == 2 && operators.iter().all(|target| target["health"] == "up"), "{operators:?}");

        let said = status(run)?;
        let name = run.metadata.name.as_deref().unwrap_or_default();
        let at = format!("namespace=\"{own}\"");
        let training = said.training.as_ref().context("no word on the training")?;
        let generation = said.generation.as_ref().context("no word on the generation")?;
        let attempted = u32::try_from(generation.totals.attempted)?;
        for (question, figure) in [
            ("sum(leader_election_master_status)".to_owned(), Some(1.0)),
            (format!(r#"sera_run_training_step{{{at},run="{name}"}}"#), Some(f64::from(training.total_steps))),
            (format!(r#"sera_run_attempted_samples{{{at},run="{name}"}}"#), Some(f64::from(attempted))),
            (format!(r#"sera_rollouts_total{{{at},sera_dev_owner=~"{name}-.*",outcome="Submitted"}}"#), None),
            (format!(r#"sera_training_loss{{{at},sera_dev_owner="{name}",sera_dev_stage="Training"}}"#), None),
        ] {
            let most = self.most(&question).await?.with_context(|| format!("nothing answers {question}"))?;
            ensure!(most > 0.0 && figure.is_none_or(|figure| (most - figure).abs() < 0.5), "{question}: {most}");
        }
        self.unanswered(own).await
    }

    /// Checks that the dashboard's questions have answers in this namespace, but for those [`WITHOUT`] one.
    async fn unanswered(&self, namespace: &str) -> Result<()> {
        let panels = self.dashboard["panels"].as_array().context("no panels")?;
        let mut silent = Vec::new();
        for panel in panels {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let question = target["expr"].as_str().context("a question")?;
                if !WITHOUT.iter().any(|metric| question.contains(metric))
                    && self.most(&question.replace("$namespace", namespace).replace("$run", ".*")).await?.is_none()
                {
                    silent.push(format!("{}: {question}", panel["title"]));
                }
            }
        }
        ensure!(silent.is_empty(), "these have no answer:\n{}", silent.join("\n"));
        Ok(())
    }

    /// The largest number that ever answered a question; none where nothing did.
    async fn most(&self, question: &str) -> Result<Option<f64>> {
        let (began, now) = (self.began.as_second(), Timestamp::now().as_second());
        let step = ((now - began) / 5_000).max(1);
        let query: String = question.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query_range?query={query}&start={began}&end={now}&step={step}");
        let answer = self.ask(&path).await.with_context(|| format!("asking {question}"))?;
        let series = answer["result"].as_array().into_iter().flatten();
        let values = series.flat_map(|series| series["values"].as_array().into_iter().flatten());
        Ok(values
            .filter_map(|value| value[1].as_str()?.parse::<f64>().ok())
            .filter(|value| !value.is_nan())
            .reduce(f64::max))
    }

    async fn ask(&self, path: &str) -> Result<Value> {
        let mut answer: Value = serde_json::from_str(&ask::get(self.address, path).await?)?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer["data"].take())
    }
}

/// Whether an alert is about the operator or this namespace, and not about what other tests break in theirs.
fn is_about(alert: &Value, namespace: &str) -> bool {
    alert["labels"]["namespace"].as_str().is_none_or(|about| [namespace, platform::NAMESPACE].contains(&about))
}

/// Lays what a kubeconfig has for its user into files, and returns the API server's address.
fn lay_credentials(kubeconfig: &Path, folder: &Path) -> Result<String> {
    let config: Value = serde_yaml::from_str(&std::fs::read_to_string(kubeconfig)?)?;
    let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    for (file, data) in [
        (CA, &cluster["certificate-authority-data"]),
        (CERTIFICATE, &user["client-certificate-data"]),
        (KEY, &user["client-key-data"]),
    ] {
        let data = data.as_str().with_context(|| format!("the kubeconfig has no {file}"))?;
        std::fs::write(folder.join(file), STANDARD.decode(data)?)?;
    }
    let server = cluster["server"].as_str().and_then(|server| server.strip_prefix("https://"));
    Ok(server.context("the kubeconfig has no server")?.to_owned())
}

/// What a monitor tells Prometheus Operator: which pods, by their own labels or their Service's, which of their ports, and which labels go along.
struct Monitor {
    /// As Prometheus Operator names it.
    job: &'static str,
    of_services: bool,
    selector: String,
    port: String,
    path: String,
    honors_labels: bool,
    labels: Vec<String>,
    /// As Prometheus writes them.
    relabelings: Vec<Value>,
}

impl Monitor {
    fn of(monitor: &Value, job: &'static str) -> Self {
        let (spec, of_services) = (&monitor["spec"], monitor["kind"] == "ServiceMonitor");
        let endpoint = if of_services { &spec["endpoints"][0] } else { &spec["podMetricsEndpoints"][0] };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = spec["selector"]["matchLabels"].as_object().into_iter().flatten();
        let expressions = spec["selector"]["matchExpressions"].as_array().into_iter().flatten();
        let selectors = labels.map(|(key, value)| format!("{key}={}", text(value)));
        let expression = |expression: &Value| {
            let not = if expression["operator"] == "DoesNotExist" { "!" } else { "" };
            format!("{not}{}", text(&expression["key"]))
        };
        let relabeling = |rule: &Value| json!({"source_labels": rule["sourceLabels"], "regex": rule["regex"], "action": rule["action"]});
        Self {
            job,
            of_services,
            selector: selectors.chain(expressions.map(expression)).collect::<Vec<_>>().join(","),
            port: text(&endpoint["port"]),
            path: text(&endpoint["path"]),
            honors_labels: endpoint["honorLabels"].as_bool().unwrap_or(false),
            labels: spec["podTargetLabels"].as_array().into_iter().flatten().map(text).collect(),
            relabelings: endpoint["relabelings"].as_array().into_iter().flatten().map(relabeling).collect(),
        }
    }

    fn file(&self) -> String {
        format!("{}.json", self.job.replace('/', "-"))
    }

    /// Through the API server: it reaches every pod, and Prometheus is a process of this machine, which need not.
    fn scrapes(&self) -> Value {
        json!({
            "job_name": self.job, "honor_labels": self.honors_labels, "relabel_configs": self.relabelings,
            "scheme": "https", "tls_config": {"ca_file": CA, "cert_file": CERTIFICATE, "key_file": KEY},
            "file_sd_configs": [{"files": [self.file()], "refresh_interval": EVERY}],
        })
    }

    /// The pods that it finds now, as Prometheus reads them from a file.
    async fn targets(&self, client: &Client, server: &str) -> Result<Value> {
        let chosen = ListParams::default().labels(&self.selector);
        let pods = if self.of_services {
            let services = Api::<Service>::namespaced(client.clone(), platform::NAMESPACE).list(&chosen).await?;
            let spec = services.items.into_iter().find_map(|service| service.spec).context("no Service is chosen")?;
            let ports = spec.ports.into_iter().flatten();
            ensure!(ports.into_iter().any(|port| port.name.as_ref() == Some(&self.port)), "no such port");
            let selector: Vec<String> =
                spec.selector.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
            Api::<Pod>::namespaced(client.clone(), platform::NAMESPACE)
                .list(&ListParams::default().labels(&selector.join(",")))
                .await?
        } else {
            Api::<Pod>::all(client.clone()).list(&chosen).await?
        };
        Ok(pods.items.iter().filter_map(|pod| self.target(pod, server)).collect())
    }

    fn target(&self, pod: &Pod, server: &str) -> Option<Value> {
        pod.status.as_ref()?.pod_ip.as_ref()?;
        let mut ports =
            pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|container| container.ports.iter().flatten());
        let port = ports.find(|port| port.name.as_ref() == Some(&self.port))?.container_port;
        let (namespace, name) = (pod.namespace()?, pod.name_any());
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy{}", self.path);
        let mut labels = json!({"__metrics_path__": path, "instance": name, "namespace": namespace, "pod": name});
        for (key, value) in pod.labels() {
            labels[format!("__meta_kubernetes_pod_label_{}", key.replace(['.', '/', '-'], "_"))] = json!(value);
        }
        for key in &self.labels {
            if let Some(value) = pod.labels().get(key) {
                labels[key.replace(['.', '/', '-'], "_")] = json!(value);
            }
        }
        Some(json!({"targets": [server], "labels": labels}))
    }
}

/// Writes down what the monitors find, again and again.
async fn discover(client: Client, server: String, monitors: [Monitor; 2], folder: PathBuf) -> Result<()> {
    loop {
        for monitor in &monitors {
            let (file, new) = (folder.join(monitor.file()), folder.join("new"));
            // A moment in which the API server says nothing changes nothing.
            if let Ok(targets) = monitor.targets(&client, &server).await {
                tokio::fs::write(&new, targets.to_string()).await?;
                tokio::fs::rename(&new, &file).await?;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
