//! The program `sera-trainer`, run as people run it: what it prints, what it leaves, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device, Tensor};
use sera_trainer::files::ModelDir;
use sera_trainer::model::Config;
use serde_json::{Value, json};

/// A small model with the tokenizer and template of `sera-chat`'s tests.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        let (base, tiny) = (fixture.at("base"), Path::new(env!("CARGO_MANIFEST_DIR")).join("chat/tests/tiny"));
        std::fs::create_dir(&base).unwrap();
        for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
            std::fs::copy(tiny.join(name), base.join(name)).unwrap();
        }
        let tokenizer: Value = serde_json::from_slice(&std::fs::read(base.join("tokenizer.json")).unwrap()).unwrap();
        let added = tokenizer["added_tokens"].as_array().unwrap().iter().map(|token| token["id"].as_u64().unwrap());
        let vocabulary = added.max().unwrap() + 1 + tokenizer["model"]["vocab"].as_object().unwrap().len() as u64;
        let config = json!({
            "model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 6, "vocab_size": vocabulary, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
            "torch_dtype": "float32"
        });
        std::fs::write(base.join("config.json"), config.to_string()).unwrap();
        let config = Config::parse(&config.to_string()).unwrap();
        let tensors = config.tensors().map(|(name, shape)| (name, values(&shape))).collect();
        candle_core::safetensors::save::<String, _>(&tensors, base.join("model.safetensors")).unwrap();
        fixture
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the program in the folder.
    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sera-trainer"));
        command.current_dir(self.folder.path()).args(line.split(' ')).output().unwrap()
    }

    fn succeeds(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code, and the one line that says why.
    fn fails(&self, line: &str) -> (i32, String) {
        let output = self.run(line);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("error: ") && said.lines().count() == 1, "{line}: {said}");
        assert!(output.stdout.is_empty());
        (output.status.code().unwrap(), said)
    }
}

/// Values without pattern in about −0.5..0.5.
fn values(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |at: usize| f32::from(u16::try_from(at * 40_503 % 65_521).unwrap()) / 65_521.0 - 0.5;
    Tensor::from_vec((0..count).map(value).collect(), shape, &Device::Cpu).unwrap()
}

#[test]
fn a_model_is_exported_in_shards_and_never_over_another() {
    let fixture = Fixture::new();
    let report = fixture.succeeds("export --model base --dtype bf16 --max-shard 4KB --out small");
    assert!(report.contains("model.safetensors.index.json") && report.contains("tokenizer.json"), "{report}");
    let small = ModelDir::open(&fixture.at("small")).unwrap();
    assert_eq!((small.dtype(), small.shards().len() > 1), (DType::BF16, true));
    let (code, said) = fixture.fails("export --model base --dtype f16 --out small");
    assert_eq!(code, 12, "{said}");
    fixture.succeeds("export --model base --dtype f16 --out small --replace");
    let replaced = ModelDir::open(&fixture.at("small")).unwrap();
    assert_eq!((replaced.dtype(), replaced.shards().len()), (DType::F16, 1));
    let (code, said) = fixture.fails("export --model base --dtype f16 --out base --replace");
    assert!(code == 10 && said.contains("base is the model that is read"), "{said}");
}

#[test]
fn what_is_in_a_model_is_listed() {
    let fixture = Fixture::new();
    let list = fixture.succeeds("inspect base");
    assert!(list.contains("model.layers.1.self_attn.q_norm.weight") && list.contains("(6)"), "{list}");
    let json: Value = serde_json::from_str(&fixture.succeeds("inspect --json base/model.safetensors")).unwrap();
    let parameters: usize = ModelDir::open(&fixture.at("base"))
        .unwrap()
        .config()
        .tensors()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    assert_eq!(
        (json["parameters"].as_u64(), json["bytes"].as_u64()),
        (Some(parameters as u64), Some(4 * parameters as u64))
    );
}

#[test]
fn an_answer_is_the_same_every_time_and_no_longer_than_asked() {
    let fixture = Fixture::new();
    let once = fixture.succeeds("generate --model base --prompt hello --max-tokens 7 --ids");
    let answer: Value = serde_json::from_str(&once).unwrap();
    assert_eq!(answer["generated"].as_array().unwrap().len(), 7);
    assert_eq!(once, fixture.succeeds("generate --model base --prompt hello --max-tokens 7 --ids"));
    std::fs::write(fixture.at("messages.json"), r#"[{"role": "user", "content": "hello"}]"#).unwrap();
    assert_eq!(once, fixture.succeeds("generate --model base --messages messages.json --max-tokens 7 --ids"));
    let raw: Value =
        serde_json::from_str(&fixture.succeeds("generate --model base --raw --prompt hello --max-tokens 1 --ids"))
            .unwrap();
    assert!(raw["prompt"].as_array().unwrap().len() < answer["prompt"].as_array().unwrap().len());
    assert!(!fixture.succeeds("generate --model base --prompt hello --max-tokens 7").is_empty());
}

#[test]
fn an_answer_ends_with_the_token_that_the_model_s_files_say() {
    let fixture = Fixture::new();
    let generate = || -> Value {
        serde_json::from_str(&fixture.succeeds("generate --model base --prompt hello --max-tokens 7 --ids")).unwrap()
    };
    let free = generate();
    let third = &free["generated"][2];
    std::fs::write(fixture.at("base/generation_config.json"), json!({"eos_token_id": [third]}).to_string()).unwrap();
    let ended = generate()["generated"].as_array().unwrap().clone();
    assert!(ended.len() <= 3 && ended.last() == Some(third), "{ended:?} of {free}");
}

#[test]
fn an_adapter_is_merged() {
    let fixture = Fixture::new();
    let adapter = sera_trainer::files::Adapter {
        rank: 2,
        alpha: 4.0,
        target_modules: vec!["o_proj".to_owned()],
        tensors: vec![("model.layers.0.self_attn.o_proj".to_owned(), values(&[2, 24]), values(&[16, 2]))],
    };
    adapter.write(&fixture.at("adapter"), "base").unwrap();
    fixture.succeeds("merge --model base --adapter adapter --out merged");
    let [base, merged] = ["base", "merged"].map(|name| ModelDir::open(&fixture.at(name)).unwrap());
    let changed = base.names().filter(|name| {
        let [one, other] =
            [&base, &merged].map(|dir| dir.read(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap());
        one != other
    });
    assert_eq!(changed.collect::<Vec<_>>(), ["model.layers.0.self_attn.o_proj.weight"]);
    let generation: Value =
        serde_json::from_slice(&std::fs::read(fixture.at("merged/generation_config.json")).unwrap()).unwrap();
    assert_eq!(generation, json!({"eos_token_id": [402]}), "the token that ends a turn of the template");
    let (code, said) = fixture.fails("merge --model base --adapter base --out other");
    assert!(code == 10 && said.contains("base/adapter_config.json"), "{said}");
}

#[test]
fn what_is_wrong_is_one_line_with_a_code_that_says_whose_turn_it_is() {
    let fixture = Fixture::new();
    let (code, said) = fixture.fails("inspect nowhere");
    assert!(code == 10 && said.contains("nowhere"), "{said}");
    let (code, said) = fixture.fails("import --gguf base/config.json --out imported");
    assert!(code == 10 && said.contains("base/config.json is not a GGUF file"), "{said}");
    let weights = fixture.at("base/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let (code, said) = fixture.fails("generate --model base --prompt x");
    assert!(code == 10 && said.contains("model.safetensors") && said.contains("cut off"), "{said}");
    assert_eq!(fixture.run("export --model base").status.code(), Some(2));
    assert_eq!(fixture.run("--help").status.code(), Some(0));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_that_this_program_is_not_built_for_is_refused_and_the_processors_are_taken_where_it_may_choose() {
    let fixture = Fixture::new();
    let generate = "generate --model base --raw --prompt x --max-tokens 4 --ids --device";
    let (code, said) = fixture.fails(&format!("{generate} cuda"));
    assert_eq!(code, 10);
    assert!(said.contains("built without CUDA") && said.contains("--device cpu"), "{said}");
    assert_eq!(fixture.succeeds(&format!("{generate} auto")), fixture.succeeds(&format!("{generate} cpu")));
}

#[cfg(not(feature = "flash-attention"))]
#[test]
fn attention_that_this_program_is_not_built_for_is_refused_before_anything_is_read() {
    let fixture = Fixture::new();
    for line in
        ["check --student nowhere --out out --device cpu --attention flash", "bench --row small-kept --attention flash"]
    {
        let (code, said) = fixture.fails(line);
        assert_eq!(code, 10);
        assert!(said.contains("built without FlashAttention") && said.contains("--attention chunked"), "{said}");
    }
}

/// What of the image for GPUs can be held against what it is made of, where none can be built.
#[test]
fn the_image_for_gpus_is_made_of_what_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let (file, script) = (read("images/trainer/Dockerfile.cuda"), read("images/trainer/cuda.sh"));
    let lines: Vec<&str> = file.lines().filter(|line| !line.starts_with('#')).collect();
    let after = |word: &'static str| lines.iter().filter_map(move |line| line.trim().strip_prefix(word));

    // The same bases as the image for processors.
    let processors = read("images/trainer/Dockerfile");
    for argument in after("ARG ").filter(|argument| argument.contains("_IMAGE=")) {
        assert!(
            processors.contains(&format!("ARG {argument}")),
            "{argument} is another base than that of the image for CPUs"
        );
    }
    // Stages are there before they are named.
    let mut stages = Vec::new();
    for line in &lines {
        if let Some(stage) = line.strip_prefix("FROM ").and_then(|line| line.split(" AS ").nth(1)) {
            stages.push(stage);
        }
        if let Some(from) = line.split("--from=").nth(1) {
            let from = from.split(' ').next().unwrap();
            assert!(stages.contains(&from), "{line}");
        }
    }
    assert_eq!(stages, ["source", "weights", "student"]);
    // Commands of the script, files of the repository, and what the script leaves.
    let commands: Vec<&str> =
        file.split("images/trainer/cuda.sh ").skip(1).map(|rest| rest.split([' ', '\n']).next().unwrap()).collect();
    for command in commands.iter().filter(|command| !command.starts_with("images/")) {
        assert!(script.contains(&format!("\n  {command}) ")), "cuda.sh has no command {command}");
    }
    assert!(
        commands.contains(&"toolkit") && commands.contains(&"build") && commands.contains(&"libraries"),
        "{commands:?}"
    );
    for named in ["images/trainer/cuda.sh", "images/trainer/chat_template.jinja"] {
        assert!(file.contains(named) && root.join(named).is_file(), "{named}");
    }
    for variable in ["SERA_CUDA_FOLDER", "SERA_CUDA_CAPABILITY", "SERA_CUDA_FEATURES"] {
        assert!(file.contains(variable) && script.contains(variable), "{variable}");
    }
    assert!(
        script.contains("--output-file \"$folder/sera-trainer\"") && file.contains("--from=source /cuda/sera-trainer")
    );
    // Its own libraries, and the driver's where nothing but the image says where they are.
    let searched = after("ENV ").find_map(|line| line.split("LD_LIBRARY_PATH=").nth(1)?.split(' ').next()).unwrap();
    assert_eq!(searched.split(':').collect::<Vec<_>>(), ["/opt/nvidia/lib", "/usr/local/nvidia/lib64"]);
    assert!(file.contains("--from=source /libraries /opt/nvidia/lib\n"), "the libraries lie elsewhere");
    // Features that the crate has: those that are built unless asked otherwise, the same here and there, and all that are looked through.
    let of_image = after("ARG FEATURES=").next().unwrap();
    assert!(script.contains(&format!("${{SERA_CUDA_FEATURES:-{of_image}}}")), "the script builds something else");
    let looked_through = script.split("for feature in ").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    for feature in of_image.split(',').chain(looked_through.split(' ')) {
        assert!(read("trainer/Cargo.toml").contains(&format!("\n{feature} = [")), "there is no feature {feature}");
    }
}
