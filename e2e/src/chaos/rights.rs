//! What operators may do in a trial: what the chart grants to one that watches the trial's namespace alone, and nothing else. They are taken for its
//! service account by every call that they make.

use std::path::Path;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, PostParams};
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::persist::make;
use crate::cluster::Cluster;
use crate::platform::{self, RELEASE};

/// The header by which an administrator's request is taken for somebody else's.
pub(super) const TAKEN_FOR: &str = "impersonate-user";
/// What stands for the namespace of a trial in what helm has rendered once for all of them.
const SOME_NAMESPACE: &str = "namespace-of-a-trial";
/// The chart's files that matter: its rules, and the Lease, which the operator may not make.
const FILES: [&str; 2] = ["templates/rbac.yaml", "templates/lease.yaml"];

/// The chart's objects for one namespace.
pub(super) struct Rights {
    rendered: String,
}

impl Rights {
    /// Has helm render them.
    pub(super) async fn of_the_chart(cluster: &Cluster) -> Result<Self> {
        let chart = Path::new(platform::CHARTS).join(RELEASE).display().to_string();
        let mut arguments = vec!["template".to_owned(), RELEASE.to_owned(), chart];
        arguments.push(format!("--namespace={SOME_NAMESPACE}"));
        arguments.push(format!("--set=watchNamespaces={{{SOME_NAMESPACE}}}"));
        arguments.extend(FILES.map(|file| format!("--show-only={file}")));
        Ok(Self { rendered: cluster.helm(&arguments).await? })
    }

    /// Grants them in a namespace.
    pub(super) async fn grant(&self, client: &Client, namespace: &str) -> Result<()> {
        let rendered = self.rendered.replace(SOME_NAMESPACE, namespace);
        for document in serde_yaml::Deserializer::from_str(&rendered) {
            let object = Value::deserialize(document).context("the chart renders what is no YAML")?;
            match object["kind"].as_str() {
                Some("Role") => create::<Role>(client, namespace, object).await?,
                Some("RoleBinding") => create::<RoleBinding>(client, namespace, object).await?,
                Some("Lease") => create::<Lease>(client, namespace, object).await?,
                // A document of comments alone.
                None => {}
                Some(kind) => bail!("the chart's rules are more than those of a namespace: {kind}"),
            }
        }
        Ok(())
    }
}

/// As whom the API server sees the operators of a namespace.
pub(super) fn account(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{RELEASE}")
}

async fn create<K>(client: &Client, namespace: &str, object: Value) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let object = serde_json::from_value(object).with_context(|| format!("the chart's {}", K::kind(&())))?;
    let created = make(|| async { api.create(&PostParams::default(), &object).await }).await;
    created.with_context(|| format!("cannot grant the chart's {}", K::kind(&())))
}
