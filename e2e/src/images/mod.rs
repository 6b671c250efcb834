//! The container images of the tests' own cluster: bases of Debian's packages, the programs that cargo has built already, and the
//! Dockerfiles of `images/`. What comes out are archives, kept by the digest of what is in them; loading them is the
//! cluster's business, and compiling is cargo's.

mod archives;
mod base;
mod binaries;
#[cfg(test)]
mod dockerfiles;
mod store;
mod student;
mod suite;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::packages::{self, Package, PackageError};
use crate::paths::{self, PathError, cache_root};
use crate::progress::Progress;
use archives::{Archives, is_kept};
use base::Base;
use store::Store;

/// What images are made with: a builder, what makes the bases (and the keys of Debian's archive, which Ubuntu lacks), `strip`.
const HOST_PACKAGES: [Package; 5] = [
    Package::new("binutils", "strip"),
    Package::new("buildah", "buildah"),
    Package::new("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
    Package::new("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
    Package::new("mmdebstrap", "mmdebstrap"),
];

/// The Dockerfiles' home.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../images");

/// An image that this repository makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// The controller.
    Operator,
    /// The stages of a run as commands.
    Rollout,
    /// The program that executes an agent's commands, for init containers to install.
    Sandbox,
    /// Where an agent's commands run by default.
    Environment,
    /// The rehearsal teacher.
    Teacher,
    /// The trainer, for CPUs.
    Trainer,
}

impl Image {
    /// Every image that the chart installs.
    pub const ALL: [Self; 6] =
        [Self::Operator, Self::Rollout, Self::Sandbox, Self::Environment, Self::Teacher, Self::Trainer];

    /// The image's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "sera-operator",
            Self::Rollout => "sera-rollout",
            Self::Sandbox => "sera-sandbox",
            Self::Environment => "sera-environment",
            Self::Teacher => "sera-teacher",
            Self::Trainer => "sera-trainer",
        }
    }

    /// The program that it is made from. An environment has none, and is made anew with the one that is put there later.
    const fn program(self) -> &'static str {
        match self {
            Self::Environment => Self::Sandbox.name(),
            other => other.name(),
        }
    }

    fn dockerfile(self) -> PathBuf {
        let folder = match self {
            Self::Operator => "operator",
            Self::Rollout => "rollout",
            Self::Sandbox | Self::Environment => "sandbox",
            Self::Teacher => "teacher",
            Self::Trainer => "trainer",
        };
        Path::new(SOURCES).join(folder).join("Dockerfile")
    }

    /// Whether the student that is built in goes into the image with its weights, or without, as far as it goes into it at all.
    const fn needs_weights(self) -> Option<bool> {
        match self {
            Self::Trainer => Some(true),
            Self::Rollout => Some(false),
            Self::Operator | Self::Sandbox | Self::Environment | Self::Teacher => None,
        }
    }

    /// The stage of the Dockerfile that needs no compiler.
    const fn target(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            _ => "prebuilt",
        }
    }

    const fn base(self) -> Base {
        match self {
            Self::Environment => Base::Environment,
            Self::Rollout => Base::Programs,
            Self::Operator | Self::Teacher | Self::Trainer | Self::Sandbox => Base::Bare,
        }
    }
}

/// An image in a file, as `ctr image import` and `docker load` take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageArchive {
    /// What it is.
    pub image: Image,
    /// The name that it has once loaded: `localhost/sera-operator:0123456789abcdef`. The tag follows from the content, so
    /// `imagePullPolicy: IfNotPresent` never runs something old.
    pub reference: String,
    /// The file, a docker-archive.
    pub path: PathBuf,
}

impl ImageArchive {
    /// The reference's parts, as the chart takes them: registry, repository and tag.
    pub fn parts(&self) -> (&str, &str, &str) {
        let (registry, rest) = self.reference.split_once('/').unwrap_or_default();
        let (repository, tag) = rest.split_once(':').unwrap_or_default();
        (registry, repository, tag)
    }
}

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No folder to keep images in.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A package that images are made with is missing.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// This machine does not say which glibc it has.
    #[error("cannot tell for which glibc programs are linked here: `getconf GNU_LIBC_VERSION` says {said:?}")]
    NoGlibc {
        /// What was said.
        said: String,
    },
    /// What is linked here would not run on any Debian that images are made of.
    #[error(
        "programs are linked with {said} here, and would not run in images, whose newest glibc is Debian 13's 2.41:          build on Debian 12 or 13, or on an Ubuntu no newer than 25.04"
    )]
    NewGlibc {
        /// What this machine has.
        said: String,
    },
    /// A command ended badly.
    #[error("`{command}` failed ({status}); the last lines were:\n{output}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// A file could not be used.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl ImageError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Makes sure of some images: builds those whose program, Dockerfile or base has changed, and waits where another process
/// is building. The programs are the ones that lie beside the running one, in cargo's folder.
pub async fn build(images: &[Image], progress: &Progress) -> Result<Vec<ImageArchive>, ImageError> {
    let archives = Archives::open(&cache_root()?.join("images"))?;
    let needs_student = images.iter().any(|image| image.needs_weights().is_some());
    let folder = if needs_student { Some(student(&archives, progress).await?) } else { None };
    let mut made = Vec::with_capacity(images.len());
    for &image in images {
        let binary = program(image)?;
        if let Some(source) = binaries::newer_source(&binary) {
            progress.step(format!(
                "{} is older than {}: `cargo build --workspace --bins` brings it up to date",
                image.name(),
                source.display()
            ));
        }
        let student = match (&folder, image.needs_weights()) {
            (Some(folder), Some(with_weights)) => student::files(folder, with_weights)?,
            _ => Vec::new(),
        };
        let archive = archives.name(image, &binary, &student)?;
        if !is_kept(&archive)? {
            build_one(&archives, &archive, &binary, &student, progress).await?;
        }
        made.push(archive);
    }
    Ok(made)
}

/// The program of an image, as cargo has built it: beside the running one.
pub fn program(image: Image) -> Result<PathBuf, ImageError> {
    Ok(paths::program(image.program())?)
}

/// The directory of the student that is built in: a model and its tokenizer.
pub async fn builtin_student(progress: &Progress) -> Result<PathBuf, ImageError> {
    student(&Archives::open(&cache_root()?.join("images"))?, progress).await
}

/// The same in these archives, made by the trainer that cargo has built.
async fn student(archives: &Archives, progress: &Progress) -> Result<PathBuf, ImageError> {
    let trainer = program(Image::Trainer)?;
    let _lock = archives.lock(progress).await?;
    student::ensure(&archives.folder().join("students"), &trainer, progress).await
}

/// Builds one image under the lock of the cache.
async fn build_one(
    archives: &Archives,
    archive: &ImageArchive,
    binary: &Path,
    student: &[PathBuf],
    progress: &Progress,
) -> Result<(), ImageError> {
    let _lock = archives.lock(progress).await?;
    // Another process may have built it while this one waited.
    if is_kept(archive)? {
        return Ok(());
    }
    packages::ensure(&HOST_PACKAGES, progress).await?;
    let workshop = archives.workshop()?;
    let store = Store::open(archives.folder(), workshop.path()).await?;
    let base = archive.image.base().ensure(&store, workshop.path(), progress).await?;
    progress.step(format!("building image {}", archive.image.name()));
    let context = workshop.path().join("context");
    fs::create_dir(&context).map_err(ImageError::io("make", &context))?;
    binaries::strip(binary, &context.join(archive.image.program())).await?;
    if !student.is_empty() {
        student::copy(student, &context.join("tiny"))?;
    }
    store.build(archive.image, &base, &archive.reference, &context).await?;
    let saved = workshop.path().join("image.tar");
    store.save(&archive.reference, &saved).await?;
    store.remove(&archive.reference).await?;
    archives.keep(archive, &saved)
}

#[cfg(test)]
mod tests {
    use super::{Image, ImageArchive};

    #[test]
    fn a_reference_comes_apart_as_the_chart_wants_it() {
        let reference = "localhost/sera-rollout:0123456789abcdef".to_owned();
        let archive = ImageArchive { image: Image::Rollout, reference, path: "image.tar".into() };
        assert_eq!(archive.parts(), ("localhost", "sera-rollout", "0123456789abcdef"));
    }
}
