//! The operator's side: runs that are held.

use std::path::{Path, PathBuf};

use anyhow::Result;
use kube::api::{ApiResource, DynamicObject};
use sera_crds::SpecializationRun;

use super::side::Side;
use crate::cli::bench::operator::manifest;
use crate::cli::bench::process::{Process, QUIET};

/// The operator.
pub(super) struct Ours {
    program: PathBuf,
    qps: u32,
}

impl Ours {
    pub(super) fn new(program: PathBuf, qps: u32) -> Self {
        Self { program, qps }
    }

    /// The flags that it is started with.
    pub(super) fn flags(&self) -> [String; 4] {
        let (qps, burst) = (format!("--qps={}", self.qps), format!("--burst={}", self.qps));
        ["--leader-elect=off".to_owned(), qps, burst, QUIET.to_owned()]
    }
}

impl Side for Ours {
    const NAMESPACE: &'static str = "ours";

    fn kind(&self) -> ApiResource {
        ApiResource::erase::<SpecializationRun>(&())
    }

    fn ground(&self) -> String {
        String::new()
    }

    fn object(&self, number: u32) -> serde_json::Value {
        manifest(number, true)
    }

    fn is_seen(run: &DynamicObject) -> bool {
        run.metadata.generation.is_some()
            && run.data["status"]["observedGeneration"].as_i64() == run.metadata.generation
    }

    async fn start(&self, kubeconfig: &Path) -> Result<Process> {
        Process::operator(&self.program, kubeconfig, &self.flags()).await
    }
}
