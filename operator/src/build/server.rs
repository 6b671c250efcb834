//! What the teachers and the students that the operator serves have in common: a Deployment whose pods answer at one port, and the Service that finds
//! them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use sera_crds::run::PodSettings;

use super::{
    metadata,
    pod::{self, Program},
};
use crate::names::{OWNER_UID, Owner};

/// Where every server listens.
pub(super) const PORT: u16 = 8000;

/// A server of `owner`: what it is called, and the label that tells its pods from those of the owner's other servers.
pub(super) struct Server<'a> {
    pub owner: &'a Owner,
    pub name: String,
    pub label: (&'static str, &'static str),
}

impl Server<'_> {
    /// The API's base address, as the pods of the cluster reach it.
    pub(super) fn url(&self) -> String {
        format!("http://{}.{}.svc:{PORT}/v1", self.name, self.owner.namespace)
    }

    /// The Deployment of so many pods that run `program`.
    pub(super) fn deployment(&self, program: &Program<'_>, settings: &PodSettings, replicas: u32) -> Deployment {
        let mut template = pod::template(program, settings, &self.labels());
        if let Some(spec) = &mut template.spec {
            spec.restart_policy = Some("Always".to_owned());
        }
        Deployment {
            metadata: metadata(self.owner, self.name.clone(), self.labels()),
            spec: Some(DeploymentSpec {
                replicas: i32::try_from(replicas).ok(),
                selector: LabelSelector { match_labels: Some(self.selector()), ..LabelSelector::default() },
                template,
                ..DeploymentSpec::default()
            }),
            status: None,
        }
    }

    /// The Service; headless for clients that choose a pod and stay with it.
    pub(super) fn service(&self, headless: bool) -> Service {
        Service {
            metadata: metadata(self.owner, self.name.clone(), self.labels()),
            spec: Some(ServiceSpec {
                cluster_ip: headless.then(|| "None".to_owned()),
                selector: Some(self.selector()),
                ports: Some(vec![ServicePort {
                    name: Some("http".to_owned()),
                    port: PORT.into(),
                    target_port: Some(IntOrString::Int(PORT.into())),
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let (key, value) = self.label;
        let mut labels = self.owner.labels();
        labels.insert(key.to_owned(), value.to_owned());
        labels
    }

    /// What its pods are found by; a Deployment's selector can never be changed.
    fn selector(&self) -> BTreeMap<String, String> {
        let (key, value) = self.label;
        let uid = self.owner.uid.as_str();
        [(OWNER_UID, uid), (key, value)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }
}
