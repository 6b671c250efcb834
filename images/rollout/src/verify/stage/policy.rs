//! What decides about trajectories, in one document whose digest names the verdicts: numbers are written in one way only, so that "0.50" and "0.5"
//! are one policy.

use sera_crds::contract::{CONTRACT_VERSION, Policy, StudentPolicy, VerificationPlan};
use sera_crds::values::Ratio;
use sha2::{Digest as _, Sha256};

/// The policy of these settings and this student.
pub(crate) fn policy(plan: &VerificationPlan, student: Option<&StudentPolicy>) -> Policy {
    Policy {
        version: CONTRACT_VERSION,
        measure: plan.measure,
        threshold: shortest(&plan.threshold),
        max_patch_lines: plan.max_patch_lines,
        max_mean_tool_tokens: plan.max_mean_tool_tokens,
        student: student
            .map(|student| StudentPolicy { min_kept_ratio: shortest(&student.min_kept_ratio), ..student.clone() }),
    }
}

/// The sha256 of a policy's JSON, fields in the order of their declaration, no whitespace, in lower-case hexadecimal.
pub(crate) fn digest(policy: &Policy) -> String {
    // A structure of numbers and texts can always be written.
    hex::encode(Sha256::digest(serde_json::to_vec(policy).unwrap_or_default()))
}

/// A ratio as it is written with the fewest digits.
fn shortest(ratio: &Ratio) -> Ratio {
    ratio.value().normalize().to_string().parse().unwrap_or_else(|_| ratio.clone())
}

#[cfg(test)]
mod tests {
    use sera_crds::values::{Measure, ToolCallFormat};

    use super::*;

    fn named(threshold: &str, student: Option<&str>) -> String {
        let plan = VerificationPlan { threshold: threshold.parse().unwrap(), ..VerificationPlan::default() };
        let student = student.map(|min_kept_ratio| StudentPolicy {
            tokenizer: "ab".into(),
            chat_template: "cd".into(),
            tool_call_format: ToolCallFormat::Hermes,
            context_length: 32_768,
            min_kept_ratio: min_kept_ratio.parse().unwrap(),
        });
        digest(&policy(&plan, student.as_ref()))
    }

    #[test]
    fn equal_numbers_are_one_policy_and_any_other_number_is_another() {
        assert_eq!(named("0.50", Some("0.880")), named("0.5", Some("0.88")));
        assert_eq!(named("1.0", None), named("1", None));
        let names = [named("0.5", None), named("0.51", None), named("0.5", Some("0.88")), named("0.5", Some("0.9"))];
        let distinct: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    /// Verdicts that one release wrote are found by the next.
    #[test]
    fn a_policy_keeps_its_name() {
        let plan = VerificationPlan { measure: Measure::F1, ..VerificationPlan::default() };
        let json = serde_json::to_string(&policy(&plan, None)).unwrap();
        assert_eq!(
            json,
            r#"{"version":1,"measure":"F1","threshold":"0.5","maxPatchLines":40,"maxMeanToolTokens":600}"#
        );
    }
}
