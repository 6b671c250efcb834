//! `sera-trainer memory`: what a rank of a training would need, from a model's configuration alone, with its arithmetic.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use sera_crds::contract::{LoraPlan, MethodPlan, TrainingPlan};
use sera_crds::values::Precision;

use super::failure::{Failure, print};
use super::request::{bytes, plan};
use crate::model::Config;
use crate::training::{DEVICES, Need, Sums, readable, table};

pub(super) const EXAMPLES: &str = "Examples:
  What each of eight GPUs needs for a plan, and how that is added up:
    sera-trainer memory --model ./Qwen3-8B --plan training.yaml --ranks 8

  Every method, number of ranks and way of sharding side by side, in Markdown, from a config.json alone:
    sera-trainer memory --model config.json --table

Nothing is read but the model's config.json and the plan, and nothing is measured: `check` holds the same arithmetic against the lines that there are
and the memory of this machine. Lines are taken to be as long as the plan's contextLength unless --tokens says otherwise.
No GPU has run it yet: what it says of one is unverified (docs/gpu.md).";

/// Far beyond any model, and small enough that no number of bytes overflows.
const MOST_LAYERS: usize = 1 << 12;
/// The same for what a layer's matrices are wide, and for the vocabulary.
const WIDEST: usize = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct MemoryArgs {
    /// A model's directory, or its config.json
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The plan, YAML or JSON: a section spec.training of a run, or any of its fields [default: the paper's recipe with LoRA]
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// How many ranks there are, a GPU each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    ranks: u64,
    /// How many tokens the longest line has [default: the plan's contextLength]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    tokens: Option<u64>,
    /// The memory of a rank's GPU, such as 80Gi [default: those of an H100 and of an H200]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    memory: Option<u64>,
    /// Compare LoRA and full training, 1 to 16 ranks and every way of sharding
    #[arg(long, conflicts_with_all = ["ranks", "memory"])]
    table: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &MemoryArgs) -> Result<(), Failure> {
    let config = config(&arguments.model)?;
    let plan = plan(arguments.plan.as_deref(), None)?;
    let need = Need {
        config: &config,
        method: &plan.method,
        sharding: plan.sharding,
        world: arguments.ranks,
        width: if plan.precision == Some(Precision::Fp32) { 4 } else { 2 },
        tokens: arguments.tokens.unwrap_or_else(|| plan.context_length.into()),
        offload: plan.offload,
        on_cpu: false,
        kept: 0,
        flash: None,
    };
    if arguments.table {
        return print(&table(&need, &methods(&plan)));
    }
    let devices = match arguments.memory {
        Some(memory) => vec![(readable(memory), memory)],
        None => DEVICES.map(|(name, memory)| (name.to_owned(), memory)).to_vec(),
    };
    print(&sums(&need, &devices))
}

/// The plan's method, and the other one with what is usual for it.
fn methods(plan: &TrainingPlan) -> [(&'static str, MethodPlan); 2] {
    let lora = match &plan.method {
        lora @ MethodPlan::Lora(_) => lora.clone(),
        MethodPlan::Full {} => MethodPlan::Lora(LoraPlan::default()),
    };
    [("LoRA", lora), ("full", MethodPlan::Full {})]
}

/// What a rank needs, a line a part, and whether each device has it.
fn sums(need: &Need<'_>, devices: &[(String, u64)]) -> String {
    let Sums { weights, gradients, optimizer, activations, logits, .. } = need.sums();
    let mut text = String::new();
    for (name, sum) in [
        ("weights", weights),
        ("gradients", gradients),
        ("optimizer", optimizer),
        ("activations", activations),
        ("logits", logits),
    ] {
        let _ = writeln!(text, "{name:<11} {:>10}  {sum}", readable(sum.bytes()));
    }
    let total = need.bytes().total();
    let _ = writeln!(text, "{:<11} {:>10}  a rank of {}", "together", readable(total), need.world);
    for (name, memory) in devices {
        let verdict = if total <= *memory {
            format!("fits, {} are left", readable(memory - total))
        } else {
            let fitting = need.what_would_fit(*memory);
            let fitting = if fitting.is_empty() { "no single change".to_owned() } else { fitting.join(", ") };
            format!("does not fit; what would: {fitting}")
        };
        let _ = writeln!(text, "{name}: {verdict}");
    }
    text
}

/// The configuration in a directory or a file.
fn config(path: &Path) -> Result<Config, Failure> {
    let path = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::given(format!("{} cannot be read: {error}", path.display())))?;
    let refused = |problem: String| Failure::given(format!("{}: {problem}", path.display()));
    let config = Config::parse(&text).map_err(|error| refused(error.to_string()))?;
    let widths = [config.hidden, config.intermediate, config.vocabulary, config.heads.saturating_mul(config.head_dim)];
    if config.layers > MOST_LAYERS || widths.into_iter().any(|width| width > WIDEST) {
        let most = format!("{MOST_LAYERS} layers, or one wider than {WIDEST}");
        return Err(refused(format!("a model of more than {most}, is none that can be counted")));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use sera_crds::values::Sharding;

    use super::*;
    use crate::training::testing::need;

    /// The configurations that are published with the models, as far as they decide about memory.
    fn published(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/configs").join(name)
    }

    /// The line of a page after which a command's output stands, and that output.
    fn shown<'a>(page: &'a str, command: &str) -> &'a str {
        let begin = page.find(command).unwrap_or_else(|| panic!("docs/memory.md does not have `{command}`"));
        let block = &page[begin + command.len()..];
        &block[..block.find("<!-- end -->").unwrap()]
    }

    #[test]
    fn the_tables_in_the_docs_are_what_the_command_prints() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/memory.md")).unwrap();
        let plan = TrainingPlan::default();
        for name in ["qwen3-8b.json", "qwen3-32b.json"] {
            let config = config(&published(name)).unwrap();
            let need = Need { sharding: plan.sharding, ..need(&config, &plan.method) };
            let command = format!("sera-trainer memory --model trainer/examples/configs/{name} --table -->");
            let printed = table(&need, &methods(&plan));
            assert_eq!(
                shown(&page, &command).trim(),
                printed.trim(),
                "put into docs/memory.md what the command prints"
            );
            let full = MethodPlan::Full {};
            let need = Need { method: &full, sharding: Sharding::Zero3, world: 8, ..need };
            let devices = DEVICES.map(|(name, memory)| (name.to_owned(), memory));
            assert!(name.contains("32b") || page.contains(&sums(&need, &devices)), "the first example too");
        }
    }

    #[test]
    fn the_published_configurations_have_the_parameters_that_the_models_have() {
        // As the index files of the published weights have them: total_size / 2 bytes.
        for (name, values) in [("qwen3-8b.json", 8_190_735_360_usize), ("qwen3-32b.json", 32_762_123_264)] {
            let config = config(&published(name)).unwrap();
            let counted: usize = config.tensors().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert_eq!(counted, values, "{name}");
        }
    }

    #[test]
    fn a_configuration_that_is_missing_or_not_understood_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| config(path).unwrap_err().message;
        assert!(message(folder.path()).contains("config.json cannot be read"), "{}", message(folder.path()));
        let file = folder.path().join("other.json");
        std::fs::write(&file, r#"{"model_type": "gemma3"}"#).unwrap();
        assert!(message(&file).contains("other.json: ") && message(&file).contains("gemma3"), "{}", message(&file));
        let huge = std::fs::read_to_string(published("qwen3-8b.json")).unwrap().replace("12288", "9223372036854775807");
        std::fs::write(&file, huge).unwrap();
        assert!(message(&file).contains("other.json: a model of more than"), "{}", message(&file));
    }
}
