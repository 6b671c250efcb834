//! Addresses of git repositories and HTTP services. None of them carries a password: those belong into Secrets.

use super::text::text_value;

text_value! {
    /// The address of a git repository: `https://`, `http://`, `ssh://` or `git://`, or scp-like `git@host:path`. A
    /// user name may stand in it, a password or token may not.
    GitUrl {
        kind: "a git URL",
        expected: "https://host/path, ssh://git@host/path or git@host:path, without a password, a token, '?' or '#'",
        pattern: r"^((https?|ssh|git)://([A-Za-z0-9_][A-Za-z0-9._~%+-]*@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(:[0-9]{1,5})?/[^\s?#@]+|[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:[^\s?#:-][^\s?#:]*)$",
        chars: 5..=512,
        rules: [
            "!self.matches('^[a-z]+://(gh[a-z]_|github_pat_|glpat-|x-access-token)')"
                => "must not carry a token: put it into a Secret and name that in credentialsSecretRef"
        ],
        accept: |text| !carries_token(text),
        explained: true,
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
        explained: true,
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
