//! Projects of Python that are installed editable: what a rollout edits is what runs, whether `setup` has installed them or the image had them before.

use std::path::Path;
use std::process::Command;

use sera_sandbox::wire::{CommandEnd, Policy};
use tempfile::TempDir;

use crate::support::{PROGRAM, Sandbox, Tree, policy, search_path};

/// How long pip may take on a machine that does much else, in milliseconds.
const LONG: u64 = 300_000;

/// The folder of the project's package, and what says so.
struct Layout {
    package: &'static str,
    settings: &'static str,
    /// What setuptools leaves in site-packages for it, and a word in that.
    finder: (&'static str, &'static str),
}

/// Where a path that Python searches is enough.
const SRC: Layout = Layout {
    package: "src/wares",
    settings: "[tool.setuptools.packages.find]\nwhere = [\"src\"]\n",
    finder: ("__editable__.wares-1.pth", "/testbed/src"),
};
/// Where it is not, since the folder has another name than the package.
const RENAMED: Layout = Layout {
    package: "lib/goods",
    settings: "[tool.setuptools]\npackages = [\"wares\"]\n[tool.setuptools.package-dir]\nwares = \"lib/goods\"\n",
    finder: ("__editable___wares_1_finder.py", "/testbed/lib/goods"),
};

impl Layout {
    fn module(&self) -> String {
        format!("{}/__init__.py", self.package)
    }

    fn tree(&self) -> Tree {
        let project = "[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n\
                       [project]\nname = \"wares\"\nversion = \"1\"\n";
        let project = format!("{project}{}", self.settings);
        Tree::of(&[("pyproject.toml", &project), (&self.module(), "def price():\n    return 1\n")])
    }
}

/// A virtual environment where slots see it, whether they have a /tmp of their own or not.
fn venv() -> (TempDir, String) {
    let image = tempfile::Builder::new().prefix("sera-image").tempdir_in("/var/tmp").unwrap();
    let venv = image.path().join("venv");
    let made = Command::new("python3")
        .args(["-m", "venv", "--without-pip", "--system-site-packages"])
        .arg(&venv)
        .env("PATH", search_path())
        .status();
    assert!(made.unwrap().success());
    let venv = venv.display().to_string();
    (image, venv)
}

/// Installs the project at the workspace.
fn pip(venv: &str) -> String {
    format!("{venv}/bin/python -m pip install --quiet --no-deps --no-index --no-build-isolation --editable .")
}

/// A policy under which that can be written to.
fn writable(venv: &str) -> Policy {
    Policy { writable_paths: vec![venv.to_owned()], setup_timeout_ms: LONG, ..policy() }
}

/// What the project says, run from elsewhere; compiled files are kept, as they are for everybody.
fn price(sandbox: &mut Sandbox, venv: &str) -> String {
    sandbox.run(&format!("(cd / && {venv}/bin/python -c 'import wares; print(wares.price())')"))
}

/// What is edited runs, is all that has changed, and is gone after the rollout.
fn edited_code_runs(sandbox: &mut Sandbox, venv: &str, layout: &Layout) {
    assert_eq!(price(sandbox, venv), "1\n");
    sandbox.run(&format!("sed -i 's/return 1/return 2/' {}", layout.module()));
    assert_eq!(price(sandbox, venv), "2\n");
    let changed: Vec<String> = sandbox.changed().into_keys().filter(|path| !path.contains("__pycache__")).collect();
    assert_eq!(changed, [layout.module()]);
    sandbox.wipe();
    assert_eq!(price(sandbox, venv), "1\n");
}

#[test]
fn an_editable_install_by_setup_runs_the_edited_code() {
    let (_image, venv) = venv();
    let mut sandbox = Sandbox::start(&Policy { setup: Some(pip(&venv)), ..writable(&venv) }, |_, _| {});
    sandbox.put("t1", &SRC.tree());
    edited_code_runs(&mut sandbox, &venv, &SRC);
}

#[test]
fn an_editable_install_that_the_image_has_at_the_workspace_runs_the_edited_code_without_a_setup() {
    for layout in [SRC, RENAMED] {
        let (image, venv) = venv();
        let copy = image.path().join("workspace").display().to_string();
        {
            // How such an image is made: the project lies at /testbed, and pip installs it from there.
            let Some(mut build) = Sandbox::local(&writable(&venv)) else { return };
            build.put("image", &layout.tree());
            let installed = build.exec_for(&pip(&venv), LONG);
            assert_eq!(installed.end, CommandEnd::Exited { code: 0 }, "{}", installed.output);
            let (name, word) = layout.finder;
            let finder = build.run(&format!("cat {venv}/lib/python3*/site-packages/{name}"));
            assert!(finder.contains(word), "{finder}");
            // What a pod's init container does with what the image has there.
            std::fs::create_dir(&copy).unwrap();
            let built = build.path("slot/workspace");
            let copied = Command::new(PROGRAM).arg("copy").args([&built, Path::new(&copy)]).status();
            assert!(copied.unwrap().success());
        }
        let option = format!("--image-workspace={copy}");
        let mut sandbox = Sandbox::local_with(&policy(), &[&option]).unwrap();
        assert_ne!(sandbox.code(&format!("touch {venv}/written")), 0, "what the image has is not written to");
        sandbox.put("t1", &layout.tree());
        edited_code_runs(&mut sandbox, &venv, &layout);
    }
}
