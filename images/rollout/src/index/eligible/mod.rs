//! Which files are indexed: by the globs and languages that were asked for, by what the repository's `.gitattributes` say, and by rules that know
//! tests, other projects' files and what programs wrote. What the rules are stands in the tables beside this file.

mod content;
mod paths;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use sera_crds::contract::{FunctionSelection, SkipReason};
use sera_crds::values::{Glob, Language};

use super::grammar::Form;

pub(super) use content::{MAX_BYTES, is_generated, is_minified};
use paths::Rules;

/// A glob of the selection is none.
#[derive(Debug, thiserror::Error)]
#[error("'{glob}' in {list} is not a glob: {problem}")]
pub(crate) struct GlobError {
    /// The list that it stands in.
    list: &'static str,
    glob: String,
    problem: globset::ErrorKind,
}

impl GlobError {
    /// Whether the list is that of files that are wanted.
    pub(super) fn is_include(&self) -> bool {
        self.list == INCLUDE
    }
}

const INCLUDE: &str = "include";
const EXCLUDE: &str = "exclude";

/// What `.gitattributes` say of a file, where they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) generated: Option<bool>,
    pub(super) vendored: Option<bool>,
    pub(super) documentation: Option<bool>,
}

/// The files that are wanted.
pub(super) struct Eligible {
    include: GlobSet,
    /// What each glob of `include` spells out.
    spelled: Vec<Spelled>,
    exclude: GlobSet,
    languages: Vec<Language>,
    rules: Rules,
}

/// What a glob of files that are wanted names itself, before its first star: one that spells a folder of tests out (`tests/**`) takes the tests in it;
/// the same with other projects' files and generated ones.
#[derive(Clone, Copy, Default)]
struct Spelled {
    tests: bool,
    vendored: bool,
    generated: bool,
}

impl Eligible {
    pub(super) fn new(selection: &FunctionSelection) -> Result<Self, GlobError> {
        let rules = Rules::new();
        let include = set(INCLUDE, &selection.include)?;
        // Each glob has two places in the set.
        let spelled = selection.include.iter().flat_map(|glob| [Spelled::by(glob, &rules); 2]).collect();
        let exclude = set(EXCLUDE, &selection.exclude)?;
        Ok(Self { include, spelled, exclude, languages: selection.languages.clone(), rules })
    }

    /// The form of a file that may be wanted, by its name alone.
    pub(super) fn form(&self, path: &str) -> Result<Form, SkipReason> {
        let form = Form::of(path).ok_or(SkipReason::UnknownLanguage)?;
        let wanted = self.languages.is_empty() || form.may_be(&self.languages);
        if wanted { Ok(form) } else { Err(SkipReason::OtherLanguage) }
    }

    /// Whether a language is wanted.
    pub(super) fn wants(&self, language: Language) -> bool {
        self.languages.is_empty() || self.languages.contains(&language)
    }

    /// Whether a file is wanted, by its path and what is said of it.
    pub(super) fn judge(&self, path: &str, attributes: Attributes) -> Result<(), SkipReason> {
        let spelled = self.spelled(path).ok_or(SkipReason::NotIncluded)?;
        if self.exclude.is_match(path) {
            return Err(SkipReason::Excluded);
        }
        let vendored = || !spelled.vendored && self.rules.vendored(path);
        let generated = || !spelled.generated && self.rules.generated(path);
        if attributes.vendored.unwrap_or_else(vendored) {
            return Err(SkipReason::Vendored);
        }
        if attributes.generated.unwrap_or_else(generated) {
            return Err(SkipReason::Generated);
        }
        if attributes.documentation == Some(true) {
            return Err(SkipReason::Documentation);
        }
        if !spelled.tests && self.rules.test(path) {
            return Err(SkipReason::Test);
        }
        Ok(())
    }

    /// What the globs that name a file spell out; none where no glob names it.
    fn spelled(&self, path: &str) -> Option<Spelled> {
        if self.include.is_empty() {
            return Some(Spelled::default());
        }
        let naming = self.include.matches(path).into_iter().filter_map(|place| self.spelled.get(place).copied());
        naming.reduce(|one, other| Spelled {
            tests: one.tests || other.tests,
            vendored: one.vendored || other.vendored,
            generated: one.generated || other.generated,
        })
    }
}

impl Spelled {
    fn by(glob: &Glob, rules: &Rules) -> Self {
        let folder: Vec<&str> =
            glob.as_str().split('/').take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).collect();
        let folder = folder.join("/");
        let spells = |rule: &dyn Fn(&str) -> bool| rule(&folder) || rule(&format!("{folder}/x"));
        Self {
            tests: spells(&|path| rules.test(path)),
            vendored: spells(&|path| rules.vendored(path)),
            generated: spells(&|path| rules.generated(path)),
        }
    }
}

/// The set of all that globs name: files, and all that lies in folders. A star does not cross a slash; two do.
fn set(list: &'static str, globs: &[Glob]) -> Result<GlobSet, GlobError> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        for pattern in [glob.as_str().to_owned(), format!("{}/**", glob.as_str().trim_end_matches('/'))] {
            let refused =
                |error: globset::Error| GlobError { list, glob: glob.to_string(), problem: error.kind().clone() };
            set.add(GlobBuilder::new(&pattern).literal_separator(true).build().map_err(refused)?);
        }
    }
    // Each of them is one; together they may still be too large.
    set.build().map_err(|error| GlobError {
        list,
        glob: error.glob().unwrap_or_default().to_owned(),
        problem: error.kind().clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eligible(include: &[&str], exclude: &[&str]) -> Eligible {
        let globs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Eligible::new(&FunctionSelection {
            include: globs(include),
            exclude: globs(exclude),
            languages: vec![Language::Python, Language::Cpp],
            held_out_fraction: "0".parse().unwrap(),
            held_out_seed: 1,
        })
        .unwrap()
    }

    fn judged(eligible: &Eligible, path: &str) -> Result<(), SkipReason> {
        eligible.judge(path, Attributes::default())
    }

    #[test]
    fn a_glob_names_files_or_folders_and_a_star_stays_in_its_folder() {
        let some = eligible(&["src/*.py", "lib", "a/**/z.py"], &["lib/old", "**/skip_*.py"]);
        for taken in ["src/a.py", "lib/b.py", "lib/deep/c.py", "a/z.py", "a/b/c/z.py"] {
            assert_eq!(judged(&some, taken), Ok(()), "{taken}");
        }
        for left in ["src/deep/a.py", "other.py", "library/x.py"] {
            assert_eq!(judged(&some, left), Err(SkipReason::NotIncluded), "{left}");
        }
        for left in ["lib/old/b.py", "lib/skip_b.py"] {
            assert_eq!(judged(&some, left), Err(SkipReason::Excluded), "{left}");
        }
    }

    #[test]
    fn tests_are_taken_where_a_glob_spells_their_folder_out_and_only_there() {
        let wide = eligible(&["**", "django/test/**"], &[]);
        assert_eq!(judged(&wide, "django/test/client.py"), Ok(()));
        assert_eq!(judged(&wide, "django/db/models.py"), Ok(()));
        assert_eq!(judged(&wide, "tests/admin/models.py"), Err(SkipReason::Test));
        assert_eq!(judged(&wide, "vendor/six.py"), Err(SkipReason::Vendored));
        assert_eq!(judged(&eligible(&["vendor/six.py"], &[]), "vendor/six.py"), Ok(()));
        assert_eq!(judged(&eligible(&["src/**"], &[]), "src/tests/a.py"), Err(SkipReason::Test));
    }

    #[test]
    fn attributes_overrule_the_rules_both_ways() {
        let all = eligible(&[], &[]);
        let vendored = |vendored| Attributes { vendored, ..Attributes::default() };
        let generated = |generated| Attributes { generated, ..Attributes::default() };
        assert_eq!(all.judge("vendor/a.py", vendored(Some(false))), Ok(()));
        assert_eq!(all.judge("src/a.py", vendored(Some(true))), Err(SkipReason::Vendored));
        assert_eq!(all.judge("src/a.py", generated(Some(true))), Err(SkipReason::Generated));
        assert_eq!(all.judge("node_modules/a/b.py", generated(Some(false))), Err(SkipReason::Vendored));
        let documentation = Attributes { documentation: Some(true), ..Attributes::default() };
        assert_eq!(all.judge("src/a.py", documentation), Err(SkipReason::Documentation));
    }

    #[test]
    fn a_language_that_was_not_asked_for_is_left_out_by_name() {
        let some = eligible(&[], &[]);
        assert!(some.form("a.py").is_ok() && some.form("a.h").is_ok());
        assert_eq!(some.form("a.go"), Err(SkipReason::OtherLanguage));
        assert_eq!(some.form("a.md"), Err(SkipReason::UnknownLanguage));
    }

    #[test]
    fn a_glob_that_is_none_is_named_with_its_list() {
        let selection = FunctionSelection {
            include: Vec::new(),
            exclude: vec!["a[".parse().unwrap()],
            languages: Vec::new(),
            held_out_fraction: "0".parse().unwrap(),
            held_out_seed: 1,
        };
        let error = Eligible::new(&selection).err().unwrap();
        assert!(error.to_string().starts_with("'a[' in exclude is not a glob") && !error.is_include(), "{error}");
    }
}
