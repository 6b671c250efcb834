//! A large file goes through piece by piece: no process holds it in memory.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Place, git, noise};

/// The file's size in bytes.
const FILE: usize = 200 << 20;
/// What no process may exceed, in KiB: half of the file, and much less than a pod has.
const MOST: u64 = 150 << 10;

/// Runs its arguments, and writes how much memory the largest of that process and its children had, in KiB.
const MEASURED: &str = "import os, sys
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
open(sys.argv[1], 'w').write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))";

#[test]
fn a_file_of_200_mb_is_taken_in_bounded_memory() {
    let place = Place::new();
    let source = place.path("source.git");
    std::fs::create_dir_all(&source).unwrap();
    git(&source, &["init", "--quiet", "--bare", "-b", "main"]);
    import(&source);
    let peak = place.path("peak");
    let run = place
        .snapshot(source.to_str().unwrap(), "store")
        .wrapped("python3", &["-c", MEASURED, peak.to_str().unwrap()])
        .run();
    run.result();
    assert!(run.manifest().bundle.bytes > FILE as u64);
    let peak: u64 = std::fs::read_to_string(peak).unwrap().parse().unwrap();
    println!("largest process: {} MiB", peak >> 10);
    assert!(peak < MOST, "a process had {} MiB", peak >> 10);
    assert_eq!(std::fs::read_dir(place.scratch()).unwrap().count(), 0);
}

/// Makes a commit with one large file that does not compress.
fn import(repository: &std::path::Path) {
    let mut import = Command::new("git")
        .args(["-c", "core.compression=0", "-c", "pack.compression=0", "fast-import", "--quiet", "--done"])
        .current_dir(repository)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stream = import.stdin.take().unwrap();
    let head = "commit refs/heads/main\ncommitter Ada <ada@example.com> 1760000000 +0000\ndata 5\nlarge\nM 100644 inline large.bin";
    writeln!(stream, "{head}\ndata {FILE}").unwrap();
    let piece = noise(7, 1 << 20);
    for _ in 0..FILE >> 20 {
        stream.write_all(&piece).unwrap();
    }
    let code = "def large():\n    return 1\n";
    write!(stream, "\nM 100644 inline small.py\ndata {}\n{code}\ndone\n", code.len()).unwrap();
    drop(stream);
    assert!(import.wait().unwrap().success());
}
