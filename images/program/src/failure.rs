//! How an error becomes a [`Failure`] of the contract: each module's errors say whose turn it is, and this adds the spec field's name.

use sera_crds::contract::{Failure, FailureClass};

/// What the owner of a run has to look at, independent of where the spec has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The repository's URL.
    Url,
    /// The branch, tag or commit.
    Revision,
    /// Whether submodules are taken.
    Submodules,
    /// The globs of files that are wanted.
    Include,
    /// The globs of files that are not.
    Exclude,
    /// The Secret for the repository.
    GitCredentials,
    /// The store's URI.
    Store,
    /// The Secret for the store.
    StoreCredentials,
    /// The Secret with the authorities that TLS trusts.
    Authorities,
    /// The earlier run that stages are adopted from.
    Adopted,
    /// The last stage that is adopted.
    AdoptedThrough,
    /// The model that is trained.
    Student,
    /// The Secret for the model that is trained.
    StudentCredentials,
}

/// The names of the fields in the spec; two of them depend on who called.
#[derive(Debug, Clone)]
pub struct FieldNames {
    /// The field that names the Secret for the repository.
    pub git_credentials: String,
    /// The field that names the Secret for the store.
    pub store_credentials: String,
}

impl FieldNames {
    fn name(&self, field: Field) -> String {
        match field {
            Field::Url => "spec.source.git.url".to_owned(),
            Field::Revision => "spec.source.git.revision".to_owned(),
            Field::Submodules => "spec.source.git.submodules".to_owned(),
            Field::Include => "spec.source.include".to_owned(),
            Field::Exclude => "spec.source.exclude".to_owned(),
            Field::GitCredentials => self.git_credentials.clone(),
            Field::Store => "spec.output.store".to_owned(),
            Field::StoreCredentials => self.store_credentials.clone(),
            Field::Authorities => "spec.pods.default.caSecretRef".to_owned(),
            Field::Adopted => "spec.from.uri".to_owned(),
            Field::AdoptedThrough => "spec.from.through".to_owned(),
            Field::Student => "spec.training.student".to_owned(),
            Field::StudentCredentials => "spec.training.student.credentialsSecretRef".to_owned(),
        }
    }

    /// What a failed stage reports of `error`.
    pub fn failure(&self, error: &dyn Explain) -> Failure {
        let Cause { class, reason, field } = error.explain();
        let field = field.map(|field| self.name(field));
        Failure { class, reason: reason.to_owned(), field, message: error.to_string() }
    }
}

/// Whose turn it is after an error, in the contract's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// Whose turn it is.
    pub class: FailureClass,
    /// A CamelCase word for conditions and events.
    pub reason: &'static str,
    /// What has to change, where one thing can be named.
    pub field: Option<Field>,
}

impl Cause {
    /// The user's: `field` must change.
    pub const fn configuration(reason: &'static str, field: Field) -> Self {
        Self { class: FailureClass::Configuration, reason, field: Some(field) }
    }

    /// Nobody's: worth another try later.
    pub const fn unavailable(reason: &'static str) -> Self {
        Self { class: FailureClass::Unavailable, reason, field: None }
    }

    /// The user's: the store holds something else.
    pub const fn conflict(reason: &'static str) -> Self {
        Self { class: FailureClass::Conflict, reason, field: Some(Field::Store) }
    }

    /// Ours.
    pub const fn internal(reason: &'static str) -> Self {
        Self { class: FailureClass::Internal, reason, field: None }
    }

    /// The same, with the field that most likely has to change.
    #[must_use]
    pub const fn at(mut self, field: Field) -> Self {
        self.field = Some(field);
        self
    }
}

/// An error whose text is a sentence for the owner of a run, and that knows whose turn it is.
pub trait Explain: std::error::Error {
    /// Whose turn it is, and why.
    fn explain(&self) -> Cause;
}
