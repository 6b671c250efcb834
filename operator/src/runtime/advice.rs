//! What went wrong on the way to the API server, in one line that says what to do about it.

use std::error::Error;

use kube::runtime::watcher;

/// One line for a log or a status about an error of the API server, or of the way to it.
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => format!(
            "the API server does not accept our credentials ({}); check the service account's token, or the kubeconfig's user",
            one_line(&status.message)
        ),
        kube::Error::Api(status) if status.is_forbidden() => format!(
            "no permission: {}; install the roles of the chart sera-operator, or limit the operator with --namespaces",
            one_line(&status.message)
        ),
        kube::Error::Api(status) => format!("the API server refused ({}): {}", status.code, one_line(&status.message)),
        kube::Error::Auth(error) => format!("cannot get credentials: {}; check the kubeconfig's user", chain(error)),
        // What our own client says is a whole sentence already.
        kube::Error::Service(error) => chain(error.as_ref()),
        other => chain(other),
    }
}

/// An error and its causes in one line; a cause that its error already tells is not told twice.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    // A watch tells its cause with all its fields, over which nobody finds the sentence that matters.
    if let Some(cause) =
        error.downcast_ref::<watcher::Error>().and_then(Error::source).and_then(|cause| cause.downcast_ref())
    {
        return explain(cause);
    }
    let mut told = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = one_line(&error.to_string());
        if !told.contains(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        cause = error.source();
    }
    told
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::runtime::gate;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot mount {what}")]
    struct Outer {
        what: &'static str,
        #[source]
        inner: std::io::Error,
    }

    #[test]
    fn a_missing_permission_names_the_rule_and_the_chart() {
        let status = Status::failure("leases.coordination.k8s.io is forbidden: User \"a\"\ncannot get", "Forbidden")
            .with_code(403);
        let told = explain(&kube::Error::Api(status.boxed()));
        assert!(
            told.starts_with(
                "no permission: leases.coordination.k8s.io is forbidden: User \"a\" cannot get; install the roles"
            ),
            "{told}"
        );
    }

    #[test]
    fn a_watch_that_is_not_permitted_is_told_as_any_request_that_is_not() {
        let status = Status::failure("pods is forbidden", "Forbidden").with_code(403);
        let told = chain(&watcher::Error::InitialListFailed(kube::Error::Api(status.boxed())));
        assert!(told.starts_with("no permission: pods is forbidden; install the roles"), "{told}");
    }

    #[test]
    fn causes_follow_their_error_in_one_line_and_none_is_told_twice() {
        let error = Outer { what: "/mnt", inner: std::io::Error::other("no such\n device") };
        assert_eq!(chain(&error), "cannot mount /mnt: no such device");
        let said = Outer { what: "it: no such device", inner: std::io::Error::other("no such device") };
        assert_eq!(chain(&said), "cannot mount it: no such device");
    }

    #[test]
    fn a_shut_gate_says_so_without_the_words_of_the_library() {
        assert_eq!(explain(&kube::Error::Service(gate::Closed.into())), gate::Closed.to_string());
    }
}
