//! The admission policy on a real API server: whoever writes a run or a batch may name only what they may use themselves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::Host;
use crate::house::{Chart, House, NAMESPACE, RELEASE};
use crate::places::{self, Kind, Place};
use crate::rights::may;

/// May write runs and batches, and use nothing.
const STRANGER: &str = "sam";
/// May write them, and use what is called `granted`, and Secrets and accounts of long names: one more than the policy looks up.
const MEMBER: &str = "mia";
/// How many different Secrets a spec may name, by the chart.
const MOST_SECRETS: usize = 16;
/// How many names the policy compares, by the chart.
const MOST_PLACES: u64 = 64;
/// How long the API server may take to see rights that it has stored.
const RIGHTS_WITHIN: Duration = Duration::from_secs(20);

pub(crate) fn trials(host: &Host) -> Result<Vec<Trial>> {
    let mut trials = vec![
        host.trial("the API server finds nothing to warn of in the policy", no_warnings),
        host.trial("whoever may use nothing may write what names nothing", nothing_named),
        host.trial("a refusal says who, what, where, and what to grant", the_message),
        host.trial(
            "what exists can be suspended, retried and labelled by somebody who may not use what it names",
            harmless,
        ),
        host.trial("nobody turns a run to a host of their own with a Secret that they may not get", harmful),
        host.trial("a spec has no room for more names than the policy compares", room_for_names),
        host.trial("as many names as the policy can look up are allowed, and one more is refused", the_most),
        host.trial("the operator's own writes to status are not looked at", status_is_free),
    ];
    for kind in [Kind::Run, Kind::Batch] {
        let places = places::of(kind)?;
        ensure!(places.len() > 10, "the schema of {kind:?} has {} places, which is too few to believe", places.len());
        trials.extend(places.into_iter().map(|place| {
            let sentence = format!("{kind:?}: in {}, only what its writer may use can be named", place.field());
            host.trial(sentence, async move |house: &House| guarded(house, kind, &place).await)
        }));
    }
    Ok(trials)
}

async fn guarded(house: &House, kind: Kind, place: &Place) -> Result<()> {
    let team = team(house).await?;
    team.create(&team.member, kind, kind.spec_naming(place, "granted")?).await?;
    for (client, name) in [(&team.stranger, "granted"), (&team.member, "withheld")] {
        let message = refusal(team.create(client, kind, kind.spec_naming(place, name)?).await)?;
        ensure!(message.contains(&place.field()) && message.contains(&format!("\"{name}\"")), "{message}");
    }
    Ok(())
}

async fn no_warnings(house: &House) -> Result<()> {
    let name = format!("{NAMESPACE}-{RELEASE}-names");
    let status = house.kubectl(&["get", "validatingadmissionpolicy", &name, "--output=jsonpath={.status}"]).await?;
    let status: Value = serde_json::from_str(&status)?;
    let warnings = &status["typeChecking"]["expressionWarnings"];
    ensure!(status["typeChecking"].is_object() && warnings.is_null(), "{status}");
    Ok(())
}

async fn nothing_named(house: &House) -> Result<()> {
    let team = team(house).await?;
    for kind in [Kind::Run, Kind::Batch] {
        team.create(&team.stranger, kind, kind.spec()).await?;
    }
    Ok(())
}

async fn the_message(house: &House) -> Result<()> {
    let team = team(house).await?;
    let mut spec = Kind::Run.spec();
    spec["source"]["git"]["credentialsSecretRef"] = json!({"name": "git"});
    spec["pods"] = json!({"train": {"imagePullSecrets": [{"name": "git"}]}});
    let message = refusal(team.create(&team.stranger, Kind::Run, spec).await)?;
    let expected = format!(
        "user \"sam\" may not get the Secret \"git\" that is named in spec.source.git.credentialsSecretRef, \
                    spec.pods.train.imagePullSecrets: to allow it, grant the verb \"get\" on secrets \"git\" in namespace \"{}\"",
        team.namespace
    );
    ensure!(message.contains(&expected), "{message}");
    Ok(())
}

async fn harmless(house: &House) -> Result<()> {
    let team = team(house).await?;
    let run = team.run_with_a_secret().await?;
    for patch in [
        json!({"spec": {"suspend": true}}),
        json!({"spec": {"retry": "once more"}}),
        json!({"spec": {"ttl": {"afterSucceeded": "1h"}}}),
        json!({"metadata": {"labels": {"team": "ml"}}}),
    ] {
        team.change(&team.stranger, &run, &patch).await?;
    }
    Ok(())
}

async fn harmful(house: &House) -> Result<()> {
    let team = team(house).await?;
    let run = team.run_with_a_secret().await?;
    for patch in [
        json!({"spec": {"source": {"git": {"url": "https://git.sam.example/billing.git"}}}}),
        json!({"spec": {"source": {"git": {"credentialsSecretRef": {"name": "withheld"}}}}}),
        json!({"spec": {"output": {"store": "s3://sam/sera"}}}),
    ] {
        let message = refusal(team.change(&team.stranger, &run, &patch).await)?;
        ensure!(message.contains("may not get the Secret"), "{message}");
    }
    team.change(&team.member, &run, &json!({"spec": {"source": {"git": {"revision": "v2"}}}})).await?;
    Ok(())
}

async fn room_for_names(house: &House) -> Result<()> {
    let policy = house.render(Chart::Operator, &json!({})).await?.one("ValidatingAdmissionPolicy")?.to_string();
    ensure!(
        policy.contains(&format!("size(variables.secretNames) <= {MOST_PLACES}")),
        "the policy compares another number of names"
    );
    for kind in [Kind::Run, Kind::Batch] {
        let places = places::of(kind)?;
        let room = places
            .iter()
            .filter(|place| place.names_secrets())
            .fold(0, |sum: u64, place| sum.saturating_add(place.room));
        ensure!(room <= MOST_PLACES, "a {kind:?} can name {room} Secrets, and the policy compares {MOST_PLACES}");
    }
    Ok(())
}

async fn the_most(house: &House) -> Result<()> {
    let team = team(house).await?;
    // The dearest spec for the policy: every place filled, and every name as long as names can be.
    let naming = |secrets: usize| {
        let mut spec = Kind::Run.spec();
        let mut count = 0;
        for place in places::of(Kind::Run)?.iter().filter(|place| place.is_of_pods()) {
            let names = (0..place.room).map(|_| {
                count += 1;
                long_name(count % secrets)
            });
            place.fill(&mut spec, &names.collect::<Vec<_>>())?;
        }
        anyhow::Ok(spec)
    };
    team.create(&team.member, Kind::Run, naming(MOST_SECRETS)?).await?;
    let message = refusal(team.create(&team.member, Kind::Run, naming(MOST_SECRETS + 1)?).await)?;
    ensure!(message.contains(&format!("more than {MOST_SECRETS} different Secrets")), "{message}");
    Ok(())
}

/// A name of the greatest length that Kubernetes has for names.
fn long_name(number: usize) -> String {
    format!("granted-{number:0>245}")
}

async fn status_is_free(house: &House) -> Result<()> {
    let team = team(house).await?;
    let run = team.run_with_a_secret().await?;
    let operator = house.client_of(&format!("system:serviceaccount:{NAMESPACE}:{RELEASE}")).await?;
    let status = json!({"status": {"observedGeneration": 1}});
    team.api(&operator, Kind::Run)
        .patch_status(&run.name_any(), &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

/// The people of these tests, and where they work.
struct Team {
    namespace: String,
    stranger: Client,
    member: Client,
}

/// The team, which the first to ask makes.
async fn team(house: &House) -> Result<&'static Team> {
    static TEAM: OnceCell<Team> = OnceCell::const_new();
    TEAM.get_or_try_init(async || {
        let namespace = house.namespace("team", &json!({})).await?;
        let granted: Vec<String> = (0..=MOST_SECRETS).map(long_name).chain(["granted".to_owned()]).collect();
        let kinds = json!(["specializationruns", "rolloutbatches"]);
        let write =
            json!({"apiGroups": ["sera.dev"], "resources": kinds, "verbs": ["get", "create", "update", "patch"]});
        let get = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": granted, "verbs": ["get"]});
        let act =
            json!({"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": granted, "verbs": ["use"]});
        role(house, &namespace, "writer", &[STRANGER, MEMBER], &json!([write])).await?;
        role(house, &namespace, "user", &[MEMBER], &json!([get, act])).await?;
        let team =
            Team { namespace, stranger: house.client_of(STRANGER).await?, member: house.client_of(MEMBER).await? };
        tokio::time::timeout(RIGHTS_WITHIN, team.rights_are_seen()).await??;
        Ok(team)
    })
    .await
}

impl Team {
    /// Waits until the API server goes by the rights that it has stored.
    async fn rights_are_seen(&self) -> Result<()> {
        let (write, act) =
            (("create", "sera.dev", "specializationruns", ""), ("use", "", "serviceaccounts", "granted"));
        while !(may(&self.stranger, &self.namespace, write).await? && may(&self.member, &self.namespace, act).await?) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Creates an object as somebody.
    async fn create(&self, client: &Client, kind: Kind, spec: Value) -> kube::Result<DynamicObject> {
        static CREATED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("billing-{}", CREATED.fetch_add(1, Ordering::Relaxed));
        let object = DynamicObject::new(&name, &kind.resource()).data(json!({"spec": spec}));
        self.api(client, kind).create(&PostParams::default(), &object).await
    }

    /// Creates a run as the member that names a Secret.
    async fn run_with_a_secret(&self) -> Result<DynamicObject> {
        let mut spec = Kind::Run.spec();
        spec["source"]["git"]["credentialsSecretRef"] = json!({"name": "granted"});
        Ok(self.create(&self.member, Kind::Run, spec).await?)
    }

    /// Changes a run as somebody.
    async fn change(&self, client: &Client, run: &DynamicObject, patch: &Value) -> kube::Result<DynamicObject> {
        self.api(client, Kind::Run).patch(&run.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
    }

    fn api(&self, client: &Client, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), &self.namespace, &kind.resource())
    }
}

async fn role(house: &House, namespace: &str, name: &str, users: &[&str], rules: &Value) -> Result<()> {
    let metadata = json!({"name": name, "namespace": namespace});
    let (group, version) = ("rbac.authorization.k8s.io", "rbac.authorization.k8s.io/v1");
    let subjects: Vec<Value> =
        users.iter().map(|user| json!({"kind": "User", "apiGroup": group, "name": user})).collect();
    let role = json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules});
    let binding = json!({
        "apiVersion": version, "kind": "RoleBinding", "metadata": metadata, "subjects": subjects,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
    });
    house.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [role, binding]})).await
}

/// What the policy said to a request that it was to refuse.
fn refusal(answer: kube::Result<DynamicObject>) -> Result<String> {
    match answer {
        Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => {
            Ok(status.message.clone())
        }
        Err(error) => Err(error.into()),
        Ok(object) => bail!("{} was admitted: {}", object.name_any(), object.data),
    }
}
