//! The sandboxes of a rollout pod: containers in the user's image that execute what a model wrote, one rollout at a time and each by itself. They hold
//! no secret and no token, and share nothing but a directory with the driver.

use k8s_openapi::{
    api::core::v1::{Capabilities, Container, EmptyDirVolumeSource, SecurityContext, Volume, VolumeMount},
    apimachinery::pkg::api::resource::Quantity,
};
use sera_crds::common::{Resources, quantity};

use super::{
    Images, SampleParts,
    pod::{self, empty_dir, mount},
};

/// Where the program lies that executes commands.
const PROGRAM_MOUNT: &str = "/run/sera/bin";
/// The program.
const PROGRAM: &str = "/run/sera/bin/sera-sandbox";
/// Where a copy of what the image has at `workingDir` lies: the slot's own directory is mounted over it.
const IMAGE_MOUNT: &str = "/run/sera/image";
/// Where the lists of users and of groups lie: the image's, and those of slots.
const USERS_MOUNT: &str = "/run/sera/users";
/// The files in it, and where programs look for them.
const USERS: [(&str, &str); 2] = [("passwd", "/etc/passwd"), ("group", "/etc/group")];
/// The directory that a slot shares with the driver.
const SHARED_MOUNT: &str = "/run/sera/slot";
/// The home of whoever works in a slot.
const HOME: &str = "/run/sera/home";
/// Where temporary files go.
const TMP: &str = "/tmp";
/// The user of the first slot; the others follow. None of them is the driver's, so that no slot can signal or trace it or another.
const FIRST_USER: i64 = 65_600;
/// How much disk a slot's files may take before the kubelet evicts the pod, and all its rollouts with it; `sera-sandbox` is told, and ends what comes near.
const SLOT_DISK: &str = "10Gi";

/// What a pod has for its sandboxes.
pub(super) struct Sandboxes {
    /// What runs before the program, and beside it.
    pub containers: Vec<Container>,
    /// Their volumes.
    pub volumes: Vec<Volume>,
    /// What of them the driver sees: of each slot the shared directory, and nothing that a model can write to.
    pub driver_mounts: Vec<VolumeMount>,
}

/// The sandboxes of the pods that make these samples.
pub(super) fn of(samples: &SampleParts, images: &Images) -> Sandboxes {
    let (program, program_mount) = empty_dir("program", PROGRAM_MOUNT, EmptyDirVolumeSource::default());
    let (image, image_mount) = empty_dir("image", IMAGE_MOUNT, EmptyDirVolumeSource::default());
    let (users, users_mount) = empty_dir("users", USERS_MOUNT, EmptyDirVolumeSource::default());
    let working_dir = samples.environment.working_dir.as_str();
    let mut copy = copier("copy", 0, working_dir, image_mount, samples, images);
    copy.args.get_or_insert_default().extend(added_users(samples));
    copy.volume_mounts.get_or_insert_default().push(users_mount);
    let mut sandboxes = Sandboxes {
        containers: vec![installer(samples, images, program_mount), copy],
        volumes: vec![program, image, users],
        driver_mounts: Vec::new(),
    };
    for slot in 0..samples.slots {
        let name = format!("slot-{slot}");
        sandboxes.volumes.push(volume(&name));
        sandboxes.driver_mounts.push(part(&name, "shared", &format!("{}/{slot}", pod::SLOTS_MOUNT)));
        for (number, path) in samples.environment.writable_paths.iter().enumerate() {
            let (copier_name, to) = (format!("copy-{slot}-{number}"), part(&name, &writable(number), IMAGE_MOUNT));
            sandboxes.containers.push(copier(&copier_name, i64::from(slot), path.as_str(), to, samples, images));
        }
    }
    // Sidecars last: nothing before them may see a slot at work.
    for slot in 0..samples.slots {
        sandboxes.containers.push(sandbox(&format!("slot-{slot}"), i64::from(slot), samples, images));
    }
    sandboxes
}

/// Copies a directory of the image, as the slot's user, before something is mounted over it.
fn copier(name: &str, slot: i64, from: &str, to: VolumeMount, samples: &SampleParts, images: &Images) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image(samples, images)),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(vec!["copy".to_owned(), from.to_owned(), IMAGE_MOUNT.to_owned()]),
        resources: Some(pod::SMALL_RESOURCES.before(samples.slot_resources.as_ref())),
        security_context: Some(security(slot, samples)),
        volume_mounts: Some(vec![mount("program", PROGRAM_MOUNT, true), to]),
        termination_message_policy: Some(pod::END_OF_LOG.to_owned()),
        ..Container::default()
    }
}

/// Has the image's lists of users and groups copied as well, with those of slots added: a program that asks who it is gets an answer then.
fn added_users(samples: &SampleParts) -> [String; 3] {
    let user = |slot: i64| user(slot, samples);
    let last = i64::from(samples.slots.saturating_sub(1));
    [format!("--accounts={USERS_MOUNT}"), format!("--users={}-{}", user(0), user(last)), format!("--home={HOME}")]
}

/// The user of a slot.
fn user(slot: i64, samples: &SampleParts) -> i64 {
    samples.environment.user.map_or(FIRST_USER + slot, |user| user.uid.into())
}

fn image(samples: &SampleParts, images: &Images) -> String {
    samples.environment.image.as_ref().unwrap_or(&images.environment).to_string()
}

/// The directory of a slot's volume for one of the environment's writable paths.
fn writable(number: usize) -> String {
    format!("writable-{number}")
}

/// Puts the program where images that do not have it find it.
fn installer(samples: &SampleParts, images: &Images, program: VolumeMount) -> Container {
    Container {
        name: "install".to_owned(),
        image: Some(images.sandbox.to_string()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["install".to_owned(), PROGRAM.to_owned()]),
        resources: Some(pod::SMALL_RESOURCES.before(samples.slot_resources.as_ref())),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(vec![program]),
        termination_message_policy: Some(pod::END_OF_LOG.to_owned()),
        ..Container::default()
    }
}

fn sandbox(name: &str, slot: i64, samples: &SampleParts, images: &Images) -> Container {
    let environment = &samples.environment;
    let working_dir = environment.working_dir.as_str();
    let mut mounts = vec![
        mount("program", PROGRAM_MOUNT, true),
        mount("image", IMAGE_MOUNT, true),
        part(name, "shared", SHARED_MOUNT),
        part(name, "workspace", working_dir),
        part(name, "tmp", TMP),
        part(name, "home", HOME),
    ];
    mounts.extend(
        USERS.map(|(file, path)| VolumeMount { sub_path: Some(file.to_owned()), ..mount("users", path, true) }),
    );
    for (number, path) in environment.writable_paths.iter().enumerate() {
        mounts.push(part(name, &writable(number), path.as_str()));
    }
    let resources = samples.slot_resources.clone().filter(|resources| !resources.is_empty());
    Container {
        name: name.to_owned(),
        image: Some(image(samples, images)),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(vec![
            "serve".to_owned(),
            format!("--socket={SHARED_MOUNT}/socket"),
            format!("--workspace={working_dir}"),
            format!("--tmp={TMP}"),
            format!("--home={HOME}"),
            format!("--image-workspace={IMAGE_MOUNT}"),
            format!("--disk-limit={}", disk_limit(resources.as_ref())),
            // What the image sets, such as the home of a compiler; the container gets no variable from us.
            "--inherit-env".to_owned(),
        ]),
        // A sidecar: it starts before the driver and ends after it, and its end is not the pod's.
        restart_policy: Some("Always".to_owned()),
        resources: Some(resources.map_or_else(|| pod::SLOT_RESOURCES.requirements(), Into::into)),
        security_context: Some(security(slot, samples)),
        volume_mounts: Some(mounts),
        termination_message_policy: Some(pod::END_OF_LOG.to_owned()),
        ..Container::default()
    }
}

/// How many bytes of files evict the pod: as much as a slot's volume holds, or fewer where its owner says so.
fn disk_limit(resources: Option<&Resources>) -> u64 {
    let said = resources.and_then(|resources| resources.limits.get("ephemeral-storage"));
    let limits = [Some(SLOT_DISK), said.map(|said| said.0.as_str())];
    limits.into_iter().flatten().filter_map(quantity::bytes).min().unwrap_or(u64::MAX)
}

fn security(slot: i64, samples: &SampleParts) -> SecurityContext {
    let user = user(slot, samples);
    let group = samples.environment.user.map_or(user, |user| user.effective_gid().into());
    SecurityContext {
        run_as_user: Some(user),
        run_as_group: Some(group),
        read_only_root_filesystem: Some(samples.environment.read_only_root_filesystem),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        ..pod::container_security()
    }
}

fn volume(name: &str) -> Volume {
    let source = EmptyDirVolumeSource { medium: None, size_limit: Some(Quantity(SLOT_DISK.to_owned())) };
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

/// A directory of a slot's volume.
fn part(volume: &str, directory: &str, path: &str) -> VolumeMount {
    VolumeMount { sub_path: Some(directory.to_owned()), ..mount(volume, path, false) }
}
