//! What else the store tells of the run that made the student, for the page: the dataset, how much of first patches second rollouts found, and the loss.
//! None of it decides anything, and all of it may be missing.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sera_crds::contract::{DatasetManifest, Verdict};

use crate::store::{Store, StoreError};

/// The curve that the trainer draws.
const LOSS: &str = "loss.svg";
const DATASET: &str = "dataset/manifest.json";
/// Bins of the histogram of recall.
const BINS: usize = 10;

/// What there is to tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Story {
    pub(super) dataset: Option<DatasetManifest>,
    /// How many second rollouts had which recall, in tenths; 1 belongs to the last.
    pub(super) recall: [u64; BINS],
    /// The loss curve, an SVG in base64: as a picture nothing in it is executed.
    pub(super) loss: Option<String>,
}

/// Reads what is there; what cannot be understood is left out, and said in the log.
pub(super) async fn read(store: &Store) -> Result<Story, StoreError> {
    let mut story = Story::default();
    if let Some(content) = store.read(DATASET).await? {
        match serde_json::from_slice::<DatasetManifest>(&content) {
            Ok(manifest) => story.dataset = Some(manifest),
            Err(error) => tracing::warn!("{DATASET} is left out of the page: {error}"),
        }
    }
    for file in story.dataset.iter().flat_map(|manifest| &manifest.verdicts) {
        let Some(lines) = store.read_data(&file.name).await? else { continue };
        count(&lines, &mut story.recall);
    }
    let curve = store.read(LOSS).await?.filter(|svg| svg.starts_with(b"<svg"));
    story.loss = curve.map(|svg| BASE64_STANDARD.encode(svg));
    Ok(story)
}

/// Counts the recalls of a file of verdicts; lines that are none are left out.
fn count(lines: &[u8], recall: &mut [u64; BINS]) {
    let verdicts = lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Verdict>(line).ok());
    for found in verdicts.filter_map(|verdict| verdict.measures?.recall) {
        let bin = found.matched * BINS as u64 / found.total.max(1);
        recall[usize::try_from(bin).unwrap_or(BINS).min(BINS - 1)] += 1;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::local;

    fn verdict(matched: u64, total: u64) -> String {
        let strict = json!({"matched": 0, "first": 1, "second": 1, "parsed": true});
        let judgement = json!({"outcome": null, "rejected": "Missing", "patchLines": null, "patchSha256": null, "meanToolTokens": null, "tokens": null, "kept": null, "sketch": null});
        json!({
            "sample": 0, "function": null, "bugKind": null, "first": judgement, "second": judgement, "leaks": false,
            "measures": {"recall": {"matched": matched, "total": total}, "strict": strict},
            "usage": {"calls": 0, "promptTokens": 0, "cachedTokens": 0, "completionTokens": 0},
        })
        .to_string()
    }

    #[test]
    fn recalls_are_counted_in_tenths() {
        let mut recall = [0; BINS];
        let lines = [verdict(0, 7), verdict(1, 2), verdict(3, 3), "no verdict".to_owned(), String::new()].join("\n");
        count(lines.as_bytes(), &mut recall);
        assert_eq!(recall, [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    }

    #[tokio::test]
    async fn what_is_not_there_or_not_understood_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = local(folder.path());
        let story = read(&store).await.unwrap();
        assert!(story.dataset.is_none() && story.loss.is_none() && story.recall == [0; BINS]);
        std::fs::create_dir(folder.path().join("dataset")).unwrap();
        std::fs::write(folder.path().join(DATASET), "{}").unwrap();
        std::fs::write(folder.path().join(LOSS), "<html>").unwrap();
        let story = read(&store).await.unwrap();
        assert!(story.dataset.is_none() && story.loss.is_none());
        std::fs::write(folder.path().join(LOSS), "<svg/>").unwrap();
        assert_eq!(read(&store).await.unwrap().loss.as_deref(), Some("PHN2Zy8+"));
    }
}
