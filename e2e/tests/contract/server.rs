//! The API server under test, and the requests that the contract makes of it: always with strict field validation, and
//! as raw JSON, since what is sent is meant to be wrong.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::{Method, Request, header};
use kube::{Client, core::Status};
use sera_e2e::cluster::Cluster;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::schema;

/// A kind of the API.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) enum Kind {
    SpecializationRun,
    RolloutBatch,
}

impl Kind {
    /// The kind as the tests' names call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::SpecializationRun => "run",
            Self::RolloutBatch => "batch",
        }
    }

    pub(crate) const ALL: [Self; 2] = [Self::SpecializationRun, Self::RolloutBatch];

    /// The name of the kind in a request's path.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::SpecializationRun => "specializationruns",
            Self::RolloutBatch => "rolloutbatches",
        }
    }
}

/// What the server answered to a request that it understood.
pub(crate) enum Answer {
    Admitted(Value),
    Refused(Refusal),
}

/// A refusal, cause by cause.
pub(crate) struct Refusal {
    message: String,
    pub(crate) causes: Vec<Cause>,
}

pub(crate) struct Cause {
    /// The field in the form `spec.source.git.url`; empty where the server names none.
    pub(crate) field: String,
    pub(crate) message: String,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let mut causes: Vec<Cause> = status
            .details
            .into_iter()
            .flat_map(|details| details.causes)
            .map(|cause| Cause { field: one_notation(&cause.field), message: cause.message })
            .collect();
        if causes.is_empty() {
            causes = unknown_fields(&status.message);
        }
        Self { message: status.message, causes }
    }
}

/// The schema calls a map's entry `labels.team`, a rule calls it `labels[team]`: here it is the former. The items of a
/// list keep their brackets.
fn one_notation(field: &str) -> String {
    let mut parts = field.split('[');
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((key, rest)) if key.parse::<usize>().is_err() => written.extend([".", key, rest]),
            _ => written.extend(["[", part]),
        }
    }
    written
}

/// Strict decoding answers in prose alone (`strict decoding error: unknown field "spec.x", …`): a cause for each field.
fn unknown_fields(message: &str) -> Vec<Cause> {
    let mut parts = message.split("unknown field \"");
    parts.next();
    parts
        .filter_map(|part| part.split_once('"'))
        .map(|(field, _)| Cause { field: field.to_owned(), message: format!("unknown field {field:?}") })
        .collect()
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.causes.is_empty() {
            return write!(out, "  {}", self.message);
        }
        for cause in &self.causes {
            writeln!(out, "  {}: {}", cause.field, cause.message)?;
        }
        Ok(())
    }
}

/// What the server says of the requests that wrote custom objects.
pub(crate) struct Writes {
    seconds: f64,
    count: f64,
}

impl Writes {
    /// How long one of them took on average until later; none if there was none.
    pub(crate) fn mean_until(&self, later: &Self) -> Option<Duration> {
        let count = later.count - self.count;
        (count > 0.0).then(|| Duration::from_secs_f64((later.seconds - self.seconds).max(0.0) / count))
    }
}

/// The sum of the series of requests that wrote objects of groups like ours.
fn written(told: &str, what: &str) -> f64 {
    let name = format!("apiserver_request_duration_seconds_{what}{{");
    let series = told.lines().filter_map(|line| line.strip_prefix(&name)?.rsplit_once("} "));
    let is_ours = |labels: &str| {
        labels.contains("sera.dev\"") && ["POST", "PUT"].iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")))
    };
    series.filter(|(labels, _)| is_ours(labels)).filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}

/// Whether a request is to leave anything behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Admission in full, and nothing is stored.
    DryRun,
    Stored,
}

/// A served API with the CRDs installed, and a namespace of our own in it.
pub(crate) struct Server {
    client: Client,
    namespace: String,
    cluster: Cluster,
}

impl Server {
    /// Finds or boots an API server, installs the CRDs there and makes a namespace.
    pub(crate) async fn start() -> Result<Self> {
        let cluster = Cluster::control_plane().await?;
        let server =
            Self { client: cluster.client(), namespace: format!("sera-contract-{}", std::process::id()), cluster };
        server.announce();
        schema::install(&server).await?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": server.namespace}});
        server.send(Method::POST, "/api/v1/namespaces", Some(&namespace)).await?.admitted()?;
        Ok(server)
    }

    /// Says what is about to happen to a cluster that somebody else uses too.
    fn announce(&self) {
        if std::env::var_os("KUBECONFIG").is_some() {
            println!(
                "asking the cluster in KUBECONFIG: our CRDs are installed there, and stay; the rest happens in namespace {}, and goes",
                self.namespace
            );
        }
    }

    /// Leaves nothing behind but, on a cluster that was there before, the CRDs.
    pub(crate) async fn stop(self) -> Result<()> {
        self.send(Method::DELETE, &format!("/api/v1/namespaces/{}", self.namespace), None).await?;
        Ok(self.cluster.down().await?)
    }

    pub(crate) async fn create(&self, kind: Kind, object: &Value, effect: Effect) -> Result<Answer> {
        let path = format!("{}?{}", self.collection(kind), effect.query());
        self.send(Method::POST, &path, Some(object)).await
    }

    /// Creates what is none of ours, of the API's core, by the plural of its kind.
    pub(crate) async fn create_beside(&self, plural: &str, object: &Value, effect: Effect) -> Result<Answer> {
        let path = format!("/api/v1/namespaces/{}/{plural}?{}", self.namespace, effect.query());
        self.send(Method::POST, &path, Some(object)).await
    }

    /// Creates what must be admitted, and returns it as it was stored.
    pub(crate) async fn store(&self, kind: Kind, object: &Value) -> Result<Value> {
        self.create(kind, object, Effect::Stored).await?.admitted()
    }

    /// Replaces an object, and as every update does, leaves its status as it is.
    pub(crate) async fn replace(&self, kind: Kind, object: &Value, effect: Effect) -> Result<Answer> {
        let path = format!("{}?{}", self.item(kind, object)?, effect.query());
        self.send(Method::PUT, &path, Some(object)).await
    }

    /// Replaces an object's status.
    pub(crate) async fn replace_status(&self, kind: Kind, object: &Value, effect: Effect) -> Result<Answer> {
        let path = format!("{}/status?{}", self.item(kind, object)?, effect.query());
        self.send(Method::PUT, &path, Some(object)).await
    }

    pub(crate) async fn delete(&self, kind: Kind, object: &Value) -> Result<()> {
        self.delete_at(&self.item(kind, object)?).await
    }

    /// Creates what must be admitted at any path of the API server.
    pub(crate) async fn store_at(&self, path: &str, object: &Value) -> Result<Value> {
        self.send(Method::POST, path, Some(object)).await?.admitted()
    }

    /// Deletes what is at any path of the API server.
    pub(crate) async fn delete_at(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, None).await?;
        Ok(())
    }

    /// Reads any path of the API server.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await?.admitted()
    }

    /// How many objects of custom kinds were made and replaced until now, and how long that took, by the server's own account.
    pub(crate) async fn writes(&self) -> Result<Writes> {
        let told = self.client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        Ok(Writes { seconds: written(&told, "sum"), count: written(&told, "count") })
    }

    /// Reads the table that `kubectl get` prints of all objects of a kind.
    pub(crate) async fn table(&self, kind: Kind) -> Result<Value> {
        let request = Request::get(self.collection(kind))
            .header(header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())?;
        Ok(self.client.request(request).await?)
    }

    /// Applies an object server-side, taking over whatever fields another manager holds.
    pub(crate) async fn apply(&self, path: &str, object: &Value) -> Result<()> {
        let request = Request::patch(format!("{path}?fieldManager=sera-contract&force=true&{STRICT}"))
            .header(header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(serde_json::to_vec(object)?)?;
        self.client.request::<Value>(request).await?;
        Ok(())
    }

    /// Applies an object server-side as one of several managers; none where another one holds a field of it, with the server's words.
    pub(crate) async fn apply_as(&self, manager: &str, kind: Kind, object: &Value) -> Result<Result<Value, String>> {
        let path = format!("{}?fieldManager={manager}&{STRICT}", self.item(kind, object)?);
        let request = Request::patch(path)
            .header(header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(serde_json::to_vec(object)?)?;
        match self.client.request(request).await {
            Ok(object) => Ok(Ok(object)),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Err(status.message)),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a request, and tells a refusal of its content from every other failure.
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .with_context(|| format!("{method} {path}"))?;
        match self.client.request(request).await {
            Ok(object) => Ok(Answer::Admitted(object)),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => Ok(Answer::Refused((*status).into())),
            Err(error) => Err(error).with_context(|| format!("{method} {path}")),
        }
    }

    fn collection(&self, kind: Kind) -> String {
        self.collection_of(GROUP_VERSION, kind.plural())
    }

    /// Where objects of the test's namespace are served, of whichever kind.
    pub(crate) fn collection_of(&self, group_version: &str, plural: &str) -> String {
        format!("{group_version}/namespaces/{}/{plural}", self.namespace)
    }

    fn item(&self, kind: Kind, object: &Value) -> Result<String> {
        let name = object["metadata"]["name"].as_str().context("the object has no name")?;
        Ok(format!("{}/{name}", self.collection(kind)))
    }
}

/// Where the API is served.
pub(crate) const GROUP_VERSION: &str = "/apis/sera.dev/v1alpha1";

/// What makes the API server refuse fields that it does not know, as `kubectl` asks it to.
const STRICT: &str = "fieldValidation=Strict";

impl Effect {
    fn query(self) -> String {
        match self {
            Self::DryRun => format!("{STRICT}&dryRun=All"),
            Self::Stored => STRICT.to_owned(),
        }
    }
}

impl Answer {
    /// The object, where nothing but admission will do.
    pub(crate) fn admitted(self) -> Result<Value> {
        match self {
            Self::Admitted(object) => Ok(object),
            Self::Refused(refusal) => bail!("refused:\n{refusal}"),
        }
    }
}
