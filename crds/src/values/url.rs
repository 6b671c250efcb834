//! Addresses of git repositories and HTTP services. None of them carries a password: those belong into Secrets.

use super::ValueError;
use super::text::text_value;

text_value! {
    /// The address of a git repository: `https://`, `http://`, `ssh://` or `git://`, or scp-like `git@host:path`. A
    /// user name may stand in it, a password or token may not. `builtin://rehearsal` is a small repository that the
    /// stages bring along, for rehearsals where no git server is at hand.
    GitUrl {
        kind: "a git URL",
        expected: "https://host/path, ssh://git@host/path, git@host:path or builtin://rehearsal, without a password, a token, '?' or '#'",
        pattern: r"^((https?|ssh|git)://([A-Za-z0-9_][A-Za-z0-9._~%+-]*@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(:[0-9]{1,5})?/[^\s?#@]+|[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:[^\s?#:-][^\s?#:]*|builtin://rehearsal)$",
        chars: 5..=512,
        rules: [
            "!self.matches('^[a-z]+://(gh[a-z]_|github_pat_|glpat-|x-access-token)')"
                => "must not carry a token: put it into a Secret and name that in credentialsSecretRef"
        ],
        accept: |text| !carries_token(text),
    }
}

text_value! {
    /// The address of an HTTP service: `https://host[:port][/path]` or `http://…`, without a user, a password, a query
    /// or a fragment.
    HttpUrl {
        kind: "an HTTP URL",
        expected: "https://host[:port][/path] or http://…, without a user, a password, '?' or '#'",
        pattern: r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(:[0-9]{1,5})?(/[^\s?#@]*)?$",
        chars: 8..=512,
        rules: [],
        accept: |_| true,
    }
}

impl GitUrl {
    /// The address of the repository that the stages bring along.
    pub const REHEARSAL: &str = "builtin://rehearsal";

    /// Where a repository on GitHub is cloned from, given the address of the API. github.com and Enterprise Cloud with data residency serve the API
    /// on a host of its own; Enterprise Server below `/api/v3`.
    pub fn on_github(api: &HttpUrl, owner: &str, repository: &str) -> Result<Self, ValueError> {
        let api = api.as_str().trim_end_matches('/');
        let host = match api.strip_suffix("/api/v3") {
            Some(server) => server.to_owned(),
            None => api.replacen("://api.", "://", 1),
        };
        format!("{host}/{owner}/{repository}.git").parse()
    }
}

/// Tokens of the large hosts are sometimes pasted where a user name goes. Their prefixes are public: `ghp_`, `gho_`,
/// `ghs_`, …, `github_pat_`, `glpat-`.
fn carries_token(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let hub_token = rest.strip_prefix("gh").is_some_and(|rest| {
        let mut rest = rest.chars();
        rest.next().is_some_and(|kind| kind.is_ascii_lowercase()) && rest.next() == Some('_')
    });
    hub_token || ["github_pat_", "glpat-", "x-access-token"].iter().any(|prefix| rest.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_that_git_hosts_show_are_taken() {
        for url in [
            "https://github.com/acme/billing.git",
            "http://git.internal:3000/a/b",
            "ssh://git@git.acme.internal:2222/a/b.git",
            "git@github.com:acme/billing.git",
            "git@ssh.dev.azure.com:v3/acme/project/repo",
            "https://acme@dev.azure.com/acme/project/_git/repo%20one",
            "https://[2001:db8::1]:8443/a.git",
            "git://git.internal/a",
            "https://git.internal/~user/a.git",
            GitUrl::REHEARSAL,
        ] {
            assert!(url.parse::<GitUrl>().is_ok(), "{url}");
        }
    }

    #[test]
    fn what_carries_a_secret_or_could_be_an_option_is_refused() {
        for url in [
            "https://user:password@github.com/a/b",
            "https://ghp_0123456789@github.com/a/b",
            "https://github_pat_0123@github.com/a/b",
            "https://glpat-0123@gitlab.com/a/b",
            "https://x-access-token@github.com/a/b",
            "https://github.com/a/b?token=x",
            "https://github.com/a/b#x",
            "ssh://-oProxyCommand=x/a",
            "ssh://-x@host/a",
            "-x@host:a",
            "git@host:-a",
            "file:///srv/a.git",
            "/srv/a.git",
            "ext::sh -c x",
            "https://github.com",
            "https://git hub.com/a",
            "github.com/a/b",
            "builtin://rehearsal/a",
            "builtin://tiny",
        ] {
            assert!(url.parse::<GitUrl>().is_err(), "{url}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_a_password() {
        let error = "https://user:hunter2@github.com/a/b".parse::<GitUrl>().unwrap_err();
        assert!(!error.to_string().contains("hunter2") && error.found == "https://…@github.com/a/b", "{error}");
    }

    #[test]
    fn a_service_is_http_without_a_user() {
        for url in [
            "https://teacher.acme.internal/v1",
            "http://10.0.0.1:8000",
            "https://[::1]:1/v1/",
            "http://svc.ns.svc.cluster.local/v1",
        ] {
            assert!(url.parse::<HttpUrl>().is_ok(), "{url}");
        }
        for url in [
            "https://u@h/v1",
            "https://u:p@h/v1",
            "ftp://h/v1",
            "h/v1",
            "https://",
            "https://h/v1?key=x",
            "https://h/a b",
            "https://h:123456/",
        ] {
            assert!(url.parse::<HttpUrl>().is_err(), "{url}");
        }
    }
}
