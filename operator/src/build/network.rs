//! The `NetworkPolicy` objects of what runs for an object: whom its pods may ask, and who may ask them. How they are enforced is up to the cluster's network.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};
use sera_crds::values::{GitUrl, ModelUri, NetworkMode, Stage};
use serde::Deserialize;

use super::{Blueprint, HostedTeacher, SnapshotParts, metadata, program::PROGRESS_PORT, server};
use crate::names::{MANAGED_BY, MANAGER, OWNER_UID, Owner, STAGE, STUDENT, TEACHER};

/// Where names are asked for: what a Service says, and where `OpenShift`'s servers of names listen, since some networks judge a packet by where it ends.
const DNS_PORTS: [i32; 2] = [53, 5353];
/// The addresses of a machine's own neighbourhood, where clouds hand out credentials of the node to whoever asks.
const LINK_LOCAL: &str = "169.254.0.0/16";
/// The same in IPv6, and the one that AWS has beside it.
const LINK_LOCAL_6: [&str; 2] = ["fe80::/10", "fd00:ec2::254/128"];

/// What a platform says about its network.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NetworkRules {
    /// Who may ask pods how far they are, and for their metrics: the operator, and what reads metrics.
    pub askers: Vec<NetworkPolicyPeer>,
    /// Where repositories, stores and endpoints are. Empty: anywhere but the link-local addresses.
    pub outside: Vec<NetworkPolicyPeer>,
}

/// The policy of the pods of a stage's Jobs.
pub fn stage_policy(owner: &Owner, stage: Stage, blueprint: &Blueprint, rules: &NetworkRules) -> NetworkPolicy {
    let pods = stage_selector(owner, stage);
    let asked = || ingress(rules.askers.clone(), Some(PROGRESS_PORT));
    let (mut ins, mut outs) = (Vec::new(), vec![to_dns()]);
    match stage {
        Stage::Rollouts | Stage::Evaluation => {
            ins.push(asked());
            if blueprint.rollouts(stage).is_some_and(|samples| samples.teacher.is_hosted) {
                outs.push(egress(vec![pods_with(TEACHER)], Some(server::PORT)));
            }
        }
        Stage::Training => {
            let ranks = || vec![peer(pods.clone())];
            ins.extend([asked(), ingress(ranks(), None)]);
            outs.push(egress(ranks(), None));
        }
        _ => {}
    }
    outs.extend(stage_outside(stage, blueprint).map(|outside| outside.rule(rules)));
    policy(owner, owner.policy_name(&stage.as_str().to_lowercase()), pods, ins, outs)
}

/// The policy of the teacher's pods: drivers of rollouts ask it, and it asks nobody but for its weights.
pub fn teacher_policy(owner: &Owner, teacher: &HostedTeacher, rules: &NetworkRules) -> NetworkPolicy {
    let asking = LabelSelectorRequirement {
        key: STAGE.to_owned(),
        operator: "In".to_owned(),
        values: Some([Stage::Rollouts, Stage::Evaluation].map(|stage| stage.as_str().to_owned()).into()),
    };
    let drivers =
        LabelSelector { match_labels: Some(labels([(MANAGED_BY, MANAGER)])), match_expressions: Some(vec![asking]) };
    let asked = ingress(vec![peer(drivers)], Some(server::PORT));
    let weights = match teacher {
        HostedTeacher::Rehearsal(_) => None,
        HostedTeacher::Model(model) => model.at.as_ref().and_then(|at| of_model(at, model.credentials.is_some())),
    };
    let mut policy = server_policy(owner, TEACHER, asked, weights, rules);
    if let Some(spec) = policy.spec.as_mut().filter(|_| teacher.is_over_nodes()) {
        // The pods of a copy compute together, on whatever ports they agree upon, and find each other by name.
        let each_other = || vec![peer(spec.pod_selector.clone().unwrap_or_default())];
        let (ins, mut outs) = (ingress(each_other(), None), vec![egress(each_other(), None)]);
        let is_named = spec.egress.as_ref().is_some_and(|outs| outs.contains(&to_dns()));
        outs.extend((!is_named).then(to_dns));
        spec.ingress.get_or_insert_default().push(ins);
        spec.egress.get_or_insert_default().extend(outs);
    }
    policy
}

/// The policy of the student's pods: whoever reaches the cluster's network may ask it, and it asks nobody but the store that it lies in.
pub fn student_policy(owner: &Owner, blueprint: &Blueprint, rules: &NetworkRules) -> NetworkPolicy {
    server_policy(owner, STUDENT, ingress(Vec::new(), Some(server::PORT)), of_store(blueprint), rules)
}

fn server_policy(
    owner: &Owner,
    label: &str,
    asked: NetworkPolicyIngressRule,
    weights: Option<Outside>,
    rules: &NetworkRules,
) -> NetworkPolicy {
    let whose = [(OWNER_UID, owner.uid.as_str())];
    let pods = LabelSelector { match_labels: Some(labels(whose)), match_expressions: Some(vec![exists(label)]) };
    let outs = weights.map_or_else(Vec::new, |weights| vec![to_dns(), weights.rule(rules)]);
    let name = owner.policy_name(label.rsplit('/').next().unwrap_or(label));
    policy(owner, name, pods, vec![asked], outs)
}

/// Why something outside of the cluster is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outside {
    /// With what the pod was given.
    WithCredentials,
    /// As what the pod is, which a link-local address tells.
    WithIdentity,
}

impl Outside {
    const fn of(has_credentials: bool) -> Self {
        if has_credentials { Self::WithCredentials } else { Self::WithIdentity }
    }

    fn rule(self, rules: &NetworkRules) -> NetworkPolicyEgressRule {
        match self {
            _ if !rules.outside.is_empty() => egress(rules.outside.clone(), None),
            Self::WithIdentity => egress(Vec::new(), None),
            Self::WithCredentials => egress(
                vec![
                    block("0.0.0.0/0", &[LINK_LOCAL]),
                    block("::/0", &LINK_LOCAL_6),
                    // What is in the cluster: some networks know pods by their labels only.
                    NetworkPolicyPeer {
                        namespace_selector: Some(LabelSelector::default()),
                        ..NetworkPolicyPeer::default()
                    },
                ],
                None,
            ),
        }
    }
}

/// What of the outside a stage's program asks; none where all that it needs is mounted, or a pod beside it.
fn stage_outside(stage: Stage, blueprint: &Blueprint) -> Option<Outside> {
    let adoption = blueprint.adoption.as_ref().filter(|_| stage == Stage::Snapshot);
    // What the stage brings along is not fetched; GitHub is asked for the style of issues all the same.
    let is_brought = |parts: &SnapshotParts| parts.url == GitUrl::REHEARSAL && parts.github.is_none();
    let is_fetched = !blueprint.snapshot.as_ref().is_some_and(is_brought);
    let repository = (stage == Stage::Snapshot && adoption.is_none() && is_fetched).then_some(Outside::WithCredentials);
    let earlier = adoption.filter(|adoption| adoption.from.claim().is_none());
    let earlier = earlier.map(|_| Outside::of(blueprint.store_credentials.is_some()));
    let samples = blueprint.rollouts(stage);
    let teacher =
        samples.filter(|samples| !samples.teacher.is_hosted || samples.plan.sandbox.network == NetworkMode::Egress);
    let student = match stage {
        Stage::Verification | Stage::Generation | Stage::Dataset => blueprint
            .counting
            .as_ref()
            .and_then(|counting| of_model(counting.student.as_ref()?, counting.student_credentials.is_some())),
        Stage::Training => blueprint
            .training
            .as_ref()
            .and_then(|training| of_model(&training.student, training.student_credentials.is_some())),
        Stage::Evaluation => blueprint
            .evaluation
            .as_ref()
            .and_then(|evaluation| of_model(evaluation.base.at.as_ref()?, evaluation.base.credentials.is_some())),
        _ => None,
    };
    [repository, earlier, teacher.map(|_| Outside::WithCredentials), student, of_store(blueprint)]
        .into_iter()
        .flatten()
        .max()
}

fn of_store(blueprint: &Blueprint) -> Option<Outside> {
    let stores = [Some(&blueprint.home), blueprint.snapshot_at.as_ref()];
    let is_remote = stores.into_iter().flatten().any(|store| store.claim().is_none());
    is_remote.then(|| Outside::of(blueprint.store_credentials.is_some()))
}

fn of_model(at: &ModelUri, has_credentials: bool) -> Option<Outside> {
    at.is_remote().then(|| Outside::of(has_credentials))
}

fn policy(
    owner: &Owner,
    name: String,
    pods: LabelSelector,
    ins: Vec<NetworkPolicyIngressRule>,
    outs: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(owner, name, owner.labels()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            // Both, so that an empty list lets nothing through.
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ins),
            egress: Some(outs),
        }),
    }
}

fn stage_selector(owner: &Owner, stage: Stage) -> LabelSelector {
    let match_labels = Some(labels([(OWNER_UID, owner.uid.as_str()), (STAGE, stage.as_str())]));
    LabelSelector { match_labels, ..LabelSelector::default() }
}

/// Pods that we made in the policy's own namespace, and that have a label of this name.
fn pods_with(label: &str) -> NetworkPolicyPeer {
    peer(LabelSelector {
        match_labels: Some(labels([(MANAGED_BY, MANAGER)])),
        match_expressions: Some(vec![exists(label)]),
    })
}

fn peer(pods: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(pods), ..NetworkPolicyPeer::default() }
}

fn block(cidr: &str, except: &[&str]) -> NetworkPolicyPeer {
    let except = Some(except.iter().map(|&cidr| cidr.to_owned()).collect());
    NetworkPolicyPeer { ip_block: Some(IPBlock { cidr: cidr.to_owned(), except }), ..NetworkPolicyPeer::default() }
}

fn exists(label: &str) -> LabelSelectorRequirement {
    LabelSelectorRequirement { key: label.to_owned(), operator: "Exists".to_owned(), values: None }
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Who may come in, and where; nobody named means everybody, and no port all of them.
fn ingress(from: Vec<NetworkPolicyPeer>, port: Option<u16>) -> NetworkPolicyIngressRule {
    let from = (!from.is_empty()).then_some(from);
    NetworkPolicyIngressRule { from, ports: port.map(|port| vec![on_port("TCP", port.into())]) }
}

fn egress(to: Vec<NetworkPolicyPeer>, port: Option<u16>) -> NetworkPolicyEgressRule {
    let to = (!to.is_empty()).then_some(to);
    NetworkPolicyEgressRule { to, ports: port.map(|port| vec![on_port("TCP", port.into())]) }
}

/// In the cluster, and on the node for those that keep a cache there.
fn to_dns() -> NetworkPolicyEgressRule {
    let ports = DNS_PORTS.into_iter().flat_map(|port| ["UDP", "TCP"].map(|protocol| on_port(protocol, port)));
    NetworkPolicyEgressRule { to: None, ports: Some(ports.collect()) }
}

fn on_port(protocol: &str, port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(port)),
        ..NetworkPolicyPort::default()
    }
}
