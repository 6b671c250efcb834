//! A training over a bucket, beside the same one in a folder.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sera_crds::contract::{Failure, Outcome, Termination};
use sera_test_servers::{Conduct, S3Server};
use serde_json::Value;

use crate::fixture::{Place, said};

/// A server, a student, a dataset, and what is trained.
pub(crate) struct Training {
    pub(crate) server: S3Server,
    pub(crate) place: Place,
    pub(crate) plan: Value,
}

impl Training {
    /// One of so many lines.
    pub(crate) fn new(lines: usize, plan: Value) -> Self {
        let training =
            Self { server: S3Server::start(Conduct::OneAtATime, false).unwrap(), place: Place::new(lines), plan };
        training.lay_secret("secret", None, None);
        training
    }

    /// Lays down a folder with the server's keys, one of which is another one where that is asked for, and its address too.
    pub(crate) fn lay_secret(&self, name: &str, other: Option<(&str, &str)>, origin: Option<&str>) -> PathBuf {
        let folder = self.place.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (key, value) in self.server.keys() {
            let value = match (origin, other) {
                (Some(origin), _) if key == "AWS_ENDPOINT_URL" => origin.to_owned(),
                (_, Some((other, value))) if key == other => value.to_owned(),
                _ => value,
            };
            std::fs::write(folder.join(key), value).unwrap();
        }
        folder
    }

    /// Where objects of the run `name` lie on the server's disk.
    pub(crate) fn objects(&self, name: &str) -> PathBuf {
        self.server.bucket().join("runs").join(name)
    }

    /// The program with its results in the bucket under `name`, and what is on its way in the scratch folder `scratch`.
    pub(crate) fn command(&self, name: &str, scratch: &str) -> Command {
        let mut command = self.place.command("train", name, &self.plan);
        command.args(["--out", &self.server.uri(&format!("runs/{name}"))]);
        command.arg("--store-credentials").arg(self.place.path("secret"));
        command.arg("--scratch").arg(self.place.path(scratch));
        command.args(["--checkpoint-steps", "1", "--eval-every", "50"]);
        command
    }

    /// The same training in the folder `name`, by so many ranks.
    pub(crate) fn in_folder(&self, name: &str, world: usize) {
        let commands = (0..world).map(|_| {
            let mut command = self.place.command("train", name, &self.plan);
            command.args(["--checkpoint-steps", "1", "--eval-every", "50"]);
            command
        });
        succeed(together(commands));
    }

    /// Refuses weights and losses in the bucket that are others than those in the folder.
    pub(crate) fn compare(&self, name: &str, folder: &str) {
        let manifest = self.place.read_json(&format!("{folder}/model/manifest.json"));
        for kind in [("adapter", "adapter"), ("model", "files")] {
            for file in manifest[kind.1].as_array().unwrap() {
                let path = format!("{}/{}", kind.0, file["name"].as_str().unwrap());
                // An adapter names its model as it was given.
                if !path.ends_with("adapter_config.json") {
                    self.same(name, folder, &path);
                }
            }
        }
        self.same(name, folder, "losses.jsonl");
    }

    fn same(&self, name: &str, folder: &str, file: &str) {
        let read = |root: PathBuf| std::fs::read(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(read(self.objects(name)) == read(self.place.path(folder)), "{file} is another one");
    }

    /// The steps of complete checkpoints in the bucket, whatever attempt they are of.
    pub(crate) fn complete(&self, name: &str) -> Vec<u32> {
        let mut steps: Vec<u32> = folders(&self.objects(name).join("checkpoints"))
            .iter()
            .flat_map(|attempt| folders(attempt))
            .filter(|folder| folder.join("manifest.json").exists())
            .map(|folder| folder.file_name().unwrap().to_str().unwrap().strip_prefix("step-").unwrap().parse().unwrap())
            .collect();
        steps.sort_unstable();
        steps
    }

    /// Waits until there is a complete checkpoint of at least this step.
    pub(crate) fn until_complete(&self, name: &str, step: u32) {
        for _ in 0..6000 {
            if self.complete(name).last() >= Some(&step) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no checkpoint of step {step} came");
    }
}

/// What is in a folder; nothing where there is none.
pub(crate) fn folders(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
}

/// Starts ranks that find each other.
pub(crate) fn together(commands: impl ExactSizeIterator<Item = Command>) -> Vec<Child> {
    let (world, port) = (commands.len(), TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let start = |(rank, mut command): (usize, Command)| {
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", world.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string()).spawn().unwrap()
    };
    commands.enumerate().map(start).collect()
}

/// How they end.
pub(crate) fn ends(children: Vec<Child>) -> Vec<Output> {
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

/// All of them well.
pub(crate) fn succeed(children: Vec<Child>) {
    for output in ends(children) {
        assert!(output.status.success(), "{}", said(&output));
    }
}

pub(crate) fn terminate(child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
}

/// What a command says that fails, its code and what it tells the operator.
pub(crate) fn refusal(mut command: Command, place: &Place) -> (i32, String, Failure) {
    let message = place.path("message");
    let _ = std::fs::remove_file(&message);
    let output = command.arg("--termination-message").arg(&message).output().unwrap();
    let text = std::fs::read_to_string(message).unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
    let Outcome::Failed(failure) = Termination::parse(&text).unwrap().outcome else { panic!("{text}") };
    (output.status.code().unwrap(), said(&output), failure)
}
