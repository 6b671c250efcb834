//! `sera-trainer generate`: what a model answers, for a look at what it has learnt.

use std::path::PathBuf;

use candle_core::DType;
use clap::Args;
use sera_chat::{Chat, Conversation};
use sera_program::address::Address;
use serde_json::{Value, json};

use super::context::Context;
use super::failure::{Failure, print};
use super::places::PlaceArgs;
use crate::device::{self, Choice};
use crate::files::ModelDir;
use crate::generate::{greedy, greedy_by_passes};
use crate::inference::{Kept, Source};

pub(super) const EXAMPLES: &str = "Examples:
  A question, through the model's own chat template:
    sera-trainer generate --model ./SmolLM2-135M --prompt 'What is a monad?'

  A conversation from a file (a JSON list of messages), and the tokens of the answer:
    sera-trainer generate --model ./student --messages messages.json --max-tokens 200 --ids

  A model that a training has put into a bucket:
    sera-trainer generate --model s3://acme-ml/sera/ml/billing/3f2c/model --store-credentials ./s3 --prompt 'What is a monad?'

  A text to go on with, without template:
    sera-trainer generate --model ./student --raw --prompt 'def fibonacci(n):'";

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// The directory of the model, as Hugging Face lays it out, here or in a bucket (s3://, gs://, az://), or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: Address,
    #[command(flatten)]
    places: PlaceArgs,
    /// What the user says
    #[arg(long, value_name = "TEXT", required_unless_present = "messages")]
    prompt: Option<String>,
    /// A file with messages, as a JSON list
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "raw"])]
    messages: Option<PathBuf>,
    /// Go on with the prompt as it is, without the chat template
    #[arg(long)]
    raw: bool,
    /// How many tokens the answer has at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: usize,
    /// What weights are rounded to and kept in; processors sum in f32 whatever it is, and a GPU computes in this
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Kept,
    /// What is computed on; a GPU computes all tokens again for each, since this is for smoke tests
    #[arg(long, env = "SERA_DEVICE", value_enum, default_value_t)]
    device: Choice,
    /// Print the numbers of the prompt's and of the answer's tokens as a line of JSON instead of text
    #[arg(long)]
    ids: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &GenerateArgs, context: &Context) -> Result<(), Failure> {
    let device = device::open(arguments.device, 0)?;
    let folder = arguments.places.model(&arguments.model, context)?;
    let source = Source::open(&folder)?;
    let prompt = source.chat().encode(&text(arguments, source.chat())?)?;
    let ends = source.generation().ends.clone();
    let (generated, chat) = if device.is_cpu() {
        let (weights, chat) = source.load(arguments.dtype)?;
        (greedy(weights, &prompt, &ends, arguments.max_tokens)?, chat)
    } else {
        let model = ModelDir::open(&folder)?.model(on_gpu(arguments.dtype)?, &device, false)?;
        (greedy_by_passes(&model, &prompt, &ends, arguments.max_tokens)?, source.into_chat())
    };
    if arguments.ids {
        return print(&format!("{}\n", json!({"prompt": prompt, "generated": generated})));
    }
    print(&format!("{}\n", chat.decode(&generated)?))
}

/// The type in which a GPU keeps weights.
fn on_gpu(kept: Kept) -> Result<DType, Failure> {
    match kept {
        Kept::F32 => Ok(DType::F32),
        Kept::Bf16 => Ok(DType::BF16),
        Kept::Q8 => Err(Failure::given("--dtype q8_0 is for processors; with a GPU say f32 or bf16".to_owned())),
    }
}

/// What the model reads.
fn text(arguments: &GenerateArgs, chat: &Chat) -> Result<String, Failure> {
    let prompt = arguments.prompt.clone().unwrap_or_default();
    let messages = match &arguments.messages {
        None if arguments.raw => return Ok(prompt),
        None => vec![json!({"role": "user", "content": prompt})],
        Some(path) => {
            let wrong = |problem: String| Failure::given(format!("{}: {problem}", path.display()));
            let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let messages = serde_json::from_slice::<Vec<Value>>(&text);
            messages.map_err(|error| wrong(format!("it is not a JSON list of messages: {error}")))?
        }
    };
    Ok(chat.render(&Conversation::new(&messages), true)?)
}
