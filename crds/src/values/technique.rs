//! The choices of method that stages offer: measures, formats, precisions, engines and policies.

use super::choice::choice;

choice! {
    /// How a second patch is measured against the first.
    Measure: "a measure" {
        /// The paper's line recall: the share of the first patch's changed lines that the second has, over all files.
        Recall = "Recall",
        /// Recall per file and hunk, without whitespace, lock files and generated files.
        StrictRecall = "StrictRecall",
        /// The harmonic mean of strict recall and strict precision.
        F1 = "F1",
    }
}

choice! {
    /// How tool calls are written in training lines.
    ToolCallFormat: "a tool-call format" {
        /// `<tool_call>` with JSON in it, as Qwen3 is trained.
        Hermes = "Hermes",
        /// `<function=…><parameter=…>`, as coder models are trained.
        Xml = "XML",
        /// The structured `tool_calls` of the OpenAI protocol, rendered by the model's own template.
        Raw = "Raw",
    }
}

choice! {
    /// What becomes of a run's data when the run is deleted.
    ReclaimPolicy: "a reclaim policy" {
        /// It stays in the store.
        Retain = "Retain",
        /// A Job deletes the run's folder before the run goes.
        Delete = "Delete",
    }
}

choice! {
    /// What a sandbox may reach over the network.
    NetworkMode: "a network mode" {
        /// Nothing: sockets are refused.
        None = "None",
        /// What the cluster's policies let the pod reach.
        Egress = "Egress",
    }
}

choice! {
    /// Whether a sandbox insists on the kernel's Landlock.
    LandlockMode: "a Landlock mode" {
        /// Without Landlock no command is executed.
        Required = "Required",
        /// Used where the kernel has it (gVisor has none); what was achieved is recorded.
        BestEffort = "BestEffort",
    }
}

choice! {
    /// The numbers that training computes with.
    Precision: "a precision" {
        /// bfloat16 with fp32 master weights.
        Bf16 = "bf16",
        /// 32-bit floats throughout.
        Fp32 = "fp32",
    }
}

choice! {
    /// What is divided between ranks.
    Sharding: "a way of sharding" {
        /// Nothing: every rank holds all.
        None = "None",
        /// The optimizer's state.
        Zero1 = "ZeRO1",
        /// The optimizer's state and the gradients.
        Zero2 = "ZeRO2",
        /// The optimizer's state, the gradients and the weights.
        Zero3 = "ZeRO3",
    }
}

choice! {
    /// How the learning rate falls after warm-up.
    Schedule: "a schedule" {
        /// Along half a cosine, to zero.
        Cosine = "Cosine",
        /// In a straight line, to zero.
        Linear = "Linear",
    }
}

choice! {
    /// What the losses of a step's trained tokens are averaged over.
    LossAverage: "a way to average losses" {
        /// Over all of them, so that each counts the same.
        PerToken = "PerToken",
        /// Over those of their line, and then over lines, so that each line counts the same.
        PerLine = "PerLine",
    }
}

impl LossAverage {
    /// Whether nothing else was asked for.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::PerToken
    }
}

choice! {
    /// The program that serves a model.
    ServingEngine: "a serving engine" {
        /// vLLM.
        Vllm = "vLLM",
        /// SGLang.
        Sglang = "SGLang",
        /// The project's own server on candle: small models and tests.
        Builtin = "builtin",
    }
}

choice! {
    /// A protocol that a served student speaks.
    ServingApi: "a serving API" {
        /// OpenAI's chat completions.
        OpenAi = "OpenAI",
        /// Anthropic's messages, by which Claude Code can drive the model.
        Anthropic = "Anthropic",
    }
}

choice! {
    /// What an evaluation says of the student.
    Verdict: "a verdict" {
        /// Better than the base: the gain's lower bound is above 0 and the gain is at least `minEffect`.
        Improved = "Improved",
        /// Worse than the base.
        Regressed = "Regressed",
        /// Not worse than the teacher by `minEffect` or more.
        MatchesTeacher = "MatchesTeacher",
        /// Better than the teacher.
        ExceedsTeacher = "ExceedsTeacher",
        /// The data decides nothing.
        Inconclusive = "Inconclusive",
    }
}
