//! A client that is not of our making: mini-swe-agent finishes a task against the rehearsal teacher. docs/rehearsal.md says how to install it; the test
//! is run when it is asked for (`--ignored`).

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::repository::Repository;
use crate::support::teacher::Teacher;

/// The variable that names the program; without it, it is looked for on the PATH.
const PROGRAM: &str = "SERA_MINI_SWE_AGENT";

fn program() -> PathBuf {
    std::env::var_os(PROGRAM).map_or_else(|| "mini-swe-agent".into(), PathBuf::from)
}

/// Lets mini-swe-agent work on a task with one of its own configurations, and gives what it recorded.
fn record(program: &Path, teacher: &Teacher, repository: &Repository, task: &str, arguments: &[&str]) -> Value {
    let home = tempfile::tempdir().unwrap();
    let trajectory = home.path().join("trajectory.json");
    let output = Command::new(program)
        .args(["--model", "openai/rehearsal", "--yolo", "--exit-immediately", "--task", task, "--output"])
        .arg(&trajectory)
        .args(arguments)
        .current_dir(repository.path())
        .envs([("HOME", home.path()), ("MSWEA_GLOBAL_CONFIG_DIR", home.path())])
        .envs([
            ("MSWEA_CONFIGURED", "true"),
            ("MSWEA_COST_TRACKING", "ignore_errors"),
            ("MSWEA_SILENT_STARTUP", "1"),
            ("OPENAI_API_KEY", "none"),
        ])
        .env("OPENAI_API_BASE", format!("http://{}/v1", teacher.address))
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&std::fs::read_to_string(trajectory).unwrap()).unwrap()
}

#[test]
#[ignore = "needs mini-swe-agent: pip install mini-swe-agent, and SERA_MINI_SWE_AGENT where it is not on the PATH"]
fn mini_swe_agent_finishes_a_task() {
    let program = program();
    let teacher = Teacher::start(&[]);
    let task =
        "`Session.send` carries on with a missing value as if it were there. It shows in the session part of net.";
    for arguments in [&["-c", "mini.yaml"][..], &["-c", "mini_textbased.yaml", "--model-class", "litellm_textbased"]] {
        let repository = Repository::new();
        let recorded = record(&program, &teacher, &repository, task, arguments);
        assert_eq!(recorded["info"]["exit_status"], "Submitted", "{arguments:?}: {}", recorded["messages"]);
        let patch = repository.diff();
        assert!(patch.contains("net/session.py") && patch.contains("\n+"), "{arguments:?}: {patch}");
    }
}
