//! Service meshes that put a container beside every program of a namespace: what keeps them from the pods that are to end.

use sera_crds::run::PodSettings;

/// What Istio reads: the label, and where there is none the annotation of that name.
const ISTIO: &str = "sidecar.istio.io/inject";
/// What Linkerd reads, of annotations alone.
const LINKERD: &str = "linkerd.io/inject";

/// What is said of pods, and that no mesh is to have them, unless their owner says otherwise: a container that goes on when the program has ended keeps
/// its pod, and the GPUs that it holds, for ever.
pub(super) fn outside(mut settings: PodSettings) -> PodSettings {
    let is_said = settings.labels.contains_key(ISTIO) || settings.annotations.contains_key(ISTIO);
    if let (false, Ok(no)) = (is_said, "false".parse()) {
        settings.labels.insert(ISTIO.to_owned(), no);
    }
    settings.annotations.entry(LINKERD.to_owned()).or_insert_with(|| "disabled".to_owned());
    settings
}
