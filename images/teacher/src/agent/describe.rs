//! The text of an issue that could have led to a patch: what a user sees of it, and enough of where to find the place again, without the solution.

use super::conversation::Conversation;
use super::finding;
use super::mentions::{self, Target};
use super::patch::Patch;
use super::symptoms;
use super::{Answer, Teacher};
use crate::change::{Kind, kinds_in};
use crate::code::Language;

/// How long a text is, in characters, when no example says how long texts are here.
const USUAL: usize = 700;
/// The bounds within which an example's length is followed.
const BOUNDS: std::ops::RangeInclusive<usize> = 250..=4000;
/// In which share of issues users quote what they read instead of naming a function that they may not know.
const QUOTING: f64 = 0.25;
/// Lines of the patch at least this long must not be given away.
const TELLING: usize = 12;
/// What a message must have to be found again: characters of plain text in a row.
const DISTINCTIVE: usize = 12;

/// Sentences that make a text longer, and say nothing about the problem.
const FILLER: [&str; 12] = [
    "I have seen this on two machines, so it does not seem to be an accident of my setup.",
    "It is not urgent for us, but it cost a colleague an afternoon.",
    "The rest works nicely, thank you for the effort that goes into this.",
    "I have looked through the open reports and found none that describes the same.",
    "It happens with a fresh checkout, with nothing of ours in between.",
    "An earlier release may have behaved differently; I cannot say for sure since when it is like this.",
    "We work around it on our side for now.",
    "It took a while to narrow it down to this, as the effect shows up elsewhere.",
    "It is the same whether it is run once or many times.",
    "I can provide more detail if that is of use.",
    "Nothing else was running at the time.",
    "It does not depend on the size of the data as far as I can see.",
];

/// What is known of the problem.
struct Problem {
    kinds: Vec<Kind>,
    /// How the text calls the place.
    place: String,
    /// Where in the repository it is, in words.
    area: Option<String>,
}

/// Answers a request for an issue's text.
pub(super) fn pull_request(teacher: &Teacher, conversation: &Conversation, tag: Option<&str>) -> Answer {
    let request = conversation.question.as_deref().unwrap_or(&conversation.prompt);
    let patch = Patch::shown_in(conversation);
    let problem = problem(teacher, conversation, &patch);
    let text = write(teacher, &problem, example(request, tag).as_deref(), request);
    let text = tag.map_or_else(|| text.clone(), |tag| format!("<{tag}>\n{text}\n</{tag}>"));
    let thinking = "The steps show what was changed; a user would only see its effect. I describe that effect, and keep the change to myself.".to_owned();
    Answer { thinking, text, calls: Vec::new() }
}

fn problem(teacher: &Teacher, conversation: &Conversation, patch: &Patch) -> Problem {
    let target = place(conversation, patch);
    let mut kinds = kinds_in(&patch.hunks);
    if kinds.is_empty() {
        kinds.push(Kind::Note);
    }
    let key: String = patch.hunks.iter().flat_map(|hunk| &hunk.added).map(String::as_str).collect();
    let message = message(patch).filter(|_| teacher.draw.share("quote", &[&key]) < QUOTING || target.is_none());
    let place = match (message, &target) {
        (Some(message), _) => format!("the part that says \"{message}\""),
        (None, Some(target)) => format!("`{}`", target.name),
        (None, None) => "this part".to_owned(),
    };
    Problem { kinds, place, area: target.and_then(|target| area(&target.path)) }
}

/// The function that the conversation was about, and the file it is in.
fn place(conversation: &Conversation, patch: &Patch) -> Option<Target> {
    let belongs = |target: &Target| {
        patch.files.is_empty()
            || patch.files.iter().any(|file| target.path.ends_with(file.as_str()) || file.ends_with(&target.path))
    };
    let named = mentions::target(&conversation.prompt).filter(belongs);
    named.or_else(|| conversation.texts().filter_map(mentions::target).find(belongs)).or_else(|| {
        // Nobody names it, so the lines around the change have to.
        let file = patch.files.last()?;
        let language = Language::of(file)?;
        let name = patch.context.iter().rev().find_map(|line| finding::defined(language, line))?;
        Some(Target { path: file.clone(), name })
    })
}

/// The part of the repository that a file belongs to, as somebody would say it who does not know its files.
fn area(path: &str) -> Option<String> {
    let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    let parts: Vec<&str> =
        stem.split('/').filter(|part| part.len() > 2 && !part.to_lowercase().contains("test")).collect();
    let (last, before) = parts.split_last()?;
    Some(match before.last() {
        Some(folder) => format!("the {last} part of {folder}"),
        None => format!("the {last} part"),
    })
}

/// A message in the code as it was that can be searched for, and gives no added line away.
fn message(patch: &Patch) -> Option<String> {
    let added: Vec<&str> = patch
        .hunks
        .iter()
        .flat_map(|hunk| &hunk.added)
        .map(|line| line.trim())
        .filter(|line| line.len() >= TELLING)
        .collect();
    let lines = patch.hunks.iter().flat_map(|hunk| &hunk.removed).chain(&patch.context);
    let spans = lines.flat_map(|line| mentions::quoted(line)).map(|(_, span)| span);
    let plain = spans.filter_map(|span| {
        span.split(['{', '}', '%', '\\', '$', '#', '"', '\'', '<', '>']).max_by_key(|part| part.len())
    });
    let telling = |part: &&str| {
        part.len() >= DISTINCTIVE && part.contains(' ') && part.is_ascii() && !part.to_lowercase().contains("test")
    };
    let found = plain.map(str::trim).filter(telling).filter(|part| !added.iter().any(|line| part.contains(line)));
    found.max_by_key(|part| part.len()).map(|part| part.chars().take(60).collect())
}

/// The example that the text is to be like: what stands between tags named for it, or after a word for it.
fn example(request: &str, tag: Option<&str>) -> Option<String> {
    for (at, _) in request.match_indices('<') {
        let Some((name, rest)) = request[at + 1..].split_once('>') else { continue };
        let fits =
            ["example", "style", "sample", "issue", "reference"].iter().any(|word| name.to_lowercase().contains(word));
        if fits
            && Some(name) != tag
            && let Some(end) = rest.find(&format!("</{name}>")).filter(|end| *end > 40)
        {
            return Some(rest[..end].trim().to_owned());
        }
    }
    None
}

fn write(teacher: &Teacher, problem: &Problem, example: Option<&str>, request: &str) -> String {
    let wanted = example.map_or(USUAL, |example| example.chars().count().clamp(*BOUNDS.start(), *BOUNDS.end()));
    let has_headings =
        example.is_some_and(|example| example.lines().any(|line| line.starts_with('#') || line.starts_with("**")));
    let draw = |count: usize, of: &str, index: usize| {
        teacher.draw.below(count, of, &[request, &problem.place, &index.to_string()])
    };
    let told: Vec<symptoms::Symptom> = problem.kinds.iter().map(|kind| symptoms::of(*kind)).collect();
    let seen: Vec<String> = told
        .iter()
        .enumerate()
        .map(|(index, symptom)| symptom.seen[draw(3, "wording", index)].replace("{}", &problem.place))
        .map(capital)
        .collect();
    // What has to be said comes first; the rest is added until the length is right.
    let area = problem.area.as_ref().map(|area| format!("It shows in {area}."));
    let mut parts = vec![seen.into_iter().chain(area).collect::<Vec<_>>().join(" ")];
    let room = |parts: &[String], more: &str| {
        parts.iter().map(|part| part.chars().count() + 2).sum::<usize>() + more.chars().count() <= wanted
    };
    for (heading, texts) in [
        ("What I did", told.iter().map(|symptom| symptom.steps).collect::<Vec<_>>()),
        ("What I expected", told.iter().map(|symptom| symptom.expected).collect()),
    ] {
        let text = texts.join(" ");
        if room(&parts, &text) {
            parts.push(if has_headings { format!("### {heading}\n\n{text}") } else { text });
        }
    }
    if let Some(symptom) = told.first() {
        let title = capital(symptom.title.replace("{}", &problem.place));
        if has_headings && room(&parts, &title) {
            parts.insert(0, format!("## {title}"));
        }
    }
    let mut filler: Vec<&str> = Vec::new();
    let offset = draw(FILLER.len(), "filler", 0);
    for index in 0..FILLER.len() {
        let sentence = FILLER[(offset + index) % FILLER.len()];
        if !room(&parts, &format!("{} {sentence}", filler.join(" "))) {
            break;
        }
        filler.push(sentence);
        if filler.len() == 4 {
            parts.push(std::mem::take(&mut filler).join(" "));
        }
    }
    if !filler.is_empty() {
        parts.push(filler.join(" "));
    }
    parts.join("\n\n")
}

fn capital(sentence: String) -> String {
    let mut chars = sentence.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_found_and_not_taken_for_the_answers_place() {
        let request =
            format!("Like this:\n<example>\n{}\n</example>\nBetween <output> and </output>.", "a text ".repeat(10));
        assert_eq!(example(&request, Some("output")).as_deref(), Some("a text ".repeat(10).trim()));
        assert_eq!(example("Between <output> and </output>.", Some("output")), None);
    }

    #[test]
    fn a_message_is_quoted_without_what_is_filled_in() {
        let patch = Patch {
            context: vec!["    raise E(f\"cannot read the header {name}: x\")".to_owned()],
            ..Patch::default()
        };
        assert_eq!(message(&patch).as_deref(), Some("cannot read the header"));
    }

    #[test]
    fn the_area_is_said_without_the_files_name() {
        assert_eq!(area("src/net/session.py").as_deref(), Some("the session part of net"));
        assert_eq!(area("setup.py").as_deref(), Some("the setup part"));
    }
}
