//! The variables that commands get.

use std::env;

use crate::places::Places;
use crate::wire::Policy;

/// What a driver's own process may hand on: nothing that could be a secret.
const HARMLESS: [&str; 5] = ["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"];
/// The path of an image that says none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables: what the image says (or this process, where it is harmless), what a slot is, what the policy says. Later ones win.
pub(crate) fn variables(places: &Places, policy: &Policy, inherit: bool) -> Result<Vec<(String, String)>, String> {
    if let Some((name, _)) = policy.env.iter().find(|(name, value)| !is_variable(name, value)) {
        return Err(format!("the variable {name:?} cannot be one of a process"));
    }
    let mut variables = vec![("PATH".to_owned(), PATH.to_owned())];
    if inherit {
        variables.extend(own().filter(|(name, _)| !is_of_the_cluster(name)));
    } else {
        variables.extend(harmless());
    }
    let slot = [
        ("HOME", places.home.display().to_string()),
        ("TMPDIR", places.tmp.display().to_string()),
        ("PWD", places.workspace.display().to_string()),
        // Nobody is at a terminal, so nothing waits for a key or draws.
        ("TERM", "dumb".to_owned()),
        ("PAGER", "cat".to_owned()),
        ("GIT_PAGER", "cat".to_owned()),
        ("GIT_TERMINAL_PROMPT", "0".to_owned()),
        // In a pod the directory itself is the kubelet's, not ours, and git would refuse what it takes for somebody else's repository.
        ("GIT_CONFIG_COUNT", "1".to_owned()),
        ("GIT_CONFIG_KEY_0", "safe.directory".to_owned()),
        ("GIT_CONFIG_VALUE_0", places.workspace.display().to_string()),
    ];
    variables.extend(slot.map(|(name, value)| (name.to_owned(), value)));
    variables.extend(policy.env.iter().cloned());
    Ok(variables)
}

/// The variables of this process that tell nothing of anyone.
pub(crate) fn harmless() -> impl Iterator<Item = (String, String)> {
    own().filter(|(name, _)| HARMLESS.contains(&name.as_str()))
}

fn own() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn is_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

/// Whether Kubernetes put it there: where services are is no command's business, nor which index of a Job the pod works on or what it is called, which would
/// make two pods differ where a teacher can see it.
fn is_of_the_cluster(name: &str) -> bool {
    name.starts_with("KUBERNETES_")
        || name == "JOB_COMPLETION_INDEX"
        || name == "HOSTNAME"
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || is_of_a_link(name)
}

/// Whether it is one of those that docker's links had, which Kubernetes makes still: `NAME_PORT`, `NAME_PORT_80_TCP_ADDR`.
fn is_of_a_link(name: &str) -> bool {
    let Some((_, port)) = name.split_once("_PORT_") else { return name.ends_with("_PORT") };
    port.contains("_TCP") || port.contains("_UDP") || port.contains("_SCTP")
}

#[cfg(test)]
mod tests {
    use super::{is_of_the_cluster, is_variable};

    #[test]
    fn what_kubernetes_tells_of_services_and_jobs_is_left_out() {
        let cluster = [
            "KUBERNETES_PORT",
            "JOB_COMPLETION_INDEX",
            "HOSTNAME",
            "DB_SERVICE_HOST",
            "DB_SERVICE_PORT_HTTP",
            "DB_PORT",
            "DB_PORT_80_TCP_ADDR",
        ];
        assert!(cluster.into_iter().all(is_of_the_cluster));
        let others = ["PATH", "JAVA_HOME", "VIRTUAL_ENV", "PORTAGE", "EXPORT_X"];
        assert!(!others.into_iter().any(is_of_the_cluster));
    }

    #[test]
    fn a_variable_has_a_name_and_no_nul() {
        assert!(is_variable("A", "b=c"));
        for (name, value) in [("", "x"), ("A=B", "x"), ("A", "\0"), ("\0", "x")] {
            assert!(!is_variable(name, value));
        }
    }
}
