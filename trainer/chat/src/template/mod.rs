//! A model's chat template: compiled once, rendered as transformers renders it. Python's side of it (JSON, methods of strings) is in the modules
//! below; what a rendering means is not known here.

mod generation;
mod json;
mod python;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::conversation::Conversation;

pub use json::to_json;

/// The template's name within its environment; error messages show it.
const DEFAULT: &str = "chat template";
/// The name of the template that is used when there are tools, where a model has one of its own for that.
const TOOL_USE: &str = "chat template for tools";
/// What `strftime_now` answers from: templates that print the day (Llama's) would render another text every day, and a dataset must not. It is
/// the day that Llama's templates fall back to where no clock is offered.
const DAY: jiff::civil::DateTime = jiff::civil::date(2024, 7, 26).at(0, 0, 0, 0);

/// Why a template is of no use, or a conversation does not fit it.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It uses what is not reproduced here.
    #[error("the model's chat template uses something that cannot be reproduced exactly: {0}")]
    Unsupported(#[source] Error),
    /// It refuses the conversation, or fails on it.
    #[error("the model's chat template does not render the conversation: {0}")]
    Rendering(#[source] Error),
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, Value>,
}

impl ChatTemplate {
    /// Compiles a template; `tool_use` is the one for conversations with tools, where the model has two. `special_tokens` are its variables, such
    /// as `bos_token`.
    pub fn new(
        source: &str,
        tool_use: Option<&str>,
        special_tokens: &BTreeMap<String, String>,
    ) -> Result<Self, TemplateError> {
        let mut environment = environment().map_err(TemplateError::Unsupported)?;
        for (name, source) in [(DEFAULT, Some(source)), (TOOL_USE, tool_use)] {
            let Some(source) = source else { continue };
            let source = generation::without_marks(&python::with_unix_newlines(source));
            environment.add_template_owned(name, source).map_err(TemplateError::Unsupported)?;
        }
        let special_tokens = special_tokens.iter().map(|(name, token)| (name.clone(), Value::from(token.as_str())));
        Ok(Self { environment, special_tokens: special_tokens.collect() })
    }

    /// The text of a conversation; with the beginning of the assistant's next turn if `generation_prompt` says so.
    pub fn render(&self, conversation: &Conversation, generation_prompt: bool) -> Result<String, TemplateError> {
        let tool_use = conversation.tools.is_some();
        let template = tool_use.then(|| self.environment.get_template(TOOL_USE).ok()).flatten();
        let template = match template {
            Some(template) => template,
            None => self.environment.get_template(DEFAULT).map_err(TemplateError::Unsupported)?,
        };
        let mut variables = self.special_tokens.clone();
        variables.extend(conversation.variables.clone());
        let messages = conversation.messages.iter().map(|message| message.value.clone()).collect();
        let none = Value::from(());
        let given = [
            ("messages", messages),
            ("tools", conversation.tools.clone().unwrap_or_else(|| none.clone())),
            ("documents", none),
            ("add_generation_prompt", Value::from(generation_prompt)),
        ];
        variables.extend(given.map(|(name, value)| (name.to_owned(), value)));
        template.render(Value::from_pairs(variables)).map_err(TemplateError::Rendering)
    }
}

/// Jinja as transformers sets it up for chat templates.
fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_debug(false);
    environment.set_formatter(python::print);
    environment.set_unknown_method_callback(python::method);
    environment.add_filter("tojson", json::filter);
    environment.add_filter("trim", python::trim);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    Ok(environment)
}

/// What templates call to refuse a conversation.
fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("it says: {message}")))
}

#[expect(clippy::needless_pass_by_value, reason = "functions take their named arguments so")]
fn strftime_now(format: &str, rest: Kwargs) -> Result<String, Error> {
    rest.assert_all_used()?;
    jiff::fmt::strtime::format(format, DAY)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(source: &str) -> Result<String, TemplateError> {
        let messages =
            json!([{"role": "user", "content": "a\u{1f}b", "n": 1.5e16, "none": null, "yes": true, "map": {"k": 1}}]);
        let tokens = BTreeMap::from([("eos_token".to_owned(), "</s>".to_owned())]);
        let conversation = Conversation::new(messages.as_array().unwrap()).with_variable("who", &"me");
        ChatTemplate::new(source, None, &tokens)?.render(&conversation, true)
    }

    /// Each expectation is what Jinja2 3.1 prints in transformers' environment.
    #[test]
    fn values_are_printed_as_python_prints_them() {
        for (source, expected) in [
            ("{{ messages[0].yes }} {{ messages[0].none }} {{ messages[0].missing }}|", "True  |"),
            ("{{ messages[0].n }} {{ 1.0 }} {{ 1e-5 }} {{ none }}", "1.5e+16 1.0 1e-05 None"),
            ("{{ tools is none }} {{ documents is defined }} {{ add_generation_prompt }}", "True True True"),
            ("{{ eos_token }}{{ who }}", "</s>me"),
            ("{% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb"),
            (
                "{% for n in range(5) %}{% if n == 1 %}{% continue %}{% endif %}{% if n == 3 %}{% break %}{% endif %}{{ n }}{% endfor %}",
                "02",
            ),
            ("{% set ns = namespace(n=1) %}{% for m in messages[::-1] %}{% set ns.n = 2 %}{% endfor %}{{ ns.n }}", "2"),
            ("a{%- generation -%} b {%- endgeneration -%} c", "abc"),
            ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
        ] {
            assert_eq!(rendered(source).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn what_cannot_be_reproduced_is_refused_by_name() {
        for (source, named) in [
            ("{{ messages | pprint_all }}", "pprint_all"),
            ("{% trans %}a{% endtrans %}", "trans"),
            ("{{ 'ab'.swapcase() }}", "swapcase"),
            ("{{ messages[0].map }}", "mapping"),
            ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ] {
            let error = rendered(source).unwrap_err().to_string();
            assert!(error.contains(named), "{source}: {error}");
        }
    }

    #[test]
    fn the_template_for_tools_is_taken_when_there_are_tools() {
        let template = ChatTemplate::new("plain", Some("with {{ tools[0].a }}"), &BTreeMap::new()).unwrap();
        let conversation = Conversation::new(&[json!({"role": "user", "content": "x"})]);
        assert_eq!(template.render(&conversation, false).unwrap(), "plain");
        assert_eq!(template.render(&conversation.with_tools(&[json!({"a": "b"})]), false).unwrap(), "with b");
    }
}
