//! The last line of defence for secrets: what this process writes (logs, termination message, output) passes through here, and no secret that
//! it has read gets out. The code above never puts one there; this is for what servers and libraries say.

use std::sync::{Arc, PoisonError, RwLock};

use url::form_urlencoded::byte_serialize;

/// What stands in place of a secret.
const MASK: &str = "[redacted]";
/// Shorter texts than this (in bytes) are left alone: hiding each "a" would hide everything else.
const SHORTEST: usize = 4;

/// The secrets that this process has read; a clone shares them.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Arc<RwLock<Vec<String>>>,
}

impl Redactor {
    /// Hides `secret` from now on: as it is, line by line, and as JSON and URLs would spell it.
    pub fn hide(&self, secret: &str) {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        let lines = secret.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        for line in lines {
            let json = serde_json::Value::from(line).to_string();
            let url: String = byte_serialize(line.as_bytes()).collect();
            for spelling in [line, json.trim_matches('"'), &url.replace('+', "%20"), &url] {
                if spelling.len() >= SHORTEST && !secrets.iter().any(|known| known == spelling) {
                    secrets.push(spelling.to_owned());
                }
            }
        }
        // The longest first, so that a secret within another does not leave the rest of it in sight.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// `text` without the secrets.
    pub fn apply(&self, text: &str) -> String {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_however_it_is_spelt() {
        let redactor = Redactor::default();
        redactor.hide("pa\"ss w/rd");
        redactor.hide("-----BEGIN KEY-----\nc2VjcmV0\n-----END KEY-----\n");
        for text in
            ["pa\"ss w/rd", r#"{"p":"pa\"ss w/rd"}"#, "http://u:pa%22ss%20w%2Frd@h/", "pa%22ss+w%2Frd", "c2VjcmV0"]
        {
            let shown = redactor.apply(text);
            assert!(
                shown.contains(MASK) && !shown.contains("w/rd") && !shown.contains("w%2F") && !shown.contains("c2V"),
                "{shown}"
            );
        }
        assert_eq!(redactor.apply("-----BEGIN KEY-----"), "-----BEGIN KEY-----");
    }

    #[test]
    fn a_secret_within_another_and_a_very_short_one_do_no_harm() {
        let redactor = Redactor::default();
        redactor.hide("secret");
        redactor.hide("secret-and-more");
        redactor.hide("a");
        assert_eq!(redactor.apply("a secret-and-more, a secret"), "a [redacted], a [redacted]");
    }
}
