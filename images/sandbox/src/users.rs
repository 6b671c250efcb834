//! The lists of users and groups that a slot sees: the image's, and those of slots, which no image knows. Programs that ask who they are get an answer
//! then, and a listing of files is the same in every slot.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where images have theirs.
pub(crate) const OF_THE_IMAGE: &str = "/etc";
/// What all users of slots, and their groups, are called: by the same name, so that none of them can be told from another.
const NAME: &str = "sera";
/// Everyone may read it, as programs expect.
const MODE: u32 = 0o644;

/// Writes the lists in the folder `image`, which need not be there, with those of `slots` that they lack, to the folder `to`: a `passwd` and a `group`.
/// Done again, it writes the same.
pub(crate) fn write(image: &Path, slots: RangeInclusive<u32>, home: &Path, to: &Path) -> io::Result<()> {
    let home = home.display();
    extend(image, to, "passwd", slots.clone(), |number| format!("{NAME}:x:{number}:{number}:{NAME}:{home}:/bin/sh\n"))?;
    extend(image, to, "group", slots, |number| format!("{NAME}:x:{number}:\n"))
}

/// Writes a list with a line for each of `slots` whose number it lacks.
fn extend(
    image: &Path,
    to: &Path,
    file: &str,
    slots: RangeInclusive<u32>,
    line: impl Fn(u32) -> String,
) -> io::Result<()> {
    let mut list = match fs::read(image.join(file)) {
        Ok(list) => list,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let known: BTreeSet<u32> = list.split(|byte| *byte == b'\n').filter_map(number).collect();
    if list.last().is_some_and(|last| *last != b'\n') {
        list.push(b'\n');
    }
    for number in slots.filter(|number| !known.contains(number)) {
        list.extend_from_slice(line(number).as_bytes());
    }
    let to = to.join(file);
    fs::write(&to, list)?;
    fs::set_permissions(to, fs::Permissions::from_mode(MODE))
}

/// The number of the user or the group of a line.
fn number(line: &[u8]) -> Option<u32> {
    std::str::from_utf8(line.split(|byte| *byte == b':').nth(2)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written for an image with this text in both lists.
    fn written(image: Option<&str>) -> [String; 2] {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("etc"), folder.path().join("users"));
        for folder in [&from, &to] {
            fs::create_dir(folder).unwrap();
        }
        ["passwd", "group"].map(|file| {
            if let Some(image) = image {
                fs::write(from.join(file), image).unwrap();
            }
            let write = || {
                write(&from, 65_600..=65_601, Path::new("/run/sera/home"), &to).unwrap();
                fs::read_to_string(to.join(file)).unwrap()
            };
            let first = write();
            assert_eq!(write(), first, "done again, it writes the same");
            assert_eq!(fs::metadata(to.join(file)).unwrap().permissions().mode() & 0o777, MODE);
            first
        })
    }

    #[test]
    fn the_users_and_groups_of_slots_are_added_to_those_of_the_image() {
        let image = "root:x:0:0:root:/root:/bin/bash\nada:x:65601:7::/home/ada:/bin/zsh";
        let [users, groups] = written(Some(image));
        assert_eq!(users, format!("{image}\nsera:x:65600:65600:sera:/run/sera/home:/bin/sh\n"));
        assert_eq!(groups, format!("{image}\nsera:x:65600:\n"));
    }

    #[test]
    fn an_image_without_users_and_one_whose_list_is_no_list_have_those_of_slots_alone() {
        let both = "sera:x:65600:65600:sera:/run/sera/home:/bin/sh\nsera:x:65601:65601:sera:/run/sera/home:/bin/sh\n";
        let groups = "sera:x:65600:\nsera:x:65601:\n";
        assert_eq!(written(None), [both, groups]);
        assert_eq!(written(Some(":::\n\nx\n")), [format!(":::\n\nx\n{both}"), format!(":::\n\nx\n{groups}")]);
    }
}
