//! The flags of every command that drives agents: what they are told to do, how long a model is waited for, and where their commands are executed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use secrecy::SecretString;
use sera_crds::contract::{Failure, FailureClass, RolloutPlan};
use sera_crds::values::Timeout;
use url::Url;

use crate::chat::{Patience, Setup};
use crate::redact::Redactor;
use crate::rollout::{Floor, Sandboxes};
use crate::secrets::SecretFiles;
use crate::trust::Trust;

/// The word that stands for sandboxes on this machine.
const LOCAL: &str = "local";
/// The sandbox's program, beside this one.
const SANDBOX_PROGRAM: &str = "sera-sandbox";

/// The plan.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The plan (limits, environment, sampling, budget), as YAML or JSON [default: the API's defaults]
    #[arg(long, value_name = "FILE", conflicts_with = "plan_json")]
    plan: Option<PathBuf>,
    /// The same as a text
    #[arg(long, env = "SERA_PLAN", value_name = "JSON")]
    plan_json: Option<String>,
}

/// How long a model is waited for.
#[derive(Debug, Clone, Args)]
pub(super) struct PatienceArgs {
    /// The longest time one call may take
    #[arg(long, env = "SERA_TEACHER_TIMEOUT", value_name = "DURATION", default_value = "10m")]
    teacher_timeout: Timeout,
    /// The longest time between two pieces of an answer; many servers say nothing of a call before it is whole
    #[arg(long, env = "SERA_TEACHER_STALL", value_name = "DURATION", default_value = "5m")]
    teacher_stall: Timeout,
    /// How often a call that failed for now is tried again, each time after a longer pause
    #[arg(long, env = "SERA_TEACHER_RETRIES", value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(0..=20))]
    teacher_retries: u8,
    /// Ask for whole answers, and not for streams of tokens; stalls are then seen at the timeout only
    #[arg(long, env = "SERA_TEACHER_WHOLE_ANSWERS")]
    whole_answers: bool,
}

/// Where rollouts take place.
#[derive(Debug, Args)]
pub(super) struct FloorArgs {
    /// Where commands are executed: `local` (processes of this machine), or a folder in which slot n listens on <n>/socket
    #[arg(long, env = "SERA_SANDBOX", value_name = "local|DIR")]
    sandbox: String,
    /// The sandbox's program, for `local` [default: sera-sandbox beside this program]
    #[arg(long, env = "SERA_SANDBOX_PROGRAM", value_name = "FILE")]
    sandbox_program: Option<PathBuf>,
    /// How many sandboxes there are, and so how many rollouts run at once
    #[arg(long, env = "SERA_SLOTS", value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
    /// How many samples are worked on at once [default: one more in four than there are sandboxes, so that none waits for a review]
    #[arg(long, env = "SERA_PARALLEL", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    parallel: Option<u32>,
    /// The name of this process's own folders, such as the pod's uid [default: a fresh one]
    #[arg(long, env = "SERA_POD_UID", value_name = "NAME")]
    folder: Option<String>,
    /// Where /progress and /metrics are served, such as 0.0.0.0:8080 [default: nowhere]
    #[arg(long, env = "SERA_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where scratch folders are made and deleted again [default: the system's]
    #[arg(long, env = "SERA_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
}

impl PlanArgs {
    pub(super) fn read(&self) -> Result<RolloutPlan, Failure> {
        plan(self.plan.as_deref(), self.plan_json.as_deref())
    }
}

impl PatienceArgs {
    /// How a model is asked.
    pub(super) fn setup(
        &self,
        (urls, by_address): (Vec<Url>, bool),
        model: String,
        secret: Option<&Path>,
        plan: &RolloutPlan,
        redactor: &Redactor,
    ) -> Result<Setup, Failure> {
        let (key, of_teacher) = credentials(secret, redactor)?;
        // What this process trusts, it trusts of a teacher too.
        let trust = Trust::from_environment().map_err(|error| invalid("CaCertificatesInvalid", error.to_string()))?;
        let ca: Vec<&str> = trust.pem().into_iter().chain(of_teacher.as_deref()).collect();
        let ca = (!ca.is_empty()).then(|| ca.join("\n"));
        Ok(Setup {
            urls,
            by_address,
            model,
            key,
            ca,
            temperature: temperature(plan)?,
            streaming: !self.whole_answers,
            patience: Patience {
                call: self.teacher_timeout.span(),
                stall: self.teacher_stall.span(),
                retries: usize::from(self.teacher_retries),
                ..Patience::default()
            },
        })
    }
}

impl FloorArgs {
    /// `private`: what commands must not read, where this machine executes them.
    pub(super) fn floor(self, private: Vec<PathBuf>) -> Result<Floor, Failure> {
        if let Some(folder) = &self.folder {
            check_name(folder)?;
        }
        let sandboxes = match self.sandbox.as_str() {
            LOCAL => Sandboxes::Local { program: self.sandbox_program.map_or_else(beside, Ok)?, hidden: private },
            folder => Sandboxes::Pod(PathBuf::from(folder)),
        };
        let parallel = self.parallel.unwrap_or(self.slots + self.slots / 4 + 1);
        Ok(Floor {
            sandboxes,
            slots: self.slots,
            parallel: usize::try_from(parallel).unwrap_or(usize::MAX),
            folder: self.folder.unwrap_or_else(fresh_name),
            listen: self.listen,
            scratch: self.scratch.unwrap_or_else(std::env::temp_dir),
        })
    }
}

/// What commands must not read: stores that are folders of this machine, and folders of credentials.
pub(super) fn private<'a>(
    stores: impl IntoIterator<Item = &'a str>,
    credentials: impl IntoIterator<Item = &'a Path>,
) -> Vec<PathBuf> {
    stores.into_iter().filter_map(folder_of).chain(credentials.into_iter().map(Path::to_owned)).collect()
}

/// The folder that a store's URI names, where it names one.
fn folder_of(store: &str) -> Option<PathBuf> {
    Url::parse(store).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
}

/// Refuses what is no name of a folder.
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty()
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        || name.starts_with('.')
    {
        return Err(invalid(
            "InvalidName",
            format!("'{name}' is no name of a folder: use letters, digits, '-', '_' and '.'"),
        ));
    }
    Ok(())
}

/// The plan; YAML has JSON in it.
fn plan(file: Option<&Path>, text: Option<&str>) -> Result<RolloutPlan, Failure> {
    let (text, name) = match (file, text) {
        (Some(file), _) => {
            let read = std::fs::read_to_string(file);
            (
                read.map_err(|error| {
                    invalid("PlanUnreadable", format!("the plan {} cannot be read: {error}", file.display()))
                })?,
                file.display().to_string(),
            )
        }
        (None, Some(text)) => (text.to_owned(), "SERA_PLAN".to_owned()),
        (None, None) => return Ok(RolloutPlan::default()),
    };
    serde_yaml::from_str(&text)
        .map_err(|error| invalid("PlanInvalid", format!("the plan {name} is not right: {error}")))
}

/// The temperature, which goes into each request as it is written here.
fn temperature(plan: &RolloutPlan) -> Result<String, Failure> {
    let text = &plan.sampling.temperature;
    let number = text.parse::<sera_crds::values::Decimal>();
    number
        .map(|number| number.to_string())
        .map_err(|error| invalid("PlanInvalid", format!("sampling.temperature: {error}")))
}

/// The teacher's key and CA.
fn credentials(folder: Option<&Path>, redactor: &Redactor) -> Result<(Option<SecretString>, Option<String>), Failure> {
    let Some(folder) = folder else { return Ok((None, None)) };
    let files = SecretFiles::read(folder, redactor).map_err(|error| {
        invalid("TeacherCredentialsMissing", format!("{error}; it needs the key apiKey, or ca.crt, or both"))
    })?;
    Ok((files.line("apiKey").map(SecretString::from), files.get("ca.crt").map(str::to_owned)))
}

fn beside() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| invalid("SandboxProgramMissing", format!("this program's own place is unknown: {error}")))?;
    Ok(program.with_file_name(SANDBOX_PROGRAM))
}

/// A name that no other process has.
fn fresh_name() -> String {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos();
    format!("{nanoseconds:x}-{}", std::process::id())
}

pub(super) fn invalid(reason: &str, message: String) -> Failure {
    Failure { class: FailureClass::Configuration, reason: reason.to_owned(), field: None, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_that_are_folders_of_this_machine_and_credentials_are_private() {
        let stores = ["file:///mnt/a%20b", "s3://bucket/x", "nonsense"];
        assert_eq!(private(stores, [Path::new("secret")]), [Path::new("/mnt/a b"), Path::new("secret")]);
    }

    #[test]
    fn a_plan_is_yaml_or_json_and_what_it_lacks_has_the_apis_default() {
        let yaml = plan(None, Some("seed: 7\nagent: {maxSteps: 3}\nbudget: {maxTokens: 9}")).unwrap();
        let json = plan(None, Some(r#"{"seed": 7, "agent": {"maxSteps": 3}, "budget": {"maxTokens": 9}}"#)).unwrap();
        assert_eq!(yaml, json);
        assert_eq!((yaml.agent.max_steps, yaml.agent.max_observation_chars), (3, 100_000));
        let failure = plan(None, Some("agent: {maxStepz: 3}")).unwrap_err();
        assert!(failure.message.contains("maxStepz"), "{}", failure.message);
        assert_eq!(plan(None, None).unwrap(), RolloutPlan::default());
    }

    #[test]
    fn a_temperature_is_a_number_as_it_goes_into_json() {
        let with = |text: &str| {
            let mut plan = RolloutPlan::default();
            plan.sampling.temperature = text.to_owned();
            temperature(&plan)
        };
        assert_eq!(with("0.60").unwrap(), "0.60");
        assert!(with("0.6, \"n\": 9").is_err() && with("NaN").is_err());
    }
}
