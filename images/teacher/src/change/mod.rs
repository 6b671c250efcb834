//! Small real changes to a function: a catalogue of kinds, where each could be made, and which are made. Where and how follows from the seed, the
//! function and the kind, so that whoever knows the kind can make the change again.

mod boundary;
mod default;
mod guard;
mod message;
mod note;
mod order;
mod recognise;

use std::collections::BTreeMap;

pub(crate) use recognise::{Hunk, kinds_in};

use crate::code::Function;
use crate::draw::Draw;

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// An empty or missing argument is refused at the start.
    Guard,
    /// A comparison takes in, or leaves out, the boundary itself.
    Boundary,
    /// A number or a switch has another value.
    Default,
    /// A message says where it comes from.
    Message,
    /// Two checks are made in the other order.
    Order,
    /// A comment says what callers must know; it can be put anywhere, and is the last resort.
    Note,
}

/// Every kind.
pub(crate) const KINDS: [Kind; 6] =
    [Kind::Guard, Kind::Boundary, Kind::Default, Kind::Message, Kind::Order, Kind::Note];

/// How a change is worded. The second wording shares some of its lines with the first, and differs in others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wording {
    Usual,
    Other,
}

/// Lines of a function that are replaced by others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) kind: Kind,
    /// The first line, counted from the function's first.
    pub(crate) at: usize,
    /// How many lines go.
    pub(crate) removes: usize,
    /// What comes in their place.
    pub(crate) adds: Vec<String>,
}

/// Edits of one function that do not touch each other, from its first line to its last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Change {
    edits: Vec<Edit>,
}

impl Edit {
    fn replace(kind: Kind, at: usize, line: String) -> Self {
        Self { kind, at, removes: 1, adds: vec![line] }
    }

    fn insert(kind: Kind, at: usize, lines: Vec<String>) -> Self {
        Self { kind, at, removes: 0, adds: lines }
    }

    fn touches(&self, other: &Self) -> bool {
        self.at < other.at + other.removes.max(1) && other.at < self.at + self.removes.max(1)
    }
}

impl Change {
    pub(crate) fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// The function's lines after the change.
    pub(crate) fn apply(&self, lines: &[String]) -> Vec<String> {
        let mut changed = lines.to_vec();
        for edit in self.edits.iter().rev() {
            changed.splice(edit.at..edit.at + edit.removes, edit.adds.iter().cloned());
        }
        changed
    }

    fn add(&mut self, edit: Edit) {
        if !self.edits.iter().any(|other| other.touches(&edit)) {
            self.edits.push(edit);
            self.edits.sort_by_key(|edit| edit.at);
        }
    }

    /// Its changed lines as a diff would show them, each with how often it occurs.
    fn shown(&self, lines: &[String]) -> BTreeMap<String, usize> {
        let mut shown = BTreeMap::new();
        for edit in &self.edits {
            let removed = lines[edit.at..edit.at + edit.removes].iter().map(|line| format!("-{line}"));
            for line in removed.chain(edit.adds.iter().map(|line| format!("+{line}"))) {
                *shown.entry(line).or_default() += 1;
            }
        }
        shown
    }

    fn shares_lines(&self, other: &Self, lines: &[String]) -> bool {
        let shown = other.shown(lines);
        self.shown(lines).keys().any(|line| shown.contains_key(line))
    }
}

/// What changes can be made to one function, and which of them are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Designer<'a> {
    draw: Draw,
    function: &'a Function,
}

/// How likely a second and a third edit are, so that patches of several hunks occur beside those of one.
const MORE: [f64; 2] = [0.6, 0.35];

impl<'a> Designer<'a> {
    pub(crate) const fn new(draw: Draw, function: &'a Function) -> Self {
        Self { draw, function }
    }

    /// The kinds that the function has a place for; the note only if there is no other.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let kinds: Vec<Kind> = KINDS
            .into_iter()
            .filter(|kind| *kind != Kind::Note && self.edit(*kind, Wording::Usual).is_some())
            .collect();
        if kinds.is_empty() { vec![Kind::Note] } else { kinds }
    }

    /// The kinds that are chosen when `about` is all that is known: one to three.
    pub(crate) fn choose(&self, about: &str) -> Vec<Kind> {
        let mut left = self.kinds();
        let text = self.function.text();
        let mut chosen = Vec::new();
        for (index, likely) in [1.0].into_iter().chain(MORE).enumerate() {
            let parts = [about, &text, &index.to_string()];
            if left.is_empty() || self.draw.share("another kind", &parts) >= likely {
                break;
            }
            chosen.push(left.remove(self.draw.below(left.len(), "kind", &parts)));
        }
        chosen
    }

    /// The change of these kinds; kinds that the function has no place for are left out.
    pub(crate) fn change(&self, kinds: &[Kind]) -> Change {
        let mut change = Change::default();
        for kind in KINDS.into_iter().filter(|kind| kinds.contains(kind)) {
            if let Some(edit) = self.edit(kind, Wording::Usual) {
                change.add(edit);
            }
        }
        change
    }

    /// Some of `full`, and not all of it.
    pub(crate) fn part_of(&self, full: &Change, about: &str) -> Change {
        let keep = self.draw.below(full.edits.len().max(1), "keep", &[about]);
        let mut part = Change::default();
        for (index, edit) in full.edits.iter().enumerate() {
            let other = self.edit(edit.kind, Wording::Other);
            match other {
                _ if index == keep && full.edits.len() > 1 => part.add(edit.clone()),
                // Of the rest, some is worded otherwise, and some is not done at all.
                Some(other)
                    if full.edits.len() == 1 || self.draw.share("reword", &[about, &index.to_string()]) < 0.5 =>
                {
                    part.add(other);
                }
                _ => {}
            }
        }
        part
    }

    /// A change that shares no line with `full`.
    pub(crate) fn instead_of(&self, full: &Change, about: &str) -> Change {
        let lines = &self.function.lines;
        let candidates: Vec<Change> = KINDS
            .into_iter()
            .filter(|kind| *kind != Kind::Note)
            .flat_map(|kind| self.sites(kind, Wording::Usual))
            .map(|edit| Change { edits: vec![edit] })
            .filter(|change| !change.shares_lines(full, lines))
            .collect();
        let fallback = Change { edits: vec![note::elsewhere(self.function)] };
        self.draw.pick(&candidates, "miss", &[about]).cloned().unwrap_or(fallback)
    }

    /// The edit of a kind: always at the same place of the same function.
    fn edit(&self, kind: Kind, wording: Wording) -> Option<Edit> {
        let sites = self.sites(kind, wording);
        self.draw.pick(&sites, "site", &[&format!("{kind:?}"), &self.function.text()]).cloned()
    }

    /// Every place for a kind; as many, and in the same order, whatever the wording.
    fn sites(&self, kind: Kind, wording: Wording) -> Vec<Edit> {
        let function = self.function;
        match kind {
            Kind::Guard => guard::sites(function, wording),
            Kind::Boundary => boundary::sites(function, wording),
            Kind::Default => default::sites(function, wording),
            Kind::Message => message::sites(function, wording),
            Kind::Order => order::sites(function, wording),
            Kind::Note => vec![note::site(function, wording)],
        }
    }
}

#[cfg(test)]
mod parsing;
#[cfg(test)]
mod tests;
