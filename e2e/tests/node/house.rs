//! What every test on the node is given, and how they are run: one cluster, booted once; a namespace of its own for each
//! test; what went on there, when it fails. What is tested is in the modules beside this one.

use std::collections::BTreeSet;
use std::env;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, LogParams, ObjectMeta, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Client, Resource};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use sera_e2e::cluster::Cluster;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

use crate::company::{Circle, Company};

/// How long a test waits for something to happen: many times what it takes on a busy machine with two cores.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// How many tests are at work at once, unless the command line says otherwise: they wait for pods most of the time, even on two processors.
const AT_ONCE: usize = 6;

/// As much as a main thread has: futures that are built without optimisation are moved about on the stack.
const STACK: usize = 8 << 20;

/// A test: its name, which others it may run beside, and what it does.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) company: Company,
    pub(crate) run: fn(Space) -> BoxFuture<'static, Result<()>>,
}

/// A list of tests: `tests![Company::Welcome; one, another]`, the names being async functions that take a [`Space`].
macro_rules! tests {
    ($company:expr; $($function:ident),+ $(,)?) => {
        &[$($crate::house::Test {
            name: concat!(module_path!(), "::", stringify!($function)),
            company: $company,
            run: |space| Box::pin($function(space)),
        }),+]
    };
}
pub(crate) use tests;

/// The cluster, and who is on it.
pub(crate) struct House {
    cluster: OnceCell<Cluster>,
    at_work: Circle,
    left_out: Mutex<BTreeSet<&'static str>>,
}

impl House {
    /// Runs the tests as the command line asks.
    pub(crate) fn open(tests: Vec<Test>) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads.get_or_insert(AT_ONCE);
        let runtime = match Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build() {
            Ok(runtime) => Arc::new(runtime),
            Err(error) => {
                eprintln!("error: cannot start: {error}");
                return ExitCode::FAILURE;
            }
        };
        let house = Arc::new(Self { cluster: OnceCell::new(), at_work: Circle::default(), left_out: Mutex::default() });
        let trials = tests.into_iter().map(|test| trial(test, &house, &runtime)).collect();
        let conclusion = libtest_mimic::run(&arguments, trials);
        let closed = Arc::into_inner(house).map_or(Ok(true), |house| house.close(&runtime));
        match closed {
            Ok(true) if !conclusion.has_failed() => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    /// Takes the cluster down, and says which tests were left out; `false` where that is a failure.
    fn close(self, runtime: &Runtime) -> Result<bool> {
        if let Some(cluster) = self.cluster.into_inner() {
            runtime.block_on(cluster.down())?;
        }
        let left_out = self.left_out.into_inner().unwrap_or_else(PoisonError::into_inner);
        if left_out.is_empty() {
            return Ok(true);
        }
        let names: Vec<&str> = left_out.into_iter().collect();
        println!(
            "left out for want of a node: {}; run as root (`sudo -E env PATH=\"$PATH\" cargo test -p sera-e2e --test node`), or set \
             KUBECONFIG to a cluster that may be used",
            names.join(", ")
        );
        Ok(env::var("CI").as_deref() != Ok("true"))
    }

    async fn cluster(&self) -> Result<&Cluster> {
        let boot = || async {
            let cluster = Cluster::with_node().await?;
            cluster.load_busybox().await?;
            anyhow::Ok(cluster)
        };
        self.cluster.get_or_try_init(boot).await
    }

    fn leave_out(&self, name: &'static str) {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }
}

fn trial(test: Test, house: &Arc<House>, runtime: &Arc<Runtime>) -> Trial {
    let (house, runtime) = (Arc::clone(house), Arc::clone(runtime));
    // The program's own name comes first in a module's path, and says nothing.
    let name = test.name.split_once("::").map_or(test.name, |(_, name)| name);
    Trial::ignorable_test(name, move || {
        if !Cluster::node_is_possible() {
            house.leave_out(name);
            return Ok(Completion::ignored_with("no node"));
        }
        // On a thread of the runtime: those that call this have a quarter of its stack.
        let work = runtime.spawn(async move { run(test, name, &house).await });
        match runtime.block_on(work) {
            Ok(completion) => completion.map_err(|error| Failed::from(format!("{error:#}"))),
            Err(lost) => std::panic::resume_unwind(lost.into_panic()),
        }
    })
    .with_ignored_flag(test.company == Company::Asked)
}

async fn run(test: Test, name: &'static str, house: &Arc<House>) -> Result<Completion> {
    let is_ours = house.cluster().await?.is_ours();
    if !is_ours && let Some(why) = test.company.keeps_off() {
        return Ok(Completion::ignored_with(why));
    }
    let _at_work = house.at_work.join(test.company).await;
    in_a_space(test, name, house).await
}

async fn in_a_space(test: Test, name: &str, house: &Arc<House>) -> Result<Completion> {
    let space = Space::create(Arc::clone(house), name).await?;
    match (test.run)(space.clone()).await {
        Ok(()) => space.remove().await.map(|()| Completion::Completed),
        Err(error) => {
            let story = space.story().await;
            // Where the cluster stays, so does the namespace, to be looked at; elsewhere others need the room that its pods have.
            if space.cluster().await?.is_ours() {
                // What is wrong is said already.
                let _ = space.remove().await;
            }
            Err(error.context(story))
        }
    }
}

/// A test's own namespace on the cluster.
#[derive(Clone)]
pub(crate) struct Space {
    house: Arc<House>,
    client: Client,
    pub(crate) namespace: String,
}

impl Space {
    async fn create(house: Arc<House>, test: &str) -> Result<Self> {
        let client = house.cluster().await?.client();
        // The longest namespace has 63 characters; the process tells apart who uses one cluster.
        let short: String = test.rsplit("::").next().unwrap_or(test).replace('_', "-").chars().take(50).collect();
        let namespace = format!("{}-{}", short.trim_end_matches('-'), std::process::id());
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await?;
        let space = Self { house, client, namespace };
        // No pod is admitted before the account is there.
        space
            .wait_for("default", |account: Option<&k8s_openapi::api::core::v1::ServiceAccount>| account.is_some())
            .await?;
        Ok(space)
    }

    async fn remove(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }

    /// What went on in the namespace, for who reads the failure.
    async fn story(&self) -> String {
        let Ok(cluster) = self.cluster().await else { return String::new() };
        let mut story = format!("in namespace {}", self.namespace);
        for what in [&["get", "pods", "--output=wide"][..], &["get", "events", "--sort-by=.lastTimestamp"]] {
            let arguments = [what, &["--namespace", &self.namespace]].concat();
            let told = cluster.kubectl(&arguments).await.unwrap_or_else(|error| error.to_string());
            story = format!("{story}\n{told}");
        }
        story
    }

    /// The cluster.
    pub(crate) async fn cluster(&self) -> Result<&Cluster> {
        self.house.cluster().await
    }

    /// A client's view of one kind of object in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A client with all rights.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Applies manifests to the namespace.
    pub(crate) async fn apply(&self, manifests: &str) -> Result<()> {
        self.cluster().await?.apply_in(&self.namespace, manifests).await?;
        Ok(())
    }

    /// Waits until an object is as it should be, and returns it.
    pub(crate) async fn wait_for<K>(&self, name: &str, condition: impl Condition<K>) -> Result<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
        K::DynamicType: Default,
    {
        self.wait_within(PATIENCE, name, condition).await
    }

    /// The same, where that takes longer or shorter than most.
    pub(crate) async fn wait_within<K>(&self, patience: Duration, name: &str, condition: impl Condition<K>) -> Result<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
        K::DynamicType: Default,
    {
        let waited = tokio::time::timeout(patience, await_condition(self.api(), name, condition)).await;
        let object = waited.with_context(|| format!("{name} did not become what it should in {patience:?}"))??;
        object.ok_or_else(|| anyhow!("{name} is gone"))
    }

    /// Waits until a pod has ended, and returns what it said; an error if it failed.
    pub(crate) async fn output_of(&self, pod: &str) -> Result<String> {
        let ended = self.wait_for(pod, |pod: Option<&Pod>| matches!(phase(pod), "Succeeded" | "Failed")).await?;
        let output = self.api::<Pod>().logs(pod, &LogParams::default()).await?;
        anyhow::ensure!(phase(Some(&ended)) == "Succeeded", "pod {pod} failed; it said:\n{output}");
        Ok(output)
    }
}

/// The phase that a pod reports.
pub(crate) fn phase(pod: Option<&Pod>) -> &str {
    pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()).unwrap_or_default()
}
