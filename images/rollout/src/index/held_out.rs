//! Which files are set aside for evaluation: by a hash of their paths, whole files together, and the same ones at every commit. Files that are nearly
//! the same, or the same under another name, go together, so that no twin of what is set aside is trained on.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};

/// A name and a text that more files than this have tells nothing of kinship.
const MAX_SHARERS: usize = 8;
/// Two files are kin if they share this many functions, and half of those of the smaller.
const MIN_SHARED: usize = 3;

/// A file with what tells its functions apart: a digest of each one's name and text.
pub(super) struct Fingerprint<'a> {
    pub(super) path: &'a str,
    pub(super) functions: &'a [u64],
}

/// Chooses files with about `fraction` (numerator and denominator) of all functions. Paths may come several times, once for each commit.
pub(super) fn choose<'a>(files: &[Fingerprint<'a>], seed: u64, (share, of): (u128, u128)) -> HashSet<&'a str> {
    let mut functions: BTreeMap<&str, u64> = BTreeMap::new();
    for file in files {
        *functions.entry(file.path).or_default() += file.functions.len() as u64;
    }
    let total: u64 = functions.values().sum();
    let wanted = u128::from(total) * share / of.max(1);
    let mut groups: BTreeMap<&str, (Vec<&str>, u128)> = BTreeMap::new();
    for (path, leader) in kin(files) {
        let (members, size) = groups.entry(leader).or_default();
        members.push(path);
        *size += u128::from(functions.get(path).copied().unwrap_or_default());
    }
    let mut groups: Vec<_> = groups.into_iter().map(|(leader, group)| (rank(seed, leader), group)).collect();
    groups.sort_unstable();

    let mut chosen = HashSet::new();
    let mut size = 0;
    for (_, (members, functions)) in groups {
        // Taken if that brings the sum nearer to what is wanted; a group that is too large is passed over for the next.
        if size + functions <= wanted || (size + functions - wanted) < wanted.saturating_sub(size) {
            chosen.extend(members);
            size += functions;
        }
    }
    chosen
}

/// Where a file comes in the order in which files are set aside: sha256 over a label, the seed (8 bytes, little-endian) and the path.
fn rank(seed: u64, path: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"sera/held-out/v1\0");
    hash.update(seed.to_le_bytes());
    hash.update(path.as_bytes());
    hash.finalize().into()
}

/// For each path the first of those that it is kin to, itself among them.
fn kin<'a>(files: &[Fingerprint<'a>]) -> BTreeMap<&'a str, &'a str> {
    let mut paths: Vec<&str> = files.iter().map(|file| file.path).collect();
    paths.sort_unstable();
    paths.dedup();
    let place: HashMap<&str, usize> = paths.iter().enumerate().map(|(at, path)| (*path, at)).collect();

    let mut has: Vec<HashSet<u64>> = vec![HashSet::new(); paths.len()];
    for file in files {
        has[place[file.path]].extend(file.functions);
    }
    let mut sharers: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, functions) in has.iter().enumerate() {
        for function in functions {
            sharers.entry(*function).or_default().push(at);
        }
    }
    let mut shared: HashMap<(usize, usize), usize> = HashMap::new();
    for sharers in sharers.values().filter(|sharers| (2..=MAX_SHARERS).contains(&sharers.len())) {
        for (nth, one) in sharers.iter().enumerate() {
            for other in &sharers[nth + 1..] {
                *shared.entry((*one.min(other), *one.max(other))).or_default() += 1;
            }
        }
    }
    let mut groups = Groups((0..paths.len()).collect());
    for ((one, other), count) in shared {
        if count >= MIN_SHARED && count * 2 >= has[one].len().min(has[other].len()) {
            groups.join(one, other);
        }
    }
    paths.iter().enumerate().map(|(at, path)| (*path, paths[groups.leader(at)])).collect()
}

/// Sets that grow together; the leader of each is its smallest member, whatever the order of joining.
struct Groups(Vec<usize>);

impl Groups {
    fn leader(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.leader(one), self.leader(other));
        self.0[one.max(other)] = one.min(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of 1 to 40 functions each, no two alike.
    fn files(count: u64) -> Vec<(String, Vec<u64>)> {
        (0..count).map(|n| (format!("src/f{n}.py"), (0..=n * 7 % 40).map(|f| n * 1000 + f).collect())).collect()
    }

    fn fingerprints(files: &[(String, Vec<u64>)]) -> Vec<Fingerprint<'_>> {
        files.iter().map(|(path, functions)| Fingerprint { path, functions }).collect()
    }

    #[test]
    fn the_share_is_that_of_functions_and_whole_files_are_set_aside() {
        let files = files(400);
        let total: usize = files.iter().map(|(_, functions)| functions.len()).sum();
        for (seed, percent) in [(1, 5), (2, 5), (3, 20), (4, 50)] {
            let chosen = choose(&fingerprints(&files), seed, (percent, 100));
            let kept: usize =
                files.iter().filter(|(path, _)| chosen.contains(path.as_str())).map(|(_, has)| has.len()).sum();
            let off = (kept * 100).abs_diff(total * usize::try_from(percent).unwrap());
            assert!(off <= 100 * 20, "{kept} of {total} for {percent}%");
        }
        assert!(choose(&fingerprints(&files), 1, (0, 1)).is_empty());
    }

    #[test]
    fn the_choice_depends_on_seed_and_files_alone() {
        let files = files(200);
        let mut turned = fingerprints(&files);
        turned.reverse();
        let chosen = choose(&fingerprints(&files), 7, (1, 10));
        assert_eq!(choose(&turned, 7, (1, 10)), chosen);
        assert_ne!(choose(&turned, 8, (1, 10)), chosen);
        let mut golden: Vec<&str> = chosen.into_iter().collect();
        golden.sort_unstable();
        assert_eq!(golden[..3], GOLDEN);
    }

    /// What a release chose stays chosen by the next.
    const GOLDEN: [&str; 3] = ["src/f1.py", "src/f105.py", "src/f109.py"];

    #[test]
    fn a_file_that_was_renamed_or_copied_goes_with_its_twin() {
        let originals = files(20);
        let renamed = originals.iter().map(|(path, functions)| {
            // One function was changed on the way.
            let changed = |function: &u64| if function.is_multiple_of(1000) { function + 999 } else { *function };
            (path.replace("src/", "lib/"), functions.iter().map(changed).collect())
        });
        let all: Vec<_> = files(100).into_iter().chain(renamed).collect();
        for seed in 0..20 {
            let chosen = choose(&fingerprints(&all), seed, (1, 5));
            for (path, _) in originals.iter().filter(|(_, functions)| functions.len() > 6) {
                let twin = path.replace("src/", "lib/");
                assert_eq!(chosen.contains(path.as_str()), chosen.contains(twin.as_str()), "{twin}");
            }
        }
    }

    #[test]
    fn a_lone_file_that_is_all_there_is_stays_for_training() {
        let files = [("a.py".to_owned(), vec![1, 2, 3, 4])];
        assert!(choose(&fingerprints(&files), 1, (5, 100)).is_empty());
    }
}
