//! `cargo e2e status`: a line a cluster, and below it what does not run.

use anyhow::Result;
use sera_e2e::cluster::{self, State, Summary};

pub(super) fn print() -> Result<()> {
    let clusters = cluster::list()?;
    if clusters.is_empty() {
        println!("no clusters; `cargo e2e up` boots one");
        return Ok(());
    }
    println!("{:<24}  {:<11}  {:<18}  {:<26}  COMPONENTS", "NAME", "STATE", "SHAPE", "SERVER");
    for cluster in clusters {
        println!("{}", line(&cluster));
    }
    Ok(())
}

fn line(cluster: &Summary) -> String {
    let state = match cluster.state {
        State::InUse => "in use",
        State::Up => "up",
        State::LeftBehind => "left behind",
    };
    let shape = cluster.shape.map(|shape| shape.to_string()).unwrap_or_default();
    let server = cluster.server.as_deref().unwrap_or("-");
    format!("{:<24}  {state:<11}  {shape:<18}  {server:<26}  {}", cluster.name, components(&cluster.components))
}

fn components(all: &[(String, bool)]) -> String {
    let gone: Vec<&str> = all.iter().filter(|(_, runs)| !runs).map(|(name, _)| name.as_str()).collect();
    let running = all.len() - gone.len();
    if gone.is_empty() { format!("{running} running") } else { format!("{running} running, gone: {}", gone.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_run_is_named() {
        let all = [("etcd", true), ("kubelet", false)].map(|(name, runs)| (name.to_owned(), runs));
        assert_eq!(components(&all), "1 running, gone: kubelet");
        assert_eq!(components(&all[..1]), "1 running");
    }
}
