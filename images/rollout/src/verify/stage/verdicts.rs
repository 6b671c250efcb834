//! A batch's verdicts: duplicates among them, the file that they become, and what is counted of them. Counts come from verdicts alone, so that a
//! message that was lost is had again from the file.

use std::collections::{BTreeMap, HashSet};

use sera_crds::contract::{Judgement, Rejection, Verdict, VerificationCounts};

/// Patches that were accepted, by their sha256; of first and of second rollouts apart, as those of one sample may be the same.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    first: HashSet<String>,
    second: HashSet<String>,
}

impl Accepted {
    /// Rejects what equals an accepted patch of an earlier sample. Verdicts come in the order of their samples.
    pub(super) fn weed(&mut self, verdict: &mut Verdict) {
        weed(&mut self.first, &mut verdict.first);
        weed(&mut self.second, &mut verdict.second);
    }
}

fn weed(accepted: &mut HashSet<String>, judgement: &mut Judgement) {
    let Some(patch) = &judgement.patch_sha256 else { return };
    if accepted.contains(patch) {
        // Another reason may come first.
        let reasons = [Some(Rejection::DuplicatePatch), judgement.rejected];
        judgement.rejected = reasons.into_iter().flatten().min();
    } else if judgement.rejected.is_none() {
        accepted.insert(patch.clone());
    }
}

/// A file of verdicts.
pub(super) fn encode(verdicts: &[Verdict]) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::new();
    for verdict in verdicts {
        serde_json::to_writer(&mut lines, verdict)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// The verdicts of a file.
pub(super) fn decode(lines: &[u8]) -> Result<Vec<Verdict>, serde_json::Error> {
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect()
}

/// Adds verdicts to what was counted.
pub(super) fn count(counts: &mut VerificationCounts, verdicts: &[Verdict]) {
    for verdict in verdicts {
        counts.attempted += 1;
        counts.leaks += u64::from(verdict.leaks);
        counts.usage += verdict.usage;
        accept(&mut counts.accepted_first, &mut counts.rejected, &verdict.first);
        accept(&mut counts.accepted_second, &mut counts.rejected, &verdict.second);
        if let Some(recall) = verdict.measures.as_ref().and_then(|measures| measures.recall) {
            let bins = counts.recall_histogram.len();
            let bin = recall.matched.saturating_mul(bins as u64) / recall.total.max(1);
            let bin = usize::try_from(bin).map_or(bins - 1, |bin| bin.min(bins - 1));
            counts.recall_histogram[bin] += 1;
            counts.recall_millionths += recall.millionths();
            if verdict.leaks {
                counts.leaked += 1;
                counts.leaked_millionths += recall.millionths();
            }
        }
    }
}

fn accept(accepted: &mut u64, rejected: &mut BTreeMap<String, u64>, judgement: &Judgement) {
    match judgement.rejected {
        None => *accepted += 1,
        Some(reason) => *rejected.entry(word(reason)).or_default() += 1,
    }
}

/// A reason as it is written in verdicts.
fn word(reason: Rejection) -> String {
    // A unit variant's name is all that there is to print.
    format!("{reason:?}")
}

#[cfg(test)]
mod tests {
    use sera_crds::contract::{Artifact, Fraction, Measures, StageResult, StrictMeasures, Termination, Usage};

    use super::*;

    fn judgement(patch: &str, rejected: Option<Rejection>) -> Judgement {
        Judgement {
            outcome: None,
            rejected,
            patch_lines: None,
            patch_sha256: Some(patch.into()),
            mean_tool_tokens: None,
            tokens: None,
            kept: None,
            sketch: None,
        }
    }

    fn verdict(sample: u64, first: Judgement, second: Judgement, recall: Option<(u64, u64)>) -> Verdict {
        let strict = StrictMeasures { matched: 0, first: 1, second: 1, parsed: true };
        Verdict {
            sample,
            function: None,
            bug_kind: None,
            first,
            second,
            measures: recall.map(|(matched, total)| Measures { recall: Some(Fraction { matched, total }), strict }),
            leaks: sample == 2,
            usage: Usage { calls: 3, prompt_tokens: 50, cached_tokens: 40, completion_tokens: 7 },
            rehearsal: sample == 3,
        }
    }

    #[test]
    fn the_second_of_two_accepted_patches_is_a_duplicate_and_one_of_the_other_kind_is_not() {
        use Rejection::*;
        let mut verdicts = [
            verdict(0, judgement("a", Some(TooLong)), judgement("x", None), None),
            verdict(1, judgement("a", None), judgement("a", None), None),
            verdict(2, judgement("a", None), judgement("x", Some(TooLong)), None),
            verdict(3, judgement("a", Some(NotSubmitted)), judgement("b", None), None),
            verdict(4, judgement("b", None), judgement("x", Some(BelowThreshold)), None),
        ];
        let mut accepted = Accepted::default();
        verdicts.iter_mut().for_each(|verdict| accepted.weed(verdict));
        let rejected = verdicts.each_ref().map(|verdict| (verdict.first.rejected, verdict.second.rejected));
        assert_eq!(
            rejected,
            [
                (Some(TooLong), None),
                (None, None),
                (Some(DuplicatePatch), Some(DuplicatePatch)),
                (Some(NotSubmitted), None),
                (None, Some(DuplicatePatch)),
            ]
        );
    }

    #[test]
    fn a_file_gives_its_verdicts_back_and_its_counts() {
        let verdicts = [
            verdict(1, judgement("a", None), judgement("b", Some(Rejection::BelowThreshold)), Some((1, 3))),
            verdict(2, judgement("c", Some(Rejection::HeldOut)), judgement("d", None), Some((4, 4))),
            verdict(3, judgement("e", Some(Rejection::Missing)), judgement("f", Some(Rejection::Missing)), None),
        ];
        let file = encode(&verdicts).unwrap();
        assert_eq!(file.split(|byte| *byte == b'\n').count() - 1, 3);
        assert_eq!(decode(&file).unwrap(), verdicts);
        let mut counts = VerificationCounts::default();
        count(&mut counts, &decode(&file).unwrap());
        let rejected = [("BelowThreshold", 1), ("HeldOut", 1), ("Missing", 2)].map(|(why, n)| (why.to_owned(), n));
        assert_eq!(
            counts,
            VerificationCounts {
                attempted: 3,
                accepted_first: 1,
                accepted_second: 1,
                rejected: rejected.into(),
                recall_histogram: [0, 0, 0, 1, 0, 0, 0, 0, 0, 1],
                recall_millionths: 1_333_333,
                // Sample 2 is the one whose text gives a line away.
                leaked: 1,
                leaked_millionths: 1_000_000,
                leaks: 1,
                usage: Usage { calls: 9, prompt_tokens: 150, cached_tokens: 120, completion_tokens: 21 },
            }
        );
    }

    #[test]
    fn a_reason_is_counted_under_the_word_that_verdicts_have() {
        for reason in ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), word(reason));
        }
    }

    const ALL: [Rejection; 13] = [
        Rejection::Missing,
        Rejection::NotSubmitted,
        Rejection::RefusedByReview,
        Rejection::EmptyPatch,
        Rejection::HeldOut,
        Rejection::DuplicatePatch,
        Rejection::BelowThreshold,
        Rejection::PatchTooLong,
        Rejection::ToolOutputTooLong,
        Rejection::Malformed,
        Rejection::TooLong,
        Rejection::Secret,
        Rejection::NearDuplicate,
    ];

    /// The message about so many samples, each of them everything at once, with a million calls and tokens.
    fn message(path: String, samples: u64) -> String {
        let tokens = samples * 1_000_000;
        let counts = VerificationCounts {
            attempted: samples,
            accepted_first: samples,
            accepted_second: samples,
            rejected: ALL.iter().map(|reason| (word(*reason), 2 * samples)).collect(),
            recall_histogram: [samples; 10],
            recall_millionths: tokens,
            leaked: samples,
            leaked_millionths: tokens,
            leaks: samples,
            usage: Usage { calls: tokens, prompt_tokens: tokens, cached_tokens: tokens, completion_tokens: tokens },
        };
        let verdicts = Artifact { path, sha256: "f".repeat(64) };
        Termination::succeeded(StageResult::Verification { verdicts, policy: "a".repeat(64), counts }).to_json()
    }

    #[test]
    fn the_largest_reports_fit_a_kibibyte() {
        // The largest batch, with the longest name, and the largest run, of which the folder is told.
        let batch = message(format!("verified/{}/{}.jsonl", "b".repeat(46), "a".repeat(64)), 100_000);
        let run = message("verified".to_owned(), 20_000_000);
        assert!(batch.len() <= 1024 && run.len() <= 1024, "{} and {} bytes", batch.len(), run.len());
    }
}
