//! Secrets in texts that would be trained on: the shapes that issuers give their keys so that they can be found, private keys, and long random values
//! of what is called a password or a token, follows `Bearer`, or is the password of a URL. Says what kind it is and never shows it; trajectories are
//! long, so this is one pass over the text.

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
    known("a GitHub personal token", "ghp_", 36, is_letter_or_digit),
    known("a GitHub OAuth token", "gho_", 36, is_letter_or_digit),
    known("a GitHub user token", "ghu_", 36, is_letter_or_digit),
    known("a GitHub app token", "ghs_", 36, is_letter_or_digit),
    known("a GitHub refresh token", "ghr_", 36, is_letter_or_digit),
    known("a GitHub fine-grained token", "github_pat_", 36, is_word),
    known("a GitLab token", "glpat-", 20, is_url_safe),
    known("a Slack bot token", "xoxb-", 24, is_url_safe),
    known("a Slack user token", "xoxp-", 24, is_url_safe),
    known("a Slack app token", "xapp-", 24, is_url_safe),
    known("a Slack webhook", "hooks.slack.com/services/T", 30, is_path),
    known("a Google API key", "AIza", 35, is_url_safe),
    known("a Google OAuth token", "ya29.", 40, is_url_safe),
    known("a Stripe key", "sk_live_", 24, is_letter_or_digit),
    known("a restricted Stripe key", "rk_live_", 24, is_letter_or_digit),
    known("an Anthropic key", "sk-ant-", 32, is_url_safe),
    known("an OpenAI key", "sk-proj-", 32, is_url_safe),
    known("a Hugging Face token", "hf_", 34, is_letter_or_digit),
    known("a PyPI token", "pypi-AgEI", 50, is_url_safe),
    known("an npm token", "npm_", 36, is_letter_or_digit),
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
/// How the names of what only leads to a secret end: it has no quotes more often than a secret has none.
const NO_SECRETS: [&str; 9] = ["name", "file", "path", "ref", "id", "url", "uri", "type", "class"];
/// The longest end of a name, in bytes: a longer word is another word, and no name.
const LONGEST_END: usize = 24;
/// White space as JSON and most languages write it in a string.
const ESCAPES: [&str; 3] = [r"\n", r"\t", r"\r"];
const PRIVATE_KEY: &str = "PRIVATE KEY-----";
/// What stands before a token in the header `Authorization`.
const BEARER: &str = "Bearer ";
/// What stands before the user and password of a URL, if it has any.
const AUTHORITY: &str = "://";
/// The longest user and password of a URL that are looked at, in bytes.
const LONGEST_USER: usize = 512;
/// What people write where a secret would stand.
const PLACEHOLDERS: [&str; 8] = ["example", "xxxx", "dummy", "sample", "changeme", "placeholder", "your", "insecure"];
/// The shortest random value that is taken for a secret, and the longest (both in bytes).
const RANDOM: std::ops::RangeInclusive<usize> = 20..=256;
/// How random it is at least, in bits a character; names and words have less than four.
const BITS: f64 = 4.0;
/// How often a value without quotes goes from letters to digits or back, at least: random ones of the shortest length do so five times on average,
/// identifiers with a version in them twice.
const TURNS: usize = 3;
/// One in how many characters of such a value may be a dash or an underscore; those of random ones are one in thirty, those of words one in six.
const JOINTS: usize = 10;
/// What may come right after a value without quotes, beside white space; a bracket or a dot makes code of it.
const ENDS: &str = "\"'\\,;&<>)}|#`";
/// How much of a private key must follow its header (in bytes), lest the header alone, in code that looks for one, be taken for a key.
const KEY_BODY: usize = 40;

const fn known(kind: &'static str, prefix: &'static str, least: usize, alphabet: fn(u8) -> bool) -> Known {
    Known { kind, prefix, least, alphabet }
}

/// All beginnings at once: the known kinds, then names, then the others.
static BEGINNINGS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let patterns = KNOWN.iter().map(|known| known.prefix).chain(NAMES).chain([PRIVATE_KEY, BEARER, AUTHORITY]);
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
                (exact && !is_within_a_word(before) && known.begins(after)).then_some(known.kind)
            }
            other => match other - KNOWN.len() {
                name if name < NAMES.len() => {
                    let found = value(after).map_or_else(|| is_given_bare(&text[found.range()], after), is_random);
                    found.then_some("a random value under a secret's name")
                }
                other if other == NAMES.len() => has_key_body(after).then_some("a private key"),
                other if other == NAMES.len() + 1 => {
                    run(after, is_dotted).is_some_and(is_random_alone).then_some("a bearer token")
                }
                _ => password(after).is_some_and(is_random_alone).then_some("the password of a URL"),
            },
        }
    })
}

/// Whether what follows goes on with a word; the letter of an escaped line break or tab is none, as calls' arguments and printed JSON have them.
fn is_within_a_word(before: &str) -> bool {
    before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !ESCAPES.iter().any(|escape| before.ends_with(escape))
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
    if after.len() - named.len() > LONGEST_END {
        return None;
    }
    let assigned = named.trim_start_matches(['\\', '"', '\'', ' ', ']']);
    let given = assigned.strip_prefix([':', '='])?.trim_start_matches(['=', '>', ' ', '\\']);
    let quoted = given.strip_prefix(['"', '\''])?;
    let length = quoted.bytes().take_while(|byte| is_dotted(*byte) || is_base64(*byte)).count();
    quoted[length..].starts_with(['"', '\'', '\\']).then_some(&quoted[..length])
}

/// Whether a name is given a random value without quotes, as shells, `.env` and YAML have them: `…_KEY=value`, `…_key: value`.
fn is_given_bare(name: &str, after: &str) -> bool {
    if goes_on(name, after) {
        return false;
    }
    let named = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let end = after[..after.len() - named.len()].to_ascii_lowercase();
    if end.len() > LONGEST_END || NO_SECRETS.iter().any(|word| end.ends_with(word)) {
        return false;
    }
    let assigned = named.trim_start_matches(['"', '\'', ' ']);
    let given = assigned.strip_prefix('=').or_else(|| assigned.strip_prefix(": "));
    given.and_then(|given| run(given.trim_start_matches(' '), is_url_safe)).is_some_and(is_random_alone)
}

/// Whether a word goes on where it was found, and is another one: `tokenizer`. Its plural is none.
fn goes_on(name: &str, after: &str) -> bool {
    let is_lower = name.ends_with(|c: char| c.is_ascii_lowercase());
    let same = |c: char| c.is_ascii_alphabetic() && c.is_ascii_lowercase() == is_lower;
    after.strip_prefix(['s', 'S']).unwrap_or(after).starts_with(same)
}

/// The password in what follows a URL's scheme: `user:password@…`.
fn password(after: &str) -> Option<&str> {
    let length = after.bytes().take(LONGEST_USER).take_while(|byte| is_of_a_user(*byte)).count();
    let (user, rest) = after.split_at(length);
    let (_, password) = user.split_once(':').filter(|_| rest.starts_with('@'))?;
    Some(password)
}

/// What a text begins with of an alphabet and of base64's, where it begins and ends as a value does.
fn run(text: &str, alphabet: fn(u8) -> bool) -> Option<&str> {
    let length = text.bytes().take_while(|byte| alphabet(*byte) || is_base64(*byte)).count();
    let (value, rest) = text.split_at(length);
    let ends = rest.chars().next().is_none_or(|next| next.is_whitespace() || ENDS.contains(next));
    (ends && value.starts_with(|c: char| c.is_ascii_alphanumeric())).then_some(value)
}

/// Whether a value is random that nothing but its place marks as a value: no identifier, no words with dashes between them, no commit.
fn is_random_alone(value: &str) -> bool {
    let bytes = value.as_bytes();
    let turns = |pair: &&[u8]| {
        let is_digit = |byte: u8| byte.is_ascii_digit();
        pair.iter().all(u8::is_ascii_alphanumeric) && is_digit(pair[0]) != is_digit(pair[1])
    };
    is_random(value)
        && !bytes.iter().all(u8::is_ascii_hexdigit)
        && bytes.iter().filter(|byte| matches!(byte, b'-' | b'_')).count() * JOINTS <= bytes.len()
        && bytes.windows(2).filter(turns).count() >= TURNS
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

const fn is_letter_or_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

const fn is_word(byte: u8) -> bool {
    is_letter_or_digit(byte) || byte == b'_'
}

const fn is_url_safe(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

const fn is_dotted(byte: u8) -> bool {
    is_url_safe(byte) || byte == b'.'
}

/// What the user and password of a URL are written in: no `$` and no brackets, which stand for something else.
const fn is_of_a_user(byte: u8) -> bool {
    is_dotted(byte) || matches!(byte, b'~' | b'%' | b'!' | b'*' | b'+' | b',' | b';' | b'=' | b':')
}

const fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/'
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
            let key = format!("{}{tail}", known.prefix);
            for text in [
                key.clone(),
                format!("export KEY={key}\n"),
                json!({"file_text": format!("a\n{key}\t{key}")}).to_string(),
            ] {
                assert!(find(&text).is_some(), "{}: {text}", known.kind);
            }
            assert_eq!(find(&format!("{}{}", known.prefix, "!")), None, "{}", known.kind);
        }
    }

    #[test]
    fn what_only_ends_like_a_keys_beginning_within_a_word_is_none() {
        let tail = "7".repeat(16);
        assert_eq!(find(&format!("nAKIA{tail}")), None);
        assert_eq!(find(&format!("\\nAKIA{tail}")), Some("an AWS access key"));
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
    fn values_without_quotes_are_found_where_shells_settings_headers_and_urls_have_secrets() {
        let value = random(28);
        let key = format!("{}/{}", random(24), random(15));
        for (text, kind) in [
            (format!("AWS_SECRET_ACCESS_KEY={key}\n"), "a random value under a secret's name"),
            (format!("export DB_PASSWORD={value}"), "a random value under a secret's name"),
            (format!("db:\n  password: {value}\n  port: 5432"), "a random value under a secret's name"),
            (format!("//registry.example.org/:_authToken={value}"), "a random value under a secret's name"),
            (format!(r#"{{"command": "API_KEYS={value} ./run\nls"}}"#), "a random value under a secret's name"),
            (format!("clientSecret = {value}; port = 1"), "a random value under a secret's name"),
            (format!("curl -H 'Authorization: Bearer {value}' https://a.b/c"), "a bearer token"),
            (format!(r#"{{"authorization": "bearer {value}.{value}"}}"#), "a bearer token"),
            (format!("postgres://admin:{value}@db.internal:5432/billing"), "the password of a URL"),
            (format!("url = \"https://x:{value}%21@git.internal/a.git\""), "the password of a URL"),
        ] {
            assert_eq!(find(&text), Some(kind), "{text}");
        }
    }

    #[test]
    fn code_references_placeholders_and_commits_are_no_values() {
        let value = random(28);
        let commit = "9fceb02d0ae598e95dc970b74767f19372d61af8";
        for text in [
            "self.token = get_token()".to_owned(),
            "convert_hf_checkpoint_to_megatron_distributed_checkpoint()".to_owned(),
            format!("x_npm_{}", random(40)),
            "token = oauth2_client_v2_access_token_of_user1".to_owned(),
            "token = createAccessTokenForUser2FromRequest".to_owned(),
            "let secret = TLS13_CHACHA20_POLY1305_SHA256_INTERNAL\n".to_owned(),
            "password: settings.DATABASE2_PASSWORD_OF_V3".to_owned(),
            format!("secret = tokens[{value}]"),
            format!("token = {value}(user)"),
            format!("token = {value}.decode()"),
            format!("token: {commit}\nBearer {commit}"),
            "PASSWORD=$PASSWORD API_KEY=${API_KEY:-none} TOKEN=$(cat /run/token)".to_owned(),
            "password: {{ vault.db_password_2024_prod_1x }}".to_owned(),
            format!("API_KEY=your-{value}"),
            format!("secretName: {value}"),
            "token: my-app-2x-tls-3y-prod-4z-east-5w".to_owned(),
            format!("tokenizer: {value}\nTOKENIZER={value}\ntokenization = {value}"),
            format!("checksum={value}\nname: {value}"),
            "Bearer ${token}, Bearer <token>, Bearer YOUR_TOKEN_HERE_1a2b3c4d5e, bearer authentication".to_owned(),
            format!("https://git.internal/{value}:{value}@v2"),
            "postgres://admin:${DB_PASSWORD}@db, postgres://user:password@localhost:5432/db".to_owned(),
            "see https://example.org/a:b and mail a@b.org".to_owned(),
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
