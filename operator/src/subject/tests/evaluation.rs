//! What a run's owner says of its evaluation, and of the engine that both models are served by for it.

use sera_crds::values::{ServingEngine, ToolCallFormat};

use super::*;
use crate::plan::EvaluationWork;

#[test]
fn a_run_is_compared_as_its_spec_says_with_the_engine_that_serves_it() {
    let spec = json!({
        "evaluation": {"samples": 64, "seeds": 2, "minEffect": "0.1"}, "output": {"store": "pvc://store/runs"},
        "training": {"student": {"uri": "pvc://models/q/Qwen3-8B"}},
        "generation": {"acceptedTrajectories": 10, "budget": {"maxTotalTokens": 9}, "sandbox": {"slots": 3}},
        "serve": {"gpusPerReplica": 2, "args": ["--enforce-eager"]}, "dataset": {"toolCallFormat": "XML"},
    });
    let wish = run(&spec).wish(&RunDefaults::default(), &Guide::Nobody);
    let Some(Work::Run(work)) = wish.intent.work else { panic!("it is a run") };
    assert_eq!(work.evaluation, Some(EvaluationWork { unsupported: None }));
    let parts = wish.blueprint.unwrap().evaluation.unwrap();
    assert_eq!((parts.plan.samples, parts.plan.seeds, parts.plan.min_effect.as_str()), (64, 2, "0.1"));
    assert_eq!((parts.rollouts.shards(), parts.rollouts.slots), (1, 3));
    let budget = parts.rollouts.plan.budget;
    assert_eq!((budget.max_tokens, budget.max_cost), (None, None), "an attempt does not end for want of money");
    let [student, base] = [&parts.student, &parts.base];
    assert_eq!((student.at.as_ref(), base.at.as_ref().unwrap().as_str()), (None, "pvc://models/q/Qwen3-8B"));
    assert_eq!((student.tool_calls, base.tool_calls), (ToolCallFormat::Xml, ToolCallFormat::Hermes));
    for model in [student, base] {
        assert_eq!((model.engine, model.gpus, model.arguments.len()), (ServingEngine::Vllm, 2, 1));
    }
}

#[test]
fn all_models_have_as_much_context_as_the_student_was_trained_on_but_no_more_than_the_teacher_and_no_less_than_the_papers()
 {
    for (teacher, dataset, all) in [(131_072, 40_960, 40_960), (131_072, 1_536, 32_768), (16_384, 32_768, 16_384)] {
        let endpoint = json!({"url": "https://teacher.example.org/v1", "model": "m"});
        let spec = json!({
            "output": {"store": "pvc://store/runs"}, "training": {"student": {"uri": "pvc://models/a"}},
            "teacher": {"endpoint": endpoint, "contextLength": teacher}, "dataset": {"contextLength": dataset},
        });
        let parts = run(&spec).wish(&RunDefaults::default(), &Guide::Nobody).blueprint.unwrap().evaluation.unwrap();
        assert_eq!(parts.rollouts.plan.sampling.context_length, all);
    }
}

#[test]
fn what_an_engine_cannot_serve_is_said_before_it_is_tried() {
    for (store, student, engine, is_lacking) in [
        ("pvc://store/runs", "pvc://models/a", "vLLM", false),
        ("pvc://store/runs", "builtin://tiny", "builtin", false),
        ("s3://acme/runs", "s3://acme/models/a", "builtin", false),
        ("s3://acme/runs", "pvc://models/a", "vLLM", false),
        ("pvc://store/runs", "s3://acme/models/a", "SGLang", false),
        ("pvc://store/runs", "builtin://tiny", "vLLM", true),
    ] {
        let training = json!({"student": {"uri": student}});
        let spec = json!({"output": {"store": store}, "training": training, "serve": {"engine": engine}});
        let wish = run(&spec).wish(&RunDefaults::default(), &Guide::Nobody);
        let Some(Work::Run(work)) = wish.intent.work else { panic!("it is a run") };
        let said = work.evaluation.unwrap().unsupported;
        assert_eq!(said.is_some(), is_lacking, "{store} {student} {engine}: {said:?}");
        assert!(said.is_none_or(|said| said.starts_with("spec.evaluation: ") && said.contains("builtin://tiny")));
    }
}

#[test]
fn calls_of_tools_that_an_engine_would_leave_as_text_are_refused_before_a_score_is_made_of_them() {
    for (engine, form, arguments, is_lacking) in [
        ("builtin", "Hermes", json!([]), false),
        ("builtin", "XML", json!([]), true),
        ("vLLM", "XML", json!([]), false),
        ("vLLM", "Raw", json!([]), true),
        ("SGLang", "Raw", json!([]), true),
        ("SGLang", "Raw", json!(["--tool-call-parser=llama3"]), false),
    ] {
        let spec = json!({
            "output": {"store": "pvc://store/runs"}, "training": {"student": {"uri": "pvc://models/a"}},
            "dataset": {"toolCallFormat": form}, "serve": {"enabled": true, "engine": engine, "args": arguments},
        });
        let wish = run(&spec).wish(&RunDefaults::default(), &Guide::Nobody);
        let Some(Work::Run(work)) = wish.intent.work else { panic!("it is a run") };
        let said = [work.evaluation.unwrap().unsupported, work.serving.unwrap().unsupported];
        for said in said {
            assert_eq!(said.is_some(), is_lacking, "{engine} {form}: {said:?}");
            assert!(said.is_none_or(|said| said.starts_with("spec.serve.") && said.contains("toolCallFormat")));
        }
    }
}
