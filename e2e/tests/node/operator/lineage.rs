//! From the lines of a dataset back to what they were made of: the records of rollouts, and the patches and trajectories that these name.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use sera_crds::contract::{Lineage, RolloutRecord};
use sha2::{Digest, Sha256};

use super::ground::Ground;

/// What stands between the parts of what the store shows.
const NEXT: &str = "====";

/// Whether each of the dataset's `lines` leads back to the rollout that it was made of: its record is committed, and the patch and the trajectory that
/// the record names lie in the store, and are those of which the lineage has the digests. `folder`: where the run's store is mounted.
pub(super) async fn leads_back(ground: &Ground, folder: &str, lines: usize) -> Result<()> {
    let script = format!(
        "cd {folder}
         cat dataset/lineage.jsonl
         echo {NEXT}
         cat dataset/train.jsonl dataset/eval.jsonl | sed 's/.*\"instance_id\":\"\\([^\"]*\\)\".*/\\1/'
         echo {NEXT}
         cat rollouts/*/*/t[12].json
         echo {NEXT}
         sha256sum rollouts/*/*/*/p[12].diff rollouts/*/*/*/t[12].json.zst"
    );
    let seen = ground.in_store("lineage", &script).await?;
    let [lineage, made, records, digests]: [&str; 4] = seen
        .split(&format!("{NEXT}\n"))
        .collect::<Vec<_>>()
        .try_into()
        .ok()
        .context("the store shows something else")?;
    let lineage: Vec<Lineage> = of_json(lineage)?;
    let records: Vec<RolloutRecord> = of_json(records)?;
    // A digest, two spaces, and the file.
    let digests: BTreeMap<&str, &str> =
        digests.lines().filter_map(|line| line.split_once("  ")).map(|(digest, file)| (file, digest)).collect();

    let named: Vec<&str> = lineage.iter().map(|line| line.instance_id.as_str()).collect();
    ensure!(named.len() == lines && named == made.lines().collect::<Vec<_>>(), "{named:?} are not {made}");
    let nothing = hex::encode(Sha256::digest(""));
    for line in &lineage {
        let mut found = records.iter().filter(|record| (record.sample, record.rollout) == (line.sample, line.rollout));
        let record = found.next().with_context(|| format!("no record for {line:?}"))?;
        let place = format!("rollouts/{}/{}/{}", line.batch, line.sample, record.folder);
        for (file, digest) in
            [(&record.patch.name, &line.patch_sha256), (&record.trajectory.name, &line.trajectory_sha256)]
        {
            let file = format!("{place}/{file}");
            let there = digests.get(file.as_str()).copied().with_context(|| format!("no {file} for {line:?}"))?;
            ensure!(there == digest.as_str() && there != nothing, "{file} is {there}, and not of {line:?}");
        }
    }
    Ok(())
}

fn of_json<T: serde::de::DeserializeOwned>(lines: &str) -> Result<Vec<T>> {
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| format!("it is no document: {line}"))).collect()
}
