//! Which files of a folder are fetched: what reads a model needs no weights in other formats, and what counts its tokens needs no weights.

use crate::store::Object;

/// What is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A model as Hugging Face lays it out: all of it, but for weights in formats that nothing here reads.
    Model,
    /// The tokenizer and the chat templates of one.
    Tokenizer,
    /// A dataset: its lines and its manifest.
    Dataset,
}

/// What weights in other formats end with.
const OTHER_WEIGHTS: [&str; 9] = [".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".onnx_data", ".ot", ".tflite"];
/// The files of a tokenizer, beside the templates that lie in a folder of their own.
const TOKENIZER: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];
/// Where transformers puts further templates.
const TEMPLATES: &str = "additional_chat_templates/";
/// The files of a dataset.
const DATASET: [&str; 3] = ["train.jsonl", "eval.jsonl", "manifest.json"];

impl Kind {
    /// The files of a listing that are wanted.
    pub(super) fn of(self, listing: Vec<Object>) -> Vec<Object> {
        listing.into_iter().filter(|object| self.wants(&object.name)).collect()
    }

    fn wants(self, name: &str) -> bool {
        match self {
            Self::Model => !OTHER_WEIGHTS.iter().any(|ending| name.ends_with(ending)),
            Self::Tokenizer => TOKENIZER.contains(&name) || name.starts_with(TEMPLATES),
            Self::Dataset => DATASET.contains(&name),
        }
    }

    /// What its folder is called.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Tokenizer => "tokenizer",
            Self::Dataset => "dataset",
        }
    }

    /// What is being done, for the display.
    pub(super) const fn step(self) -> &'static str {
        match self {
            Self::Model => "fetching the model",
            Self::Tokenizer => "fetching the tokenizer",
            Self::Dataset => "fetching the dataset",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_models_folder_only_what_is_read_is_fetched() {
        let names = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "pytorch_model-00001-of-00002.bin",
            "onnx/model.onnx",
            "tokenizer.json",
            "additional_chat_templates/tool_use.jinja",
            "train.jsonl",
        ];
        let of = |kind: Kind| names.into_iter().filter(|name| kind.wants(name)).collect::<Vec<_>>();
        assert_eq!(of(Kind::Model), [names[0], names[1], names[4], names[5], names[6]]);
        assert_eq!(of(Kind::Tokenizer), [names[4], names[5]]);
        assert_eq!(of(Kind::Dataset), [names[6]]);
    }
}
