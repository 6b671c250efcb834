//! What the operator's code asks of the API server, with the line that asks for it. The chart grants that, and nothing else: a right that nobody uses is
//! as wrong as one that is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::house::{Chart, House, Manifests, texts};

/// A verb on a resource of a group.
pub(crate) type Right = (String, String, String);

/// A line of the operator's code, and what it asks of the API server.
struct Site {
    /// The file, below `operator/src`.
    file: &'static str,
    /// The words in it.
    words: &'static str,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

const fn site(
    file: &'static str,
    words: &'static str,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
) -> Site {
    Site { file, words, group, resources, verbs }
}

const OURS: &str = "sera.dev";
const GROUPS: &str = "leaderworkerset.x-k8s.io";
const WATCHED: &[&str] = &["list", "watch"];
/// Applying looks first whose the object is, and makes it where there is none.
const APPLIED: &[&str] = &["get", "create", "patch"];

/// The group of the one Lease, which is a right of its own.
pub(crate) const ELECTION: &str = "coordination.k8s.io";

/// The right to make the Lease, which a value of the chart grants.
pub(crate) fn making_the_lease() -> Right {
    right(ELECTION, "leases", "create")
}

const SITES: &[Site] = &[
    site("controller/mod.rs", "api::<DeserializeGuard<SpecializationRun>>(", OURS, &["specializationruns"], WATCHED),
    site("controller/mod.rs", "api::<DeserializeGuard<RolloutBatch>>(", OURS, &["rolloutbatches"], WATCHED),
    site("controller/mod.rs", "watch_children::<WatchedJob>(", "batch", &["jobs"], WATCHED),
    site("controller/mod.rs", "watch_children::<WatchedPod>(", "", &["pods"], WATCHED),
    site("controller/mod.rs", "watch_children::<WatchedServer>(", "apps", &["deployments"], WATCHED),
    site("controller/mod.rs", "watch_offered::<WatchedGroups>(", GROUPS, &["leaderworkersets"], WATCHED),
    site(
        "apply/preflight.rs",
        "api.get_metadata_opt(&owner.name)",
        OURS,
        &["specializationruns", "rolloutbatches"],
        &["get"],
    ),
    site(
        "apply.rs",
        "patch_metadata(&name, &parameters, &patch)",
        OURS,
        &["specializationruns", "rolloutbatches"],
        &["patch"],
    ),
    site("report.rs", "api.patch_status(", OURS, &["specializationruns/status", "rolloutbatches/status"], &["patch"]),
    // Asked by the API server itself, where it enforces the permission to block an owner's deletion.
    site(
        "build/mod.rs",
        "block_owner_deletion: Some(true)",
        OURS,
        &["specializationruns/finalizers", "rolloutbatches/finalizers"],
        &["update"],
    ),
    site("apply.rs", "self.create(owner, &batch, \"RolloutBatch\")", OURS, &["rolloutbatches"], &["create"]),
    site("apply/removing.rs", "self.delete::<RolloutBatch>(", OURS, &["rolloutbatches"], &["delete"]),
    site("apply.rs", "self.apply_child(owner, &*deployment, \"Deployment\")", "apps", &["deployments"], APPLIED),
    site("apply/removing.rs", "self.delete::<Deployment>(", "apps", &["deployments"], &["delete"]),
    site("apply.rs", "self.apply_child(owner, &*groups, \"LeaderWorkerSet\")", GROUPS, &["leaderworkersets"], APPLIED),
    site("apply/removing.rs", "self.delete::<LeaderWorkerSet>(", GROUPS, &["leaderworkersets"], &["delete"]),
    site("apply.rs", "self.apply_child(owner, &service, \"Service\")", "", &["services"], APPLIED),
    site("apply/removing.rs", "self.delete_child::<Service>(", "", &["services"], &["delete"]),
    site("apply.rs", "self.create(owner, &job, \"Job\")", "batch", &["jobs"], &["create"]),
    site("observe.rs", "let job = api.get_opt(name)", "batch", &["jobs"], &["get"]),
    site("apply/removing.rs", "self.delete::<WatchedJob>(", "batch", &["jobs"], &["delete"]),
    site("apply/removing.rs", "api.delete(&pod.name_any()", "", &["pods"], &["delete"]),
    site(
        "apply.rs",
        "self.apply_child(owner, &policy(rules), \"NetworkPolicy\")",
        "networking.k8s.io",
        &["networkpolicies"],
        APPLIED,
    ),
    site("apply.rs", "self.create(owner, &config_map, \"ConfigMap\")", "", &["configmaps"], &["create"]),
    site("defaults.rs", "api.get_opt(&name)", "", &["configmaps"], &["get"]),
    site("runtime/events.rs", "api.create(&PostParams::default()", "events.k8s.io", &["events"], &["create"]),
    site("runtime/events.rs", "api.get(&name)", "events.k8s.io", &["events"], &["get"]),
    site("runtime/events.rs", "patch_metadata(name, &PatchParams::default()", "events.k8s.io", &["events"], &["patch"]),
    site("observe.rs", "let events = api.list(&of_job)", "events.k8s.io", &["events"], &["list"]),
    site("runtime/lease/elector.rs", "api.get_opt(&name)", ELECTION, &["leases"], &["get"]),
    site("runtime/lease/elector.rs", "api.replace(&name, &params, &lease)", ELECTION, &["leases"], &["update"]),
    site("runtime/lease/elector.rs", "api.create(&params, &lease)", ELECTION, &["leases"], &["create"]),
];

fn right(group: &str, resource: &str, verb: &str) -> Right {
    (group.to_owned(), resource.to_owned(), verb.to_owned())
}

/// All that the code uses.
pub(crate) fn used() -> BTreeSet<Right> {
    let mut used = BTreeSet::new();
    for Site { group, resources, verbs, .. } in SITES {
        for resource in *resources {
            used.extend(verbs.iter().map(|verb| right(group, resource, verb)));
        }
    }
    used
}

/// The lines are where the table says that they are: who takes one away finds which right goes with it.
pub(crate) async fn sites_exist(_: &House) -> Result<()> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/src");
    for Site { file, words, resources, verbs, .. } in SITES {
        let text = fs::read_to_string(sources.join(file))?;
        ensure!(
            text.contains(words),
            "{file} does not say {words:?} any more: who asks for {verbs:?} of {resources:?}?"
        );
    }
    Ok(())
}

/// What a role grants, right by right.
fn granted(role: &Value) -> BTreeSet<Right> {
    let of_rule = |rule: &Value| {
        let parts = ["apiGroups", "resources", "verbs"].map(|part| texts(&rule[part]));
        let [groups, resources, verbs] = &parts;
        let mut rights = Vec::new();
        for group in groups {
            for resource in resources {
                rights.extend(verbs.iter().map(|verb| right(group, resource, verb)));
            }
        }
        rights
    };
    role["rules"].as_array().into_iter().flatten().flat_map(of_rule).collect()
}

/// The roles that are bound to the operator's account.
fn bound(rendered: &Manifests) -> Vec<&Value> {
    let of = |kinds: [&str; 2]| kinds.into_iter().flat_map(|kind| rendered.of(kind)).collect::<Vec<_>>();
    let bindings = of(["ClusterRoleBinding", "RoleBinding"]);
    let is_bound =
        |role: &&Value| bindings.iter().any(|binding| binding["roleRef"]["name"] == role["metadata"]["name"]);
    of(["ClusterRole", "Role"]).into_iter().filter(is_bound).collect()
}

/// The rules of every mode are the table, right for right.
pub(crate) async fn rules_are_uses(house: &House) -> Result<()> {
    let mut without = used();
    ensure!(without.remove(&making_the_lease()), "nothing in the code makes the Lease");
    for (mode, values, used) in [
        ("the cluster", json!({}), used()),
        ("one namespace", json!({"watchNamespaces": ["ml"]}), used()),
        ("an operator that makes no Lease", json!({"leaderElection": {"createLease": false}}), without),
    ] {
        let rendered = house.render(Chart::Operator, &values).await?;
        let roles = bound(&rendered);
        ensure!(roles.len() == 2, "for {mode}, {} roles are the operator's", roles.len());
        let granted = roles.into_iter().flat_map(granted).collect::<BTreeSet<Right>>();
        let idle: Vec<&Right> = granted.difference(&used).collect();
        let missing: Vec<&Right> = used.difference(&granted).collect();
        ensure!(idle.is_empty(), "for {mode}, nothing in the code uses {idle:?}");
        ensure!(missing.is_empty(), "for {mode}, the chart does not grant {missing:?}");
    }
    Ok(())
}
