//! The editor through the program: what it refuses, and what it leaves alone.

use std::fs;
use std::process::Command;

use sera_sandbox::wire::EditOperation;

use crate::support::{Sandbox, Tree};

fn view(path: &str, range: Option<(i64, i64)>) -> EditOperation {
    EditOperation::View { path: path.to_owned(), range }
}

fn create(path: &str, text: &str) -> EditOperation {
    EditOperation::Create { path: path.to_owned(), text: text.to_owned() }
}

fn replace(path: &str, old: &str, new: &str) -> EditOperation {
    EditOperation::StrReplace { path: path.to_owned(), old: old.to_owned(), new: new.to_owned() }
}

fn insert(path: &str, line: u64, text: &str) -> EditOperation {
    EditOperation::Insert { path: path.to_owned(), line, text: text.to_owned() }
}

fn undo(path: &str) -> EditOperation {
    EditOperation::Undo { path: path.to_owned() }
}

#[test]
fn a_one_line_edit_of_a_go_file_with_tabs_is_one_line_out_and_one_in() {
    let mut sandbox = Sandbox::new();
    let go = "package main\n\nfunc main() {\n\tif x > 1 {\n\t\treturn\n\t}\n}";
    sandbox.put("t1", &Tree::of(&[("main.go", go)]));
    sandbox.edit(replace("main.go", "\tif x > 1 {", "\tif x >= 1 {")).unwrap();
    let clean = tempfile::tempdir().unwrap();
    fs::write(clean.path().join("before"), go).unwrap();
    let after = sandbox.changed().remove("main.go").unwrap();
    let crate::support::Changed::File(after) = after else { panic!("{after:?}") };
    fs::write(clean.path().join("after"), after).unwrap();
    let diff = Command::new("git")
        .args(["diff", "--no-index", "--numstat", "before", "after"])
        .current_dir(clean.path())
        .output();
    assert!(String::from_utf8(diff.unwrap().stdout).unwrap().starts_with("1\t1\t"));
}

#[test]
fn files_are_shown_with_numbers_and_in_ranges() {
    let mut sandbox = Sandbox::new();
    let long = (1..=5000).fold(String::new(), |text, at| text + &format!("line {at}\n"));
    sandbox.put("t1", &Tree::of(&[("a.py", "one\n\ttwo\n"), ("long", &long), ("empty", ""), ("bin", "a\0b")]));
    let absolute = sandbox.workspace.join("a.py").display().to_string();
    assert_eq!(sandbox.edit(view(&absolute, None)).unwrap(), "     1\tone\n     2\t\ttwo\n");
    assert_eq!(sandbox.edit(view("long", Some((4999, -1)))).unwrap(), "  4999\tline 4999\n  5000\tline 5000\n");
    let cut = sandbox.edit(view("long", None)).unwrap();
    assert!(cut.len() < 17_000 && cut.contains("of 5000 are shown; view the others with a range"), "{cut}");
    assert!(sandbox.edit(view("long", Some((0, 3)))).unwrap_err().contains("5000 lines"));
    assert!(sandbox.edit(view("long", Some((9, 3)))).unwrap_err().contains("ends before"));
    assert!(sandbox.edit(view("empty", None)).unwrap().contains("is empty"));
    assert!(sandbox.edit(view("bin", None)).unwrap().contains("binary"));
}

#[test]
fn directories_are_shown_two_levels_deep_without_hidden_names() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[("b/c/d", ""), ("a", ""), (".hidden/x", ""), ("b/.h", "")]));
    let shown = sandbox.edit(view(".", None)).unwrap();
    let names: Vec<&str> = shown.lines().skip(1).collect();
    assert_eq!(names, ["a", "b/", "b/c/"]);
}

#[test]
fn changes_are_made_and_taken_back_one_by_one() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[("crlf", "a\r\nb\r\n")]).executable("run", b"#!/bin/sh\necho 1"));
    sandbox.edit(create("new/deep/file.txt", "text\n")).unwrap();
    sandbox.edit(insert("crlf", 1, "x\ny")).unwrap();
    let told = sandbox.edit(replace("run", "echo 1", "echo 2")).unwrap();
    assert!(told.contains("     2\techo 2"), "{told}");
    assert_eq!(
        sandbox.run("./run; od -c crlf | head -1; stat -c %a new/deep/file.txt"),
        "2\n0000000   a  \\r  \\n   x  \\r  \\n   y  \\r  \\n   b  \\r  \\n\n664\n"
    );
    for path in ["run", "crlf", "new/deep/file.txt"] {
        sandbox.edit(undo(path)).unwrap();
        assert!(sandbox.edit(undo(path)).unwrap_err().contains("no change"));
    }
    assert_eq!(sandbox.changed().len(), 0);
    sandbox.edit(create("again", "1")).unwrap();
    sandbox.run("echo 2 >again");
    assert!(sandbox.edit(undo("again")).unwrap_err().contains("changed by something else"));
}

#[test]
fn what_is_no_file_of_the_workspace_is_refused_with_what_to_do() {
    let mut sandbox = Sandbox::new();
    sandbox.put(
        "t1",
        &Tree::of(&[("a", "1"), ("d/b", "2")]).link("out", "/etc/passwd").link("in", "d/b").link("loop", "loop"),
    );
    sandbox.run("mkfifo pipe; truncate -s 20M large; ln -s ../../../../../../etc up; ln -s /dev/zero zero");
    let cases = [
        (view("/etc/passwd", None), "outside"),
        (view("../../etc/passwd", None), "outside"),
        (view("out", None), "symbolic link"),
        (create("up/sera", "x"), "symbolic link"),
        (view("zero", None), "symbolic link"),
        (replace("out", "root", "x"), "symbolic link"),
        (view("loop", None), "circles"),
        (view("pipe", None), "FIFO"),
        (replace("pipe", "a", "b"), "FIFO"),
        (view("large", None), "8 MiB"),
        (replace("d", "a", "b"), "is a directory"),
        (create("d", "x"), "there already"),
        (create("", "x"), "path is needed"),
        (create("a", "x"), "there already"),
        (create("a/b", "x"), "file and no directory"),
        (view("none", None), "is not there"),
        (view("d", Some((1, 2))), "is a directory"),
        (insert("a", 7, "x"), "1 lines"),
        (undo("a"), "no change"),
    ];
    for (operation, why) in cases {
        let told = sandbox.edit(operation.clone()).unwrap_err();
        assert!(told.contains(why), "{operation:?}: {told}");
    }
    assert_eq!(sandbox.edit(view("in", None)).unwrap(), "     1\t2\n", "a link within is followed");
    assert!(!fs::exists("/etc/sera").unwrap());
}
