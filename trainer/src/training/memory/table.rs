//! The memory of many plans side by side, in Markdown: by method, ranks and sharding, and on which GPUs each fits. Figures are those of [`Need`].

use std::fmt::Write as _;

use sera_crds::contract::MethodPlan;
use sera_crds::values::Sharding;

use super::counts::counts;
use super::sum::grouped;
use super::{Need, Sums, readable};

/// GPUs by the memory that they are sold with, in bytes. What a process can have of it differs by driver and is more than that number in units of
/// 10^9 (an H100 of 80 GB shows 79.6 GiB, which are 85.5 GB): the difference is left to the context of the GPU and to what is lost between buffers.
pub const DEVICES: [(&str, u64); 2] = [("H100, 80 GB", 80_000_000_000), ("H200, 141 GB", 141_000_000_000)];

/// How many ranks the lines of a table have.
const RANKS: [u64; 4] = [1, 4, 8, 16];

/// A table of `need` with each of `methods`, one rank to 16, and every way of sharding, with and without blocks' inputs in the host's memory.
pub fn table(need: &Need<'_>, methods: &[(&str, MethodPlan)]) -> String {
    let mut text = String::new();
    for (name, method) in methods {
        let counted = counts(need.config, method);
        let _ = writeln!(
            text,
            "- {name}: {} values, {} trained; of the largest unit {} and {}",
            grouped(counted.all),
            grouped(counted.trained),
            grouped(counted.largest),
            grouped(counted.largest_trained)
        );
    }
    let (staying, offloaded) = (Need { offload: false, ..*need }.sums(), Need { offload: true, ..*need }.sums());
    for (name, sum) in [
        ("activations", &staying.activations),
        ("activations with `offload`", &offloaded.activations),
        ("logits", &staying.logits),
    ] {
        let _ = writeln!(text, "- {name}: {sum} = {}", readable(sum.bytes()));
    }
    let devices: String = DEVICES.iter().map(|(name, _)| format!(" {name} |")).collect();
    let _ = writeln!(
        text,
        "\n| method | ranks | sharding | weights | gradients | optimizer | a rank | with `offload` |{devices}\n|---|---|---|---|---|---|---|---|{}",
        "---|".repeat(DEVICES.len())
    );
    for (name, method) in methods {
        for world in RANKS {
            for sharding in [Sharding::None, Sharding::Zero1, Sharding::Zero2, Sharding::Zero3] {
                if world > 1 || sharding == Sharding::None {
                    text.push_str(&line(name, &Need { method, sharding, world, ..*need }));
                }
            }
        }
    }
    text
}

fn line(name: &str, need: &Need<'_>) -> String {
    let totals = [false, true].map(|offload| Need { offload, ..*need }.bytes().total());
    let fits = |(_, memory): &(&str, u64)| match totals {
        [all, _] if all <= *memory => " yes |",
        [_, offloaded] if offloaded <= *memory => " with `offload` |",
        _ => " no |",
    };
    let Sums { weights, gradients, optimizer, .. } = need.sums();
    let parts: String =
        [weights, gradients, optimizer].iter().map(|sum| format!(" {sum} = {} |", readable(sum.bytes()))).collect();
    format!(
        "| {name} | {} | {} |{parts} {} | {} |{}\n",
        need.world,
        need.sharding,
        readable(totals[0]),
        readable(totals[1]),
        DEVICES.iter().map(fits).collect::<String>()
    )
}
