//! The list of users that a slot sees: the image's, and the users of slots, which no image knows. Programs that ask who they are get an answer then, and
//! a listing of files is the same in every slot.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where images have theirs.
pub(crate) const OF_THE_IMAGE: &str = "/etc/passwd";
/// What all users of slots are called: by the same name, so that none of them can be told from another.
const NAME: &str = "sera";
/// Everyone may read it, as programs expect.
const MODE: u32 = 0o644;

/// Writes the list in `image`, which need not be there, with those of `slots` that it lacks, to `to`. Done again, it writes the same.
pub(crate) fn write(image: &Path, slots: RangeInclusive<u32>, home: &Path, to: &Path) -> io::Result<()> {
    let mut list = match fs::read(image) {
        Ok(list) => list,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let known: BTreeSet<u32> = list.split(|byte| *byte == b'\n').filter_map(user).collect();
    if list.last().is_some_and(|last| *last != b'\n') {
        list.push(b'\n');
    }
    for user in slots.filter(|user| !known.contains(user)) {
        list.extend_from_slice(format!("{NAME}:x:{user}:{user}:{NAME}:").as_bytes());
        list.extend_from_slice(OsStr::as_bytes(home.as_os_str()));
        list.extend_from_slice(b":/bin/sh\n");
    }
    fs::write(to, list)?;
    fs::set_permissions(to, fs::Permissions::from_mode(MODE))
}

/// The number of the user of a line.
fn user(line: &[u8]) -> Option<u32> {
    std::str::from_utf8(line.split(|byte| *byte == b':').nth(2)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(image: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("passwd"), folder.path().join("users"));
        if let Some(image) = image {
            fs::write(&from, image).unwrap();
        }
        write(&from, 65_600..=65_601, Path::new("/run/sera/home"), &to).unwrap();
        let first = fs::read_to_string(&to).unwrap();
        write(&from, 65_600..=65_601, Path::new("/run/sera/home"), &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), first, "done again, it writes the same");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, MODE);
        first
    }

    #[test]
    fn the_users_of_slots_are_added_to_those_of_the_image() {
        let image = "root:x:0:0:root:/root:/bin/bash\nada:x:65601:7::/home/ada:/bin/zsh";
        let expected = format!("{image}\nsera:x:65600:65600:sera:/run/sera/home:/bin/sh\n");
        assert_eq!(written(Some(image)), expected);
    }

    #[test]
    fn an_image_without_users_and_one_whose_list_is_no_list_have_those_of_slots_alone() {
        let both = "sera:x:65600:65600:sera:/run/sera/home:/bin/sh\nsera:x:65601:65601:sera:/run/sera/home:/bin/sh\n";
        assert_eq!(written(None), both);
        assert_eq!(written(Some(":::\n\nx\n")), format!(":::\n\nx\n{both}"));
    }
}
