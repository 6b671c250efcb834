//! Where the pods of trials run: on a node that is played, which takes seconds, or on a real one, with the programs that users run.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use kube::Client;
use serde_json::{Value, json};

use super::course::Course;
use super::node::Node;
use super::oracle::Found;
use super::queue::QUEUE;
use super::real::{RealNode, Stock};
use super::script::Script;

/// The name of every run. Each has a namespace for itself.
pub(super) const RUN: &str = "quickstart";
/// The longest that a run may take when nothing befalls its calls any more: undisturbed it takes a quarter of a minute, and a few failed attempts wait for
/// some minutes between them. It counts from then, because in a storm that refuses one call again and again the waits grow to a minute each, and three
/// such storms take longer (seed 8186).
const PATIENCE: Duration = Duration::from_mins(10);
/// The same where real programs work, beside those of other trials.
const REAL_PATIENCE: Duration = Duration::from_mins(15);

/// What tokens cost, so that money is counted too.
pub(super) fn price() -> Value {
    json!({"inputPerMillion": "0.60", "cachedInputPerMillion": "0.11", "outputPerMillion": "2.20"})
}

/// Where pods run.
pub(super) enum Field {
    /// Nowhere: a stand-in says what they came to.
    Played,
    /// On the cluster's node.
    Real(Stock),
}

/// Who looks after the pods of one run.
#[derive(Clone)]
pub(super) enum Pods {
    /// The stand-in.
    Played(Arc<Node>),
    /// The real node: they are only watched, and harmed.
    Real(Arc<RealNode>),
}

impl Field {
    /// The run that is asked for: three batches give enough, and two ranks train. Where programs are played, what they made is evaluated too.
    pub(super) fn run(&self, script: &Script) -> Value {
        let spec = match self {
            Self::Played => json!({
                "source": {"git": {"url": "https://git.example/acme/billing.git"}, "commits": {"count": 2}},
                "teacher": {
                    "rehearsal": {"shares": {"full": "0.5", "partial": "0.3", "miss": "0.2"}},
                    "price": price(),
                },
                "generation": {"acceptedTrajectories": 12, "batchSize": 4, "shardSize": 2, "parallelBatches": 2},
                "training": {"student": {"uri": "builtin://tiny"}, "gpusPerNode": 0, "nodes": 2},
                "evaluation": {"samples": 8, "seeds": 1},
                "serve": {"engine": "builtin"},
                "output": {"store": "s3://acme-ml/sera"},
            }),
            Self::Real(_) => Stock::spec(),
        };
        let mut run = json!({
            "apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun", "metadata": {"name": RUN}, "spec": spec,
        });
        if script.is_queued {
            run["spec"]["pods"]["default"]["queueName"] = json!(QUEUE);
        }
        run
    }

    /// The operator's flags that name images.
    pub(super) fn images(&self) -> Vec<String> {
        match self {
            Self::Played => vec!["--rollout-image=localhost/sera-rollout:chaos".to_owned()],
            Self::Real(stock) => stock.images(),
        }
    }

    /// The flags of `cargo e2e chaos` that choose it.
    pub(super) const fn flags(&self) -> &'static str {
        match self {
            Self::Played => "",
            Self::Real(_) => " --on-a-node",
        }
    }

    /// How long a run may take when nothing befalls its calls any more.
    pub(super) const fn patience(&self) -> Duration {
        match self {
            Self::Played => PATIENCE,
            Self::Real(_) => REAL_PATIENCE,
        }
    }

    /// Who looks after the pods of a run whose namespace is there.
    pub(super) async fn pods(&self, course: &Arc<Course>, client: &Client) -> Result<Pods> {
        Ok(match self {
            Self::Played => Pods::Played(Node::new(Arc::clone(course), client.clone())),
            Self::Real(stock) => {
                let volume = stock.lay(client, &course.namespace).await?;
                Pods::Real(Arc::new(RealNode::new(Arc::clone(course), client.clone(), volume)))
            }
        })
    }
}

impl Pods {
    /// Looks after them for as long as it is polled.
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Played(node) => node.run().await,
            Self::Real(node) => node.run().await,
        }
    }

    /// Leaves nothing of a run on a real node, in its own time. Where pods are played its cluster goes down when all trials were made, and to take a
    /// namespace apart costs as much as a trial.
    pub(super) fn leave(self, client: Client) {
        if let Self::Real(node) = self {
            tokio::spawn(node.leave(client));
        }
    }

    /// What the store holds of the run with this uid.
    pub(super) fn found(&self, uid: &str) -> Result<Option<Found>> {
        match self {
            Self::Played(node) => Ok(node.found(uid)),
            Self::Real(node) => node.found(uid),
        }
    }
}
