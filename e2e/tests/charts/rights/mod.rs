//! What the charts grant: to the operator what it needs and no Secrets, to people what their role promises.

mod admins;
mod calls;
mod narrow;
mod uses;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::json;

use crate::Host;
use crate::house::{Chart, House, Manifests, NAMESPACE, texts};

pub(crate) fn trials(host: &Host) -> Vec<Trial> {
    vec![
        host.trial("no rule of any role is about Secrets, about rights, or about everything", no_rule_is_too_wide),
        host.trial(
            "with watchNamespaces nothing is granted outside of those namespaces and the operator's own",
            only_roles,
        ),
        host.trial("with rbac.create false nothing is granted", nothing_without_rbac),
        host.trial("every right that the table of uses names is asked for where it says", uses::sites_exist),
        host.trial("the operator is granted what its code uses, and nothing that nobody uses", uses::rules_are_uses),
        host.trial(
            "of every verb of every resource, the operator's account is answered by 403 but where its code uses it",
            calls::for_the_cluster,
        ),
        host.trial(
            "with watchNamespaces it is so in those namespaces, and everywhere else it is answered by nothing else",
            calls::for_some_namespaces,
        ),
        host.trial(
            "the operator with Roles alone works where it serves, and is refused nothing",
            narrow::works_where_it_serves,
        ),
        host.trial(
            "where the chart's Lease was left out, as Argo CD does, the operator makes it and works",
            narrow::makes_its_lease,
        ),
        host.trial("somebody with the role edit may write runs, and with the role view may read them", people),
        host.trial("of the built-in roles, those gain something that the values say", admins::values_of_people),
        host.trial(
            "an admin of a namespace installs the operator with Roles that were made for it, and makes a run",
            admins::with_roles_that_were_made,
        ),
        host.trial(
            "an admin of a namespace who was given the right installs the operator there, and makes a run",
            admins::with_the_right_to_grant_them,
        ),
    ]
}

async fn no_rule_is_too_wide(house: &House) -> Result<()> {
    let people = json!({"rbac": {"adminsMayInstall": true}});
    let people = house.render(Chart::Definitions, &people).await?;
    for values in [json!({}), json!({"watchNamespaces": ["ml", "research"]})] {
        let (rendered, test) = (house.render(Chart::Operator, &values).await?, house.render_test(&values).await?);
        let of_cluster = people.of("ClusterRole").into_iter().chain(rendered.of("ClusterRole"));
        for role in of_cluster.chain(rendered.of("Role")).chain(test.of("Role")) {
            for rule in role["rules"].as_array().into_iter().flatten() {
                let about: Vec<&str> =
                    ["apiGroups", "resources", "verbs"].iter().flat_map(|part| texts(&rule[*part])).collect();
                ensure!(!about.contains(&"*"), "{} has a wildcard: {rule}", role["metadata"]["name"]);
                ensure!(!about.contains(&"secrets"), "{} is about Secrets: {rule}", role["metadata"]["name"]);
                ensure!(
                    !about.contains(&"rbac.authorization.k8s.io"),
                    "{} is about rights: {rule}",
                    role["metadata"]["name"]
                );
            }
        }
    }
    Ok(())
}

async fn only_roles(house: &House) -> Result<()> {
    let rendered = house.render(Chart::Operator, &json!({"watchNamespaces": ["ml", "research"]})).await?;
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        ensure!(rendered.of(kind).is_empty(), "a {kind} was rendered");
    }
    for kind in ["Role", "RoleBinding"] {
        let namespaces = namespaces(&rendered, kind);
        ensure!(namespaces == BTreeSet::from(["ml", "research", NAMESPACE]), "there is a {kind} in {namespaces:?}");
    }
    let arguments = &rendered.one("Deployment")?["spec"]["template"]["spec"]["containers"][0]["args"];
    ensure!(texts(arguments).contains(&"--namespaces=ml,research"), "the operator is not told: {arguments}");
    let selected = &rendered.one("ValidatingAdmissionPolicyBinding")?["spec"]["matchResources"]["namespaceSelector"];
    ensure!(
        selected["matchExpressions"][0]["values"] == json!(["ml", "research"]),
        "the policy is bound to {selected}"
    );
    Ok(())
}

fn namespaces<'a>(rendered: &'a Manifests, kind: &str) -> BTreeSet<&'a str> {
    rendered.of(kind).into_iter().filter_map(|role| role["metadata"]["namespace"].as_str()).collect()
}

async fn nothing_without_rbac(house: &House) -> Result<()> {
    let values = json!({"rbac": {"create": false}});
    let (rendered, test) = (house.render(Chart::Operator, &values).await?, house.render_test(&values).await?);
    for kind in ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"] {
        ensure!(rendered.of(kind).is_empty() && test.of(kind).is_empty(), "a {kind} was rendered");
    }
    Ok(())
}

/// A question to the API server: verb, group, resource with its subresource, name.
pub(crate) type Question = (&'static str, &'static str, &'static str, &'static str);

async fn people(house: &House) -> Result<()> {
    let namespace = house.namespace("people", &json!({})).await?;
    let within = format!("--namespace={namespace}");
    for (role, user) in [("edit", "erin"), ("view", "vic")] {
        let (clusterrole, user) = (format!("--clusterrole={role}"), format!("--user={user}"));
        house.kubectl(&["create", "rolebinding", role, &within, &clusterrole, &user]).await?;
    }
    let (erin, vic) = (house.client_of("erin").await?, house.client_of("vic").await?);
    let (create, get) =
        (("create", "sera.dev", "specializationruns", ""), ("get", "sera.dev", "rolloutbatches", "billing"));
    // The built-in roles gather what is added to them after a moment.
    let gathered = async {
        while !(may(&erin, &namespace, create).await? && may(&vic, &namespace, get).await?) {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gathered).await??;
    ensure!(!may(&vic, &namespace, create).await?, "a viewer may create runs");
    ensure!(
        !may(&erin, &namespace, ("patch", "sera.dev", "specializationruns/status", "billing")).await?,
        "an editor may write status"
    );
    Ok(())
}

pub(crate) async fn may(client: &Client, namespace: &str, (verb, group, resource, name): Question) -> Result<bool> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let attributes = ResourceAttributes {
        namespace: filled(namespace),
        verb: filled(verb),
        group: Some(group.to_owned()),
        resource: filled(resource),
        subresource: filled(subresource),
        name: filled(name),
        ..ResourceAttributes::default()
    };
    let spec =
        SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
