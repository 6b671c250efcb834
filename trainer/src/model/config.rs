//! A model's `config.json`, read so that nothing which changes the arithmetic is passed over: what is understood is taken, what is known to be
//! harmless is ignored, and everything else is refused by name.

use serde_json::{Map, Value};

use crate::ops::Llama3Scaling;

/// A configuration that cannot be computed as transformers would.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or no object.
    #[error("the configuration is not a JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// Another architecture.
    #[error("`model_type` {} is not supported; qwen3, qwen2 and llama are", .0.escape_debug())]
    Family(String),
    /// A field that has to be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field of another type, or out of range.
    #[error("`{field}` is {value}, which is not {expected}")]
    Mistyped {
        /// Its name.
        field: String,
        /// What it says.
        value: Value,
        /// What it should be.
        expected: &'static str,
    },
    /// A field that is understood, with a value that asks for arithmetic that is not there.
    #[error("`{field}` is {value}; only {only} is supported")]
    Unsupported {
        /// Its name.
        field: String,
        /// What it says.
        value: Value,
        /// What can be computed.
        only: &'static str,
    },
    /// A field that may change the arithmetic in a way that is not known.
    #[error(
        "`{}` (now {value}) is not understood and could change what the model computes; remove it if it does not",
        field.escape_debug()
    )]
    Unknown {
        /// Its name.
        field: String,
        /// What it says.
        value: Value,
    },
    /// Numbers that do not go together.
    #[error("{0}")]
    Inconsistent(&'static str),
}

/// Which of transformers' models it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `Qwen3ForCausalLM`: queries and keys are normalised a head at a time.
    Qwen3,
    /// `Qwen2ForCausalLM`, Qwen2.5 too: queries, keys and values have a bias.
    Qwen2,
    /// `LlamaForCausalLM`: Llama 3, SmolLM2.
    Llama,
}

/// What a model computes. Tensor sizes in its fields' words: hidden states are (T, `hidden`), queries (T, `heads`, `head_dim`).
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a field of config.json")]
pub struct Config {
    /// Which model it is.
    pub family: Family,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub intermediate: usize,
    /// How many blocks.
    pub layers: usize,
    /// How many query heads.
    pub heads: usize,
    /// How many key and value heads.
    pub kv_heads: usize,
    /// Width of a head; not always `hidden / heads`.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Added to the mean square in every normalisation.
    pub rms_eps: f64,
    /// Base of the rotary wavelengths.
    pub rope_theta: f64,
    /// How they are stretched.
    pub rope_scaling: Option<Llama3Scaling>,
    /// Whether the output projection is the embedding.
    pub tied: bool,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether attention's output projection has one.
    pub output_bias: bool,
    /// Whether the feed-forward projections have one.
    pub mlp_bias: bool,
}

/// transformers' default where neither `rope_theta` nor `rope_parameters` says one.
const ROPE_THETA: f64 = 10_000.0;

/// transformers' default for a Qwen3 without `head_dim`; the other families divide.
const QWEN3_HEAD_DIM: usize = 128;

/// Fields that name, store, generate or report, but do not change a training step's arithmetic.
const HARMLESS: [&str; 27] = [
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "is_llama_config",
    "label2id",
    "max_position_embeddings",
    "max_window_layers",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "use_cache",
];

impl Config {
    /// Reads the text of a `config.json`.
    pub fn parse(json: &str) -> Result<Self, ConfigError> {
        let mut fields = Fields { left: serde_json::from_str(json)? };
        let family = match fields.left.get("model_type").and_then(Value::as_str) {
            Some("qwen3") => Family::Qwen3,
            Some("qwen2") => Family::Qwen2,
            Some("llama") => Family::Llama,
            Some(other) => return Err(ConfigError::Family(other.to_owned())),
            None => return Err(ConfigError::Missing("model_type")),
        };
        let heads = fields.size("num_attention_heads")?;
        let hidden = fields.size("hidden_size")?;
        let default_head_dim = if family == Family::Qwen3 { QWEN3_HEAD_DIM } else { hidden / heads };
        let attention_bias = fields.flag_of(family != Family::Qwen2, "attention_bias")?;
        let (rope_theta, rope_scaling) = rope(&mut fields)?;
        let config = Self {
            family,
            hidden,
            intermediate: fields.size("intermediate_size")?,
            layers: fields.size("num_hidden_layers")?,
            heads,
            kv_heads: match fields.optional_size("num_key_value_heads")? {
                Some(kv_heads) => kv_heads,
                None if family == Family::Llama => heads,
                None => return Err(ConfigError::Missing("num_key_value_heads")),
            },
            head_dim: fields.optional_size("head_dim")?.unwrap_or(default_head_dim),
            vocabulary: fields.size("vocab_size")?,
            rms_eps: fields.number("rms_norm_eps")?.ok_or(ConfigError::Missing("rms_norm_eps"))?,
            rope_theta,
            rope_scaling,
            tied: fields.flag("tie_word_embeddings")?,
            qkv_bias: attention_bias || family == Family::Qwen2,
            output_bias: attention_bias,
            mlp_bias: fields.flag_of(family == Family::Llama, "mlp_bias")?,
        };
        refuse_other_arithmetic(&mut fields)?;
        fields.refuse_the_rest()?;
        config.consistent()
    }

    fn consistent(self) -> Result<Self, ConfigError> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(ConfigError::Inconsistent("`num_attention_heads` is not a multiple of `num_key_value_heads`"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError::Inconsistent("`head_dim` is odd: rotary embedding turns pairs"));
        }
        Ok(self)
    }
}

/// Theta and scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before).
fn rope(fields: &mut Fields) -> Result<(f64, Option<Llama3Scaling>), ConfigError> {
    let outer = fields.number("rope_theta")?;
    let mut theta = outer.unwrap_or(ROPE_THETA);
    let mut scaling = None;
    for name in ["rope_parameters", "rope_scaling"] {
        let Some(value) = fields.take(name) else { continue };
        let Value::Object(inner) = value else {
            return Err(ConfigError::Mistyped { field: name.to_owned(), value, expected: "an object" });
        };
        let mut inner = Fields { left: inner };
        theta = inner.number("rope_theta")?.unwrap_or(theta);
        let (kind, legacy) = (inner.take("rope_type"), inner.take("type"));
        let kind = kind.or(legacy).unwrap_or_else(|| "default".into());
        if kind == "llama3" {
            scaling = Some(llama3(&mut inner)?);
        } else if kind != "default" {
            let field = format!("{name}.rope_type");
            return Err(ConfigError::Unsupported { field, value: kind, only: "\"default\" or \"llama3\"" });
        }
        inner.refuse_the_rest()?;
    }
    Ok((theta, scaling))
}

fn llama3(fields: &mut Fields) -> Result<Llama3Scaling, ConfigError> {
    let mut number = |name| fields.number(name)?.ok_or(ConfigError::Missing(name));
    Ok(Llama3Scaling {
        factor: number("factor")?,
        low_freq_factor: number("low_freq_factor")?,
        high_freq_factor: number("high_freq_factor")?,
        original_context: number("original_max_position_embeddings")?,
    })
}

/// Fields that are understood, and that have to say what is computed here.
fn refuse_other_arithmetic(fields: &mut Fields) -> Result<(), ConfigError> {
    let slides = fields.left.get("use_sliding_window") != Some(&Value::Bool(false));
    if !slides {
        // Without use_sliding_window its size means nothing, and Qwen's configurations carry it all the same.
        fields.left.remove("sliding_window");
    }
    fields.only("use_sliding_window", "false", |value| value == &Value::Bool(false))?;
    fields.only("hidden_act", "\"silu\"", |value| value == "silu")?;
    fields.only("attention_dropout", "0", |value| value.as_f64() == Some(0.0))?;
    fields.only("pretraining_tp", "1", |value| value.as_u64() == Some(1))?;
    fields.only("rope_interleaved", "false", |value| value == &Value::Bool(false))?;
    fields.only("layer_types", "\"full_attention\" in every layer", |value| {
        value.as_array().is_some_and(|types| types.iter().all(|each| each == "full_attention"))
    })
}

/// The fields that nothing has looked at yet.
struct Fields {
    left: Map<String, Value>,
}

impl Fields {
    /// A field's value, unless it is absent or null, which is the same to transformers.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let mistyped = |value| ConfigError::Mistyped { field: name.to_owned(), value, expected };
        read(&value).map(Some).ok_or_else(|| mistyped(value))
    }

    fn optional_size(&mut self, name: &str) -> Result<Option<usize>, ConfigError> {
        self.typed(name, "a whole number above 0", |value| {
            value.as_u64().filter(|size| *size > 0).and_then(|size| usize::try_from(size).ok())
        })
    }

    fn size(&mut self, name: &'static str) -> Result<usize, ConfigError> {
        self.optional_size(name)?.ok_or(ConfigError::Missing(name))
    }

    fn number(&mut self, name: &str) -> Result<Option<f64>, ConfigError> {
        self.typed(name, "a number above 0", |value| value.as_f64().filter(|number| *number > 0.0))
    }

    fn flag(&mut self, name: &str) -> Result<bool, ConfigError> {
        Ok(self.typed(name, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// A flag that only some families read: in the others it may not be set.
    fn flag_of(&mut self, read: bool, name: &str) -> Result<bool, ConfigError> {
        if read {
            return self.flag(name);
        }
        self.only(name, "false in this family", |value| value == &Value::Bool(false)).map(|()| false)
    }

    fn only(&mut self, name: &str, only: &'static str, is: impl Fn(&Value) -> bool) -> Result<(), ConfigError> {
        match self.take(name) {
            Some(value) if !is(&value) => Err(ConfigError::Unsupported { field: name.to_owned(), value, only }),
            _ => Ok(()),
        }
    }

    fn refuse_the_rest(self) -> Result<(), ConfigError> {
        let unknown = |(name, value): &(String, Value)| !value.is_null() && !HARMLESS.contains(&name.as_str());
        match self.left.into_iter().find(unknown) {
            Some((field, value)) => Err(ConfigError::Unknown { field, value }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Qwen3-0.6B's, as published.
    fn qwen3() -> Value {
        json!({
            "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151_643,
            "eos_token_id": 151_645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
            "intermediate_size": 3072, "max_position_embeddings": 40_960, "max_window_layers": 28, "model_type": "qwen3",
            "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
            "rope_scaling": null, "rope_theta": 1_000_000, "sliding_window": null, "tie_word_embeddings": true,
            "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false,
            "vocab_size": 151_936
        })
    }

    fn with(mut config: Value, name: &str, value: Value) -> Result<Config, ConfigError> {
        config[name] = value;
        Config::parse(&config.to_string())
    }

    #[test]
    fn a_published_configuration_is_read_whole() {
        let config = Config::parse(&qwen3().to_string()).unwrap();
        assert_eq!((config.hidden, config.heads, config.kv_heads, config.head_dim), (1024, 16, 8, 128));
        assert_eq!((config.layers, config.intermediate, config.vocabulary), (28, 3072, 151_936));
        assert_eq!((config.rms_eps, config.rope_theta, config.rope_scaling), (1e-6, 1e6, None));
        assert!(config.tied && !config.qkv_bias && !config.output_bias && !config.mlp_bias);
    }

    #[test]
    fn a_field_that_nobody_knows_is_refused_by_name() {
        for (name, value) in [("quantization_config", json!({"bits": 4})), ("logit_scale", json!(0.5))] {
            let error = with(qwen3(), name, value).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{name}`")), "{error}");
        }
        assert!(with(qwen3(), "quantization_config", Value::Null).is_ok());
    }

    #[test]
    fn arithmetic_that_is_not_there_is_refused_by_name() {
        let refused = [
            ("hidden_act", json!("gelu")),
            ("use_sliding_window", json!(true)),
            ("sliding_window", json!(4096)),
            ("attention_dropout", json!(0.1)),
            ("mlp_bias", json!(true)),
            ("layer_types", json!(["full_attention", "sliding_attention"])),
            ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
            ("rope_scaling", json!({"rope_type": "default", "mrope_section": [16, 24, 24]})),
        ];
        for (name, value) in refused {
            let mut config = qwen3();
            if name == "sliding_window" {
                config.as_object_mut().unwrap().remove("use_sliding_window");
            }
            let error = with(config, name, value).unwrap_err().to_string();
            assert!(error.contains(name) || error.contains("mrope_section"), "{name}: {error}");
        }
    }

    #[test]
    fn llama_3_is_read_in_the_words_of_both_transformers_4_and_5() {
        let llama = json!({
            "attention_bias": false, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192, "mlp_bias": false,
            "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
            "pretraining_tp": 1, "rms_norm_eps": 1e-5, "vocab_size": 128_256
        });
        let mut scaling = json!({"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"});
        let mut old = llama.clone();
        old["rope_theta"] = json!(500_000.0);
        let old = with(old, "rope_scaling", scaling.clone()).unwrap();
        scaling["rope_theta"] = json!(500_000.0);
        assert_eq!(old, with(llama, "rope_parameters", scaling).unwrap());
        assert_eq!((old.rope_theta, old.head_dim), (5e5, 64));
        assert!((old.rope_scaling.unwrap().original_context - 8192.0).abs() < 1e-9);
    }

    #[test]
    fn a_missing_size_a_wrong_type_and_sizes_that_do_not_fit_are_named() {
        let message = |name, value| with(qwen3(), name, value).unwrap_err().to_string();
        assert_eq!(message("hidden_size", Value::Null), "`hidden_size` is missing");
        assert_eq!(message("vocab_size", json!(-1)), "`vocab_size` is -1, which is not a whole number above 0");
        assert!(message("num_key_value_heads", json!(5)).contains("multiple"));
        assert!(message("head_dim", json!(7)).contains("odd"));
        assert!(message("model_type", json!("gemma3")).contains("gemma3"));
    }
}
