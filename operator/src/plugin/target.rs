//! What a command is about: a run or a batch, by the words that kubectl takes.

use std::str::FromStr;

use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource};
use sera_crds::{RolloutBatch, SpecializationRun};

use super::{Error, connect::Connection};
use crate::{names::Kind, subject::Subject};

/// The object that a command is about.
#[derive(Debug, Clone, Args)]
pub(super) struct Target {
    /// A run by its name, or with its kind: run/NAME or batch/NAME
    #[arg(value_name = "NAME")]
    name: Name,
}

/// A name, with the kind where it is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) kind: Kind,
    pub(super) name: String,
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = text.split_once('/').unwrap_or(("run", text));
        let kind = match kind.to_ascii_lowercase().trim_end_matches(".sera.dev") {
            "run" | "runs" | "srun" | "specializationrun" | "specializationruns" => Kind::Run,
            "batch" | "batches" | "rbatch" | "rolloutbatch" | "rolloutbatches" => Kind::Batch,
            other => return Err(format!("{other:?} is neither run nor batch: use run/NAME or batch/NAME")),
        };
        if name.is_empty() || name.contains('/') {
            return Err("a name is missing: use NAME, run/NAME or batch/NAME".to_owned());
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

/// One that is there.
#[derive(Debug, Clone)]
pub(super) enum Object {
    Run(Box<SpecializationRun>),
    Batch(Box<RolloutBatch>),
}

impl Target {
    /// Asks for it.
    pub(super) async fn find(&self, connection: &Connection) -> Result<Object, Error> {
        self.name.find(connection).await
    }
}

impl Name {
    /// Asks for what is called so.
    pub(super) async fn find(&self, connection: &Connection) -> Result<Object, Error> {
        let Connection { client, namespace } = connection;
        let missing =
            || Error::Missing { what: format!("{} {}", self.kind.noun(), self.name), namespace: namespace.clone() };
        match self.kind {
            Kind::Run => {
                let run = Box::pin(Api::namespaced(client.clone(), namespace).get_opt(&self.name)).await?;
                run.map(|run| Object::Run(Box::new(run))).ok_or_else(missing)
            }
            Kind::Batch => {
                let batch = Box::pin(Api::namespaced(client.clone(), namespace).get_opt(&self.name)).await?;
                batch.map(|batch| Object::Batch(Box::new(batch))).ok_or_else(missing)
            }
        }
    }
}

impl Object {
    pub(super) fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Run(run) => run.meta(),
            Self::Batch(batch) => batch.meta(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Run(_) => Kind::Run,
            Self::Batch(_) => Kind::Batch,
        }
    }

    pub(super) fn name_any(&self) -> String {
        self.meta().name.clone().unwrap_or_default()
    }

    /// The run that it is a batch of.
    pub(super) fn run(&self) -> Option<String> {
        match self {
            Self::Run(_) => None,
            Self::Batch(batch) => run_of(batch),
        }
    }
}

/// The run that a batch belongs to; a lone one belongs to none.
pub(super) fn run_of(batch: &RolloutBatch) -> Option<String> {
    let controller = batch.controller_reference().filter(|owner| owner.kind == Kind::Run.as_str());
    controller.map(|owner| owner.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_runs_unless_its_kind_is_said_in_any_way_that_kubectl_takes() {
        let name = |kind, name: &str| Ok(Name { kind, name: name.to_owned() });
        assert_eq!("billing".parse(), name(Kind::Run, "billing"));
        for kind in ["run", "srun", "SpecializationRun", "specializationruns.sera.dev"] {
            assert_eq!(format!("{kind}/billing").parse(), name(Kind::Run, "billing"));
        }
        for kind in ["batch", "rbatch", "rolloutbatch"] {
            assert_eq!(format!("{kind}/billing-7").parse(), name(Kind::Batch, "billing-7"));
        }
    }

    #[test]
    fn what_is_no_name_is_told_with_what_would_be_one() {
        for text in ["pod/billing", "run/", "a/b/c"] {
            let told = text.parse::<Name>().unwrap_err();
            assert!(told.contains("run/NAME"), "{text}: {told}");
        }
    }
}
