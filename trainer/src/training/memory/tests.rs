//! What is planned, by hand for a known model, and what follows from it.

use super::testing::need;
use super::*;
use crate::model::testing::qwen3_8b;

/// A pack of up to three lines on an H100.
const FLASH: Option<Flashed> = Some(Flashed { sequences: 3, multiprocessors: 132 });

#[test]
fn what_is_told_of_a_sum_comes_to_what_is_planned() {
    let config = qwen3_8b();
    for method in [MethodPlan::Full {}, MethodPlan::Lora(LoraPlan::default())] {
        for (sharding, world) in
            [(Sharding::None, 1), (Sharding::Zero1, 4), (Sharding::Zero2, 7), (Sharding::Zero3, 16)]
        {
            for (width, on_cpu, kept, offload, flash) in
                [(2, false, 0, true, None), (4, true, 3, false, None), (2, false, 2, false, FLASH)]
            {
                let need = Need { sharding, world, width, offload, on_cpu, kept, flash, ..need(&config, &method) };
                let Sums { weights, gradients, optimizer, activations, logits, .. } = need.sums();
                let told: u64 = [weights, gradients, optimizer, activations, logits]
                    .map(|sum| super::sum::tests::calculated(&sum.to_string()))
                    .iter()
                    .sum();
                assert_eq!(told, need.bytes().in_step(), "{need:?}");
            }
        }
    }
}

#[test]
fn a_checkpoint_on_a_cpu_may_need_more_than_a_step_and_on_a_gpu_it_takes_nothing_of_its_memory() {
    // Of one layer, beside which the embedding is large.
    let (config, method) = (Config { layers: 1, tied: true, ..qwen3_8b() }, MethodPlan::Full {});
    let with = |tokens, on_cpu| Need { tokens, width: 4, on_cpu, ..need(&config, &method) }.bytes();
    let (short, long) = (with(16, true), with(1 << 20, true));
    let (all, embedding) = (815_280_384, 622_329_856);
    assert_eq!(short.total(), (4 + 12) * all + 12 * embedding);
    assert_eq!((long.total(), long.checkpoint), (long.in_step(), 12 * embedding));
    let on_gpu = with(16, false);
    assert_eq!((on_gpu.total(), on_gpu.checkpoint), (on_gpu.in_step(), 0));
}

#[test]
fn a_checkpoint_is_a_unit_at_a_time_and_a_ranks_share_of_it_where_anything_is_divided() {
    let (config, method) = (qwen3_8b(), MethodPlan::Full {});
    let with = |sharding, world| {
        let need = Need { sharding, world, width: 4, on_cpu: true, tokens: 16, ..need(&config, &method) };
        (need.bytes().checkpoint, need.bytes().total() == need.bytes().in_step())
    };
    assert_eq!(with(Sharding::None, 1), (12 * 622_333_952, true));
    assert_eq!(with(Sharding::None, 8), (12 * 622_333_952, true));
    for sharding in [Sharding::Zero1, Sharding::Zero2, Sharding::Zero3] {
        assert_eq!(with(sharding, 8), (12 * 622_333_952 / 8, true));
    }
}

#[test]
fn each_way_of_sharding_divides_one_thing_more() {
    let (config, method) = (qwen3_8b(), MethodPlan::Full {});
    let with = |sharding| Need { sharding, world: 8, ..need(&config, &method) }.bytes();
    let (none, one, two, three) =
        (with(Sharding::None), with(Sharding::Zero1), with(Sharding::Zero2), with(Sharding::Zero3));
    assert_eq!(none.optimizer, 12 * 8_190_735_360);
    assert_eq!((one.optimizer * 8, one.gradients, one.weights), (none.optimizer, none.gradients, none.weights));
    assert!(two.gradients < one.gradients / 3 && two.weights == one.weights && two.optimizer == one.optimizer);
    assert!(three.weights < two.weights / 3 && three.gradients == two.gradients);
}

#[test]
fn flash_attention_has_room_of_its_own_and_no_scores() {
    let (config, method) = (qwen3_8b(), MethodPlan::Full {});
    let [chunked, flash] = [None, FLASH].map(|flash| Need { flash, ..need(&config, &method) }.bytes().activations);
    let (scores, tokens) = (4 * 4 * (1 << 24), 32_768);
    // 32 heads of 128: five copies of one sequence are more than two of three.
    let (sums, parts) = (32 * (tokens + 3 * 128), 5 * 32 * 128 * (tokens + 128));
    let expanded = tokens * 32 * 128 * (2 + 2 + 4);
    let gated = 7 * 4 * (1 << 23);
    assert_eq!(flash - (chunked - scores), 4 * tokens * 32 + 4 * sums + 4 * parts + expanded + gated);
}

#[test]
fn a_short_line_has_more_of_what_is_gated_at_once_than_of_scores() {
    let (config, method) = (qwen3_8b(), MethodPlan::Full {});
    let of = |tokens| Need { tokens, ..need(&config, &method) }.bytes().activations;
    let beside = |tokens: u64| of(tokens) - tokens * (4 + 36) * 4096 * 2 - tokens * 64_512 * 2 - tokens * 49_152 * 4;
    assert_eq!(beside(256), 7 * 4 * 256 * 12_288);
    assert_eq!(beside(4096), 4 * 4 * (1 << 24));
}

#[test]
fn the_unit_that_is_gathered_ahead_is_counted_beside_the_one_that_is_computed_with() {
    let (config, method) = (qwen3_8b(), MethodPlan::Full {});
    let with = |width, on_cpu| {
        let need = Need { sharding: Sharding::Zero3, world: 8, width, on_cpu, ..need(&config, &method) };
        need.bytes().weights
    };
    let largest = 622_333_952;
    assert_eq!([with(4, true), with(2, true)], [(4 + 4) * largest, (2 + 4) * largest]);
    assert_eq!([with(4, false), with(2, false)], [(4 + 2 * 4) * largest, (2 + 2 * 2) * largest]);
}

#[test]
fn what_would_fit_is_said_and_is_true() {
    let (config, method) = (qwen3_8b(), MethodPlan::Full {});
    let need = Need { world: 8, ..need(&config, &method) };
    let available = 80 << 30;
    assert!(need.bytes().total() > available);
    let fitting = need.what_would_fit(available);
    assert!(fitting.iter().any(|words| words.starts_with("sharding ZeRO2")), "{fitting:?}");
    assert!(fitting.iter().any(|words| words.starts_with("method lora")), "{fitting:?}");
    assert!(need.what_would_fit(1 << 30).is_empty());
}

#[test]
fn inputs_that_wait_on_the_host_take_its_memory_where_that_is_another() {
    let (config, method) = (qwen3_8b(), MethodPlan::Full {});
    let on_host = |offload, on_cpu| Need { offload, on_cpu, ..need(&config, &method) }.on_host();
    assert_eq!(on_host(true, false), 32_768 * 36 * 4096 * 2);
    assert_eq!((on_host(false, false), on_host(true, true)), (0, 0));
}

#[test]
fn inputs_in_the_hosts_memory_are_a_way_to_fit_unless_they_are_there() {
    let (config, method) = (qwen3_8b(), MethodPlan::Lora(LoraPlan::default()));
    let fitting = |need: Need<'_>| need.what_would_fit(30 << 30).iter().any(|words| words.starts_with("offload true"));
    let need = need(&config, &method);
    let (staying, moved) = (need.bytes().total(), Need { offload: true, ..need }.bytes().total());
    assert!(staying > 30 << 30 && moved <= 30 << 30, "{staying} {moved}");
    assert!(fitting(need) && !fitting(Need { offload: true, ..need }) && !fitting(Need { on_cpu: true, ..need }));
}
