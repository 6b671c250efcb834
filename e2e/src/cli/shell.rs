//! `cargo e2e shell`: the user's shell, in place, pointed at a cluster, with kubectl, its plugin `kubectl sera` and helm.

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result};
use sera_e2e::cluster::Cluster;
use tokio::process::Command;

/// What a shell says of a program that a signal ended.
const ENDED_BY_SIGNAL: u8 = 128;

pub(super) async fn run(cluster: &Cluster, command: &[String]) -> Result<ExitCode> {
    let shell = env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let (program, arguments) = command.split_first().map_or((shell.as_str(), &[][..]), |(first, rest)| (first, rest));
    let mut folders = cluster.tool_folders().await?;
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path = env::join_paths(folders).context("a folder of the PATH cannot be named in one")?;
    let mut child = Command::new(program);
    child.args(arguments).env("KUBECONFIG", cluster.kubeconfig_path()).env("PATH", path);
    let status = child.status().await.with_context(|| format!("cannot run {program}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(ENDED_BY_SIGNAL);
    Ok(ExitCode::from(code))
}
