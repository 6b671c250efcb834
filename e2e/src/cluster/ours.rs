//! Which folders are clusters. The state folder may be one that others use as well: what has no record of ours is not looked at, and above all not
//! removed.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::folder::{DRAFT, LOGS, RECORD};
use super::name::ClusterName;

/// Whether the folder at `root` is a cluster's: it has a record of its name, or nothing but what is there before the first record. Of a cluster whose
/// folder is gone, the empty lock counts.
pub(super) fn is_cluster(root: &Path, lock: &Path) -> bool {
    let name = root.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.parse::<ClusterName>().is_err() {
        return false;
    }
    match fs::symlink_metadata(root) {
        Ok(found) => found.is_dir() && (is_recorded(root, name) || is_unrecorded(root)),
        Err(_) => fs::symlink_metadata(lock).is_ok_and(|lock| lock.is_file() && lock.len() == 0),
    }
}

/// Whether its record names it. Records of other versions count: what else is in them is not looked at.
fn is_recorded(root: &Path, name: &str) -> bool {
    let record = fs::read(root.join(RECORD)).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    record.is_some_and(|record| record["name"] == name)
}

/// Whether a boot was killed before it wrote a record.
fn is_unrecorded(root: &Path) -> bool {
    let is_early = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name() == DRAFT || entry.file_name() == LOGS && is_empty(&entry.path()))
    };
    fs::read_dir(root).is_ok_and(|mut entries| entries.all(is_early))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a folder of this name that holds these files, by their paths, is a cluster's.
    fn counts(name: &str, files: &[(&str, &str)]) -> bool {
        let clusters = tempfile::tempdir().unwrap();
        let root = clusters.path().join(name);
        fs::create_dir(&root).unwrap();
        for (path, content) in files {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), content).unwrap();
        }
        is_cluster(&root, &root.with_extension("lock"))
    }

    #[test]
    fn a_cluster_has_a_record_of_its_name_or_was_killed_before_it_had_one() {
        let record = r#"{"name": "prod", "of": "another version"}"#;
        assert!(counts("prod", &[(RECORD, record), ("etcd/member", "…"), ("logs/etcd.log", "…")]));
        assert!(counts("prod", &[]) && counts("prod", &[(DRAFT, "{")]));
        let clusters = tempfile::tempdir().unwrap();
        let root = clusters.path().join("prod");
        fs::create_dir_all(root.join(LOGS)).unwrap();
        assert!(is_cluster(&root, &root.with_extension("lock")));
    }

    #[test]
    fn what_others_keep_there_is_none() {
        assert!(!counts("prod", &[("kubeconfig", "theirs")]));
        assert!(!counts("prod", &[("logs/theirs.log", "…")]));
        assert!(!counts("prod", &[(RECORD, r#"{"name": "another"}"#)]));
        assert!(!counts("prod", &[(RECORD, "no JSON"), ("kubeconfig", "theirs")]));
        assert!(!counts("Prod", &[]) && !counts("p.rod", &[]));
        let clusters = tempfile::tempdir().unwrap();
        let (root, lock) = (clusters.path().join("prod"), clusters.path().join("prod.lock"));
        assert!(!is_cluster(&root, &lock), "nothing is there");
        fs::write(&lock, "theirs").unwrap();
        assert!(!is_cluster(&root, &lock));
        fs::write(&lock, "").unwrap();
        assert!(is_cluster(&root, &lock));
        fs::write(&root, "a file").unwrap();
        assert!(!is_cluster(&root, &lock));
    }
}
