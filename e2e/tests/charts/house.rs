//! A control plane with both charts installed, and the means to render them again with other values.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use sera_e2e::cluster::Cluster;
use sera_e2e::packages::{self, Package};
use sera_e2e::progress::Progress;
use serde::Deserialize;
use serde_json::{Value, json};

/// The release's name and namespace: what the documentation tells people to type.
pub(crate) const RELEASE: &str = "sera-operator";
pub(crate) const NAMESPACE: &str = "sera-system";

/// Prometheus' own judge of rules.
pub(crate) const PROMTOOL: Package = Package::new("prometheus", "promtool");
/// The release of Lua that Argo CD's interpreter speaks.
pub(crate) const LUA: Package = Package::new("lua5.1", "lua5.1");

/// How long an API server may take to enforce a policy that it has stored.
const POLICY_WITHIN: Duration = Duration::from_secs(30);

/// One of the two charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chart {
    Operator,
    Definitions,
}

impl Chart {
    pub(crate) const ALL: [Self; 2] = [Self::Operator, Self::Definitions];

    pub(crate) fn folder(self) -> PathBuf {
        let name = match self {
            Self::Operator => "sera-operator",
            Self::Definitions => "sera-operator-crds",
        };
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts")).join(name)
    }

    fn release(self) -> String {
        match self {
            Self::Operator => RELEASE.to_owned(),
            Self::Definitions => format!("{RELEASE}-crds"),
        }
    }
}

/// The control plane.
pub(crate) struct House {
    cluster: Cluster,
    /// The namespaces that tests have made.
    namespaces: Mutex<Vec<String>>,
}

impl House {
    /// Boots (or finds) an API server and installs the charts as the documentation says, with a policy in force.
    pub(crate) async fn open() -> Result<Self> {
        packages::ensure(&[PROMTOOL, LUA], &Progress::slow_only()).await?;
        let house = Self { cluster: Cluster::control_plane().await?, namespaces: Mutex::default() };
        house.install(Chart::Definitions).await?;
        house.install(Chart::Operator).await?;
        house.wait_for_the_policy().await?;
        Ok(house)
    }

    /// Takes away what was made, and the cluster with it if it was booted here.
    pub(crate) async fn close(self) -> Result<()> {
        let namespaces = self.namespaces.into_inner().unwrap_or_else(PoisonError::into_inner);
        for namespace in namespaces {
            self.cluster.kubectl(["delete", "namespace", &namespace, "--wait=false"]).await?;
        }
        for chart in [Chart::Operator, Chart::Definitions] {
            self.cluster.helm(["uninstall", &chart.release(), "--namespace", NAMESPACE]).await?;
        }
        Ok(self.cluster.down().await?)
    }

    async fn install(&self, chart: Chart) -> Result<()> {
        let (release, folder) = (chart.release(), chart.folder().display().to_string());
        self.cluster.helm(["install", &release, &folder, "--namespace", NAMESPACE, "--create-namespace"]).await?;
        Ok(())
    }

    /// Runs helm.
    pub(crate) async fn helm(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.cluster.helm(arguments).await?)
    }

    /// Runs kubectl.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.cluster.kubectl(arguments).await?)
    }

    /// What a chart installs with some values over its own.
    pub(crate) async fn render(&self, chart: Chart, values: &Value) -> Result<Manifests> {
        Ok(self.render_all(chart, values).await?.0)
    }

    /// What `helm test` makes with some values over the chart's own.
    pub(crate) async fn render_test(&self, values: &Value) -> Result<Manifests> {
        Ok(self.render_all(Chart::Operator, values).await?.1)
    }

    async fn render_all(&self, chart: Chart, values: &Value) -> Result<(Manifests, Manifests)> {
        let (release, folder) = (chart.release(), chart.folder().display().to_string());
        let values = values.to_string();
        let arguments = ["template", &release, &folder, "--namespace", NAMESPACE, "--set-json", &values];
        let rendered = Manifests::parse(&self.cluster.helm(arguments).await?)?;
        let is_hook = |object: &Value| object["metadata"]["annotations"]["helm.sh/hook"] == "test";
        let (hooks, installed) = rendered.0.into_iter().partition(is_hook);
        Ok((Manifests(installed), Manifests(hooks)))
    }

    /// A client with all rights.
    pub(crate) fn client(&self) -> Client {
        self.cluster.client()
    }

    /// A client that acts as somebody else.
    pub(crate) async fn client_of(&self, user: &str) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.cluster.kubeconfig_path())?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.auth_info.impersonate = Some(user.to_owned());
        Ok(Client::try_from(config)?)
    }

    /// A client that is a `ServiceAccount`, by a token of its own.
    pub(crate) async fn client_of_account(&self, namespace: &str, name: &str) -> Result<Client> {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig_of_account(namespace, name).await?)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// The kubeconfig of a `ServiceAccount`.
    pub(crate) async fn kubeconfig_of_account(&self, namespace: &str, name: &str) -> Result<String> {
        let within = format!("--namespace={namespace}");
        let token = self.kubectl(&["create", "token", name, &within, "--duration=1h"]).await?;
        let mut kubeconfig: Value = serde_yaml::from_slice(&tokio::fs::read(self.cluster.kubeconfig_path()).await?)?;
        for user in kubeconfig["users"].as_array_mut().context("a kubeconfig has users")? {
            user["user"] = json!({"token": token.trim()});
        }
        Ok(serde_yaml::to_string(&kubeconfig)?)
    }

    /// Makes a namespace and answers its name, which begins with `purpose` and is no other process's.
    pub(crate) async fn namespace(&self, purpose: &str, labels: &Value) -> Result<String> {
        let name = format!("{purpose}-{}", std::process::id());
        let metadata = json!({"name": name, "labels": labels});
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await?;
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        Ok(name)
    }

    /// Applies an object, or a List of them.
    pub(crate) async fn apply(&self, object: &Value) -> Result<()> {
        self.apply_text(&object.to_string()).await
    }

    /// Applies what helm has rendered.
    pub(crate) async fn apply_text(&self, manifest: &str) -> Result<()> {
        self.cluster.apply(manifest).await?;
        Ok(())
    }

    /// Waits until the admission policy is refused its own bypass: the API server takes some time to compile a policy.
    async fn wait_for_the_policy(&self) -> Result<()> {
        let name = format!("{NAMESPACE}-{RELEASE}-names");
        let arguments = ["get", "validatingadmissionpolicy", &name, "--output=jsonpath={.status.observedGeneration}"];
        let ready = async {
            while self.kubectl(&arguments).await?.is_empty() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(POLICY_WITHIN, ready).await.context("the admission policy was not compiled")?
    }
}

/// Rendered objects.
pub(crate) struct Manifests(Vec<Value>);

impl Manifests {
    fn parse(text: &str) -> Result<Self> {
        // By way of YAML's own values, which have no key twice: Kustomize, and with it Flux, refuses what helm lets pass.
        let documents = serde_yaml::Deserializer::from_str(text).map(serde_yaml::Value::deserialize);
        let objects = documents.filter(|document| !matches!(document, Ok(serde_yaml::Value::Null)));
        let objects = objects.map(|document| Ok(serde_json::to_value(document?)?));
        Ok(Self(objects.collect::<Result<_>>().context("helm rendered something that is no YAML")?))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    /// All of a kind.
    pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The one of a kind.
    pub(crate) fn one(&self, kind: &str) -> Result<&Value> {
        let found = self.of(kind);
        ensure!(found.len() == 1, "{} objects of kind {kind} were rendered, not one", found.len());
        Ok(found[0])
    }
}

/// The texts of a list.
pub(crate) fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
