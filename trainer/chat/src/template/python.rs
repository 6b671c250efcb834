//! What templates take from Python: how values print, the methods of strings and mappings, and what counts as a blank. Methods that are not here
//! are not reproduced, and templates that call them are refused.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// The methods that minijinja's own stand-ins reproduce to the letter; its others are near misses in some case.
const EXACT: [&str; 14] = [
    "count",
    "endswith",
    "find",
    "get",
    "isascii",
    "items",
    "join",
    "keys",
    "lower",
    "replace",
    "rfind",
    "startswith",
    "upper",
    "values",
];

/// Jinja's lexer reads every end of line as `\n`.
pub(super) fn with_unix_newlines(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// Prints a value as Python's `str` does; lists and mappings would need Python's `repr`, and are refused.
pub(super) fn print(output: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::Number if !value.is_integer() => write(output, &float(f64::try_from(value.clone())?)),
        ValueKind::String => write(output, value.as_str().unwrap_or_default()),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => write(output, &value.to_string()),
        ValueKind::Map => Err(refused("it prints a mapping as Python would write it")),
        ValueKind::Invalid => Err(refused(&value.to_string())),
        _ => Err(refused("it prints a list as Python would write it")),
    }
}

fn write(output: &mut Output<'_>, text: &str) -> Result<(), Error> {
    output.write_str(text).map_err(|error| refused(&error.to_string()))
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_owned())
}

/// A number as Python's `repr(float)` writes it: the shortest digits, in scientific notation below 1e-4 and from 1e16 on.
pub(super) fn float(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// What Python's `str.isspace` and `strip` take for a blank: Unicode's white space, and the four separators of ASCII.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Jinja's filter `trim`.
pub(super) fn trim(text: &str, characters: Option<&str>) -> String {
    text.trim_matches(among(characters)).to_owned()
}

/// Whether a character is to be stripped: a blank where none are named.
fn among(characters: Option<&str>) -> impl Fn(char) -> bool + Copy {
    move |character| characters.map_or_else(|| is_blank(character), |named| named.contains(character))
}

/// A method of a string, a list or a mapping.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(answer) = string_method(text, name, arguments)
    {
        return answer;
    }
    if EXACT.contains(&name) {
        return unknown_method_callback(state, value, name, arguments);
    }
    Err(Error::from(ErrorKind::UnknownMethod))
}

/// The methods of strings whose stand-ins know Rust's blanks and ends of lines, not Python's.
fn string_method(text: &str, name: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    Some(match name {
        "strip" => stripped(arguments, |named| text.trim_matches(among(named))),
        "lstrip" => stripped(arguments, |named| text.trim_start_matches(among(named))),
        "rstrip" => stripped(arguments, |named| text.trim_end_matches(among(named))),
        "isspace" => Ok(Value::from(!text.is_empty() && text.chars().all(is_blank))),
        "removeprefix" => one(arguments).map(|affix| Value::from(text.strip_prefix(affix).unwrap_or(text))),
        "removesuffix" => one(arguments).map(|affix| Value::from(text.strip_suffix(affix).unwrap_or(text))),
        "split" => split(text, arguments),
        "splitlines" => from_args(arguments).map(|()| lines(text).into_iter().map(Value::from).collect()),
        _ => return None,
    })
}

fn one(arguments: &[Value]) -> Result<&str, Error> {
    from_args::<(&str,)>(arguments).map(|(argument,)| argument)
}

fn stripped<'a>(arguments: &[Value], strip: impl Fn(Option<&str>) -> &'a str) -> Result<Value, Error> {
    let (named,): (Option<&str>,) = from_args(arguments)?;
    Ok(Value::from(strip(named)))
}

fn split(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (separator, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
    let most = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    match separator {
        Some("") => Err(refused("empty separator")),
        Some(separator) => Ok(text.splitn(most, separator).map(Value::from).collect()),
        None if most == usize::MAX => {
            Ok(text.split(is_blank).filter(|part| !part.is_empty()).map(Value::from).collect())
        }
        None => Err(refused("split() at blanks, a limited number of times")),
    }
}

/// The lines of a text, ended where Python ends them.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) =
        rest.find(|c| matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'))
    {
        let (line, end) = rest.split_at(at);
        lines.push(line);
        let ending = if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(0, char::len_utf8) };
        rest = &end[ending..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each expectation is what Python 3.12 answers.
    #[test]
    fn numbers_print_as_python_prints_them() {
        for (number, expected) in [
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (100.0, "100.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (5e-324, "5e-324"),
            (123_456_789.123, "123456789.123"),
        ] {
            assert_eq!(float(number), expected);
        }
    }

    #[test]
    fn methods_answer_as_pythons_do() {
        let mut environment = minijinja::Environment::new();
        environment.set_unknown_method_callback(method);
        environment.add_filter("trim", trim);
        for (expression, expected) in [
            (r#"" \u001f a \u200b".strip() == "a \u200b""#, true),
            (r#""\n\n a\n".lstrip("\n") == " a\n""#, true),
            (r#"" \u001ea " | trim == "a""#, true),
            (r#""a</t>b</t>c".split("</t>")[-1] == "c""#, true),
            (r#""a,b,c".split(",", 1)[1] == "b,c""#, true),
            (r#""a\rb\u2028\u2028c\n".splitlines() == ["a", "b", "", "c"]"#, true),
            (r#"" a \u001c b ".split() == ["a", "b"]"#, true),
            (r#""a.b".removesuffix(".b") == "a" and "a".removeprefix("b") == "a""#, true),
            (r#""abc".startswith("ab") and not "abc".endswith("ab")"#, true),
            (r#""\u001c".isspace() and not "".isspace()"#, true),
            (r#"{"a": 1}.get("b", 2) == 2 and {"a": 1}.get("b") is none"#, true),
        ] {
            let answer = environment.compile_expression(expression).unwrap().eval(()).unwrap();
            assert_eq!(answer.is_true(), expected, "{expression}");
        }
    }
}
