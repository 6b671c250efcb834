//! Where the students that are built in lie: `builtin://tiny` is a folder of the images, which no cluster has to bring along.

use std::path::{Path, PathBuf};

/// What names a student that is built in.
const SCHEME: &str = "builtin://";
/// Where the images have them.
const FOLDER: &str = "/opt/sera/students";
/// Says where they are elsewhere.
const VARIABLE: &str = "SERA_STUDENTS";

/// The folder of a student: the path itself, or that of the one that is built in under this name.
pub fn student_folder(student: &Path) -> PathBuf {
    let elsewhere = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty());
    within(student, &elsewhere.map_or_else(|| PathBuf::from(FOLDER), PathBuf::from))
}

fn within(student: &Path, students: &Path) -> PathBuf {
    let name = student.to_str().and_then(|student| student.strip_prefix(SCHEME));
    name.map_or_else(|| student.to_owned(), |name| students.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_lies_in_one_folder_and_all_else_where_it_says() {
        let folder = |student: &str| within(Path::new(student), Path::new("/opt/sera/students"));
        assert_eq!(folder("builtin://tiny"), Path::new("/opt/sera/students/tiny"));
        assert_eq!(folder("/mnt/student/Qwen3-8B"), Path::new("/mnt/student/Qwen3-8B"));
        assert_eq!(folder("./tiny"), Path::new("./tiny"));
    }
}
