//! What the teacher says beside what it does: thinking of varying length, so that trajectories look like those of an agent, and a sentence for the
//! reader. It is filler, and is worded as such: nothing is claimed that the steps do not show.

use crate::change::Kind;
use crate::draw::Draw;

/// What a step is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase<'a> {
    Enter,
    /// A name is looked for in one file.
    Find {
        name: &'a str,
        path: &'a str,
    },
    View {
        name: &'a str,
        path: &'a str,
    },
    /// Something is looked for in all files.
    Search {
        what: &'a str,
    },
    /// What surrounds a function is looked at.
    Around {
        name: &'a str,
    },
    Edit {
        name: &'a str,
        kind: Kind,
    },
    Look {
        name: &'a str,
    },
    Check {
        name: &'a str,
    },
    Repair {
        name: &'a str,
    },
    Submit {
        words: &'a str,
    },
    Confirm {
        words: &'a str,
    },
}

/// Sentences that fit any step; a name takes the place of `{}`.
const FILLER: [&str; 14] = [
    "I take one step at a time, and look at the result before I go on.",
    "It is worth being sure of this before anything is changed.",
    "The less is changed, the easier it is to see that the change is right.",
    "If this turns out not to be the place, I come back and look elsewhere.",
    "So far nothing speaks against what was reported.",
    "I keep in mind that callers may rely on how this behaves today.",
    "The names around here suggest what was intended, but only the code says what happens.",
    "There may be a second place that does the same, so I keep an eye open for it.",
    "What happens with an empty value, and what with the largest one? Both deserve a thought.",
    "I do not want to touch anything that the report does not speak of.",
    "The style of the surrounding code is what my change should follow.",
    "Reading it twice is cheaper than repairing it afterwards.",
    "Whether the order of the steps matters is not obvious at first sight.",
    "Let me think about who calls this, and with what.",
];

/// The most sentences of filler in one step.
const MOST: usize = 6;

impl Phase<'_> {
    /// What the step is for, in a sentence; and the same in a few words, for the text beside the call.
    fn sentences(&self) -> (String, String) {
        match self {
            Self::Enter => (
                "First I want to know where I am and what the repository holds.".into(),
                "I look at the repository first.".into(),
            ),
            Self::Find { name, path } => (
                format!("The next thing is to find `{name}` in {path}: where it is defined, and what it belongs to."),
                format!("I look for `{name}` in the file."),
            ),
            Self::View { name, path } => {
                (format!("Now I read `{name}` in {path} in full."), format!("I read `{name}`."))
            }
            Self::Search { what } => (
                format!("The report speaks of `{what}`; a search over the files shows where that is."),
                format!("I search for `{what}`."),
            ),
            Self::Around { name } => {
                (format!("Before I decide anything about `{name}` I look at what surrounds it."), String::new())
            }
            Self::Edit { name, kind } => {
                (format!("In `{name}`, {}. I change just that.", reason(*kind)), format!("I change `{name}`."))
            }
            Self::Look { name } => {
                (format!("I look at `{name}` as it stands now, to see that the change is what I meant."), String::new())
            }
            Self::Check { name } => {
                (format!("The file with `{name}` has to hold together after the change; I check that."), String::new())
            }
            Self::Repair { name } => (
                format!("That did not turn out as it should. I put the lines of `{name}` right in another way."),
                String::new(),
            ),
            Self::Submit { words } => {
                ("What was asked for is done as far as I can tell, so I hand it in.".into(), (*words).to_owned())
            }
            Self::Confirm { words } => (
                "I have looked over the changes: they are what I meant, and nothing was left behind.".into(),
                (*words).to_owned(),
            ),
        }
    }
}

fn reason(kind: Kind) -> &'static str {
    match kind {
        Kind::Guard => "an argument that is missing is carried along until something else breaks",
        Kind::Boundary => "the value right at the boundary is taken for the wrong side",
        Kind::Default => "a fixed value is not what callers would expect",
        Kind::Message => "a message does not say where it comes from",
        Kind::Order => "two checks come in the wrong order",
        Kind::Note => "callers are not told what they have to take care of",
    }
}

/// The thinking of a step, and the text beside it.
pub(super) fn of(draw: Draw, phase: Phase<'_>, about: &[&str]) -> (String, String) {
    let (purpose, text) = phase.sentences();
    let mut thinking = vec![purpose];
    let count = draw.below(MOST + 1, "filler", about);
    for index in 0..count {
        let number = index.to_string();
        let parts = [about, &[&number]].concat();
        let sentence = FILLER[draw.below(FILLER.len(), "sentence", &parts)];
        if !thinking.iter().any(|known| known == sentence) {
            thinking.push(sentence.to_owned());
        }
    }
    (thinking.join(" "), text)
}
