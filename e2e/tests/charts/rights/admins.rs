//! What docs/install.md tells teams without cluster rights to do, done by an admin of a namespace and nothing else: with the right to grant the operator its
//! Roles, or with Roles that somebody has made for them.

use anyhow::{Context, Result, ensure};
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use super::narrow::until;
use super::{Question, may};
use crate::house::{Chart, House, RELEASE};
use crate::places::Kind;

/// May do in some namespaces what the built-in role admin may, and nothing elsewhere.
const ADMIN: &str = "ada";
/// What only the chart of the custom resources lets an admin do.
const WRITE_STATUS: Question = ("patch", "sera.dev", "specializationruns/status", "");

/// A namespace of the admin's.
async fn namespace(house: &House, purpose: &str) -> Result<String> {
    let namespace = house.namespace(purpose, &json!({})).await?;
    let (within, user) = (format!("--namespace={namespace}"), format!("--user={ADMIN}"));
    house.kubectl(&["create", "rolebinding", "admin", &within, "--clusterrole=admin", &user]).await?;
    Ok(namespace)
}

/// Has the admin install the operator for a namespace alone.
async fn install(house: &House, namespace: &str, more: &[&str]) -> Result<String> {
    let (chart, served) = (Chart::Operator.folder(), format!("--set=watchNamespaces={{{namespace}}}"));
    let (chart, user) = (chart.display().to_string(), format!("--kube-as-user={ADMIN}"));
    let arguments = ["install", RELEASE, &chart, "--namespace", namespace, &user, &served];
    house.helm(&[&arguments[..], &["--set=admissionPolicy.enabled=false"], more].concat()).await
}

/// The operator may work in the namespace, and its admin makes a run there.
async fn is_served(house: &House, namespace: &str) -> Result<()> {
    let operator = house.client_of_account(namespace, RELEASE).await?;
    until("the operator has no rights", async || may(&operator, namespace, WRITE_STATUS).await).await?;
    let runs = Api::namespaced_with(house.client_of(ADMIN).await?, namespace, &Kind::Run.resource());
    let run = DynamicObject::new("billing", &Kind::Run.resource()).data(json!({"spec": Kind::Run.spec()}));
    runs.create(&PostParams::default(), &run).await?;
    Ok(())
}

/// Nobody may grant what they do not hold, so that the Roles of the operator are somebody else's to make.
pub(crate) async fn with_roles_that_were_made(house: &House) -> Result<()> {
    let namespace = namespace(house, "given").await?;
    let chart = Chart::Operator.folder().display().to_string();
    let served = format!("--set=watchNamespaces={{{namespace}}}");
    let only = ["--show-only", "templates/rbac.yaml"];
    let arguments = ["template", RELEASE, &chart, "--namespace", &namespace, &served];
    let roles = house.helm(&[&arguments[..], &only].concat()).await?;
    house.apply_text(&roles).await?;
    install(house, &namespace, &["--set=rbac.create=false"]).await?;
    is_served(house, &namespace).await
}

pub(crate) async fn with_the_right_to_grant_them(house: &House) -> Result<()> {
    let namespace = namespace(house, "own").await?;
    let refused = install(house, &namespace, &[]).await.err().context("an admin granted what admins do not hold")?;
    ensure!(format!("{refused:#}").contains("not currently held"), "{refused:#}");
    house.helm(&["uninstall", RELEASE, "--namespace", &namespace]).await?;

    let values = json!({"rbac": {"aggregateToUserRoles": false, "adminsMayInstall": true}});
    let role = house.render(Chart::Definitions, &values).await?.one("ClusterRole")?.clone();
    house.apply(&role).await?;
    let outcome = granted(house, &namespace).await;
    let name = role["metadata"]["name"].as_str().context("a role has a name")?;
    house.kubectl(&["delete", "clusterrole", name]).await?;
    outcome
}

async fn granted(house: &House, namespace: &str) -> Result<()> {
    let admin = house.client_of(ADMIN).await?;
    until("the role admin gained nothing", async || may(&admin, namespace, WRITE_STATUS).await).await?;
    install(house, namespace, &[]).await?;
    is_served(house, namespace).await
}

/// Neither value of the chart of the custom resources is on by more than it says.
pub(crate) async fn values_of_people(house: &House) -> Result<()> {
    let gained = async |values: Value| {
        let rendered = house.render(Chart::Definitions, &values).await?;
        let roles = rendered.of("ClusterRole").into_iter().map(|role| role["metadata"]["labels"].clone());
        let to = |role: &str| format!("rbac.authorization.k8s.io/aggregate-to-{role}");
        let of = |labels: Value| ["view", "edit", "admin"].into_iter().find(|role| labels[to(role)] == "true");
        anyhow::Ok(roles.map(of).collect::<Vec<_>>())
    };
    let (default, none) = (json!({}), json!({"rbac": {"aggregateToUserRoles": false}}));
    ensure!(gained(default).await? == [Some("view"), Some("edit")], "by default, others gain something");
    ensure!(gained(none).await?.is_empty(), "somebody gains something");
    let all = gained(json!({"rbac": {"adminsMayInstall": true}})).await?;
    ensure!(all == [Some("view"), Some("edit"), Some("admin")], "{all:?} gain something");
    Ok(())
}
