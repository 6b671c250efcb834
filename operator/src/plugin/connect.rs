//! Which cluster is asked, and in which namespace: as kubectl decides it.

use std::path::PathBuf;

use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::Error;
use crate::runtime::advice::chain;

/// Which cluster, and where in it.
#[derive(Debug, Args)]
pub(super) struct Cluster {
    /// The kubeconfig [default: those of KUBECONFIG, else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// The namespace [default: the context's]
    #[arg(long, short, global = true, value_name = "NAME")]
    namespace: Option<String>,
}

/// A way to the API server, and the namespace that is meant.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) namespace: String,
}

impl Cluster {
    /// Finds the API server.
    pub(super) async fn connect(self) -> Result<Connection, Error> {
        let options = KubeConfigOptions { context: self.context, ..KubeConfigOptions::default() };
        let config = match self.kubeconfig {
            Some(file) => {
                let read = Kubeconfig::read_from(&file).map_err(|error| Error::Connect(chain(&error)))?;
                Config::from_custom_kubeconfig(read, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let config = config.map_err(|error| Error::Connect(chain(&error)))?;
        let namespace = self.namespace.unwrap_or_else(|| config.default_namespace.clone());
        Ok(Connection { client: Client::try_from(config)?, namespace })
    }
}
