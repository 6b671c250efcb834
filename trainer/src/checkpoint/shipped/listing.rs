//! What is in a bucket's folder of checkpoints: which of them are complete, and which are removed.

use std::collections::BTreeMap;

use super::super::manifest::MANIFEST;
use super::super::prune::{Complete, kept};
use super::super::{Attempt, Manifest, folder};
use super::CHECKPOINTS;
use crate::bucket::{BucketError, Shipper};

/// The checkpoints by step and attempt, each with the names of its objects.
#[derive(Debug, Default)]
pub(super) struct Listing(BTreeMap<(u32, u32), Vec<String>>);

impl Listing {
    /// Asks for it.
    pub(super) async fn of(shipper: &Shipper) -> Result<Self, BucketError> {
        Ok(Self::from(shipper.names(CHECKPOINTS).await?))
    }

    /// The folders of those that have a manifest, the newest first.
    pub(super) fn complete(&self) -> impl Iterator<Item = String> {
        self.0.values().rev().filter_map(|names| manifest_of(names)).filter_map(|manifest| folder_of(manifest))
    }

    /// Removes those that are not needed any more once `attempt` has written that of step `written`, and what is left of those that were never
    /// complete; but nothing of a later attempt that is not complete, since it may be on its way.
    pub(super) async fn prune(&self, shipper: &Shipper, attempt: &Attempt, written: u32) -> Result<(), BucketError> {
        let mut removed: Vec<&[String]> = self.left_over(attempt.number).collect();
        let (mut folders, mut complete) = (Vec::new(), Vec::new());
        for ((step, of), names) in self.0.iter().rev() {
            if let Some(name) = manifest_of(names) {
                let manifest = manifest(shipper.read(name).await?);
                complete.push(Complete::of(*step, manifest.as_ref(), *of, attempt));
                folders.push(names.as_slice());
            }
        }
        let kept = kept(&complete, written);
        removed.extend(folders.into_iter().zip(kept).filter(|(_, kept)| !kept).map(|(names, _)| names));
        for names in removed {
            remove(shipper, names).await?;
        }
        Ok(())
    }

    /// The objects of those without a manifest, of an attempt and those before it.
    fn left_over(&self, attempt: u32) -> impl Iterator<Item = &[String]> {
        let left = self.0.iter().rev().filter(move |((_, of), names)| *of <= attempt && manifest_of(names).is_none());
        left.map(|(_, names)| names.as_slice())
    }
}

/// The manifest that was read, if there is one and it is one.
fn manifest(content: Option<bytes::Bytes>) -> Option<Manifest> {
    serde_json::from_slice(&content?).ok()
}

impl From<Vec<String>> for Listing {
    fn from(names: Vec<String>) -> Self {
        let mut found: BTreeMap<(u32, u32), Vec<String>> = BTreeMap::new();
        for name in names {
            let within = name.strip_prefix(CHECKPOINTS).and_then(|name| name.strip_prefix('/'));
            if let Some((step, attempt, _)) = within.and_then(folder::parsed) {
                found.entry((step, attempt)).or_default().push(name);
            }
        }
        Self(found)
    }
}

/// Takes a checkpoint's manifest away first, so that half of it never counts.
async fn remove(shipper: &Shipper, names: &[String]) -> Result<(), BucketError> {
    if let Some(manifest) = manifest_of(names) {
        shipper.delete(manifest).await?;
    }
    for name in names.iter().filter(|name| !is_manifest(name)) {
        shipper.delete(name).await?;
    }
    Ok(())
}

fn manifest_of(names: &[String]) -> Option<&String> {
    names.iter().find(|name| is_manifest(name))
}

fn is_manifest(name: &str) -> bool {
    name.rsplit('/').next() == Some(MANIFEST)
}

fn folder_of(manifest: &str) -> Option<String> {
    manifest.rsplit_once('/').map(|(folder, _)| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_manifest_is_complete_and_the_newest_step_of_the_newest_attempt_comes_first() {
        let names = [
            "checkpoints/a1/step-000007/manifest.json",
            "checkpoints/a1/step-000007/losses.jsonl",
            "checkpoints/a2/step-000007/manifest.json",
            "checkpoints/a10/step-000009/rank-0000-of-0001.safetensors",
            "checkpoints/a3/step-000008/manifest.json",
            "checkpoints/notes.txt",
        ];
        let listing = Listing::from(names.map(str::to_owned).to_vec());
        let complete: Vec<String> = listing.complete().collect();
        assert_eq!(
            complete,
            ["checkpoints/a3/step-000008", "checkpoints/a2/step-000007", "checkpoints/a1/step-000007"]
        );
    }

    #[test]
    fn what_is_not_complete_goes_but_not_of_a_later_attempt_which_may_be_writing_it() {
        let names = [
            "checkpoints/a1/step-000009/losses.jsonl",
            "checkpoints/a1/step-000007/manifest.json",
            "checkpoints/a2/step-000008/rank-0000-of-0001.safetensors",
            "checkpoints/a3/step-000008/rank-0000-of-0001.safetensors",
        ];
        let listing = Listing::from(names.map(str::to_owned).to_vec());
        assert_eq!(listing.left_over(2).flatten().collect::<Vec<_>>(), [names[0], names[2]]);
        assert_eq!(listing.left_over(3).flatten().collect::<Vec<_>>(), [names[0], names[3], names[2]]);
    }
}
