//! What a program reads and writes: claims, Secrets as files, and room of its own.

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource, ProjectedVolumeSource, SecretProjection,
    SecretVolumeSource, Volume, VolumeMount, VolumeProjection,
};
use sera_crds::run::PodSettings;

use super::{Mounts, Program};

/// Where the repository's credentials are mounted.
pub(in crate::build) const GIT_MOUNT: &str = "/etc/sera/git";
/// Where the credentials for GitHub's API are mounted.
pub(in crate::build) const GITHUB_MOUNT: &str = "/etc/sera/github";
/// Where the store's credentials are mounted.
pub(in crate::build) const STORE_CREDENTIALS_MOUNT: &str = "/etc/sera/store";
/// Where the credentials for the student's bucket are mounted.
pub(in crate::build) const STUDENT_CREDENTIALS_MOUNT: &str = "/etc/sera/student";
/// Where the teacher's key is mounted, and the authorities of its certificate.
pub(in crate::build) const TEACHER_MOUNT: &str = "/etc/sera/teacher";
/// Where further certificate authorities are mounted.
pub(super) const CA_MOUNT: &str = "/etc/sera/ca";
/// Where the store's claim is mounted, whole.
pub(in crate::build) const STORE_MOUNT: &str = "/mnt/store";
/// Where the claim is mounted that another's snapshot lies on.
pub(in crate::build) const SNAPSHOT_MOUNT: &str = "/mnt/snapshot";
/// Where the claim is mounted that the student lies on.
pub(in crate::build) const STUDENT_MOUNT: &str = "/mnt/student";
/// Where the store's claim is mounted for who serves the model; nothing is written there.
pub(in crate::build) const MODEL_MOUNT: &str = "/mnt/model";
/// Where a model is that was fetched for who serves it; nothing is written there by it.
pub(in crate::build) const FETCHED_MOUNT: &str = "/mnt/fetched";
/// Where programs work; nothing else of the root file system can be written.
pub(in crate::build) const SCRATCH_MOUNT: &str = "/tmp/work";
/// Where the driver finds a directory for each slot, with the slot's socket.
pub(in crate::build) const SLOTS_MOUNT: &str = "/run/sera/slots";
/// Secrets are read by the group of every program, and by nobody else.
const SECRET_MODE: i32 = 0o440;
/// The volume that a model is fetched to.
pub(super) const FETCHED: &str = "fetched";

/// Every volume and where it is mounted. Secrets are optional: a pod whose Secret is missing starts all the same, and its program says which field
/// of the spec names it, which the kubelet cannot.
pub(super) fn storage(program: &Program<'_>, settings: &PodSettings) -> Vec<(Volume, VolumeMount)> {
    let mut storage = vec![empty_dir("scratch", SCRATCH_MOUNT, EmptyDirVolumeSource::default())];
    let mounts = &program.mounts;
    let authority = settings.ca_secret_ref.as_ref().map(|secret| secret.name.as_str());
    for (name, secret, path) in [
        ("git-credentials", mounts.git, GIT_MOUNT),
        ("github-credentials", mounts.github, GITHUB_MOUNT),
        ("store-credentials", mounts.store, STORE_CREDENTIALS_MOUNT),
        ("student-credentials", mounts.student, STUDENT_CREDENTIALS_MOUNT),
        ("authority", authority, CA_MOUNT),
    ] {
        storage.extend(secret.map(|secret| secret_files(name, secret, path)));
    }
    storage.extend(teacher_files(mounts));
    for (name, claim, path, read_only) in [
        ("store", mounts.claim, STORE_MOUNT, false),
        ("snapshot", mounts.snapshot_claim, SNAPSHOT_MOUNT, true),
        ("student", mounts.student_claim, STUDENT_MOUNT, true),
        ("model", mounts.model_claim, MODEL_MOUNT, true),
    ] {
        storage.extend(claim.map(|claim| claimed(name, claim, path, read_only)));
    }
    if program.fetch.is_some() {
        let (volume, _) = empty_dir(FETCHED, FETCHED_MOUNT, EmptyDirVolumeSource::default());
        storage.push((volume, mount(FETCHED, FETCHED_MOUNT, true)));
    }
    if let Some(size) = &settings.shm_size {
        let source = EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: Some(size.clone()) };
        storage.push(empty_dir("shm", "/dev/shm", source));
    }
    storage
}

/// The teacher's key and its certificate's authorities in one directory, from the two Secrets that they may be in.
fn teacher_files(mounts: &Mounts<'_>) -> Option<(Volume, VolumeMount)> {
    let key = mounts.teacher_key.map(|secret| (secret, "apiKey"));
    let authority = mounts.teacher_authority.map(|secret| (secret, "ca.crt"));
    let sources: Vec<VolumeProjection> = [key, authority]
        .into_iter()
        .flatten()
        .map(|(secret, file)| VolumeProjection {
            secret: Some(SecretProjection {
                name: secret.to_owned(),
                optional: Some(true),
                items: Some(vec![KeyToPath { key: file.to_owned(), path: file.to_owned(), mode: None }]),
            }),
            ..VolumeProjection::default()
        })
        .collect();
    let name = "teacher-credentials";
    (!sources.is_empty()).then(|| {
        let source = ProjectedVolumeSource { default_mode: Some(SECRET_MODE), sources: Some(sources) };
        let volume = Volume { name: name.to_owned(), projected: Some(source), ..Volume::default() };
        (volume, mount(name, TEACHER_MOUNT, true))
    })
}

fn claimed(name: &str, claim: &str, path: &str, read_only: bool) -> (Volume, VolumeMount) {
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
    let volume = Volume { name: name.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() };
    (volume, mount(name, path, read_only))
}

pub(in crate::build) fn empty_dir(name: &str, path: &str, source: EmptyDirVolumeSource) -> (Volume, VolumeMount) {
    (Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }, mount(name, path, false))
}

fn secret_files(name: &str, secret: &str, path: &str) -> (Volume, VolumeMount) {
    let source = SecretVolumeSource {
        secret_name: Some(secret.to_owned()),
        optional: Some(true),
        default_mode: Some(SECRET_MODE),
        items: None,
    };
    (Volume { name: name.to_owned(), secret: Some(source), ..Volume::default() }, mount(name, path, true))
}

pub(in crate::build) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}
