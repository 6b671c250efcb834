//! How much a text says by itself: the words that its author wrote, without what a form, a machine or a paste put there.

/// The fewest words that an example has of its own. A symptom and when it shows take as many; what is shorter is a one-liner, and shows no style.
pub(super) const FEWEST_WORDS: usize = 20;

/// Whether `text` says enough.
pub(super) fn says_enough(text: &str) -> bool {
    count(text.lines()) >= FEWEST_WORDS
}

/// The words in lines of prose. Fenced code, quotes, headings, check boxes, rules, tables and comments of HTML are a form's or a machine's.
pub(super) fn count<'a>(lines: impl Iterator<Item = &'a str>) -> usize {
    let (mut fenced, mut commented) = (false, false);
    let mut words = 0;
    for line in lines {
        let line = line.trim();
        if line.starts_with("```") || line.starts_with("~~~") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        let mut rest = line;
        let mut prose = String::new();
        while !rest.is_empty() {
            if commented {
                let Some((_, after)) = rest.split_once("-->") else { break };
                (commented, rest) = (false, after);
            } else if let Some((before, after)) = rest.split_once("<!--") {
                prose.push_str(before);
                (commented, rest) = (true, after);
            } else {
                prose.push_str(rest);
                break;
            }
        }
        if !is_form(&prose) {
            words += prose.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count();
        }
    }
    words
}

/// Whether a line belongs to a form, or quotes another text.
fn is_form(line: &str) -> bool {
    let line = line.trim();
    let boxed = ["- [ ]", "- [x]", "- [X]", "* [ ]", "* [x]"].iter().any(|start| line.starts_with(start));
    boxed || line.starts_with(['#', '>', '|']) || is_label(line)
}

/// A line that only announces what is to come: `**Describe the bug**`, `Steps to reproduce:`.
fn is_label(line: &str) -> bool {
    let bold = line.strip_prefix("**").and_then(|line| line.trim_end_matches(':').strip_suffix("**"));
    bold.is_some_and(|label| !label.contains("**")) || (line.ends_with(':') && line.split_whitespace().count() <= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prose_counts() {
        let text = "### Describe the bug\n<!-- A clear\nand concise description --> It fails\n> quoted words\n- [x] I searched\n**Version**\n\
                    Steps to reproduce:\n| a | b |\n```\ncode that is pasted\n```\n1. open the file\n--- ***\n";
        assert_eq!(count(text.lines()), ["It", "fails", "1.", "open", "the", "file"].len());
    }

    #[test]
    fn an_empty_form_says_nothing_and_a_filled_one_enough() {
        let form = "**Describe the bug**\n<!-- what happened? -->\n\n**To reproduce**\n\n- [ ] I have read the manual";
        assert!(!says_enough(form));
        let filled = "Closing the session twice within one request leaves the lock behind, so every later request of that user waits for ever.";
        assert!(says_enough(&format!("{form}\n{filled}")));
    }
}
