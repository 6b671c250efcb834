//! How `git fast-import` is told of paths.

/// A path as `git fast-import` reads it: quoted as in C, so that no byte of it can mean anything else.
pub(super) fn quoted(path: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in path {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', *byte]),
            b' '..=b'~' => quoted.push(*byte),
            other => quoted.extend(format!("\\{other:03o}").bytes()),
        }
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_to_the_last_byte() {
        assert_eq!(quoted(b"a \"b\"\\\n\xff"), b"\"a \\\"b\\\"\\\\\\012\\377\"");
    }
}
