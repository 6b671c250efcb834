//! The Go modules that programs are built from, as they are pinned. Building is the parent's.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ProgramError, failed};

/// Where the Go modules are pinned.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster");
/// Where those are pinned that no cluster needs.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// A pinned Go module, from which one build makes some programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cluster) enum Module {
    CoreDns,
    Etcd,
    Helm,
    KubeflowTrainer,
    Kubernetes,
    LeaderWorkerSet,
}

impl Module {
    /// All of them.
    pub(super) const ALL: [Self; 6] =
        [Self::CoreDns, Self::Etcd, Self::Helm, Self::KubeflowTrainer, Self::Kubernetes, Self::LeaderWorkerSet];

    /// What its folder is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CoreDns => "coredns",
            Self::Etcd => "etcd",
            Self::Helm => "helm",
            Self::KubeflowTrainer => "kubeflow-trainer",
            Self::Kubernetes => "kubernetes",
            Self::LeaderWorkerSet => "leader-worker-set",
        }
    }

    /// The folder of its go.mod.
    pub(in crate::cluster) fn folder(self) -> PathBuf {
        let is_of_others = matches!(self, Self::KubeflowTrainer | Self::LeaderWorkerSet);
        Path::new(if is_of_others { PEERS } else { SOURCES }).join(self.name())
    }

    /// The linker's flags: no symbol tables, and for Kubernetes the version that its programs report.
    pub(super) fn linker_flags(self) -> Result<String, ProgramError> {
        if self != Self::Kubernetes {
            return Ok("-s -w".to_owned());
        }
        let (path, module) = (self.folder().join("go.mod"), "k8s.io/kubernetes");
        let text = fs::read_to_string(&path).map_err(|source| failed("read", &path, source))?;
        let version = pinned_version(&text, module).ok_or(ProgramError::NoVersion { path, module })?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let base = "k8s.io/component-base/version";
        Ok(format!(
            "-s -w -X {base}.gitVersion={version} -X {base}.gitMajor={major} -X {base}.gitMinor={minor} \
             -X k8s.io/client-go/pkg/version.gitVersion={version}"
        ))
    }
}

/// The version that a go.mod requires of a module.
fn pinned_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_pinned_module() {
        let go_mod =
            "module x\n\nrequire (\n\tk8s.io/kubelet v0.35.9 // indirect\n\tk8s.io/kubernetes v1.35.4 // indirect\n)\n";
        assert_eq!(pinned_version(go_mod, "k8s.io/kubernetes").as_deref(), Some("v1.35.4"));
        assert_eq!(pinned_version("require k8s.io/kubernetes v1.2.3", "k8s.io/kubernetes").as_deref(), Some("v1.2.3"));
        assert_eq!(pinned_version(go_mod, "k8s.io/kube"), None);
    }

    #[test]
    fn every_pinned_module_says_its_linker_flags() -> Result<(), ProgramError> {
        for module in Module::ALL.into_iter().filter(|module| *module != Module::Kubernetes) {
            assert_eq!(module.linker_flags()?, "-s -w");
        }
        assert!(Module::Kubernetes.linker_flags()?.contains("version.gitVersion=v1."));
        Ok(())
    }
}
