//! What a request to the API server asks for, read from its method and address. What becomes of it is decided elsewhere.

use std::fmt;

use http::{Method, Uri};

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The method.
    pub(super) method: Method,
    /// The resource's plural, or the whole path of what is none.
    pub(super) resource: String,
    /// The object's name, where one is named.
    pub(super) name: Option<String>,
    /// The subresource.
    pub(super) part: Option<String>,
    /// Whether it stays open.
    pub(super) is_watch: bool,
    /// Whether it is a list by pages, which is what a watch goes on from; whoever looks at something once takes all of it, or one.
    pub(super) is_paged: bool,
}

impl Call {
    /// What this request asks for.
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty());
        // `api/v1` or `apis/<group>/<version>`.
        let depth = if parts.next() == Some("apis") { 2 } else { 1 };
        let mut rest: Vec<&str> = parts.skip(depth).collect();
        if rest.len() > 2 && rest[0] == "namespaces" {
            rest.drain(..2);
        }
        let mut rest = rest.into_iter().map(str::to_owned);
        let pairs = || uri.query().unwrap_or_default().split('&');
        Self {
            method: method.clone(),
            resource: rest.next().unwrap_or_else(|| uri.path().to_owned()),
            name: rest.next(),
            part: rest.next(),
            is_watch: pairs().any(|pair| pair == "watch=true" || pair == "watch=1"),
            is_paged: pairs().any(|pair| pair.starts_with("limit=") && pair != "limit=1"),
        }
    }

    /// Whether it belongs to the operator's work: its election and its Events do not.
    pub(super) fn is_work(&self) -> bool {
        self.resource != "leases" && self.resource != "events"
    }

    /// Whether it changes something.
    pub(super) fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether it reads objects as they are at this moment.
    pub(super) fn is_read(&self) -> bool {
        // What the API server says of itself, its groups for one, has no past.
        !self.is_write() && !self.is_watch && !self.resource.starts_with('/')
    }

    /// Whether it makes an object of this kind.
    pub(super) fn makes(&self, resource: &str) -> bool {
        self.method == Method::POST && self.resource == resource && self.name.is_none()
    }
}

impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.is_watch { "WATCH" } else { self.method.as_str() };
        write!(out, "{verb} {}", self.resource)?;
        for part in [&self.name, &self.part].into_iter().flatten() {
            write!(out, "/{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &Method, uri: &str) -> Call {
        Call::of(method, &uri.parse().unwrap())
    }

    #[test]
    fn an_address_says_what_is_asked_for() {
        let of_status =
            call(&Method::PATCH, "/apis/sera.dev/v1alpha1/namespaces/ml/specializationruns/billing/status?");
        assert_eq!(of_status.to_string(), "PATCH specializationruns/billing/status");
        assert!(of_status.is_write() && of_status.is_work());
        let watch = call(&Method::GET, "/api/v1/namespaces/ml/pods?watch=true&labelSelector=a");
        assert_eq!(watch.to_string(), "WATCH pods");
        assert!(!watch.is_write());
        let made = call(&Method::POST, "/apis/batch/v1/namespaces/ml/jobs?");
        assert!(made.makes("jobs") && !made.makes("pods"));
    }

    #[test]
    fn what_belongs_to_no_namespace_is_read_as_well() {
        assert_eq!(call(&Method::GET, "/version").resource, "/version");
        assert_eq!(call(&Method::GET, "/api/v1/namespaces/ml").to_string(), "GET namespaces/ml");
        assert_eq!(call(&Method::GET, "/apis/batch/v1/jobs").to_string(), "GET jobs");
    }

    #[test]
    fn a_list_by_pages_is_what_a_cache_begins_with() {
        let is_paged = |uri| call(&Method::GET, uri).is_paged;
        assert!(is_paged("/apis/batch/v1/jobs?labelSelector=a&limit=500"));
        assert!(!is_paged("/apis/batch/v1/jobs?labelSelector=a") && !is_paged("/api/v1/pods?limit=1"));
    }

    #[test]
    fn leases_and_events_are_no_work() {
        for uri in
            ["/apis/coordination.k8s.io/v1/namespaces/ml/leases/a", "/apis/events.k8s.io/v1/namespaces/ml/events"]
        {
            assert!(!call(&Method::POST, uri).is_work(), "{uri}");
        }
    }
}
