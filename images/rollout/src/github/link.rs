//! The header `Link` (RFC 8288), as far as it says where the next page is.

/// The path and query of the next page, if there is one and it is on the same server as `api`: credentials go nowhere else.
pub(super) fn next(link: &str, api: &str) -> Option<String> {
    let target = link.split(',').find_map(|part| {
        let (target, parameters) = part.trim().split_once(';')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim();
            parameter == "rel=\"next\"" || parameter == "rel=next"
        });
        is_next.then_some(target.trim().strip_prefix('<')?.strip_suffix('>')?)
    })?;
    let origin = origin(api)?;
    let path = target.strip_prefix(origin)?;
    path.starts_with('/').then(|| path.to_owned())
}

/// `https://host:port` of an address.
fn origin(address: &str) -> Option<&str> {
    let host = address.find("://")? + 3;
    let end = address[host..].find('/').map_or(address.len(), |path| host + path);
    Some(&address[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::damaged;

    #[test]
    fn the_next_page_is_found_among_others_wherever_its_path_leads() {
        let link = r#"<https://h:8443/api/v3/repositories/7/issues?page=1>; rel="prev", <https://h:8443/api/v3/repositories/7/issues?after=Y3Vyc29y&page=3>; rel="next""#;
        let path = "/api/v3/repositories/7/issues?after=Y3Vyc29y&page=3";
        assert_eq!(next(link, "https://h:8443/api/v3").as_deref(), Some(path));
        assert_eq!(next(r#"<https://h/x>; rel="last""#, "https://h"), None);
    }

    #[test]
    fn another_server_is_never_followed_however_alike_its_name() {
        for target in [
            "https://evil.example/x",
            "https://h.evil.example/x",
            "http://h/x",
            "https://h@evil.example/x",
            "https://h:1/x",
        ] {
            assert_eq!(next(&format!("<{target}>; rel=\"next\""), "https://h/api/v3"), None, "{target}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic_or_leave_the_server(header in damaged(b"<https://h/x?page=1>; rel=\"prev\", <https://h/x?page=3>; rel=\"next\"")) {
            let path = next(&String::from_utf8_lossy(&header), "https://h/api/v3");
            prop_assert!(path.is_none_or(|path| path.starts_with('/')));
        }
    }
}
