//! The real operator, as a process of this machine: started with a namespace of its own and a proxy before the API server, and started again whenever
//! it has died, as a kubelet would.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::process::{Child, Command};

use super::course::Course;
use super::proxy::Proxy;
use super::random::Random;
use super::trial::Ground;

/// The Lease of the operators of one run.
pub(super) const LEASE: &str = "sera-operator";
/// The flags of every operator of a trial, beside where it works: the shortest lease that it takes with renewals a second apart, since what a new
/// leader waits for is what a seed takes; and no limit that a run would reach.
pub const FLAGS: [&str; 6] = [
    "--lease-duration=4s",
    "--lease-renew-deadline=3s",
    "--lease-retry-period=1s",
    "--qps=500",
    "--burst=500",
    "--log-level=info,sera_operator=debug",
];

/// One operator of a run, and its successors.
pub(super) struct Operator {
    number: usize,
    course: Arc<Course>,
    program: PathBuf,
    images: Vec<String>,
    mark: Option<(&'static str, PathBuf)>,
    process: Arc<AtomicI32>,
    proxy: Proxy,
}

impl Operator {
    /// Prepares the operator of a seat.
    pub(super) async fn new(number: usize, course: Arc<Course>, ground: &Ground) -> Result<Self> {
        let Ground { client, field, program, mark, outages, .. } = ground;
        let process = Arc::new(AtomicI32::new(0));
        let proxy = Proxy::start(number, Arc::clone(&course), client.clone(), Arc::clone(&process), outages.clone());
        let proxy = proxy.await?;
        let (program, images, mark) = (program.clone(), field.images(), mark.clone());
        Ok(Self { number, course, program, images, mark, process, proxy })
    }

    /// Runs the operator, again and again, for as long as it is polled.
    pub(super) async fn run(self) -> Result<()> {
        let kubeconfig = self.write_kubeconfig().await?;
        let mut random = Random::of(self.course.calls(), 7 + self.number as u64);
        let mut pod = 1;
        loop {
            let mut child = self.start(&kubeconfig, pod)?;
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
            self.process.store(pid, Ordering::SeqCst);
            let status = child.wait().await?;
            let was_killed = self.process.swap(0, Ordering::SeqCst) == 0;
            if !was_killed {
                self.course.wrong(format!("operator {} ended by itself: {status}", self.number));
            }
            // Most often its container is restarted; now and then its pod is another, which waits for the lease to expire.
            pod += u64::from(random.percent(15));
            tokio::time::sleep(random.millis(20, 800)).await;
        }
    }

    fn start(&self, kubeconfig: &Path, pod: u64) -> Result<Child> {
        let log = self.log()?;
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", kubeconfig).env("NO_COLOR", "1").stdin(Stdio::null()).kill_on_drop(true);
        // Where this process ends by a signal, nothing is dropped.
        command.envs(self.mark.clone());
        command.stdout(log.try_clone()?).stderr(log);
        command.args(FLAGS).arg("--listen=127.0.0.1:0").args(&self.images);
        command.arg(format!("--namespaces={}", self.course.namespace));
        command.arg(format!("--lease-namespace={}", self.course.namespace)).arg(format!("--lease-name={LEASE}"));
        command.arg(format!("--pod-name=operator-{}", self.number)).arg(format!("--pod-uid={}-{pod}", self.number));
        command.spawn().with_context(|| format!("cannot run {}", self.program.display()))
    }

    fn log(&self) -> Result<File> {
        let path = self.course.folder.join(format!("operator-{}.log", self.number));
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    async fn write_kubeconfig(&self) -> Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "chaos",
            "clusters": [{"name": "chaos", "cluster": {"server": self.proxy.url()}}],
            "users": [{"name": "chaos", "user": {}}],
            "contexts": [{"name": "chaos", "context": {
                "cluster": "chaos", "user": "chaos", "namespace": self.course.namespace,
            }}],
        });
        let path = self.course.folder.join(format!("operator-{}.kubeconfig", self.number));
        tokio::fs::write(&path, config.to_string())
            .await
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}
