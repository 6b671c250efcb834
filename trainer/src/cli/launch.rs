//! `sera-trainer launch`: the ranks of this node, as processes.

use std::ffi::OsString;
use std::net::TcpListener;
use std::time::SystemTime;

use clap::Args;
use sera_crds::contract::ExitCode;

use super::failure::Failure;
use crate::ranks::launcher::{Launch, follow};
use crate::ranks::{Gang, MAX_WORLD, Master};

pub(super) const EXAMPLES: &str = "Examples:
  Two ranks on this machine:
    sera-trainer launch --nproc-per-node 2 -- train --student ./SmolLM2-135M --out ./run

  The second of two machines, eight ranks each:
    sera-trainer launch --nproc-per-node 8 --nnodes 2 --node-rank 1 \\
        --master-addr first.example.org --master-port 29500 -- train --student /models/Qwen3-8B --out /shared/run

  Whether the ranks reach each other, and how fast:
    sera-trainer launch --nproc-per-node 4 -- ring --mebibytes 64

It ends with the code of the first rank that failed; 128 and its number where a signal ended that rank.";

#[derive(Debug, Args)]
pub(super) struct LaunchArgs {
    /// How many ranks on each node
    #[arg(long, value_name = "N", default_value_t = 1)]
    nproc_per_node: usize,
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 1)]
    nnodes: usize,
    /// Which of them this is, from 0
    #[arg(long, env = "JOB_COMPLETION_INDEX", value_name = "N", default_value_t = 0)]
    node_rank: usize,
    /// The host of node 0 [default: this machine, where there is one node]
    #[arg(long, env = "MASTER_ADDR", value_name = "HOST")]
    master_addr: Option<String>,
    /// A port of it that is free [default: any, where there is one node]
    #[arg(long, env = "MASTER_PORT", value_name = "PORT")]
    master_port: Option<u16>,
    /// What every rank does: a command of this program with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command: with the code of the first rank that failed.
pub(super) fn run(arguments: LaunchArgs) -> Result<std::process::ExitCode, Failure> {
    let code = launch(arguments)?.run().map_err(|error| unavailable(error.to_string()))?;
    Ok(code.into())
}

/// Ties this process to its launcher, if it has one.
pub(super) fn follow_launcher() -> Result<(), Failure> {
    match follow() {
        Ok(true) => Ok(()),
        Ok(false) => Err(unavailable("the launcher of this rank has ended".to_owned())),
        Err(error) => Err(unavailable(format!("this rank cannot be tied to its launcher: {error}"))),
    }
}

fn unavailable(message: String) -> Failure {
    Failure { code: ExitCode::Unavailable, message }
}

fn launch(arguments: LaunchArgs) -> Result<Launch, Failure> {
    let LaunchArgs { nproc_per_node, nnodes, node_rank, master_addr, master_port, command } = arguments;
    let world = Gang { nodes: nnodes, ranks_per_node: nproc_per_node }.size();
    if world == 0 || world > MAX_WORLD {
        let message = format!("--nproc-per-node times --nnodes is {world}: there are from 1 to {MAX_WORLD} ranks");
        return Err(Failure::given(message));
    }
    if node_rank >= nnodes {
        let message =
            format!("--node-rank (JOB_COMPLETION_INDEX) is {node_rank} and --nnodes is {nnodes}: nodes count from 0");
        return Err(Failure::given(message));
    }
    let master = match (master_addr, master_port) {
        (Some(host), Some(port)) => Master { host, port },
        _ if nnodes > 1 => {
            let message =
                "several nodes need --master-addr (MASTER_ADDR) and --master-port (MASTER_PORT), the same on all";
            return Err(Failure::given(message.to_owned()));
        }
        (host, port) => {
            let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
            Master { host, port: port.map_or_else(free_port, Ok)? }
        }
    };
    let program = std::env::current_exe().map_err(|error| Failure {
        code: ExitCode::Internal,
        message: format!("this program's own file is not known: {error}"),
    })?;
    let named = std::env::var_os("SERA_RENDEZVOUS_ID").is_some();
    // The launchers of several nodes cannot agree on a name by themselves.
    let job = (nnodes == 1 && !named).then(new_job);
    Ok(Launch {
        program,
        arguments: command,
        ranks_per_node: nproc_per_node,
        nodes: nnodes,
        node: node_rank,
        master,
        job,
    })
}

/// A port that nobody listens at now. Should somebody take it before rank 0 does, rank 0 says so.
fn free_port() -> Result<u16, Failure> {
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).map(|at| at.port());
    port.map_err(|error| unavailable(format!("no port is free: {error}")))
}

/// A name that no other launch has.
fn new_job() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("launch {} at {}", std::process::id(), now.as_nanos())
}
