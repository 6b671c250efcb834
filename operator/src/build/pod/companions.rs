//! What stands beside a pod's program, or runs before it: servers that it brings along, and what fetches a model for those that read folders alone.

use k8s_openapi::api::core::v1::{Container, Volume};
use sera_crds::run::PodSettings;

use super::{
    super::gpus,
    END_OF_LOG, FETCHED_MOUNT, Mounts, Program, SNAPSHOT_RESOURCES, container, health, mount,
    storage::{FETCHED, storage},
};

/// The container that fetches a model.
const FETCH: &str = "fetch";
/// How often a companion may not answer yet, every two seconds: an hour for a large model to be loaded and compiled.
const LOADING_PROBES: i32 = 1_800;

/// What brings a program's model from a bucket, for programs that read folders alone: it holds the bucket's keys, and the program does not.
pub(in crate::build) struct Fetch<'a> {
    /// Its image.
    pub image: &'a str,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The Secret with the bucket's keys.
    pub credentials: Option<&'a str>,
}

impl Fetch<'_> {
    /// The container, and the volumes that it needs beside those of `program`.
    pub(super) fn container(&self, program: &Program<'_>, settings: &PodSettings) -> (Container, Vec<Volume>) {
        let mounts = Mounts { store: self.credentials, ..Mounts::default() };
        let own = Program {
            image: self.image,
            arguments: self.arguments.clone(),
            ..Program::new(mounts, SNAPSHOT_RESOURCES)
        };
        let placed = PodSettings { resources: None, shm_size: None, ..settings.clone() };
        let (mut volumes, mut mounts): (Vec<_>, Vec<_>) = storage(&own, &placed).into_iter().unzip();
        mounts.push(mount(FETCHED, FETCHED_MOUNT, false));
        let known: Vec<String> = storage(program, settings).into_iter().map(|(volume, _)| volume.name).collect();
        volumes.retain(|volume| !known.contains(&volume.name));
        let container = Container {
            name: FETCH.to_owned(),
            resources: Some(SNAPSHOT_RESOURCES.before(settings.resources.as_ref())),
            termination_message_policy: Some(END_OF_LOG.to_owned()),
            ..container(&own, &placed, mounts)
        };
        (container, volumes)
    }
}

/// A server that a program brings along: up before the program begins, and gone when it ends.
pub(in crate::build) struct Companion {
    /// What fetches its model, if anything does, and the server itself.
    pub(super) containers: Vec<Container>,
    pub(super) volumes: Vec<Volume>,
}

impl Program<'_> {
    /// This program, a server, beside another one, under this name.
    pub(in crate::build) fn beside(&self, name: &str, settings: &PodSettings) -> Companion {
        let (mut volumes, mounts): (Vec<_>, Vec<_>) = storage(self, settings).into_iter().unzip();
        let server = Container {
            name: name.to_owned(),
            // A sidecar: nothing after it begins before it answers, and its end is not the pod's.
            restart_policy: Some("Always".to_owned()),
            startup_probe: self.port.map(|port| health(port, 2, LOADING_PROBES)),
            readiness_probe: None,
            liveness_probe: None,
            ports: None,
            ..container(self, settings, mounts)
        };
        let mut containers = vec![server];
        if let Some(fetch) = &self.fetch {
            let (fetching, more) = fetch.container(self, settings);
            containers.insert(0, Container { name: format!("{name}-{FETCH}"), ..fetching });
            volumes.extend(more);
        }
        let own = |volume: &mut String| *volume = format!("{name}-{volume}");
        volumes.iter_mut().for_each(|volume| own(&mut volume.name));
        let mounts = containers.iter_mut().flat_map(|container| container.volume_mounts.iter_mut().flatten());
        mounts.for_each(|mount| own(&mut mount.name));
        Companion { containers, volumes }
    }
}

impl Companion {
    /// Gives it so many GPUs.
    pub(in crate::build) fn take(&mut self, gpus: u32) {
        if let Some(server) = self.containers.last_mut() {
            server.resources = server.resources.take().map(|resources| gpus::with_gpus(resources, gpus));
        }
    }
}
