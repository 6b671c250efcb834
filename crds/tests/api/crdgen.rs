//! The program that writes the definitions, as it is started.

use std::process::{Command, Output};

fn crdgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crdgen")).args(arguments).output().unwrap()
}

#[test]
fn its_help_says_what_it_writes_and_what_check_does() {
    let output = crdgen(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(0), true));
    for word in ["crds/manifests/", "docs/api.md", "--check", "exit code"] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}

#[test]
fn what_it_does_not_take_is_told_in_one_line_and_nothing_is_written() {
    for arguments in [&["--chek"][..], &["--check", "now"], &["crds"]] {
        let output = crdgen(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.lines().count(), output.stdout.len()), (Some(2), 1, 0), "{told}");
        assert!(told.contains(&arguments.join(" ")) && told.contains("--help"), "{told}");
    }
}
