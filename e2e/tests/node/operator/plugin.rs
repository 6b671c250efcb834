//! `kubectl sera`, as people type it: through kubectl, which finds it on the PATH.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sera_crds::conditions::ConditionType;
use sera_crds::run::{Phase, RunStatus};
use sera_crds::values::Stage;
use sera_e2e::git_server::Behaviour;
use serde_json::json;
use tokio::process::Command;

use super::ground::{Ground, reason};
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome; the_plugin_tells_what_a_run_is_at_and_does_what_it_is_told];

async fn the_plugin_tells_what_a_run_is_at_and_does_what_it_is_told(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let sera = Sera::of(&ground).await?;
    sera.says(&["status"], 0, &["There is no run and no lone batch in namespace"]).await?;
    ground.git.set_behaviour(Behaviour::Hang);
    ground.apply_run("billing", json!({})).await?;
    ground.until("billing", |status| status.attempts.contains_key(&Stage::Snapshot)).await?;
    sera.says(&["status", "billing"], 0, &["run billing in ", ": Running", "▸ Snapshot"]).await?;

    sera.says(&["suspend", "billing"], 0, &["run billing is suspended"]).await?;
    ground.until("billing", |status| status.phase == Some(Phase::Suspended)).await?;
    sera.says(&["status", "run/billing"], 0, &[": Suspended", "`kubectl sera resume billing`"]).await?;
    ground.git.set_behaviour(Behaviour::Serve);
    sera.says(&["resume", "billing"], 0, &["run billing goes on"]).await?;
    ground.until_snapshotted("billing").await?;

    let told = [": Stalled", "BudgetExhausted: ", "✓ Snapshot", "store       pvc://store/runs/", "kubectl sera retry"];
    sera.says(&["status", "billing", "--watch"], 1, &told).await?;
    sera.says(&["status"], 0, &["NAME", "billing", "Stalled", "BudgetExhausted"]).await?;
    sera.says(&["logs", "billing", "--stage", "Snapshot"], 0, &["-s", " | {"]).await?;
    sera.says(&["retry", "srun/billing"], 0, &["run billing tries again"]).await?;
    ground.until("billing", was_tried_again).await?;

    sera.says(&["status", "nothing"], 1, &["there is no run nothing in namespace"]).await?;
    sera.says(&["logs", "pod/billing"], 2, &["neither run nor batch"]).await
}

fn was_tried_again(status: &RunStatus) -> bool {
    status.observed_retry.as_ref().is_some_and(|word| !word.is_empty())
        && reason(status, ConditionType::Stalled) == Some("BudgetExhausted")
}

/// kubectl with the plugin.
struct Sera<'a> {
    ground: &'a Ground,
    path: OsString,
    kubeconfig: PathBuf,
}

impl<'a> Sera<'a> {
    async fn of(ground: &'a Ground) -> Result<Self> {
        let cluster = ground.space.cluster().await?;
        let mut folders = cluster.tool_folders().await?;
        folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        Ok(Self { ground, path: env::join_paths(folders)?, kubeconfig: cluster.kubeconfig_path() })
    }

    /// Runs a command in the test's namespace, and looks how it ends and for what it has to say on either stream.
    async fn says(&self, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
        let mut command = Command::new("kubectl");
        command.env("PATH", &self.path).env("KUBECONFIG", &self.kubeconfig).arg("sera").args(arguments);
        command.args(["--namespace", &self.ground.space.namespace]);
        let output = command.output().await.context("cannot run kubectl")?;
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        ensure!(output.status.code() == Some(code), "{arguments:?} ended with {}: {said}", output.status);
        for word in words {
            ensure!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
        }
        Ok(())
    }
}
