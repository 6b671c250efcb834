//! `spec.source` and `spec.from`: where a run's functions come from.

use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{
        SecretRef,
        rule::{fits, number},
    },
    values::{AdoptableStage, GitUrl, Glob, HttpUrl, Language, Ratio, StoreUri},
};

/// What git takes as a revision, and what no git command takes as an option.
const REVISION: &str = r"^[A-Za-z0-9_][A-Za-z0-9._/@{}^~+-]*$";

/// GitHub's names of users and organisations; an enterprise's managed users end in `_` and its short name.
const OWNER: &str = r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(_[A-Za-z0-9]+)?$";

/// GitHub's names of repositories.
const REPOSITORY: &str = r"^[A-Za-z0-9._-]+$";

/// The repository that the student is specialised to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("has(self.git) || has(self.github)").message("source needs git, or github from which the repository's URL follows"),
    Rule::new(number("heldOutFraction", "<= 0.5")).message("heldOutFraction must be between \"0\" and \"0.5\"").field_path(".heldOutFraction"),
]))]
pub struct Source {
    /// The git repository. May be left out where `github` is given: the URL then follows from that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
    /// The same repository on GitHub: its newest issues are style examples for synthetic pull requests. Absent, or where
    /// GitHub gives none: messages of its commits are, or else built-in ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHubSource>,
    /// Which commits are worked on. Default: 5, spread over the newest year.
    #[serde(default)]
    pub commits: Commits,
    /// Globs of the files whose functions are used, relative to the repository's root; at most 32. Tests, vendored and
    /// generated files are left out even so, unless a glob spells their folder out, as `tests/**` does. Default (empty):
    /// every other file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub include: Vec<Glob>,
    /// Globs of files that are left out even where `include` names them; at most 32. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub exclude: Vec<Glob>,
    /// The languages whose functions are used. Default (empty): all that the indexer knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = Language::ALL.len()), extend("x-kubernetes-list-type" = "set"))]
    pub languages: Vec<Language>,
    /// The share of functions, whole files together, that is set aside for evaluation before anything is generated. A
    /// decimal string from "0" to "0.5". Default: "0.05".
    #[serde(default = "held_out_fraction")]
    pub held_out_fraction: Ratio,
}

/// A git repository and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSource {
    /// Where to clone from: `https://host/path`, `ssh://git@host/path` or `git@host:path`. Passwords and tokens are
    /// refused; they belong into `credentialsSecretRef`. `builtin://rehearsal` is a small repository that comes with
    /// the images, for rehearsals where no git server is at hand.
    pub url: GitUrl,
    /// The branch, tag or commit of the newest snapshot; at most 255 characters. It is resolved once, when the snapshot
    /// is taken. Default: "HEAD", the remote's default branch.
    #[serde(default = "head")]
    #[schemars(length(min = 1, max = 255), regex(pattern = REVISION), extend("x-kubernetes-validations" = [
        fits(REVISION, "the name of a branch or tag, or a commit, such as \"main\", \"v1.2\" or \"1f2e3d4\""),
    ]))]
    pub revision: String,
    /// Whether the content of submodules stands in place of their names, at any depth, so that their functions are used
    /// too. They are cloned with `credentialsSecretRef` where they are on the repository's own host, and without
    /// credentials elsewhere. Default: false.
    #[serde(default)]
    pub submodules: bool,
    /// The Secret with the credentials: `username` and `password` (kubernetes.io/basic-auth), or `ssh-privatekey`
    /// (kubernetes.io/ssh-auth) with `known_hosts` beside it. Absent: the repository is public.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// A repository on GitHub or GitHub Enterprise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitHubSource {
    /// The user or organisation that owns the repository.
    #[schemars(length(min = 1, max = 39), regex(pattern = OWNER), extend("x-kubernetes-validations" = [
        fits(OWNER, "the name of a user or organisation on GitHub: letters, digits and '-', without the repository"),
    ]))]
    pub owner: String,
    /// The repository's name, without its owner.
    #[schemars(length(min = 1, max = 100), regex(pattern = REPOSITORY), extend("x-kubernetes-validations" = [
        fits(REPOSITORY, "the name of a repository on GitHub: letters, digits, '.', '_' and '-', without its owner"),
    ]))]
    pub repository: String,
    /// The API's address: `https://HOST/api/v3` for GitHub Enterprise Server. Default: "https://api.github.com".
    #[serde(default = "github_api")]
    pub api_url: HttpUrl,
    /// The Secret with a `token`, or with `appId`, `installationId` and `privateKey` of a GitHub App. It also clones
    /// the repository where `git` is absent. Absent: the repository is public, and GitHub's limits for strangers apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// Which commits are worked on: evenly spaced ones, the newest among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Commits {
    /// How many commits, 1 to 64. Fewer are taken where the window has fewer. Default: 5.
    #[schemars(range(min = 1, max = 64))]
    pub count: u32,
    /// The window that they are spread over: days before the newest commit, 0 to 36500. Default: 365.
    #[schemars(range(min = 0, max = 36_500))]
    pub lookback_days: u32,
}

/// Stages of an earlier run that are taken over instead of being done again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adoption {
    /// The earlier run's own folder in its store: `<store>/<namespace>/<run>/<uid>`, as its `status.store` says. It is
    /// read with this run's `output.credentialsSecretRef`.
    pub uri: StoreUri,
    /// The last stage that is taken over: Snapshot, Generation (with the snapshot; its rollouts are verified by this
    /// run's policy) or Dataset (with the snapshot; its lines as they are). Every file is copied into this run's folder
    /// and checked by its sha256.
    pub through: AdoptableStage,
}

impl GitSource {
    /// The default branch of a repository.
    pub fn at_head(url: GitUrl, credentials_secret_ref: Option<SecretRef>) -> Self {
        Self { url, revision: head(), submodules: false, credentials_secret_ref }
    }
}

impl Default for Commits {
    /// Five over a year, as in the paper's runs.
    fn default() -> Self {
        Self { count: 5, lookback_days: 365 }
    }
}

fn held_out_fraction() -> Ratio {
    crate::values::literal("0.05")
}

fn head() -> String {
    "HEAD".to_owned()
}

fn github_api() -> HttpUrl {
    crate::values::literal("https://api.github.com")
}
