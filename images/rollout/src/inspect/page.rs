//! How a sample is printed: first what became of it, then its turns, those that are trained and those that are cut marked, then the patches.

use std::io::{self, Write};

use sera_crds::contract::{Fraction, Judgement, Message, RolloutKind, Verdict};

use super::Rollout;
use crate::dataset::{Seen, Student};

/// A sample with everything that is known of it.
pub(super) struct Page<'a> {
    pub(super) batch: &'a str,
    pub(super) rollouts: &'a [Rollout],
    pub(super) verdicts: &'a [(String, Verdict)],
    /// The rollout whose turns are printed; none: both.
    pub(super) only: Option<RolloutKind>,
    pub(super) student: Option<&'a Student>,
    pub(super) colours: bool,
}

/// How a piece of text stands out.
#[derive(Clone, Copy)]
enum Ink {
    Plain,
    Head,
    Trained,
    Cut,
}

impl Page<'_> {
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(Rollout { record, .. }) = self.rollouts.first() {
            let function = &record.function;
            let (from, to) = function.lines;
            self.line(out, Ink::Head, &format!("sample {} of batch {}", record.sample, self.batch))?;
            let kind = record.bug_kind.map(|kind| format!(", {kind}")).unwrap_or_default();
            writeln!(out, "{} in {}, lines {from} to {to}{kind}", function.name, function.file)?;
        }
        for (policy, verdict) in self.verdicts {
            self.verdict(out, policy, verdict)?;
        }
        for rollout in
            self.rollouts.iter().filter(|rollout| self.only.is_none_or(|only| only == rollout.record.rollout))
        {
            self.rollout(out, rollout)?;
        }
        for Rollout { record, patch, .. } in self.rollouts {
            self.heading(out, &format!("patch of {}", record.rollout.stem()))?;
            out.write_all(if patch.is_empty() { "(empty)\n" } else { patch.as_str() }.as_bytes())?;
        }
        Ok(())
    }

    fn verdict(&self, out: &mut impl Write, policy: &str, verdict: &Verdict) -> io::Result<()> {
        self.heading(out, &format!("verdict under policy {}", &policy[..policy.len().min(12)]))?;
        for (name, judgement) in [("t1", &verdict.first), ("t2", &verdict.second)] {
            writeln!(out, "{name}: {}", judged(judgement))?;
        }
        if let Some(measures) = &verdict.measures {
            let strict = &measures.strict;
            let share = |share: Option<Fraction>| {
                share
                    .map_or("-".to_owned(), |share| format!("{}/{} ({:.2})", share.matched, share.total, share.value()))
            };
            writeln!(
                out,
                "recall {}, strict recall {}, strict F1 {}",
                share(measures.recall),
                share(strict.recall()),
                share(strict.f1())
            )?;
        }
        if verdict.leaks {
            writeln!(out, "the pull request gives a line of the first patch away")?;
        }
        Ok(())
    }

    fn rollout(&self, out: &mut impl Write, rollout: &Rollout) -> io::Result<()> {
        let Rollout { record, trajectory, .. } = rollout;
        let teacher = &record.teacher;
        let rehearsal = if teacher.rehearsal { " (rehearsal)" } else { "" };
        self.heading(
            out,
            &format!("{}: {:?}, by {}{rehearsal}", record.rollout.stem(), record.outcome, teacher.model),
        )?;
        match self.student.map(|student| Seen::of(trajectory, student)) {
            Some(Ok(seen)) => self.seen(out, &seen),
            Some(Err(problem)) => {
                writeln!(out, "it becomes no line: {problem}")?;
                self.messages(out, &trajectory.messages)
            }
            None => self.messages(out, &trajectory.messages),
        }
    }

    /// The turns as the student's template has them.
    fn seen(&self, out: &mut impl Write, seen: &Seen) -> io::Result<()> {
        let (kept, all) = (seen.kept, seen.turns.len());
        let trained: usize = seen.turns[..kept].iter().map(|turn| turn.trained_tokens).sum();
        let tokens: usize = seen.turns[..kept].iter().map(|turn| turn.tokens).sum();
        writeln!(
            out,
            "{kept} of {all} messages are kept, {tokens} tokens, {trained} of them trained; {}",
            self.legend()
        )?;
        for (position, turn) in seen.turns.iter().enumerate() {
            if position == kept {
                self.line(out, Ink::Cut, "──── cut: what follows is not in the line ────")?;
            }
            let cut = if position < kept { "" } else { ", cut" };
            writeln!(out)?;
            self.line(out, Ink::Head, &format!("[{position}] {}, {} tokens{cut}", turn.role, turn.tokens))?;
            let around = if position < kept { Ink::Plain } else { Ink::Cut };
            let ink = if position < kept { Ink::Trained } else { Ink::Cut };
            self.ink(out, around, &turn.before)?;
            self.ink(out, ink, &turn.written)?;
            self.ink(out, around, &turn.after)?;
            let texts = [&turn.after, &turn.written, &turn.before];
            if texts.into_iter().find(|text| !text.is_empty()).is_some_and(|last| !last.ends_with('\n')) {
                writeln!(out)?;
            }
        }
        Ok(())
    }

    /// The messages as they are in the trajectory.
    fn messages(&self, out: &mut impl Write, messages: &[Message]) -> io::Result<()> {
        for (position, message) in messages.iter().enumerate() {
            let (role, text) = match message {
                Message::System { content } => ("system", content.clone()),
                Message::User { content } => ("user", content.clone()),
                Message::Tool { content, .. } => ("tool", content.clone()),
                Message::Assistant { content, reasoning, tool_call, .. } => {
                    let arguments = sera_chat::to_json(&tool_call.arguments);
                    let thinking = reasoning.as_deref().unwrap_or_default();
                    (
                        "assistant",
                        [thinking, content, &format!("{} {arguments}", tool_call.name)]
                            .join("\n")
                            .trim_start()
                            .to_owned(),
                    )
                }
            };
            writeln!(out)?;
            self.line(out, Ink::Head, &format!("[{position}] {role}"))?;
            writeln!(out, "{}", text.trim_end_matches('\n'))?;
        }
        Ok(())
    }

    fn legend(&self) -> &'static str {
        if self.colours { "green carries loss" } else { "⟦…⟧ carries loss" }
    }

    fn heading(&self, out: &mut impl Write, text: &str) -> io::Result<()> {
        writeln!(out)?;
        self.line(out, Ink::Head, &format!("== {text}"))
    }

    fn line(&self, out: &mut impl Write, ink: Ink, text: &str) -> io::Result<()> {
        self.ink(out, ink, text)?;
        writeln!(out)
    }

    fn ink(&self, out: &mut impl Write, ink: Ink, text: &str) -> io::Result<()> {
        let (open, close) = match (ink, self.colours) {
            _ if text.is_empty() => return Ok(()),
            (Ink::Head, true) => ("\u{1b}[1m", "\u{1b}[0m"),
            (Ink::Trained, true) => ("\u{1b}[32m", "\u{1b}[0m"),
            (Ink::Cut, true) => ("\u{1b}[2m", "\u{1b}[0m"),
            (Ink::Trained, false) => ("⟦", "⟧"),
            _ => ("", ""),
        };
        write!(out, "{open}{text}{close}")
    }
}

/// What became of a trajectory, in a line.
fn judged(judgement: &Judgement) -> String {
    let outcome = judgement.outcome.map_or_else(|| "did not take place".to_owned(), |outcome| format!("{outcome:?}"));
    let decision = judgement.rejected.map_or_else(|| "accepted".to_owned(), |reason| format!("left out: {reason:?}"));
    let counts = [
        judgement.patch_lines.map(|lines| format!("patch of {lines} lines")),
        judgement.mean_tool_tokens.map(|tokens| format!("tool outputs of {tokens} tokens on average")),
        judgement.kept.map(|(kept, all)| format!("{kept} of {all} messages kept")),
        judgement.tokens.map(|tokens| format!("{tokens} tokens")),
    ];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    format!("{outcome}, {decision}{}{}", if counts.is_empty() { "" } else { "; " }, counts.join(", "))
}
