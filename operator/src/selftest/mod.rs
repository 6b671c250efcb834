//! `sera-operator self-test`: one batch of a few samples by the rehearsal teacher, followed to its end and taken away again, to show whether an
//! installation works. What is asked for and how it may end stands here; what is made in `objects`, how it goes in `conduct`, and what is read of it
//! in `story`.

mod conduct;
mod objects;
mod story;

use std::time::Instant;

use clap::{ArgAction, Parser, builder::BoolishValueParser};
use sera_crds::values::{LandlockMode, ResourceName, StoreUri, Timeout};

use crate::runtime::{
    advice::explain,
    client::{self, Manners},
    metrics::{self, Metrics},
    shutdown::Shutdown,
};
use conduct::Test;
use objects::Objects;
use story::Story;

/// Try an installation: make a batch of a few samples, follow it to its end, and take it away again.
///
/// The chart's `helm test` runs this in a pod. A rehearsal teacher works on a small repository that the images bring along, so that nothing outside of
/// the cluster is asked but the store. It ends with 0 when the batch is Ready and had trajectories accepted, and else with 1 and the cause. The
/// namespace is the one that this pod runs in, or the kubeconfig's.
#[derive(Clone, Debug, Parser)]
#[command(name = "self-test", version, max_term_width = 120)]
pub struct SelfTest {
    /// This pod's name. With it and its uid, what is made belongs to the pod and goes with it at the latest.
    #[arg(long, env = "POD_NAME", value_name = "NAME", requires = "pod_uid")]
    pod_name: Option<ResourceName>,
    /// This pod's uid.
    #[arg(long, env = "POD_UID", value_name = "UID", requires = "pod_name")]
    pod_uid: Option<String>,
    /// The store to work in; by default that of the operator's own defaults (the chart's value `runDefaults`).
    #[arg(long, env = "SERA_TEST_STORE", value_name = "URI")]
    store: Option<StoreUri>,
    /// The Secret with the credentials of --store.
    #[arg(long, env = "SERA_TEST_STORE_CREDENTIALS", value_name = "NAME", requires = "store")]
    store_credentials: Option<ResourceName>,
    /// Make a claim of 1 GiB for the time of the test, and work in that: for an installation that has no store of its own yet.
    #[arg(long, env = "SERA_TEST_OWN_CLAIM", conflicts_with = "store")]
    own_claim: bool,
    /// The `StorageClass` of that claim; by default the cluster's default.
    #[arg(long, env = "SERA_TEST_STORAGE_CLASS", value_name = "NAME", requires = "own_claim")]
    storage_class: Option<ResourceName>,
    /// Whether commands run only under the kernel's Landlock: Required, or `BestEffort` where nodes lack it.
    #[arg(long, env = "SERA_TEST_LANDLOCK", value_name = "MODE", default_value_t = LandlockMode::Required)]
    landlock: LandlockMode,
    /// Whether the chart's admission policy is to be seen refusing a Secret that this account may not read.
    #[arg(long, env = "SERA_TEST_ADMISSION_POLICY", value_name = "on|off", default_value = "on", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    admission_policy: bool,
    /// How long all of it may take.
    #[arg(long, env = "SERA_TEST_TIMEOUT", value_name = "TIME", default_value = "4m")]
    timeout: Timeout,
}

/// Why the test was not passed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no client.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Requests cannot be counted.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// Signals cannot be listened to.
    #[error("this process may not listen to signals")]
    Signals(#[source] std::io::Error),
    /// What is to be made is not as its type wants it.
    #[error("the test's own objects are malformed, which no setting can cause")]
    Malformed(#[source] serde_json::Error),
    /// The custom resources are not there.
    #[error("{0}")]
    Kinds(String),
    /// The API server said no.
    #[error("cannot {what}: {}", explain(.source))]
    Request {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// A batch with a stranger's Secret was taken.
    #[error(
        "the admission policy refuses nothing: a batch was admitted that names a Secret which this account should not be able to read; look at \
         `kubectl get validatingadmissionpolicybindings`, and at who may read Secrets here"
    )]
    PolicyAsleep,
    /// Nobody works on the batch.
    #[error(
        "no operator has said a word about the batch within {} s: is its Deployment up, is it allowed to lead, and does it serve this namespace (the \
         chart's value watchNamespaces)?", conduct::FIRST_WORD.as_secs()
    )]
    NoOperator,
    /// The batch stands still, or has ended, and not as it should.
    #[error("{0}")]
    Batch(String),
    /// It took too long.
    #[error("not done within {limit}; {last}")]
    Late {
        /// How long it may take.
        limit: Timeout,
        /// What was said last.
        last: String,
    },
    /// Somebody ended the test.
    #[error("ended by a signal before the batch was done")]
    Interrupted,
}

impl SelfTest {
    /// Runs the test, tells of it on standard output, and leaves nothing behind in the cluster.
    ///
    /// # Errors
    /// [`Error`], in words that say what to do.
    pub async fn run(self) -> Result<(), Error> {
        let shutdown = Shutdown::on_signals().map_err(Error::Signals)?;
        let manners = Manners { throttle: None, gate: None, metrics: Metrics::new()?.rest() };
        let client = client::connect(client::find_cluster().await?, manners)?;
        let test = Test { client, objects: Objects::of(&self)?, started: Instant::now() };
        let mut story = Story::default();
        let course = tokio::time::timeout(self.timeout.span(), test.conduct(self.admission_policy, &mut story));
        let outcome = match shutdown.or(Box::pin(course)).await {
            None => Err(Error::Interrupted),
            Some(Err(_)) => Err(Error::Late { limit: self.timeout, last: story.last_words() }),
            Some(Ok(outcome)) => outcome,
        };
        test.clear_away().await;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent_and_the_environment_can_set_each() {
        let command = SelfTest::command();
        command.clone().debug_assert();
        assert!(command.get_arguments().all(|argument| argument.get_env().is_some()));
    }

    #[test]
    fn a_claim_of_its_own_and_a_store_exclude_each_other_and_credentials_need_the_store() {
        let parse = |flags: &[&str]| SelfTest::try_parse_from(["self-test"].iter().chain(flags));
        assert!(parse(&["--own-claim", "--storage-class=fast"]).is_ok());
        assert!(parse(&["--store=s3://acme/sera", "--store-credentials=s3"]).is_ok());
        for flags in [["--own-claim", "--store=s3://acme/sera"], ["--store-credentials=s3", "--landlock=BestEffort"]] {
            assert!(parse(&flags).is_err(), "{flags:?}");
        }
        assert!(parse(&["--storage-class=fast"]).is_err());
        assert!(parse(&["--landlock=Maybe"]).is_err());
    }
}
