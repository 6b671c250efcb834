//! What a path alone tells of a file. The tables of vendored and generated files follow GitHub's linguist (lib/linguist/vendor.yml and generated.rb,
//! read at 00647be and 0073e49), as far as they are about languages that are indexed. Its folders `cache/`, `env/`, `tools/` and `docs/_static/` are
//! left out of ours: as often as not they are a project's own (`django/core/cache/`), and `.gitattributes` can still name them. That linguist has no
//! rules for tests is why the third table is ours alone.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Folders and files of other projects.
const VENDORED: [&str; 44] = [
    "**/{node_modules,bower_components,jspm_components,.yarn}/**",
    "{dependencies,Dependencies,deps,debian,Carthage,Pods}/**",
    "**/{vendor,Vendor,vendors,_vendor,extern,external,Externals,externals}/**",
    "**/{third_party,third-party,thirdparty,3rdparty,3rd-party,3rd_party,ThirdParty}/**",
    "**/dist/**",
    "**/Godeps/_workspace/**",
    "**/{.mvn,gradle}/wrapper/**",
    "**/{Sparkle,Crashlytics.framework,Fabric.framework}/**",
    "**/*.xctemplate/**",
    "[Pp]ackages/*.[0-9]*/**",
    "**/admin_media/**",
    "**/cpplint.py",
    "fabfile.py",
    "**/*{.,-}min.js",
    "**/*.d.ts",
    "**/bootstrap*.js",
    "**/bootstrap-datepicker/**",
    "**/jquery*.js",
    "**/fuelux.js",
    "**/slick.*.js",
    "**/leaflet.{draw-src,spin}.js",
    "**/Control.FullScreen.js",
    "**/wicket-leaflet.js",
    "**/{prototype*,effects,controls,dragdrop}.js",
    "**/mootools*.js",
    "**/{dojo,MochiKit,ckeditor,Chart,html5shiv}.js",
    "**/{yahoo-*,yui*,tiny_mce*}.js",
    "**/tiny_mce/{langs,plugins,themes,utils}/**",
    "**/{ace-builds,MathJax}/**",
    "**/[Cc]ode[Mm]irror/{lib,mode,theme,addon,keymap,demo}/**",
    "**/[Cc]ode[Mm]irror/[0-9]*/{lib,mode,theme,addon,keymap,demo}/**",
    "**/{shBrush*,shCore,shLegacy}.js",
    "**/angular*.js",
    "**/d3.js",
    "**/d3.v[0-9]*.js",
    "**/react.js",
    "**/react-[0-9]*.js",
    "**/modernizr*.js",
    "**/knockout-[0-9]*.js",
    "**/*{-vsdoc,.intellisense}.js",
    "**/[Mm]icrosoft{,[Mm]vc}{[Aa]jax,[Vv]alidation}{,.debug}.js",
    "**/extjs/**",
    "**/cordova*.js",
    "**/foundation{,.*}.js",
];

/// What programs write, where its name tells.
const GENERATED: [&str; 9] = [
    "**/__generated__/**",
    "**/{Pods,.idea}/**",
    "**/Carthage/Build/**",
    "**/Godeps/**",
    "**/*.[Dd]esigner.cs",
    "**/*.feature.cs",
    "**/*.zep.{c,h,php}",
    "**/.pnp.*",
    // Not in linguist, which knows most of these by their first lines only.
    "**/*{_pb2,_pb2_grpc}.py",
];

/// Tests, what they need, and what only they use.
const TESTS: [&str; 13] = [
    "**/{test,tests,Test,Tests,__tests__,__mocks__,testdata,test_data,test-data,testutil,testutils,e2e}/**",
    "**/{*Test,*Tests,*.Test,*.Tests,*_test,*_tests,*-test,*-tests,testFixtures}/**",
    "**/{spec,specs,fixtures}/**/*.{rb,js,jsx,mjs,cjs,ts,tsx,mts,cts,php}",
    "**/{test_*,*_test,*_tests,conftest,test,tests}.{py,pyw}",
    "**/*_test.go",
    "**/*.{test,tests,spec,e2e,cy}.{js,jsx,mjs,cjs,ts,tsx,mts,cts}",
    "**/{*Test,*Tests,*TestCase,*TestBase,*Spec}.{java,kt,kts,scala,cs,swift,php}",
    "**/Test[A-Z]*.{java,kt,scala,cs,swift,php}",
    "**/*[a-z]IT.{java,kt,scala}",
    "**/{*_test,*_spec,test_*,spec_helper,test_helper}.rb",
    "**/{test,tests,*_test,*_tests}.rs",
    "**/{*_test,*_tests,*_unittest,*_unittests,*-test,test_*,test-*}.{c,h,cc,cpp,cxx,hh,hpp,hxx}",
    "**/{*Test,*Tests}.{c,h,cc,cpp,cxx,hh,hpp,hxx}",
];

/// The tables, ready to be asked.
pub(super) struct Rules {
    vendored: GlobSet,
    generated: GlobSet,
    tests: GlobSet,
}

impl Rules {
    pub(super) fn new() -> Self {
        Self { vendored: set(&VENDORED), generated: set(&GENERATED), tests: set(&TESTS) }
    }

    /// Whether a file is another project's.
    pub(super) fn vendored(&self, path: &str) -> bool {
        self.vendored.is_match(path)
    }

    /// Whether a program wrote it.
    pub(super) fn generated(&self, path: &str) -> bool {
        self.generated.is_match(path)
    }

    /// Whether it is a test.
    pub(super) fn test(&self, path: &str) -> bool {
        self.tests.is_match(path)
    }
}

/// A table's set. That every pattern of a table is one is what a test is for; here one that is none matches nothing.
fn set(patterns: &[&str]) -> GlobSet {
    let globs = patterns.iter().filter_map(|pattern| GlobBuilder::new(pattern).literal_separator(true).build().ok());
    let mut set = GlobSetBuilder::new();
    globs.for_each(|glob| {
        set.add(glob);
    });
    set.build().unwrap_or_else(|_| GlobSet::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_every_table_is_a_glob() {
        for pattern in VENDORED.iter().chain(&GENERATED).chain(&TESTS) {
            assert!(GlobBuilder::new(pattern).literal_separator(true).build().is_ok(), "{pattern}");
        }
        let rules = Rules::new();
        assert_eq!(
            rules.vendored.len() + rules.generated.len() + rules.tests.len(),
            VENDORED.len() + GENERATED.len() + TESTS.len()
        );
    }

    #[test]
    fn other_projects_files_are_known_by_their_place() {
        let rules = Rules::new();
        for path in [
            "node_modules/a/index.js",
            "web/node_modules/a/index.js",
            "vendor/github.com/a/b.go",
            "django/contrib/admin/static/admin/js/vendor/jquery/jquery.js",
            "src/third_party/zlib/inflate.c",
            "types/a.d.ts",
            "js/jquery-3.7.1.js",
            "packages/Newtonsoft.Json.13.0.1/lib/a.cs",
            "web/app.min.js",
        ] {
            assert!(rules.vendored(path), "{path}");
        }
        for path in [
            "src/vendoring.py",
            "django/core/cache/backends/base.py",
            "tools/build.go",
            "a/redistribute.py",
            "src/reactor.js",
        ] {
            assert!(!rules.vendored(path), "{path}");
        }
    }

    #[test]
    fn generated_files_are_known_by_their_names() {
        let rules = Rules::new();
        for path in
            ["a/__generated__/b.ts", "Form1.Designer.cs", "a/b_pb2.py", "Pods/x.swift", "steps/login.feature.cs"]
        {
            assert!(rules.generated(path), "{path}");
        }
        for path in ["a/generated.ts", "Designer.cs", "pb2.py"] {
            assert!(!rules.generated(path), "{path}");
        }
    }

    #[test]
    fn tests_are_known_in_every_language_and_what_only_sounds_like_one_stays() {
        let rules = Rules::new();
        for path in [
            "tests/a.py",
            "a/test/b.py",
            "pkg/test_models.py",
            "pkg/models_test.py",
            "conftest.py",
            "cmd/main_test.go",
            "internal/testdata/x.go",
            "src/a.test.tsx",
            "src/__tests__/a.js",
            "src/test/java/a/B.java",
            "src/FooTest.java",
            "src/TestFoo.java",
            "src/FooIT.java",
            "src/commonTest/kotlin/A.kt",
            "Acme.Billing.Tests/Order.cs",
            "BillingTests/OrderSpec.swift",
            "spec/models/a_spec.rb",
            "spec/support/helper.rb",
            "src/parser/tests.rs",
            "lib/zip_unittest.cc",
            "t/test_list.c",
        ] {
            assert!(rules.test(path), "{path}");
        }
        for path in [
            "src/latest.py",
            "src/contest.py",
            "testing/assert.py",
            "src/Testable.java",
            "src/attestation.go",
            "src/SPLIT.java",
            "pkg/spec/schema.go",
            "src/protest/a.rb",
        ] {
            assert!(!rules.test(path), "{path}");
        }
    }
}
