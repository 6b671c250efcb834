//! The drivers of rollouts in a bench: none of them is there, and one server answers for all. Whenever it is asked how far a driver is, there is news.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sera_crds::contract::{CONTRACT_VERSION, Progress, Usage};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;

/// Where they listen: an address of this machine's own that nothing else has, and the port of every driver.
const ADDRESS: (&str, u16) = ("127.83.69.82", 8080);
/// The longest question that is read, in bytes.
const LONGEST: usize = 4096;
/// Has a program take a file for the names of this machine, and nobody else: it is mounted where only the program sees it.
const WITH_NAMES: &str = r#"mount --bind "$0" /etc/hosts && exec "$@""#;

/// Drivers that say how far they are.
pub(super) struct Drivers {
    names: NamedTempFile,
    answering: JoinSet<()>,
}

impl Drivers {
    /// Listens for whoever asks them.
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(ADDRESS).await.with_context(|| format!("cannot listen at {ADDRESS:?}"))?;
        let mut answering = JoinSet::new();
        answering.spawn(answer(listener));
        Ok(Self { names: NamedTempFile::new()?, answering })
    }

    /// A program of this machine that finds them by the names of their pods. It takes namespaces of its own: root, or users that may have them.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", WITH_NAMES]).arg(self.names.path()).arg(program);
        command
    }

    /// Where drivers are made known.
    pub(super) fn directory(&self) -> Result<Directory> {
        Ok(Directory(OpenOptions::new().append(true).open(self.names.path())?))
    }

    /// Ends them.
    pub(super) async fn end(mut self) {
        self.answering.shutdown().await;
    }
}

/// The names of drivers.
pub(super) struct Directory(File);

impl Directory {
    /// Makes the driver of a pod known.
    pub(super) fn add(&mut self, pod: &Pod) -> Result<()> {
        let spec = pod.spec.as_ref();
        let host = spec.and_then(|spec| spec.hostname.as_deref()).context("a driver without a host name")?;
        let service = spec.and_then(|spec| spec.subdomain.as_deref()).context("a driver without a Service")?;
        let namespace = pod.namespace().unwrap_or_default();
        // In one piece, so that nobody reads half of it.
        let line = format!("{} {host}.{service}.{namespace}.svc\n", ADDRESS.0);
        Ok(self.0.write_all(line.as_bytes())?)
    }
}

async fn answer(listener: TcpListener) {
    let since = Instant::now();
    let mut connections = JoinSet::new();
    loop {
        if let Ok((connection, _)) = listener.accept().await {
            connections.spawn(serve(connection, since));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Answers one question. That whoever asks goes away in the middle of it is nobody's failure.
async fn serve(mut connection: TcpStream, since: Instant) -> io::Result<()> {
    let mut question = Vec::new();
    while !question.ends_with(b"\r\n\r\n") && question.len() < LONGEST {
        if connection.read_buf(&mut question).await? == 0 {
            return Ok(());
        }
    }
    let said = serde_json::to_string(&progress(since))?;
    let length = said.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    connection.write_all((head + &said).as_bytes()).await
}

/// What each of them says: the teacher is asked all the time, and no sample is done yet.
fn progress(since: Instant) -> Progress {
    let calls = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    let usage = Usage { calls, prompt_tokens: calls, cached_tokens: 0, completion_tokens: calls };
    Progress { version: CONTRACT_VERSION, samples: 32, usage, ..Progress::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sera_e2e::ask;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn whenever_drivers_are_asked_they_have_news_and_are_found_by_their_pods_names() {
        let drivers = Drivers::start().await.unwrap();
        let address = format!("{}:{}", ADDRESS.0, ADDRESS.1).parse().unwrap();
        let ask = async || serde_json::from_str::<Progress>(&ask::get(address, "/progress").await.unwrap()).unwrap();
        let first = ask().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(ask().await.usage.calls > first.usage.calls);
        assert_eq!(first.version, CONTRACT_VERSION);
        let pod = json!({
            "metadata": {"namespace": "ml", "name": "b-r1-0-x2c4v"},
            "spec": {"hostname": "b-r1-0", "subdomain": "b-drivers", "containers": []},
        });
        drivers.directory().unwrap().add(&serde_json::from_value(pod).unwrap()).unwrap();
        let names = std::fs::read_to_string(drivers.names.path()).unwrap();
        assert_eq!(names, "127.83.69.82 b-r1-0.b-drivers.ml.svc\n");
        drivers.end().await;
    }
}
