//! Secrets in texts that would be trained on: the shapes that issuers give their keys so that they can be found, private keys, and long random values
//! of what is called a password or a token. Says what kind it is and never shows it; trajectories are long, so this is one pass over the text.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// A kind of key that is known by how it begins.
struct Known {
    /// What it is, for people.
    kind: &'static str,
    /// How it begins; the case counts.
    prefix: &'static str,
    /// The fewest characters that follow.
    least: usize,
    /// What they may be.
    alphabet: fn(u8) -> bool,
}

/// As GitHub's and the issuers' own descriptions of secret scanning have them.
const KNOWN: [Known; 28] = [
    known("an AWS access key", "AKIA", 16, is_upper_or_digit),
    known("a temporary AWS access key", "ASIA", 16, is_upper_or_digit),
    known("a GitHub personal token", "ghp_", 36, is_word),
    known("a GitHub OAuth token", "gho_", 36, is_word),
    known("a GitHub user token", "ghu_", 36, is_word),
    known("a GitHub app token", "ghs_", 36, is_word),
    known("a GitHub refresh token", "ghr_", 36, is_word),
    known("a GitHub fine-grained token", "github_pat_", 36, is_word),
    known("a GitLab token", "glpat-", 20, is_url_safe),
    known("a Slack bot token", "xoxb-", 24, is_url_safe),
    known("a Slack user token", "xoxp-", 24, is_url_safe),
    known("a Slack app token", "xapp-", 24, is_url_safe),
    known("a Slack webhook", "hooks.slack.com/services/T", 30, is_path),
    known("a Google API key", "AIza", 35, is_url_safe),
    known("a Google OAuth token", "ya29.", 40, is_url_safe),
    known("a Stripe key", "sk_live_", 24, is_word),
    known("a restricted Stripe key", "rk_live_", 24, is_word),
    known("an Anthropic key", "sk-ant-", 32, is_url_safe),
    known("an OpenAI key", "sk-proj-", 32, is_url_safe),
    known("a Hugging Face token", "hf_", 34, is_word),
    known("a PyPI token", "pypi-AgEI", 50, is_url_safe),
    known("an npm token", "npm_", 36, is_word),
    known("a SendGrid key", "SG.", 60, is_dotted),
    known("a DigitalOcean token", "dop_v1_", 64, is_word),
    known("a Databricks token", "dapi", 32, is_lower_hex),
    known("an Azure storage key", "AccountKey=", 80, is_base64),
    known("a JSON web token", "eyJhbGciOi", 80, is_dotted),
    known("an age secret key", "AGE-SECRET-KEY-1", 50, is_upper_or_digit),
];

/// How names end behind which a secret may stand.
const NAMES: [&str; 9] =
    ["password", "passwd", "secret", "token", "api_key", "apikey", "access_key", "private_key", "credential"];
const PRIVATE_KEY: &str = "PRIVATE KEY-----";
/// What people write where a secret would stand.
const PLACEHOLDERS: [&str; 8] = ["example", "xxxx", "dummy", "sample", "changeme", "placeholder", "your", "insecure"];
/// The shortest random value that is taken for a secret, and the longest (both in bytes).
const RANDOM: std::ops::RangeInclusive<usize> = 20..=256;
/// How random it is at least, in bits a character; names and words have less than four.
const BITS: f64 = 4.0;
/// How much of a private key must follow its header (in bytes), lest the header alone, in code that looks for one, be taken for a key.
const KEY_BODY: usize = 40;

const fn known(kind: &'static str, prefix: &'static str, least: usize, alphabet: fn(u8) -> bool) -> Known {
    Known { kind, prefix, least, alphabet }
}

/// All beginnings at once: the known kinds, then names, then the header of private keys.
static BEGINNINGS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let patterns = KNOWN.iter().map(|known| known.prefix).chain(NAMES).chain([PRIVATE_KEY]);
    AhoCorasick::builder().ascii_case_insensitive(true).build(patterns).ok()
});

/// The kind of the first secret in a text.
pub(super) fn find(text: &str) -> Option<&'static str> {
    let beginnings = BEGINNINGS.as_ref()?;
    beginnings.find_overlapping_iter(text).find_map(|found| {
        let (before, after) = (&text[..found.start()], &text[found.end()..]);
        match found.pattern().as_usize() {
            known if known < KNOWN.len() => {
                let known = &KNOWN[known];
                let exact = &text[found.range()] == known.prefix;
                (exact && !before.ends_with(|c: char| c.is_ascii_alphanumeric()) && known.begins(after))
                    .then_some(known.kind)
            }
            name if name < KNOWN.len() + NAMES.len() => {
                is_random(value(after)?).then_some("a random value under a secret's name")
            }
            _ => has_key_body(after).then_some("a private key"),
        }
    })
}

impl Known {
    fn begins(&self, rest: &str) -> bool {
        let length = rest.bytes().take_while(|byte| (self.alphabet)(*byte)).count();
        length >= self.least && !is_placeholder(&rest[..length])
    }
}

/// The value that is given to a name: `…_id": "value"`, `='value'`, and the same with the quotes escaped.
fn value(after: &str) -> Option<&str> {
    let named = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    // A longer word is another word, and no name.
    if after.len() - named.len() > 24 {
        return None;
    }
    let assigned = named.trim_start_matches(['\\', '"', '\'', ' ', ']']);
    let given = assigned.strip_prefix([':', '='])?.trim_start_matches(['=', '>', ' ', '\\']);
    let quoted = given.strip_prefix(['"', '\''])?;
    let length = quoted.bytes().take_while(|byte| is_dotted(*byte) || is_base64(*byte)).count();
    quoted[length..].starts_with(['"', '\'', '\\']).then_some(&quoted[..length])
}

fn is_random(value: &str) -> bool {
    let kinds = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit];
    RANDOM.contains(&value.len())
        && kinds.iter().filter(|kind| value.as_bytes().iter().any(kind)).count() >= 2
        && value.bytes().any(|byte| byte.is_ascii_digit())
        && !is_placeholder(value)
        && entropy(value.as_bytes()) >= BITS
}

/// Shannon's, in bits a byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let share = |count: u32| f64::from(count) / f64::from(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    counts.into_iter().filter(|count| *count > 0).map(share).map(|share| -share * share.log2()).sum()
}

fn has_key_body(after: &str) -> bool {
    let body = after.trim_start_matches(|c: char| c.is_whitespace() || c == '\\' || c == 'n' || c == 'r');
    body.bytes().take_while(|byte| is_base64(*byte)).count() >= KEY_BODY
}

fn is_placeholder(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|placeholder| value.contains(placeholder))
}

const fn is_upper_or_digit(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

const fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

const fn is_url_safe(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

const fn is_dotted(byte: u8) -> bool {
    is_url_safe(byte) || byte == b'.'
}

const fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/'
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that look random, made on the spot so that nothing in this file looks like a secret.
    fn random(length: usize) -> String {
        let letters = b"aB3dE6gH9jK2mN5pQ8rS1tV4wX7yZ0cF";
        (0..length).map(|n| char::from(letters[n * 7 % letters.len()])).collect()
    }

    #[test]
    fn keys_of_known_shapes_are_found_by_kind_wherever_they_stand() {
        for known in &KNOWN {
            let tail: String = random(200).chars().filter(|c| (known.alphabet)(*c as u8)).take(known.least).collect();
            let tail = if tail.len() < known.least { "7".repeat(known.least) } else { tail };
            for text in [format!("{}{tail}", known.prefix), format!("export KEY={}{tail}\n", known.prefix)] {
                assert!(find(&text).is_some(), "{}", known.kind);
            }
            assert_eq!(find(&format!("{}{}", known.prefix, "!")), None, "{}", known.kind);
        }
    }

    #[test]
    fn random_values_are_found_under_the_names_of_secrets_only() {
        let value = random(28);
        for text in [
            format!("DB_PASSWORD = '{value}'"),
            format!(r#"{{"client_secret": "{value}"}}"#),
            format!(r#"{{"new_str": "api_key=\"{value}\""}}"#),
            format!("token_value => \"{value}\""),
        ] {
            assert_eq!(find(&text), Some("a random value under a secret's name"), "{text}");
        }
        for text in [
            format!("checksum = '{value}'"),
            "password = 'correct horse battery staple'".to_owned(),
            "SECRET_KEY = 'django_tests_secret_key_for_this'".to_owned(),
            format!("password = 'example{value}'"),
            "token = get_token_from_the_request_of(user)".to_owned(),
            "token: 'aaaaaaaaaaaaaaaaaaaaaaaaaa11'".to_owned(),
        ] {
            assert_eq!(find(&text), None, "{text}");
        }
    }

    #[test]
    fn a_private_key_is_found_and_code_that_looks_for_one_is_not() {
        let header = "-----BEGIN RSA PRIVATE KEY-----";
        assert_eq!(find(&format!("{header}\n{}\n", random(64))), Some("a private key"));
        assert_eq!(find(&format!(r"{header}\n{}\n", random(64))), Some("a private key"));
        assert_eq!(find(&format!("if text.startswith('{header}'):\n    return parse(text)")), None);
    }
}
