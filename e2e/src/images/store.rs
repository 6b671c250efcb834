//! Buildah and its store in the cache folder: the commands that images are made with, one function each.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::{Image, ImageError};

/// How much of a failed command's output an error carries.
const LAST_LINES: usize = 15;

/// Where buildah keeps layers.
pub(super) struct Store {
    root: PathBuf,
    /// What buildah keeps of a running command. It lives as long as the lock on the cache is held.
    run_root: PathBuf,
    driver: &'static str,
}

impl Store {
    /// Opens the store under `folder` with the fastest driver that works there; `workshop` is a folder for the time being.
    /// Only for the holder of the lock: containers that a killed build has left are removed.
    pub(super) async fn open(folder: &Path, workshop: &Path) -> Result<Self, ImageError> {
        let run_root = workshop.join("run");
        fs::create_dir(&run_root).map_err(ImageError::io("make", &run_root))?;
        let overlay = Self { root: folder.join("store-overlay"), run_root, driver: "overlay" };
        let store = match output_of(&mut overlay.command(&["info"])).await {
            Ok(_) => overlay,
            // A file system that is an overlay itself, as in a container, cannot carry another. Copies cost 3 s more an image.
            Err(ImageError::Failed { .. }) => Self { root: folder.join("store-vfs"), driver: "vfs", ..overlay },
            Err(error) => return Err(error),
        };
        output_of(&mut store.command(&["rm", "--all"])).await?;
        Ok(store)
    }

    /// Whether an image is there.
    pub(super) async fn holds(&self, reference: &str) -> Result<bool, ImageError> {
        let names = output_of(&mut self.command(&["images", "--format", "{{.Name}}:{{.Tag}}"])).await?;
        Ok(names.lines().any(|name| name == reference))
    }

    /// Makes an image of one layer from a tar file.
    pub(super) async fn import(&self, tar: &Path, reference: &str) -> Result<(), ImageError> {
        let container = output_of(&mut self.command(&["from", "scratch"])).await?;
        let container = container.trim();
        output_of(self.command(&["add", "--quiet", container]).arg(tar).arg("/")).await?;
        output_of(&mut self.command(&["commit", "--quiet", "--rm", container, reference])).await?;
        Ok(())
    }

    /// Builds the stage of an image's Dockerfile that takes a finished program from the context.
    pub(super) async fn build(
        &self,
        image: Image,
        base: &str,
        reference: &str,
        context: &Path,
    ) -> Result<(), ImageError> {
        let mut command =
            self.command(&["build", "--quiet", "--isolation", "chroot", "--layers=false", "--pull-never"]);
        command.args(["--target", image.target(), "--tag", reference, "--build-arg", &format!("BASE_IMAGE={base}")]);
        command.args(["--build-arg", concat!("VERSION=", env!("CARGO_PKG_VERSION"))]);
        output_of(command.arg("--file").arg(image.dockerfile()).arg(context)).await.map(drop)
    }

    /// Writes an image to a file, under its own name.
    pub(super) async fn save(&self, reference: &str, to: &Path) -> Result<(), ImageError> {
        // The file is named from its own folder: in a transport's address a colon of the path would be taken for the name's.
        let folder = to.parent().unwrap_or(to);
        let file = to.file_name().unwrap_or_default().to_string_lossy();
        let mut command = self.command(&["push", "--quiet", reference]);
        output_of(command.arg(format!("docker-archive:{file}:{reference}")).current_dir(folder)).await.map(drop)
    }

    /// Takes an image out of the store: its archive is what is kept.
    pub(super) async fn remove(&self, reference: &str) -> Result<(), ImageError> {
        output_of(&mut self.command(&["rmi", reference])).await.map(drop)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(&self.root).arg("--runroot").arg(&self.run_root);
        command.args(["--storage-driver", self.driver]).args(arguments);
        command
    }
}

/// Runs a command to its end and answers what it printed.
pub(super) async fn output_of(command: &mut Command) -> Result<String, ImageError> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await;
    let output = output.map_err(ImageError::io("run", Path::new(command.as_std().get_program())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(ImageError::Failed {
        command: line_of(command),
        status: output.status,
        output: last_lines(&String::from_utf8_lossy(&said)),
    })
}

fn line_of(command: &Command) -> String {
    let words: Vec<&OsStr> =
        std::iter::once(command.as_std().get_program()).chain(command.as_std().get_args()).collect();
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use tokio::process::Command;

    use super::{LAST_LINES, last_lines, output_of};

    #[tokio::test]
    async fn a_failure_tells_the_command_and_its_last_words() {
        let error = output_of(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`sh -c") && text.contains("exit status: 3") && text.contains("out\nerr"), "{text}");
    }

    #[test]
    fn only_the_end_of_a_long_output_is_kept() {
        let text: Vec<String> = (0..100).map(|line| line.to_string()).collect();
        let kept = last_lines(&text.join("\n"));
        assert_eq!(kept.lines().count(), LAST_LINES);
        assert!(kept.ends_with("98\n99"));
    }
}
