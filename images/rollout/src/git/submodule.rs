//! What `.gitmodules` says: where the content of a commit's submodules is. The file is the repository's, so nothing in it is trusted.

use super::url::{RemoteUrl, RemoteUrlError};

/// A commit of another repository that a tree names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Where it is in the tree, as git quotes nothing.
    pub(crate) path: String,
    /// The commit.
    pub(crate) commit: String,
}

/// Reads what `git ls-tree -r -z` prints: only entries of mode 160000 are links to commits. Names that are no UTF-8 cannot be asked for, and are
/// left as they are.
pub(crate) fn links(listing: &[u8]) -> Vec<Link> {
    let link = |entry: &[u8]| {
        let (head, path) = std::str::from_utf8(entry).ok()?.split_once('\t')?;
        let commit = head.strip_prefix("160000 commit ")?;
        Some(Link { path: path.to_owned(), commit: commit.to_owned() })
    };
    listing.split(|byte| *byte == 0).filter_map(link).collect()
}

/// The address of the submodule at `path`, as `git config --null --list` prints `.gitmodules`.
pub(crate) fn address(config: &str, path: &str) -> Option<String> {
    let entries: Vec<(&str, &str)> = config.split('\0').filter_map(|entry| entry.split_once('\n')).collect();
    let name = entries.iter().find_map(|(key, value)| {
        let name = key.strip_prefix("submodule.")?.strip_suffix(".path")?;
        (value.trim_end_matches('/') == path).then_some(name)
    })?;
    let key = format!("submodule.{name}.url");
    entries.iter().find(|(known, _)| *known == key).map(|(_, url)| (*url).to_owned())
}

/// Where a submodule is, whose address may be relative to that of the repository that names it (gitmodules(5)).
pub(crate) fn resolve(address: &str, parent: &RemoteUrl) -> Result<RemoteUrl, RemoteUrlError> {
    if !["./", "../"].iter().any(|start| address.starts_with(start)) {
        return RemoteUrl::parse(address);
    }
    let mut base = parent.text.trim_end_matches('/');
    let mut rest = address;
    loop {
        if let Some(below) = rest.strip_prefix("./") {
            rest = below;
        } else if let Some(above) = rest.strip_prefix("../") {
            rest = above;
            // Never into the host's name, nor above it.
            let unusable = || RemoteUrlError::Path { path: address.to_owned() };
            let root = base.find("://").map_or(0, |scheme| scheme + 3);
            let cut = base[root..].rfind(['/', ':']).ok_or_else(unusable)?;
            base = &base[..root + cut];
        } else {
            break;
        }
    }
    // What an scp-like address has before its path is a colon.
    let colon = !base.contains("://") && !base.contains(':');
    RemoteUrl::parse(&format!("{base}{}{rest}", if colon { ':' } else { '/' }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::damaged;

    #[test]
    fn only_links_to_commits_are_found_whatever_else_the_tree_has() {
        let listing = b"100644 blob aa\tsrc/a b.rs\x00160000 commit bb\tdep/one\x00100644 blob cc\tcaf\xe9\x00160000 commit dd\tcaf\xe9\x00";
        assert_eq!(links(listing), [Link { path: "dep/one".into(), commit: "bb".into() }]);
    }

    #[test]
    fn an_address_is_found_by_the_path_and_not_by_the_name() {
        let config = "submodule.x.path\ndep/one\0submodule.x.url\nhttps://h/one.git\0submodule.dep/one.path\ndep/two\0submodule.dep/one.url\n../two\0";
        assert_eq!(address(config, "dep/one").as_deref(), Some("https://h/one.git"));
        assert_eq!(address(config, "dep/two").as_deref(), Some("../two"));
        assert_eq!(address(config, "dep/three"), None);
    }

    #[test]
    fn a_relative_address_is_beside_its_parent() {
        let resolved = |address: &str, parent: &str| {
            resolve(address, &RemoteUrl::parse(parent).unwrap()).map(|url| url.text).map_err(|error| error.to_string())
        };
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(resolved("../two.git", "https://h:8443/acme/one.git"), ok("https://h:8443/acme/two.git"));
        assert_eq!(resolved("../../other/two", "https://h/acme/one.git/"), ok("https://h/other/two"));
        assert_eq!(resolved("./two", "https://h/acme/one"), ok("https://h/acme/one/two"));
        assert_eq!(resolved("../two", "git@h:acme/one.git"), ok("git@h:acme/two"));
        assert_eq!(resolved("../two", "git@h:one.git"), ok("git@h:two"));
        assert_eq!(resolved("../two", "/srv/acme/one"), ok("file:///srv/acme/two"));
        assert_eq!(resolved("https://h/x", "/srv/acme/one"), ok("https://h/x"));
        assert!(resolved("../../../x", "https://h/one").is_err());
        assert!(resolved("ext::sh -c id", "https://h/one").is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_a_repository_says_of_its_submodules_makes_the_reader_panic(
            listing in damaged(b"100644 blob aa\tsrc/a.rs\x00160000 commit bb\tdep/one\x00"),
            config in damaged(b"submodule.x.path\ndep/one\0submodule.x.url\n../../one.git\0"),
            parent in prop_oneof![Just("https://h:8443/acme/one.git"), Just("git@h:acme/one"), Just("/srv/one")],
        ) {
            let config = String::from_utf8_lossy(&config);
            let parent = RemoteUrl::parse(parent).unwrap();
            for link in links(&listing) {
                let _ = address(&config, &link.path);
            }
            for address in address(&config, "dep/one").iter().map(String::as_str).chain(config.split(['\0', '\n'])) {
                let _ = resolve(address, &parent);
            }
        }
    }
}
