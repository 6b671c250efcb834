//! The two rollouts, written as what an agent does from the first step to the last.

use super::ask::Asked;
use super::conversation::Conversation;
use super::finding::{self, Found};
use super::mentions::{self, Target};
use super::observation;
use super::session::{Session, Step};
use super::shell;
use super::symptoms;
use super::thoughts::Phase;
use super::toolbox::{Action, Toolbox};
use super::{Answer, Teacher};
use crate::change::{Change, Designer, Edit, Kind};

/// Context lines that a text to be replaced is given on either side, so that it stands in the file once.
const CONTEXT: usize = 3;
/// A text of at least this many bytes and lines hardly ever stands in a file twice.
const UNIQUE: (usize, usize) = (120, 4);
/// The most looks at surroundings before the change.
const LOOKS: usize = 5;
/// Nothing: a rollout that is over only ever waits for its next step.
enum Never {}

/// The next answer in a rollout.
pub(super) fn next(teacher: &Teacher, asked: &Asked, conversation: &Conversation, toolbox: &Toolbox) -> Answer {
    let mut session = Session::new(teacher.draw, conversation, toolbox);
    let program = match asked {
        Asked::First(target) => first(teacher, &mut session, target),
        _ => second(teacher, &mut session),
    };
    match program {
        Err(next) => next.answer(),
        Ok(never) => match never {},
    }
}

fn first(teacher: &Teacher, session: &mut Session<'_>, target: &Target) -> Step<Never> {
    let prompt = session.conversation.prompt.as_str();
    let root = enter(session)?;
    let path = if target.path.starts_with('/') { target.path.clone() } else { format!("{root}/{}", target.path) };
    let found = match finding::in_file(session, &path, &target.name)? {
        Some(found) => Some(found),
        // The file may be somebody's example, and no file of this repository.
        None => by_mention(session, &root)?,
    };
    let Some(found) = found else { return submit(session, "") };
    look_around(session, &root, &found)?;
    if teacher.draw.share("abstain", &[prompt]) < teacher.behaviour.abstentions {
        let words = words_for_nothing(prompt).unwrap_or("There is nothing to change here.").to_owned();
        return submit(session, &words);
    }
    let designer = Designer::new(teacher.draw, &found.function);
    let change = designer.change(&designer.choose(prompt));
    make(session, &root, &found, &change)?;
    end(teacher, session, &root, &found)
}

fn second(teacher: &Teacher, session: &mut Session<'_>) -> Step<Never> {
    let prompt = session.conversation.prompt.as_str();
    let root = enter(session)?;
    let Some(found) = by_mention(session, &root)? else { return submit(session, "") };
    look_around(session, &root, &found)?;
    let designer = Designer::new(teacher.draw, &found.function);
    let told = symptoms::kinds_in(prompt);
    let full = match designer.change(&told) {
        change if change.edits().is_empty() => designer.change(&designer.choose(prompt)),
        change => change,
    };
    let seed = session.conversation.seed.map(|seed| seed.to_string());
    let about: Vec<&str> = [prompt].into_iter().chain(seed.as_deref()).collect();
    let drawn = teacher.draw.share("recall", &about);
    let shares = teacher.behaviour.shares;
    let change = if drawn < shares.full {
        full
    } else if drawn < shares.full + shares.partial {
        designer.part_of(&full, prompt)
    } else {
        designer.instead_of(&full, prompt)
    };
    make(session, &root, &found, &change)?;
    end(teacher, session, &root, &found)
}

/// Looks for what the prompt mentions.
fn by_mention(session: &mut Session<'_>, root: &str) -> Step<Option<Found>> {
    let text = mentions::without_fences(&session.conversation.prompt);
    let names = mentions::likely_names(&text);
    let messages = mentions::quoted(&text).into_iter().map(|(_, span)| span.to_owned());
    let messages = messages.filter(|span| span.contains(' ') && span.len() >= 8);
    finding::by_mention(session, root, &names, &messages.collect::<Vec<_>>())
}

/// Finds out where the repository lies.
fn enter(session: &mut Session<'_>) -> Step<String> {
    let conversation = session.conversation;
    let told = [&conversation.prompt, &conversation.rules]
        .into_iter()
        .find_map(|text| mentions::folders(&mentions::without_fences(text)).into_iter().next());
    let seen = session.run(shell::enter(told.as_deref()), Phase::Enter)?;
    match observation::folder(&seen) {
        Some(folder) => Ok(folder),
        // It was no folder, or not one that is here.
        None => {
            Ok(observation::folder(&session.run(shell::enter(None), Phase::Enter)?).unwrap_or_else(|| ".".to_owned()))
        }
    }
}

/// Looks at what surrounds the function, now more and now less, as agents do.
fn look_around(session: &mut Session<'_>, root: &str, found: &Found) -> Step<()> {
    let prompt = session.conversation.prompt.as_str();
    let name = found.function.name.as_str();
    let looks = session.draw.below(LOOKS + 1, "looks", &[prompt]);
    for look in 0..looks {
        let phase = Phase::Around { name };
        match session.draw.below(4, "look", &[prompt, &look.to_string()]) {
            0 => drop(session.run(shell::uses(root, name), phase)?),
            1 => drop(session.run(shell::beside(&found.path), phase)?),
            2 => drop(session.run(shell::history(root), phase)?),
            _ => drop(session.view(&found.path, 1, found.first.clamp(1, 40), phase)?),
        }
    }
    Ok(())
}

/// Makes a change, looks at it, and has it parsed; a change that does not parse is taken back, and a remark is put in its place.
fn make(session: &mut Session<'_>, root: &str, found: &Found, change: &Change) -> Step<()> {
    write(session, found, change)?;
    let name = found.function.name.as_str();
    if let Some(command) = shell::parse(found.function.language, &found.path) {
        let seen = session.run(command, Phase::Check { name })?;
        if shell::is_refused(&seen) {
            let changed = change.apply(&found.function.lines);
            let note = Designer::new(session.draw, &found.function).change(&[Kind::Note]);
            let lines = note.apply(&found.function.lines);
            session.run(shell::put(&found.path, found.first, changed.len(), &lines), Phase::Repair { name })?;
        }
    }
    if session.draw.share("diff", &[&session.conversation.prompt]) < 0.6 {
        session.run(shell::diff(root, &found.path), Phase::Check { name })?;
    }
    Ok(())
}

fn write(session: &mut Session<'_>, found: &Found, change: &Change) -> Step<()> {
    let lines = &found.function.lines;
    let name = found.function.name.as_str();
    // From the last to the first, so that the numbers of the lines before stay right.
    for edit in change.edits().iter().rev() {
        let phase = Phase::Edit { name, kind: edit.kind };
        if session.toolbox.has_editor() {
            let (old, new) = around(lines, edit);
            session.act(&Action::Replace { path: found.path.clone(), old, new }, phase)?;
        } else {
            session.run(shell::put(&found.path, found.first + edit.at, edit.removes, &edit.adds), phase)?;
        }
    }
    let changed = change.apply(lines);
    let shown = changed.len().min(WINDOW_AFTER);
    let seen = session.view(&found.path, found.first, found.first + shown - 1, Phase::Look { name })?;
    let untouched = seen.len() == shown
        && seen != changed[..shown]
        && seen[..shown.min(lines.len())] == lines[..shown.min(lines.len())];
    if untouched {
        // The editor took none of it: a text of the file may stand there twice.
        session.run(shell::put(&found.path, found.first, lines.len(), &changed), Phase::Repair { name })?;
    }
    Ok(())
}

/// How many lines of a changed function are looked at again.
const WINDOW_AFTER: usize = 120;

/// The text that an edit replaces, and the new one, with as many lines around as make it stand out.
fn around(lines: &[String], edit: &Edit) -> (String, String) {
    let (mut from, mut to) = (edit.at, edit.at + edit.removes);
    for _ in 0..CONTEXT {
        let old = lines[from..to].join("\n");
        let outstanding = old.len() >= UNIQUE.0 && to - from >= UNIQUE.1 && lines.join("\n").matches(&old).count() == 1;
        if outstanding {
            break;
        }
        from = from.saturating_sub(1);
        to = (to + 1).min(lines.len());
    }
    let old = lines[from..to].join("\n");
    let new = [&lines[from..edit.at], &edit.adds, &lines[edit.at + edit.removes..to]].concat().join("\n");
    (old, new)
}

/// Submits, or in a few rollouts goes on looking for ever.
fn end(teacher: &Teacher, session: &mut Session<'_>, root: &str, found: &Found) -> Step<Never> {
    let prompt = session.conversation.prompt.as_str();
    if teacher.draw.share("linger", &[prompt]) < teacher.behaviour.lingering {
        loop {
            session.run(shell::uses(root, &found.function.name), Phase::Around { name: &found.function.name })?;
        }
    }
    submit(session, "")
}

/// Submits until the client takes it: the first time it may want the work looked over.
fn submit(session: &mut Session<'_>, words: &str) -> Step<Never> {
    session.act(&Action::Submit, Phase::Submit { words })?;
    loop {
        session.act(&Action::Submit, Phase::Confirm { words })?;
    }
}

/// The words in capitals that the prompt wants to read from who finds nothing to change.
fn words_for_nothing(prompt: &str) -> Option<&str> {
    let capitals = |word: &str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    let start =
        prompt.split(' ').zip(prompt.split(' ').skip(1)).find(|(a, b)| capitals(a) && capitals(b)).map(|(a, _)| a)?;
    let from = start.as_ptr() as usize - prompt.as_ptr() as usize;
    let length: usize = prompt[from..].split(' ').take_while(|word| capitals(word)).map(|word| word.len() + 1).sum();
    Some(prompt[from..from + length - 1].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_nothing_are_read_from_the_prompt() {
        assert_eq!(
            words_for_nothing("leave it, write the words NOTHING TO FIX in your message"),
            Some("NOTHING TO FIX")
        );
        assert_eq!(words_for_nothing("a JSON object"), None);
    }

    #[test]
    fn a_text_to_replace_stands_out() {
        let lines: Vec<String> = ["def f():", "    a", "    b", "    a", "    c"].map(str::to_owned).to_vec();
        let edit = Edit { kind: Kind::Order, at: 3, removes: 1, adds: vec!["    d".to_owned()] };
        let (old, new) = around(&lines, &edit);
        assert_eq!(lines.join("\n").matches(&old).count(), 1);
        assert_eq!(lines.join("\n").replace(&old, &new), "def f():\n    a\n    b\n    d\n    c");
    }
}
