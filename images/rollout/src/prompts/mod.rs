//! What the teacher is told, in files beside this one: a template each, in our own words. Whoever changes a word changes the digest that every record
//! carries. What is said when is decided elsewhere.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use minijinja::{Environment, UndefinedBehavior, context};
use sera_crds::values::{BugKind, NetworkMode};
use sha2::{Digest as _, Sha256};

/// What a teacher writes who found nothing to change in a first rollout.
pub(crate) const ABSTAIN: &str = "NOTHING TO FIX";

/// Every file, by its name.
const FILES: [(&str, &str); 9] = [
    ("system.md", include_str!("system.md")),
    ("first.md", include_str!("first.md")),
    ("second.md", include_str!("second.md")),
    ("submit-review.md", include_str!("submit-review.md")),
    ("too-large.md", include_str!("too-large.md")),
    ("self-review.md", include_str!("self-review.md")),
    ("pull-request.md", include_str!("pull-request.md")),
    ("again.md", include_str!("again.md")),
    ("symptoms.txt", SYMPTOMS),
];
/// A kind of bug and a sentence a line.
const SYMPTOMS: &str = include_str!("symptoms.txt");

static SENTENCES: LazyLock<BTreeMap<&str, &str>> =
    LazyLock::new(|| SYMPTOMS.lines().filter_map(|line| line.split_once(": ")).collect());

/// A template of ours that does not render; only a mistake in this module makes one.
#[derive(Debug, thiserror::Error)]
#[error("a prompt cannot be written: {0}")]
pub(crate) struct PromptError(#[from] minijinja::Error);

/// The prompts, for repositories that lie at one path in every sandbox, and sandboxes that have one kind of network.
#[derive(Debug)]
pub(crate) struct Prompts {
    templates: Environment<'static>,
    workspace: String,
    network: NetworkMode,
    digest: String,
}

impl Prompts {
    /// `workspace`: where the repository lies in every sandbox; no other path is ever told. `network`: what commands can reach.
    pub(crate) fn new(workspace: &str, network: NetworkMode) -> Result<Self, PromptError> {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        // Nothing here is HTML, whatever a file's name ends in.
        templates.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        for (name, text) in FILES
            .into_iter()
            .filter(|(name, _)| std::path::Path::new(name).extension().is_some_and(|kind| kind == "md"))
        {
            templates.add_template(name, text)?;
        }
        Ok(Self { templates, workspace: workspace.to_owned(), network, digest: digest(network) })
    }

    /// The digest of all prompts.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// The rules of the game.
    pub(crate) fn system(&self) -> Result<String, PromptError> {
        let network = self.network == NetworkMode::Egress;
        self.render("system.md", context! { workspace => &self.workspace, network })
    }

    /// The task of a first rollout.
    pub(crate) fn first(&self, function: &str, file: &str, kind: BugKind) -> Result<String, PromptError> {
        let symptom = symptom(kind);
        self.render("first.md", context! { workspace => &self.workspace, function, file, symptom, abstain => ABSTAIN })
    }

    /// The task of a second rollout.
    pub(crate) fn second(&self, issue: &str) -> Result<String, PromptError> {
        self.render("second.md", context! { workspace => &self.workspace, issue })
    }

    /// What the first submit shows; an empty diff is said to be one.
    pub(crate) fn submit_review(&self, diff: &str) -> Result<String, PromptError> {
        self.render("submit-review.md", context! { diff })
    }

    /// What a submit is answered whose changes are more than a patch may have.
    pub(crate) fn too_large(&self, problem: &str) -> Result<String, PromptError> {
        self.render("too-large.md", context! { problem })
    }

    /// The question whether a first rollout is a valid fix.
    pub(crate) fn self_review(&self) -> Result<String, PromptError> {
        self.render("self-review.md", context! {})
    }

    /// The request for a synthetic pull request.
    pub(crate) fn pull_request(&self, example: &str, example_has_code: bool) -> Result<String, PromptError> {
        self.render("pull-request.md", context! { example, example_has_code })
    }

    /// Why an answer has to be given again.
    pub(crate) fn again(&self, problem: &str) -> Result<String, PromptError> {
        self.render("again.md", context! { problem })
    }

    fn render(&self, name: &str, values: minijinja::Value) -> Result<String, PromptError> {
        Ok(self.templates.get_template(name)?.render(values)?)
    }
}

/// The digest of all files: sha256 over each name, length and content, in lower-case hexadecimal; and whether there is a network, which no file says.
fn digest(network: NetworkMode) -> String {
    let mut sha256 = Sha256::new();
    for (name, text) in FILES {
        sha256.update(format!("{name} {}\n", text.len()));
        sha256.update(text);
    }
    if network == NetworkMode::Egress {
        sha256.update("network\n");
    }
    hex::encode(sha256.finalize())
}

/// A kind of bug as a user would report it.
fn symptom(kind: BugKind) -> &'static str {
    SENTENCES.get(kind.as_str()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts() -> Prompts {
        Prompts::new("/testbed", NetworkMode::None).unwrap()
    }

    #[test]
    fn every_kind_of_bug_has_one_sentence_of_its_own_and_there_are_no_others() {
        for kind in BugKind::ALL.iter().copied() {
            let sentence = symptom(kind);
            assert!(sentence.len() > 30 && sentence.ends_with('.'), "{kind}: {sentence:?}");
        }
        let mut sentences: Vec<&str> = SENTENCES.values().copied().collect();
        sentences.sort_unstable();
        sentences.dedup();
        assert_eq!((SYMPTOMS.lines().count(), SENTENCES.len(), sentences.len()), (51, 51, 51));
    }

    #[test]
    fn every_prompt_renders_with_what_it_is_given_and_nothing_is_escaped() {
        let prompts = prompts();
        let first = prompts.first("Session.close<T>", "src/a&b.py", BugKind::NullSafety).unwrap();
        for part in ["`Session.close<T>`", "/testbed/src/a&b.py", symptom(BugKind::NullSafety), ABSTAIN] {
            assert!(first.contains(part), "{part} is not in {first}");
        }
        assert!(prompts.second("It <breaks>").unwrap().contains("<issue>\nIt <breaks>\n</issue>"));
        assert!(prompts.submit_review("-a\n+b").unwrap().contains("-a\n+b"));
        assert!(prompts.submit_review("").unwrap().starts_with("You have not changed anything"));
        assert!(prompts.system().unwrap().contains("/testbed"));
        assert!(
            prompts.too_large("more than <two> files have changed").unwrap().contains("are: more than <two> files")
        );
        assert!(prompts.self_review().unwrap().ends_with("if it is not."));
        assert!(prompts.again("it had two calls").unwrap().contains("it had two calls"));
        let (with, without) = (prompts.pull_request("Hi", true).unwrap(), prompts.pull_request("Hi", false).unwrap());
        assert!(with.contains("Hi") && with != without);
    }

    #[test]
    fn what_a_repository_says_is_never_taken_for_a_template() {
        assert!(prompts().second("{{ workspace }} {% for %}").unwrap().contains("{{ workspace }} {% for %}"));
    }

    #[test]
    fn prompts_name_no_place_but_the_workspace() {
        let prompts = prompts();
        let texts = [
            prompts.system(),
            prompts.first("f", "a.py", BugKind::Naming),
            prompts.second("It breaks"),
            prompts.submit_review(""),
            prompts.too_large("It is long"),
        ]
        .map(Result::unwrap);
        let paths = |text: &str| -> Vec<String> {
            let words = text.split([' ', '\n', '`', ',']).filter(|word| word.len() > 1 && word.starts_with('/'));
            words.map(str::to_owned).collect()
        };
        let paths: Vec<String> = texts.iter().flat_map(|text| paths(text)).collect();
        assert!(!paths.is_empty() && paths.iter().all(|path| path.starts_with("/testbed")), "{paths:?}");
    }

    #[test]
    fn a_network_is_denied_where_there_is_none_and_told_of_where_there_is_one() {
        let [none, egress] =
            [NetworkMode::None, NetworkMode::Egress].map(|network| Prompts::new("/testbed", network).unwrap());
        let last = |prompts: &Prompts| prompts.system().unwrap().lines().next_back().unwrap().to_owned();
        assert_eq!(last(&none), "- There is no network. Work with what the repository and the machine have.");
        assert_eq!(
            last(&egress),
            "- The network can be reached, for what a command has to fetch. Work with what the repository and the machine have."
        );
        assert_eq!(none.system().unwrap().lines().count(), egress.system().unwrap().lines().count());
        assert_ne!(none.digest(), egress.digest(), "they are not the same prompts");
    }

    #[test]
    fn the_digest_covers_every_file_beside_this_module() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/prompts");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "mod.rs")
            .collect();
        found.sort();
        let mut listed: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        listed.sort_unstable();
        assert_eq!((found.iter().map(String::as_str).collect::<Vec<_>>(), prompts().digest().len()), (listed, 64));
    }
}
