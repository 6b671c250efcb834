//! What every image must be, whoever builds it and from which stage: read from the Dockerfiles, which no registry is needed for. The archives that are
//! built of them are read by a test on the node.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Image, SOURCES};

/// Nobody, by number: kubelet cannot tell whether a name is root.
const USER: &str = "65532:65532";
const LABEL: &str = "org.opencontainers.image.";

/// One stage of a Dockerfile.
#[derive(Default)]
struct StageOfFile {
    name: Option<String>,
    base: String,
    user: Option<String>,
    arguments: Vec<String>,
    labels: BTreeMap<String, String>,
}

/// A Dockerfile: the arguments before its first stage, and its stages.
struct Dockerfile {
    path: PathBuf,
    arguments: Vec<String>,
    stages: Vec<StageOfFile>,
}

impl Dockerfile {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let lines =
            text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n").replace("\\\n", " ");
        let mut file = Self { path: path.to_owned(), arguments: Vec::new(), stages: Vec::new() };
        for line in lines.lines() {
            let (instruction, rest) = line.trim().split_once(' ').unwrap_or_default();
            match (instruction, file.stages.last_mut()) {
                ("FROM", _) => file.stages.push(StageOfFile::from(rest)),
                ("ARG", None) => file.arguments.push(rest.to_owned()),
                ("ARG", Some(stage)) => stage.arguments.push(rest.to_owned()),
                ("USER", Some(stage)) => stage.user = Some(rest.to_owned()),
                ("LABEL", Some(stage)) => stage.label(rest),
                _ => {}
            }
        }
        file
    }

    /// The stages that are in an image: the one that is built, and those that it stands on.
    fn up_to(&self, target: Option<&str>) -> Vec<&StageOfFile> {
        let named = |name: &str| self.stages.iter().find(|stage| stage.name.as_deref() == Some(name));
        let mut next = target.map_or_else(|| self.stages.last(), named);
        let mut found = Vec::new();
        while let Some(stage) = next {
            found.push(stage);
            next = named(&stage.base);
        }
        found
    }
}

impl From<&str> for StageOfFile {
    fn from(rest: &str) -> Self {
        let (base, name) = rest.split_once(" AS ").map_or((rest, None), |(base, name)| (base, Some(name.to_owned())));
        Self { name, base: base.to_owned(), ..Self::default() }
    }
}

impl StageOfFile {
    /// Takes in `a="b" c="d"`.
    fn label(&mut self, rest: &str) {
        for pair in rest.split("\" ") {
            let (key, value) = pair.split_once('=').unwrap();
            self.labels.insert(key.trim().to_owned(), value.trim().trim_matches('"').to_owned());
        }
    }
}

/// Every image, as it is built from binaries and from source: the file, the stage, and the image's name.
fn built() -> Vec<(Dockerfile, Option<&'static str>, &'static str)> {
    let mut built = Vec::new();
    for image in Image::ALL {
        let from_source = if image == Image::Environment { Some(image.target()) } else { None };
        for target in [Some(image.target()), from_source] {
            built.push((Dockerfile::read(&image.dockerfile()), target, image.name()));
        }
    }
    built.push((Dockerfile::read(&Path::new(SOURCES).join("trainer/Dockerfile.cuda")), None, Image::Trainer.name()));
    built
}

#[test]
fn every_image_runs_as_nobody_by_number() {
    for (file, target, name) in built() {
        let user = file.up_to(target).into_iter().find_map(|stage| stage.user.as_deref());
        assert_eq!(user, Some(USER), "{name}, {target:?} of {}", file.path.display());
    }
}

#[test]
fn every_image_says_what_it_is_where_it_is_from_and_of_which_version() {
    for (file, target, name) in built() {
        let stages = file.up_to(target);
        let at = file.path.display();
        let label = |key: &str| {
            let key = format!("{LABEL}{key}");
            let value = stages.iter().find_map(|stage| stage.labels.get(&key));
            value.unwrap_or_else(|| panic!("{name}, {target:?} of {at} has no label {key}")).as_str()
        };
        assert_eq!((label("title"), label("licenses")), (name, "Apache-2.0"), "{at}");
        assert!(label("description").len() > 20 && label("source").starts_with("https://"), "{at}");
        for (key, argument) in [("version", "VERSION"), ("revision", "REVISION")] {
            assert_eq!(label(key), format!("${{{argument}}}"), "{at}");
            // An argument is known in the stage that declares it, and in no other.
            let labelled = |stage: &&&StageOfFile| stage.labels.contains_key(&format!("{LABEL}{key}"));
            let stage = stages.iter().find(labelled).unwrap();
            let declared = stage.arguments.iter().any(|declared| declared.starts_with(&format!("{argument}=")));
            assert!(declared, "{argument} is not declared where it is used: {name}, {target:?} of {at}");
        }
    }
}

#[test]
fn every_base_can_be_replaced_by_an_argument() {
    for (file, _, name) in built() {
        for stage in &file.stages {
            let is_stage = file.stages.iter().any(|other| other.name.as_deref() == Some(&stage.base));
            let argument = stage.base.strip_prefix("${").and_then(|base| base.strip_suffix('}'));
            let is_argument = argument.is_some_and(|argument| {
                file.arguments.iter().any(|declared| declared.split_once('=').is_some_and(|(name, _)| name == argument))
            });
            let at = file.path.display();
            assert!(is_stage || is_argument || stage.base == "scratch", "{name} of {at} stands on {}", stage.base);
        }
    }
}
