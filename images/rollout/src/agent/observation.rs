//! What the teacher is shown of what its tools did: bounded, and honest about what was left out. No times and no paths of ours, so that the same
//! commands give the same text.

use std::time::Duration;

use sera_sandbox::wire::CommandEnd;

use crate::sandbox::Executed;

/// What stands before whatever a tool answers, in the conversation as in the dataset: the student is trained on what it will be served.
const MARK: &str = "OBSERVATION:\n";

/// How many characters the sandbox may take to say that it left something out.
const LONGEST_MARK: u32 = 64;

/// A tool's answer as the teacher and the student read it; what says so already stays as it is.
pub(crate) fn marked(content: &str) -> String {
    if content.starts_with(MARK) { content.to_owned() } else { [MARK, content].concat() }
}

/// What a command printed and how it ended.
pub(super) fn of_command(executed: &Executed, limit: Duration, max_chars: u32) -> String {
    // The sandbox has left out the middle already, counted in bytes, and says so in the text.
    let mut text = capped(&executed.output, max_chars.saturating_add(LONGEST_MARK));
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + &ending(executed.end, limit)
}

fn ending(end: CommandEnd, limit: Duration) -> String {
    match end {
        CommandEnd::Exited { code } => format!("[exit code {code}]"),
        CommandEnd::TimedOut => format!(
            "[killed, with everything that it had started: it took longer than {} s. The shell is a new one, in its first directory]",
            limit.as_secs_f32()
        ),
        CommandEnd::ShellEnded => {
            "[the shell ended with this command. The next command has a new one, in its first directory]".to_owned()
        }
        CommandEnd::LimitPassed { limit } => format!(
            "[killed, with everything that it had started: it {limit}. The shell is a new one, in its first directory]"
        ),
    }
}

/// At most about `max_chars` of a text: its beginning and its end, and between them how much is missing.
pub(super) fn capped(text: &str, max_chars: u32) -> String {
    let limit = usize::try_from(max_chars).unwrap_or(usize::MAX);
    // There are never more characters than bytes.
    let chars = if text.len() <= limit { return text.to_owned() } else { text.chars().count() };
    if chars <= limit {
        return text.to_owned();
    }
    let half = limit / 2;
    let at = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(byte, _)| byte);
    let (head, tail) = (&text[..at(half)], &text[at(chars - half)..]);
    format!("{head}\n[{} characters were left out here]\n{tail}", chars - 2 * half)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(output: &str, end: CommandEnd) -> String {
        of_command(&Executed { end, output: output.to_owned() }, Duration::from_mins(5), 1000)
    }

    #[test]
    fn a_command_that_prints_nothing_still_says_how_it_ended() {
        assert_eq!(shown("", CommandEnd::Exited { code: 0 }), "[exit code 0]");
        assert_eq!(shown("a\n", CommandEnd::Exited { code: 1 }), "a\n[exit code 1]");
        assert_eq!(shown("no line break", CommandEnd::Exited { code: 0 }), "no line break\n[exit code 0]");
        assert!(shown("x", CommandEnd::TimedOut).contains("longer than 300 s"));
    }

    #[test]
    fn an_observation_is_called_one_and_only_once() {
        assert_eq!(marked("a\n[exit code 0]"), "OBSERVATION:\na\n[exit code 0]");
        assert_eq!(marked(&marked("a")), marked("a"));
    }

    #[test]
    fn of_a_long_text_both_ends_are_kept_and_the_cut_is_counted() {
        let text = format!("{}{}", "é".repeat(600), "z".repeat(600));
        let capped = capped(&text, 1000);
        assert!(capped.starts_with(&"é".repeat(500)) && capped.ends_with(&"z".repeat(500)));
        assert!(capped.contains("\n[200 characters were left out here]\n"));
    }

    proptest! {
        #[test]
        fn a_text_within_the_limit_is_not_touched_and_a_longer_one_never_much_longer(text in ".{0,80}", limit in 2_u32..60) {
            let capped = capped(&text, limit);
            let (chars, limit) = (text.chars().count(), limit as usize);
            if chars <= limit {
                prop_assert_eq!(capped, text);
            } else {
                prop_assert!(capped.chars().count() <= limit + 50);
            }
        }
    }
}
