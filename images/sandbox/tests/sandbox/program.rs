//! The program itself: what it is, what it says of itself and to who uses it wrongly, and how images get it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::support::PROGRAM;

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_program_is_static() {
    let program = fs::read(PROGRAM).unwrap();
    let elf = &program[..program.len().min(4096)];
    assert!(
        !elf.windows(10).any(|window| window == b"ld-linux-x" || window == b"/lib64/ld-"),
        "it asks for an interpreter"
    );
}

#[test]
fn a_wrong_command_line_is_answered_in_one_line() {
    let output = run(&["serve", "--speed"]);
    assert_eq!(output.status.code(), Some(64));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.lines().count() == 1 && error.contains("--speed"), "{error}");
}

#[test]
fn it_installs_itself_and_copies_directories() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for _ in 0..2 {
        let output = run(&["install", path("sera-sandbox").to_str().unwrap()]);
        assert!(output.status.success());
    }
    assert_eq!(fs::read(path("sera-sandbox")).unwrap(), fs::read(PROGRAM).unwrap());
    assert_eq!(fs::metadata(path("sera-sandbox")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    fs::create_dir_all(path("from/d")).unwrap();
    fs::write(path("from/d/f"), "text").unwrap();
    fs::set_permissions(path("from/d/f"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::create_dir(path("to")).unwrap();
    let output = run(&["copy", path("from").to_str().unwrap(), path("to").to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(path("to/d/f")).unwrap(), b"text");
    assert_eq!(fs::metadata(path("to/d/f")).unwrap().permissions().mode() & 0o777, 0o711);
    assert!(run(&["copy", path("none").to_str().unwrap(), path("to").to_str().unwrap()]).status.success());
}

#[test]
fn check_says_what_the_kernel_gives() {
    let output = run(&["check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("seccomp") && text.contains("landlock") && text.contains("kernel"), "{text}");
}

#[test]
fn its_help_has_every_option_with_examples_and_exit_codes_wherever_it_is_asked_for() {
    let help = |arguments: &[&str]| {
        let output = run(arguments);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = help(&["--help"]);
    let (usage, rest) = text.split_once("\nExamples:\n").expect("it has examples");
    let (examples, codes) = rest.split_once("\nExit codes:\n").expect("it has exit codes");
    for command in ["serve", "install", "copy", "check"] {
        let line = format!("  sera-sandbox {command}");
        assert!(usage.contains(&line) && examples.contains(&line), "{command}:\n{text}");
        assert_eq!(help(&[command, "--help"]), text);
    }
    assert!(usage.contains("--image-workspace") && text.lines().all(|line| line.len() <= 120), "{text}");
    let told: Vec<&str> = codes.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(told, ["0", "1", "64"]);
    assert_eq!(run(&["install", "/proc/none"]).status.code(), Some(1));
}

#[test]
#[ignore = "builds the program once more, optimised, which takes minutes"]
fn the_program_as_images_have_it_is_at_most_3_mb() {
    let folder = tempfile::tempdir().unwrap();
    // The same steps as in its Dockerfile, which looks at the same limit, but for the list of its crates, which cargo-auditable adds.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--package=sera-sandbox", "--bin=sera-sandbox", "--target-dir"])
        .arg(folder.path())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.unwrap().success());
    let program = folder.path().join("release/sera-sandbox");
    assert!(Command::new("strip").arg(&program).status().unwrap().success());
    let bytes = fs::metadata(&program).unwrap().len();
    println!("{bytes} bytes");
    assert!(bytes <= 3_000_000, "{bytes} bytes");
}
