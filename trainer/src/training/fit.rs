//! Whether a training fits into a rank's memory: asked before any weight is read, since the longest line may come hours after the first step.

use candle_core::Device;
use sera_crds::contract::TrainingPlan;

use super::error::TrainingError;
use super::inputs::Inputs;
use super::machine::Available;
use super::memory::{Bytes, Flashed, Need, readable};
use crate::device;
use crate::engine::{EngineError, Line, Settings};
use crate::ops::AttentionBy;

/// What is kept of blocks so that it need not be computed again has to leave the training within the memory that there is, divided by this: the rest
/// is for whatever else runs there, and for files that the system keeps at hand.
const KEEPING: u64 = 2;

/// What a rank of `world` needs; where that is more than is `available`, an error that says what would fit. Says in `settings` what is kept of a
/// forward pass.
pub(super) fn into_memory(
    inputs: &Inputs,
    plan: &TrainingPlan,
    settings: &mut Settings,
    device: &Device,
    world: usize,
    available: Available,
) -> Result<Bytes, TrainingError> {
    // Lines that are only watched go through the model too, and may be longer.
    let watched = inputs.eval.as_ref().map(|eval| eval.lines.as_slice()).unwrap_or_default();
    let sets = [inputs.train.lines.as_slice(), watched];
    let tokens = longest_sequence(sets, settings.packing);
    let held = device::hold_sequence(device, inputs.student.config(), usize::try_from(tokens).unwrap_or(usize::MAX));
    held.map_err(EngineError::from)?;
    let need = Need {
        config: inputs.student.config(),
        method: &plan.method,
        sharding: plan.sharding,
        world: world as u64,
        width: settings.compute.size_in_bytes() as u64,
        tokens,
        offload: plan.offload && !device.is_cpu(),
        on_cpu: device.is_cpu(),
        kept: 0,
        flash: device::multiprocessors(device)
            .filter(|_| settings.attention == AttentionBy::Flash)
            .map(|multiprocessors| Flashed { sequences: most_sequences(sets, settings.packing), multiprocessors }),
    };
    waits_on_host(&need, available.host)?;
    let available = available.device;
    // Unverified on GPUs: there everything is computed again.
    let kept = available.filter(|_| device.is_cpu()).map_or(0, |available| need.blocks_that_fit(available / KEEPING));
    settings.keep.blocks = usize::try_from(kept).unwrap_or(usize::MAX);
    let need = Need { kept, ..need };
    let bytes = need.bytes();
    let Some(available) = available.filter(|available| bytes.total() > *available) else { return Ok(bytes) };
    let fitting = need.what_would_fit(available);
    let fitting = if fitting.is_empty() {
        "no single change would make it fit: take a smaller student or a larger machine".to_owned()
    } else {
        format!("it would fit with one of: {}", fitting.join(", "))
    };
    let (needed, available) = (readable(bytes.total()), readable(available));
    Err(TrainingError::Memory { needed, available, fitting })
}

/// Refuses to keep more in the host's memory than a rank has of it: a pod would be killed for it, in the first long line.
fn waits_on_host(need: &Need<'_>, host: Option<u64>) -> Result<(), TrainingError> {
    let needed = need.on_host();
    match host {
        Some(available) if needed > available => {
            Err(TrainingError::HostMemory { needed: readable(needed), available: readable(available) })
        }
        _ => Ok(()),
    }
}

/// The most tokens that go through the model at once: the longest line's, or what lines of one set that share a sequence may come to.
fn longest_sequence(sets: [&[Line]; 2], packing: Option<usize>) -> u64 {
    let of = |lines: &[Line]| {
        let lengths = || lines.iter().map(|line| line.ids.len() as u64);
        let longest = lengths().max().unwrap_or_default();
        packing.map_or(longest, |most| longest.max(lengths().sum::<u64>().min(most as u64)))
    };
    sets.map(of).into_iter().max().unwrap_or_default()
}

/// The most lines that share what goes through the model at once: the shortest of a set, as many as there is room for.
fn most_sequences(sets: [&[Line]; 2], packing: Option<usize>) -> u64 {
    let Some(most) = packing else { return 1 };
    let of = |lines: &[Line]| {
        let mut lengths: Vec<usize> = lines.iter().map(|line| line.ids.len()).collect();
        lengths.sort_unstable();
        let ends = lengths.iter().scan(0_usize, |end, length| {
            *end = end.saturating_add(*length);
            Some(*end)
        });
        ends.take_while(|end| *end <= most).count().max(1) as u64
    };
    sets.map(of).into_iter().max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use sera_crds::contract::MethodPlan;
    use sera_crds::values::Sharding;

    use super::*;
    use crate::model::testing::qwen3_8b;
    use crate::training::testing::need;

    #[test]
    fn what_waits_on_the_host_is_held_against_its_memory_and_refused_by_the_field() {
        let (config, method) = (qwen3_8b(), MethodPlan::Full {});
        let need = Need { sharding: Sharding::Zero3, world: 8, offload: true, ..need(&config, &method) };
        let failure = waits_on_host(&need, Some(8 << 30)).unwrap_err().failure();
        assert_eq!(
            (failure.reason.as_str(), failure.field.as_deref()),
            ("MemoryTooSmall", Some("spec.training.offload"))
        );
        assert!(failure.message.contains("keeps 9.00 GiB") && failure.message.contains("has 8.00 GiB"), "{failure:?}");
        assert!(waits_on_host(&need, Some(9 << 30)).is_ok() && waits_on_host(&need, None).is_ok());
        assert!(waits_on_host(&Need { offload: false, ..need }, Some(0)).is_ok());
    }

    fn line(length: usize) -> Line {
        Line { id: String::new(), ids: vec![0; length], loss: vec![true; length] }
    }

    #[test]
    fn lines_that_share_a_sequence_need_the_memory_of_the_sequence() {
        let lines = [line(10), line(30), line(20)];
        let tokens = [None, Some(16), Some(40), Some(100)].map(|packing| longest_sequence([&lines, &[]], packing));
        assert_eq!(tokens, [30, 30, 40, 60], "a line that is too long for it has a sequence to itself");
    }

    #[test]
    fn as_many_lines_share_a_sequence_as_the_shortest_leave_room_for() {
        let (lines, watched) = ([line(10), line(30), line(20)], [line(5), line(5), line(5), line(50)]);
        let counts =
            [None, Some(16), Some(29), Some(30), Some(100)].map(|packing| most_sequences([&lines, &[]], packing));
        assert_eq!(counts, [1, 1, 1, 2, 3]);
        assert_eq!(most_sequences([&lines, &watched], Some(30)), 3);
    }

    #[test]
    fn lines_to_watch_that_are_longer_than_those_to_train_on_are_what_is_needed() {
        let (short, long) = ([line(10), line(10)], [line(50)]);
        let either = [[&short[..], &long[..]], [&long[..], &short[..]], [&short[..], &short[..]]];
        assert_eq!(either.map(|sets| longest_sequence(sets, None)), [50, 50, 10]);
        assert_eq!(longest_sequence([&short, &long], Some(60)), 50, "the two are never in one sequence");
    }
}
