//! What the API server answers when the operator's account really asks: for every verb of every resource that is served, and not for a list of them
//! that somebody thought of. Writes are dry runs, of nothing: whoever may make them is told that there is nothing to be made.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use http::{Method, Request, StatusCode, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResource, APIResourceList};
use kube::Client;
use kube::client::Body;
use serde_json::json;

use super::narrow::{LeaseOf, Narrow};
use super::uses::{ELECTION, Right, making_the_lease, used};
use crate::house::{House, NAMESPACE, RELEASE};

/// How many questions are under way at once.
const AT_ONCE: usize = 8;
/// The name of what nobody has made.
const NOBODY: &str = "nobody";

/// A verb on a resource, and where the resource is served.
#[derive(Clone, Debug)]
struct Ask {
    right: Right,
    /// The resource's group and version in an address: `/apis/batch/v1`.
    root: String,
    is_namespaced: bool,
}

/// Every verb of every resource that the API server serves, and what the operator uses of kinds that this one does not have.
async fn asks(client: &Client) -> Result<Vec<Ask>> {
    let mut found = of_resources("/api/v1", "", client.list_core_api_resources("v1").await?);
    for group in client.list_api_groups().await?.groups {
        let version = group.preferred_version.or(group.versions.into_iter().next()).context("a group has a version")?;
        let resources = client.list_api_group_resources(&version.group_version).await?;
        found.extend(of_resources(&format!("/apis/{}", version.group_version), &group.name, resources));
    }
    let known: BTreeSet<Right> = found.iter().map(|ask| ask.right.clone()).collect();
    let unserved = used().into_iter().filter(|right| !known.contains(right));
    found.extend(unserved.map(|right| {
        let version = if right.0 == "sera.dev" { "v1alpha1" } else { "v1" };
        Ask { root: format!("/apis/{}/{version}", right.0), right, is_namespaced: true }
    }));
    Ok(found)
}

fn of_resources(root: &str, group: &str, list: APIResourceList) -> Vec<Ask> {
    let of_resource = |resource: APIResource| {
        let (name, is_namespaced) = (resource.name, resource.namespaced);
        resource.verbs.into_iter().map(move |verb| Ask {
            right: (group.to_owned(), name.clone(), verb),
            root: root.to_owned(),
            is_namespaced,
        })
    };
    list.resources.into_iter().flat_map(of_resource).collect()
}

impl Ask {
    /// The request that asks in a namespace, or without one of all; none where there is no such request.
    fn request(&self, namespace: Option<&str>, name: &str) -> Result<Option<Request<Body>>> {
        let (_, resource, verb) = &self.right;
        let (resource, part) =
            resource.split_once('/').map_or((resource.as_str(), None), |(of, part)| (of, Some(part)));
        let is_of_one = part.is_some() || matches!(verb.as_str(), "get" | "update" | "patch" | "delete");
        // What is one of a namespace's is asked for in one.
        if self.is_namespaced && namespace.is_none() && (is_of_one || verb == "create") {
            return Ok(None);
        }
        let mut parts = vec![self.root.as_str()];
        if let Some(namespace) = namespace.filter(|_| self.is_namespaced) {
            parts.extend(["namespaces", namespace]);
        }
        parts.push(resource);
        parts.extend(is_of_one.then_some(name).into_iter().chain(part));
        let address = parts.join("/");
        let (method, query) = match verb.as_str() {
            "get" => (Method::GET, ""),
            "list" => (Method::GET, "?limit=1"),
            "watch" => (Method::GET, "?watch=true&timeoutSeconds=1"),
            "create" => (Method::POST, "?dryRun=All"),
            "update" => (Method::PUT, "?dryRun=All"),
            "patch" => (Method::PATCH, "?dryRun=All"),
            "delete" | "deletecollection" => (Method::DELETE, "?dryRun=All"),
            other => anyhow::bail!("nobody knows how to {other}"),
        };
        let kind = if verb == "patch" { "application/merge-patch+json" } else { "application/json" };
        let body = if method == Method::GET { Vec::new() } else { b"{}".to_vec() };
        let request = Request::builder().method(method).uri(address + query).header(header::CONTENT_TYPE, kind);
        Ok(Some(request.body(Body::from(body))?))
    }
}

/// Which of the rights an account has in a namespace, or in all of them at once.
async fn allowed(account: &Client, asks: &[Ask], namespace: Option<&str>) -> Result<BTreeSet<Right>> {
    let answer = async |ask: &Ask| {
        let Some(request) = ask.request(namespace, NOBODY)? else { return Ok(None) };
        let code = account.send(request).await?.status();
        let is_unclear =
            [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS].contains(&code) || code.is_server_error();
        ensure!(!is_unclear, "{:?} is answered by {code}", ask.right);
        anyhow::Ok((code != StatusCode::FORBIDDEN).then(|| ask.right.clone()))
    };
    let answers: Vec<Option<Right>> = stream::iter(asks).map(answer).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

/// That an account may do in a namespace what is expected and nothing else, but for what anybody may.
async fn may_exactly(
    house: &House,
    account: &Client,
    namespace: Option<&str>,
    expected: &BTreeSet<Right>,
) -> Result<()> {
    let asks = asks(&house.client()).await?;
    let anybody = house.client_of_account(NAMESPACE, "default").await?;
    let (may, free) = tokio::try_join!(allowed(account, &asks, namespace), allowed(&anybody, &asks, namespace))?;
    ensure!(asks.len() > 300 && free.len() < 10, "{} are asked for, and anybody may {free:?}", asks.len());
    let place = namespace.unwrap_or("all namespaces at once");
    let may: BTreeSet<Right> = may.difference(&free).cloned().collect();
    let (more, less) = (may.difference(expected).collect::<Vec<_>>(), expected.difference(&may).collect::<Vec<_>>());
    ensure!(more.is_empty(), "in {place}, it may {more:?}, which nothing in the code uses");
    ensure!(less.is_empty(), "in {place}, it may not {less:?}, which the code uses");
    Ok(())
}

/// What is used in a namespace that is served: all but the Lease.
fn served() -> BTreeSet<Right> {
    used().into_iter().filter(|right| right.0 != ELECTION).collect()
}

/// What of it can be asked of all namespaces at once.
fn everywhere() -> BTreeSet<Right> {
    let is_wide = |right: &Right| ["list", "watch"].contains(&right.2.as_str());
    served().into_iter().filter(is_wide).collect()
}

/// That an account may use the Lease of its election, and no other; and make one there, where that is granted.
async fn may_lead(account: &Client, lease: &str, makes_it: bool) -> Result<()> {
    for (namespace, name, expected) in [(NAMESPACE, lease, true), (NAMESPACE, NOBODY, false), ("default", lease, false)]
    {
        for (verb, expected) in
            [("get", expected), ("update", expected), ("create", makes_it && namespace == NAMESPACE)]
        {
            let right = (ELECTION.to_owned(), "leases".to_owned(), verb.to_owned());
            let ask = Ask { right, root: format!("/apis/{ELECTION}/v1"), is_namespaced: true };
            let request = ask.request(Some(namespace), name)?.context("a request")?;
            let code = account.send(request).await?.status();
            ensure!((code != StatusCode::FORBIDDEN) == expected, "to {verb} the Lease {namespace}/{name} is {code}");
        }
    }
    Ok(())
}

pub(crate) async fn for_the_cluster(house: &House) -> Result<()> {
    let operator = house.client_of_account(NAMESPACE, RELEASE).await?;
    let namespace = house.namespace("elsewhere", &json!({})).await?;
    may_exactly(house, &operator, Some(&namespace), &served()).await?;
    may_exactly(house, &operator, None, &everywhere()).await?;
    may_lead(&operator, RELEASE, true).await
}

pub(crate) async fn for_some_namespaces(house: &House) -> Result<()> {
    for lease in [LeaseOf::TheChart, LeaseOf::TheOperator] {
        let narrow = Narrow::install(house, "roles", lease).await?;
        let outcome = of_roles(house, &narrow, lease == LeaseOf::TheOperator).await;
        narrow.uninstall(house).await?;
        outcome?;
    }
    Ok(())
}

async fn of_roles(house: &House, narrow: &Narrow, makes_lease: bool) -> Result<()> {
    let account = house.client_of_account(NAMESPACE, &narrow.name).await?;
    narrow.until_its_rights_are_seen(&account).await?;
    for namespace in &narrow.served {
        may_exactly(house, &account, Some(namespace), &served()).await?;
    }
    let at_home = makes_lease.then(making_the_lease).into_iter().collect();
    may_exactly(house, &account, Some(NAMESPACE), &at_home).await?;
    for namespace in [Some(narrow.other.as_str()), None] {
        may_exactly(house, &account, namespace, &BTreeSet::new()).await?;
    }
    may_lead(&account, &narrow.name, makes_lease).await
}
