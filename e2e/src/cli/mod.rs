//! The subcommands. A new one is a variant here, an arm in `run`, and a file beside this one if it is more than a call.

mod bench;
mod chaos;
mod logs;
mod shell;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, Subcommand};
use sera_e2e::cluster::{self, Cluster, ClusterName, Shape};
use sera_e2e::demo;
use sera_e2e::progress::Progress;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Boot a cluster that stays until `down`
    ///
    /// Prints how to use it. A cluster of that name that is up already is left as it is.
    Up {
        #[command(flatten)]
        name: Name,
        /// Boot etcd, an API server and a controller manager only: no root needed, nothing runs
        #[arg(long)]
        control_plane_only: bool,
    },
    /// Take a cluster down: processes, containers, network, cgroups and files
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// Show the clusters on this machine, and whether their components run
    Status,
    /// Show the log of a component, or the end of each
    Logs {
        #[command(flatten)]
        name: Name,
        /// kube-apiserver, kubelet, … (see `status`); all of them if left out
        component: Option<String>,
        /// Go on as the log grows
        #[arg(long, short, requires = "component")]
        follow: bool,
    },
    /// Print the path of a cluster's kubeconfig
    ///
    /// For the shell you are in: export KUBECONFIG=$(cargo e2e kubeconfig)
    Kubeconfig {
        #[command(flatten)]
        name: Name,
    },
    /// Load a container image into the node, from an archive (docker save, buildah push docker-archive:, OCI)
    ///
    /// Pods then use it with `imagePullPolicy: IfNotPresent` or `Never`.
    LoadImage {
        #[command(flatten)]
        name: Name,
        /// The archive
        archive: PathBuf,
    },
    /// Open a shell with KUBECONFIG set, and kubectl and helm on the PATH
    Shell {
        #[command(flatten)]
        name: Name,
        /// A command to run instead of an interactive shell
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Boot a cluster, install the operator on it and apply an example: `cargo demo`
    ///
    /// Where KUBECONFIG is set, that cluster is used. What an earlier demo left is found and gone on from; the cluster stays up. Ctrl-C leaves it up
    /// too, and says how to go on.
    Demo,
    /// Break runs in every way that a seed says; each must end as if nothing had happened
    ///
    /// Boots a control plane, and runs the operator that cargo has built behind a proxy that kills, delays, drops and refuses.
    /// A node is played. See docs/chaos.md.
    Chaos(chaos::Chaos),
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
}

/// Which cluster.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// The cluster's name
    #[arg(long, default_value_t = ClusterName::unnamed())]
    name: ClusterName,
}

/// Does it. The exit code is that of what was run, where something was.
pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { name, control_plane_only } => up(name.name, control_plane_only).await?,
        Command::Down { name } => down(&name.name)?,
        Command::Status => status::print()?,
        Command::Logs { name, component, follow } => {
            logs::print(&find(name.name).await?, component.as_deref(), follow).await?;
        }
        Command::Kubeconfig { name } => println!("{}", find(name.name).await?.kubeconfig_path().display()),
        Command::LoadImage { name, archive } => find(name.name).await?.load_image(&archive).await?,
        Command::Shell { name, command } => return shell::run(&find(name.name).await?, &command).await,
        Command::Demo => demo::run(&Progress::console()).await?,
        Command::Chaos(chaos) => return Box::pin(chaos::run(chaos)).await,
        Command::Bench(bench) => return bench::run(bench).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The cluster that a command is about: KUBECONFIG's, else the one of that name.
async fn find(name: ClusterName) -> Result<Cluster> {
    Ok(Cluster::find_here(name).await?)
}

async fn up(name: ClusterName, control_plane_only: bool) -> Result<()> {
    let (progress, start) = (Progress::console(), Instant::now());
    let shape = if control_plane_only { Shape::ControlPlane } else { Shape::Node };
    let (cluster, booted) = Cluster::up(name, shape, &progress).await?;
    let Some(name) = cluster.name() else {
        progress.finish("KUBECONFIG is set: that cluster is used, and there is nothing to boot");
        return Ok(());
    };
    progress.finish(if booted {
        format!("cluster {name} ({shape}) is up after {:.1} s", start.elapsed().as_secs_f32())
    } else {
        format!("cluster {name} is up already")
    });
    let option = if name == ClusterName::unnamed().to_string() { String::new() } else { format!(" --name {name}") };
    println!("export KUBECONFIG={}", cluster.kubeconfig_path().display());
    eprintln!("or `cargo e2e shell{option}`; `cargo e2e down{option}` takes it down");
    Ok(())
}

fn down(name: &ClusterName) -> Result<()> {
    let was_there = cluster::down(name)?;
    eprintln!("{}", if was_there { format!("cluster {name} is down") } else { format!("there is no cluster {name}") });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_whatever_it_takes_says_what_it_is_for() {
        fn look(command: &clap::Command, path: &str, silent: &mut Vec<String>) {
            let arguments = command.get_arguments().filter(|argument| argument.get_help().is_none());
            silent.extend(arguments.map(|argument| format!("{path} {}", argument.get_id())));
            for inner in command.get_subcommands() {
                let path = format!("{path} {}", inner.get_name());
                silent.extend(inner.get_about().is_none().then(|| path.clone()));
                look(inner, &path, silent);
            }
        }
        let all = Command::augment_subcommands(clap::Command::new("cargo e2e"));
        all.clone().debug_assert();
        assert!(all.get_subcommands().count() > 8, "this test cannot fail");
        let mut silent = Vec::new();
        look(&all, "cargo e2e", &mut silent);
        assert_eq!(silent, Vec::<String>::new(), "these say nothing of themselves");
    }
}
